"""``cytomask lr-find``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def lr_find(
    experiments: Annotated[list[str], typer.Argument(help="Experiments' YAML files, or recipes' names.")],
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="The data set, instead of the experiments' data.path.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="Override a setting: training.batch_size=4. May be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The plot; a CSV is written beside it.")] = Path("lr.png"),
    first: Annotated[float, typer.Option("--from", help="The lowest learning rate.")] = 1e-7,
    last: Annotated[float, typer.Option("--to", help="The highest learning rate.")] = 10.0,
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps from the lowest to the highest.")] = 100,
    smoothing: Annotated[
        float, typer.Option("--smoothing", help="Weight of the past in the smoothed loss, 0 to below 1.")
    ] = 0.9,
) -> None:
    """Find a learning rate: try rising ones on a copy of the network, plot the loss, and suggest some with reasons."""
    from cytomask.workflows.lr_find import find_learning_rates

    result = find_learning_rates(
        experiments, data=data, overrides=set_ or [], out=out, first=first, last=last, steps=steps, smoothing=smoothing
    )
    for line in result.lines():
        typer.echo(line)
