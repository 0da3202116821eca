"""``cytomask subimages``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytomask.cli.channels import read_channels


def subimages(
    images: Annotated[
        list[str], typer.Argument(help="Images, folders of images (with subfolders), quoted globs, or a data set.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the crops (new or empty).")],
    regions: Annotated[
        Path | None,
        typer.Option(
            help="Regions of interest: a file or folder of ImageJ ROI zips or NAME--labels.txt, annotations of any "
            "format, or a data set (default: beside the images)."
        ),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Format of the regions, where they are annotations (default: told).")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="What labels are cut from: label images, annotations of any format, or a data set (default: the "
            "regions, where they are outlines)."
        ),
    ] = None,
    label_suffix: Annotated[
        str, typer.Option(help="Label images lie beside the images and have this behind the name: _seg.")
    ] = "",
    margin: Annotated[int, typer.Option(min=0, help="Pixels around each region's box.")] = 0,
    size: Annotated[
        str | None, typer.Option(help="Windows of this size, centred on the regions: 128, or 96x128 (y by x).")
    ] = None,
    clip: Annotated[
        bool, typer.Option("--clip/--move", help="At the border, clip windows of fixed size, or move them inside.")
    ] = False,
    channels: Annotated[
        str | None, typer.Option(help="Channels to write, in this order, by name or number (default: all).")
    ] = None,
    preview: Annotated[
        str | None, typer.Option(help="JPEG previews of one to three channels: 0,3,6 become red, green, blue.")
    ] = None,
    binary: Annotated[bool, typer.Option("--binary", help="Write binary masks (0 and 255), too.")] = False,
    negatives: Annotated[
        int, typer.Option(min=0, help="So many windows per image that touch no region, of the regions' sizes.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="For the places of these windows.")] = 0,
    voc: Annotated[bool, typer.Option("--voc", help="Write the boxes in each crop as Pascal VOC XML.")] = False,
    rois: Annotated[
        bool, typer.Option("--rois", help="Write each image's boxes as ImageJ's NAME--ROI.zip and NAME--labels.txt.")
    ] = False,
    axes: Annotated[str | None, typer.Option(help="Axes of the files where they are not told: YX, CYX, YXC.")] = None,
    plane: Annotated[int | None, typer.Option(min=0, help="Which plane of a stack or movie to use, from 0.")] = None,
) -> None:
    """Cut crops around regions of interest, as a data set: all channels, labels, previews, empty windows."""
    from cytomask.workflows.cutting.cutter import CropOptions
    from cytomask.workflows.cutting.windows import parse_size
    from cytomask.workflows.subimages import cut_subimages

    summary = cut_subimages(
        images,
        out,
        regions=regions,
        regions_format=from_,
        labels=labels,
        label_suffix=label_suffix,
        options=CropOptions(
            margin,
            parse_size(size),
            clip,
            read_channels(channels),
            tuple(read_channels(preview) or ()),
            binary,
            negatives,
            seed,
            voc,
            rois,
        ),
        axes=axes,
        plane=plane,
    )
    for line in summary.lines():
        typer.echo(line)
    if summary.failed:
        raise typer.Exit(2)
