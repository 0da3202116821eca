"""``cytomask measure``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def measure(
    labels: Annotated[
        list[str],
        typer.Argument(
            help="Label images, folders of them (as predict writes), annotations of any format, or data sets. "
            "NAME=PLACE for each says that the objects of a place are of the class NAME, in the same images."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables and measurements.html.")],
    images: Annotated[
        Path | None, typer.Option(help="The image, or the folder of images; otherwise they are looked for.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Only objects of these classes, with commas between.")] = None,
    relations: Annotated[
        str,
        typer.Option(help="What is measured: all, or some of neighbours,distances,containment,density,colocalisation."),
    ] = "all",
    radius: Annotated[
        float | None,
        typer.Option(min=0, help="How far apart neighbours may be, from edge to edge: µm, or pixels where the pixel "
                     "size is not known; 10 µm or 20 pixels."),
    ] = None,
    touch: Annotated[float, typer.Option(min=0, help="Gap in pixels up to which objects touch.")] = 1.0,
    share: Annotated[
        float, typer.Option(help="Part of an object's area that must lie in another one for that to hold it.")
    ] = 0.5,
    channels: Annotated[
        str | None, typer.Option(help="Channels whose colocalisation is measured: names or numbers; all.")
    ] = None,
    threshold: Annotated[
        str, typer.Option(help="Signal in colocalisation is what lies above: otsu, costes, or none (0).")
    ] = "otsu",
    pixel_size: Annotated[
        float | None, typer.Option(min=0, help="µm per pixel, instead of what the images say.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the data set to measure.")] = None,
    group_by: Annotated[
        str | None, typer.Option(help="Column that says which group an image belongs to.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV file with one row per image and that column; else the data set's table.")
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Whether to write measurements.html.")] = True,
) -> None:  # fmt: skip
    """Measure objects and their relations: neighbours, distances, containment, density, colocalisation."""
    from cytomask.cli.channels import read_channels
    from cytomask.workflows.measure import PAGE_NAME
    from cytomask.workflows.measure import measure as measure_objects

    found = measure_objects(
        labels, images, out,
        classes=None if classes is None else [name.strip() for name in classes.split(",") if name.strip()],
        relations=relations, radius=radius, touch=touch, share=share, channels=read_channels(channels),
        threshold=threshold,  # type: ignore[arg-type]
        pixel_size=pixel_size, split=split, group_by=group_by, table=table, page=page,
    )  # fmt: skip
    typer.echo(f"measured {len(found.objects):,} objects in {len(found.images):,} images")
    typer.echo(f"wrote {', '.join(f'{name}.csv' for name in found.tables())} into {out}")
    if page:
        typer.echo(f"look at {out / PAGE_NAME}")
