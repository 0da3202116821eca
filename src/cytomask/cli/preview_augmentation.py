"""``cytomask preview-augmentation``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def preview_augmentation(
    experiment: Annotated[
        str, typer.Argument(help="An experiment's YAML file, or a recipe's name (nuclei, granules …).")
    ],
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="The data set, instead of the experiment's data.path.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="Override a setting: augmentation.flips=0. May be repeated."),
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="A training image to show, by its name. May be repeated.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Images to show, where none are named.")] = 4,
    columns: Annotated[int, typer.Option(min=1, help="Items in each row.")] = 6,
    by_transform: Annotated[
        bool, typer.Option("--by-transform", help="One row for each transform alone, of one image.")
    ] = False,
    split_channels: Annotated[
        bool, typer.Option("--split-channels", help="Show the network's channels side by side.")
    ] = False,
    epoch: Annotated[int, typer.Option(min=1, help="Epoch whose items are shown.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed than the experiment's.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture, a PNG file.")] = Path("preview.png"),
) -> None:
    """Show what training will see: items as the network gets them, the truth outlined, as one picture."""
    from cytomask.workflows.preview_augmentation import preview_augmentation as preview
    from cytomask.workflows.preview_augmentation import write_preview
    from cytomask.workflows.trainings.preparation import experiment_on

    grid = preview(
        experiment,
        data=data,
        overrides=set_ or [],
        images=image or (),
        rows=rows,
        columns=columns,
        by_transform=by_transform,
        split_channels=split_channels,
        epoch=epoch,
        seed=seed,
    )
    write_preview(grid, out, experiment_on(experiment, data, set_ or []))
    typer.echo(f"wrote {out}")
