"""``cytomask demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("cytomask-demo"),
    train: Annotated[
        bool, typer.Option("--train", help="Also train a small model on generated images: the whole cycle.")
    ] = False,
) -> None:
    """Segment a real micrograph with the shipped model, and say what was found and where it lies."""
    from cytomask.workflows.demo import run_demo

    for line in run_demo(out, train=train):
        typer.echo(line)
