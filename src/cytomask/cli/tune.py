"""``cytomask tune``."""

from __future__ import annotations

from typing import Annotated

import typer


def tune(
    model: Annotated[str, typer.Argument(help="A bundle's path or a run's folder; its thresholds are replaced.")],
    data: Annotated[str, typer.Argument(help="The data set: a YAML, or a folder with images/ and labels/.")],
    split: Annotated[str, typer.Option(help="Split to tune on; never the test split.")] = "val",
    max_images: Annotated[int | None, typer.Option(min=1, help="At most so many images.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the thresholds, change nothing.")] = False,
) -> None:
    """Find the thresholds that give the best instance accuracy on validation data; saves them in the bundle."""
    from cytomask.workflows.tune import tune_model

    result = tune_model(model, data, split=split, max_images=max_images, device=device, save=not dry_run)
    for line in result.lines():
        typer.echo(line)
