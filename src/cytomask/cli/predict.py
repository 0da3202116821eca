"""``cytomask predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytomask.cli.channels import read_channels
from cytomask.cli.settings import given, read_settings


def predict(
    model: Annotated[str, typer.Argument(help="A shipped model's name (nuclei, phase), a bundle, or a run's folder.")],
    images: Annotated[
        list[str], typer.Argument(help="Images, folders of images, quoted globs, or a data set with --split.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    split: Annotated[
        str | None, typer.Option(help="Take the images of this split of a data set, given in place of images.")
    ] = None,
    save: Annotated[
        str,
        typer.Option(
            help="What to write, comma-separated: labels, overlay, table, relations, rois, class-masks, probabilities, "
            "coco, recognized-objects, charts, submission."
        ),
    ] = "labels,overlay,table,coco",
    image_ids: Annotated[
        Path | None,
        typer.Option(help="JSON with the images' numbers in a submission: [{file_name, id, height, width}]."),
    ] = None,
    overlay_by: Annotated[
        str, typer.Option(help="A colour for every object, or for every class (with a legend): object or class.")
    ] = "object",
    overlay_text: Annotated[
        str, typer.Option(help="What overlays write onto objects: id, score, class, class-score or none.")
    ] = "none",
    overlay_boxes: Annotated[bool, typer.Option("--overlay-boxes", help="Draw the objects' boxes, too.")] = False,
    overlay_grey: Annotated[
        bool, typer.Option("--overlay-grey", help="Show images in grey, so that only objects have colours.")
    ] = False,
    channels: Annotated[
        str | None, typer.Option(help="Channels to use, by name or number, comma-separated: DAPI or 0.")
    ] = None,
    diameter: Annotated[
        str | None, typer.Option(help="Typical object diameter in pixels of the image, or auto to estimate it.")
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option(help="µm per pixel, where the file does not say it or is wrong.")
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Keep objects above this score (default: the model's own).")
    ] = None,
    nms_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Overlap above which the weaker object goes (default: the model's own)."),
    ] = None,
    nms: Annotated[
        str | None,
        typer.Option(
            help="What becomes of the weaker of two objects that overlap: hard (it goes), linear or gaussian "
            "(Soft-NMS: its score falls, and it goes below the score threshold). Default: the model's own."
        ),
    ] = None,
    nms_by: Annotated[
        str | None, typer.Option(help="Whose overlap counts: box or mask (default: the model's own).")
    ] = None,
    nms_sigma: Annotated[
        float | None,
        typer.Option(help="Width of gaussian Soft-NMS: the smaller, the lower scores fall (default: the model's own)."),
    ] = None,
    per_class: Annotated[
        bool | None,
        typer.Option(
            "--per-class/--across-classes",
            help="Only objects of the same class compete, or all (default: the model's own).",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            help="Another setting of the model's post-processing: seed_threshold=0.4, objects=shape, min_area=50. May "
            "be repeated; `cytomask models show MODEL` lists them.",
        ),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", help="Another model, whose objects are fused with the first's; may be repeated."),
    ] = None,
    augment: Annotated[
        str, typer.Option(help="Segment turned views of each image, too, and fuse: none, flips, turns, full.")
    ] = "none",
    scales: Annotated[str, typer.Option(help="Segment each image at these scales, and fuse: 0.8,1,1.25.")] = "1",
    weights: Annotated[
        str | None, typer.Option(help="How much each model counts, the first and those of --with: 2,1.")
    ] = None,
    fuse: Annotated[
        str | None, typer.Option(help="How objects are fused: wbf, nms or soft-nms (default: wbf).")
    ] = None,
    fuse_iou: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Overlap above which objects are the same (default: 0.5; soft-nms: 0.3)."),
    ] = None,
    fuse_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Keep fused objects of this score (default: what about half agree on)."),
    ] = None,
    fuse_by: Annotated[
        str | None, typer.Option(help="Whose overlap tells the same object: mask or box (default: mask).")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(min=64, help="Side of a tile in network pixels (default: chosen).")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Overlap of tiles in network pixels (default: chosen).")
    ] = None,
    blend: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Dense models: tiles see only so many network pixels beyond their core and are blended there; faster, "
            "not exactly as from the whole image (default: tiles see all that matters).",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Tiles per network call (default: chosen).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    axes: Annotated[str | None, typer.Option(help="Axes of the files where they are not told: YX, CYX, YXC.")] = None,
    plane: Annotated[int | None, typer.Option(min=0, help="Which plane of a stack or movie to use, from 0.")] = None,
    table_format: Annotated[str, typer.Option(help="csv or parquet.")] = "csv",
    on_disk: Annotated[
        bool | None,
        typer.Option(
            "--on-disk/--in-memory",
            help="Work through images on disk, with bounded memory and labels as OME-Zarr "
            "(default: those of 16384 x 16384 pixels and more).",
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Leave out images that a finished run with the same settings did, or begin all anew "
            "(default: go on where a run was broken off).",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Do the work in so many processes on this machine; several GPUs take turns."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Do the work on the workers of a Dask cluster, on many machines: its scheduler's address, such as "
            "tcp://10.0.0.1:8786, or its file."
        ),
    ] = None,
) -> None:
    """Segment images: label images, overlays, object tables, masks of classes, charts, COCO results."""
    from cytomask.reporting.overlay import OverlayStyle
    from cytomask.workflows.clusters.cluster import open_cluster
    from cytomask.workflows.ensemble import combination
    from cytomask.workflows.predict import predict_images
    from cytomask.workflows.predicting.split_images import images_of_split

    with open_cluster(scheduler, workers) as cluster:
        summary = predict_images(
            model,
            images_of_split(images, split) if split is not None else images,
            out,
            save=tuple(part.strip() for part in save.split(",") if part.strip()),
            image_ids=image_ids,
            overlay=OverlayStyle(overlay_by, overlay_text, overlay_boxes, overlay_grey),
            channels=read_channels(channels),
            diameter=diameter,
            pixel_size=pixel_size,
            thresholds={
                **read_settings(set_ or ()),
                **given(
                    score_threshold=score_threshold,
                    nms_threshold=nms_threshold,
                    nms=nms,
                    nms_by=nms_by,
                    nms_sigma=nms_sigma,
                    per_class=per_class,
                ),
            },
            tile=tile,
            overlap=overlap,
            blend=blend,
            batch_size=batch,
            device=device,
            precision=precision,
            axes=axes,
            plane=plane,
            table_format=table_format,
            on_disk=on_disk,
            resume=resume,
            combine=combination(
                with_ or (), weights, augment, scales, method=fuse, iou=fuse_iou, score=fuse_score, by=fuse_by
            ),
            cluster=cluster,
        )
    for line in summary.lines():
        typer.echo(line)
    if summary.failed:
        raise typer.Exit(2)
