"""``cytomask compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs' folders, bundles, shipped models, ensembles of these (A+B), experiments or recipes (trained "
            "first), or predictions."
        ),
    ] = None,
    data: Annotated[str, typer.Option("--data", "-d", help="The data set to compare on.")] = ...,  # type: ignore[assignment]
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for leaderboard.md, compare.html and tables.")
    ] = Path("comparison"),
    split: Annotated[
        str | None, typer.Option(help="Split of the data set; val if it has one, else all images.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="What a run is called: mine=runs/a. May be given several times.")
    ] = None,
    annotator: Annotated[
        list[Path] | None,
        typer.Option(help="Another annotation of the same images, compared like a model. May be given several times."),
    ] = None,
    rank_by: Annotated[
        str, typer.Option(help="Figure by which models are ranked: accuracy_50, f1_50, pq_50, aji, pixel_iou …")
    ] = "mean_accuracy_50_90",
    thresholds: Annotated[
        str | None, typer.Option(help="More IoU thresholds in per_image.csv besides 0.50 to 0.95, such as 0.3,0.4.")
    ] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="Column of the data set's table to group images by; may be given several times."),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="How often images are drawn again for the intervals; 0 leaves them out.")
    ] = 1000,
    device: Annotated[str, typer.Option(help="Where models predict: auto, cpu, cuda, cuda:1 …")] = "auto",
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Whether to measure memory, in a process for each model.")
    ] = True,
    pictures: Annotated[int, typer.Option(min=0, help="How many images on which models disagree most are shown.")] = 6,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Whether to write the page compare.html.")] = True,
) -> None:
    """Compare models on the same images: which is better, by how much, how sure that is, and what each costs."""
    from cytomask.evaluation.confidence import Bootstrap
    from cytomask.workflows.compare import compare_models
    from cytomask.workflows.comparing.outputs import print_comparison
    from cytomask.workflows.evaluate import THRESHOLDS, read_thresholds

    result = compare_models(
        runs or [],
        data,
        out,
        split=split,
        named=name or (),
        annotators=annotator or (),
        thresholds=THRESHOLDS if thresholds is None else (*THRESHOLDS, *read_thresholds(thresholds)),
        rank_by=rank_by,
        bootstrap=Bootstrap(resamples=resamples),
        group_by=group_by or (),
        device=device,
        memory=memory,
        n_pictures=pictures,
        page=page,
    )
    if result.interrupted:
        typer.echo("stopped; the same command goes on")
        raise typer.Exit(130)
    for line in print_comparison(result.table):
        typer.echo(line)
    typer.echo(f"wrote {out / 'leaderboard.md'}, leaderboard.csv, pairs.csv and per_image.csv")
    if page:
        typer.echo(f"look at {out / 'compare.html'}")
