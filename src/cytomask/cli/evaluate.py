"""``cytomask evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="A label image, a folder of them (as predict writes), or annotations such as COCO results."
        ),
    ],
    truth: Annotated[
        Path, typer.Argument(help="A label image, a folder of them, annotations of any format, or a data set.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for metrics.json, per_image.csv and evaluation.html.")
    ],
    split: Annotated[str | None, typer.Option(help="Split of the data set to compare with.")] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="Column of the data set's table to group images by; may be given several times."),
    ] = None,
    annotator: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another annotation of the same images: how far people agree, beside the prediction. May be given "
            "several times."
        ),
    ] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="More IoU thresholds of the matching besides 0.50 to 0.95, such as 0.3,0.4.")
    ] = None,
    max_dets: Annotated[
        int | None, typer.Option(min=1, help="How many of an image's predictions COCO metrics count; 2000.")
    ] = None,
    areas: Annotated[
        str | None,
        typer.Option(
            help="Area ranges of COCO metrics: cells, coco, quantiles, or the two areas that divide small from medium "
            "and large, such as 300,1000."
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=100, help="How far apart outlines may lie for boundary F1, in pixels.")
    ] = 2.0,
    resamples: Annotated[
        int, typer.Option(min=0, help="How often images are drawn again for the intervals; 0 leaves them out.")
    ] = 1000,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Whether to write the page evaluation.html.")] = True,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Compare the images in so many processes on this machine.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Compare the images on the workers of a Dask cluster: its scheduler's address, or its file."),
    ] = None,
) -> None:
    """Compare predictions with the truth: matching metrics at every IoU, pooled and per image, with intervals."""
    from cytomask.evaluation.coco_settings import CocoSettings, read_areas, with_limit
    from cytomask.evaluation.confidence import Bootstrap
    from cytomask.reporting.tables import print_metrics
    from cytomask.workflows.clusters.cluster import open_cluster
    from cytomask.workflows.evaluate import THRESHOLDS, evaluate_predictions, read_thresholds

    settings = CocoSettings() if areas is None else CocoSettings(areas=read_areas(areas))
    with open_cluster(scheduler, workers) as cluster:
        result = evaluate_predictions(
            predictions,
            truth,
            out,
            split=split,
            thresholds=THRESHOLDS if thresholds is None else (*THRESHOLDS, *read_thresholds(thresholds)),
            bootstrap=Bootstrap(resamples=resamples),
            coco=settings if max_dets is None else with_limit(settings, max_dets),
            tolerance=tolerance,
            group_by=group_by or (),
            annotators=annotator or (),
            page=page,
            cluster=cluster,
        )
    print_metrics(result.metrics)
    typer.echo(f"wrote {out / 'metrics.json'} and {out / 'per_image.csv'}")
    if page:
        typer.echo(f"look at {out / 'evaluation.html'}")
