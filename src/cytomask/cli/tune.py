"""``cytomask tune``."""

from __future__ import annotations

from typing import Annotated

import typer

from cytomask.cli.channels import read_channels


def tune(
    model: Annotated[str, typer.Argument(help="A bundle's path or a run's folder; its post-processing is replaced.")],
    data: Annotated[str, typer.Argument(help="The data set: a YAML, or a folder with images/ and labels/.")],
    split: Annotated[str, typer.Option(help="Split to tune on; never the test split.")] = "val",
    metric: Annotated[
        str,
        typer.Option(
            help="What is best: accuracy (mean over IoU 0.50-0.90), ap (COCO's, for rankings: the score threshold "
            "becomes 0.05), or iou (of foreground pixels, mean over images)."
        ),
    ] = "accuracy",
    channels: Annotated[
        str | None, typer.Option(help="Channels of the images to use, by name or number, comma-separated: DAPI or 0.")
    ] = None,
    max_images: Annotated[int | None, typer.Option(min=1, help="At most so many images.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is best, change nothing.")] = False,
) -> None:
    """Find the thresholds and the way of suppression that are best on validation data; saves them in the bundle."""
    from cytomask.workflows.tune import tune_model

    result = tune_model(
        model,
        data,
        split=split,
        max_images=max_images,
        device=device,
        channels=read_channels(channels),
        metric=metric,  # type: ignore[arg-type]
        save=not dry_run,
    )
    for line in result.lines():
        typer.echo(line)
