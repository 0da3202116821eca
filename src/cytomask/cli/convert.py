"""``cytomask convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[Path, typer.Argument(help="Annotations: a file or a folder; or a data set.")],
    target: Annotated[Path, typer.Argument(help="The file to write, or the folder (new or empty).")],
    from_: Annotated[
        str | None, typer.Option("--from", help="Format of the source (default: told by content).")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Format of the target (default: told by its suffix).")] = None,
    images: Annotated[
        list[Path] | None, typer.Option(help="Folder of the images, where it is not beside the annotations.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split of a data set.")] = None,
    truth: Annotated[Path | None, typer.Option(help="COCO file that names the images of COCO results.")] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Write nothing if anything would be lost.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Convert annotations between formats; what the target cannot hold is said."""
    from cytomask.workflows.convert import convert_annotations

    done = convert_annotations(
        source,
        target,
        from_format=from_,
        to_format=to,
        images=images or (),
        split=split,
        truth=truth,
        lossless=lossless,
        overwrite=overwrite,
    )
    for line in done.lines():
        typer.echo(line)
