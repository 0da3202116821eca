"""Predict one giant image with memory bounded by a tile and its objects, in steps that can be broken off.

What is found lies on disk from the first tile on. Each step leaves files that are complete or not there, and makes only
those that are missing; so the same call goes on where an earlier one stopped, and comes to the same end. Here the steps
are led: what needs the model or many pixels is done part by part by :class:`~cytomask.workflows.predicting.giant_steps.
GiantWork`, in this process or in others.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytomask.errors import ConfigError, OutputError
from cytomask.formats.annotations.imagej_files import write_regions
from cytomask.formats.ome_zarr_labels import LabelZarrWriter
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.table import write_table
from cytomask.models.segmenter import Postprocess
from cytomask.output import replacing
from cytomask.prediction.assembling import warn_of_cut_groups
from cytomask.prediction.blockwise import Painter, blocks, number_objects, outlook, settle
from cytomask.prediction.devices import out_of_memory
from cytomask.prediction.spool import Spool
from cytomask.progress import say
from cytomask.reporting.overlay import OverlayStyle, write_png
from cytomask.workflows.predicting.coco_results import copy_lines
from cytomask.workflows.predicting.giant_steps import (
    COCO_PART,
    PAINTED_CHUNKS,
    PARTS_NAME,
    SPOOL_NAME,
    TABLE_PART,
    GiantModel,
    GiantPlan,
    GiantWork,
    Hands,
    by_this_process,
    labels_path,
    squares,
)
from cytomask.workflows.predicting.progress import ImageProgress, pixel_identity

#: Images of at least this many pixels (16384 x 16384) are worked through on disk, if nothing else is asked for.
GIANT_PIXELS = 2**28
#: Longer side of the overlay: an overview, as a viewer of the labels shows the details.
OVERVIEW_SIDE = 4096
#: COCO results of an image, one line per object, in the folder of its progress.
COCO_LINES_NAME = "coco.jsonl"


@dataclass(frozen=True)
class FoundObjects:
    """What was found in an image; the files lie where they were wanted.

    Attributes
    ----------
    counts
        Objects per class name.
    scale, told
        As of :class:`~cytomask.prediction.prepare.PreparedImage`.
    """

    counts: dict[str, int]
    scale: tuple[float, float]
    told: tuple[str, ...]


def predict_giant(
    model: GiantModel,
    image: Image,
    progress: ImageProgress,
    outputs: Mapping[str, Path],
    *,
    image_id: int = 1,
    file_name: str = "",
    coco: bool = False,
    class_labels: Sequence[Path] = (),
    style: OverlayStyle | None = None,
) -> FoundObjects:
    """Segment an image tile by tile, all results on disk; go on where an earlier call was broken off.

    The objects, their numbers and their order, the label image and the table are what
    :meth:`~cytomask.prediction.predictor.Predictor.segment` and the writers of whole images give.

    Parameters
    ----------
    model
        The model, its thresholds, and what it is to see of the image.
    image
        Any image that is read by windows.
    progress
        Begun, and locked.
    outputs
        Where to write ``labels`` (an OME-Zarr folder), ``overlay`` (an overview), ``table`` and ``rois``; what is not
        there is not written.
    image_id, file_name
        For the COCO results.
    coco
        Whether to leave COCO results, one line per object, in ``coco.jsonl`` in the folder of the progress.
    class_labels
        Where to write a label image (an OME-Zarr folder) of each class; empty for none.
    style
        How the overlay looks.

    Raises
    ------
    ChannelError, ConfigError
        As for :meth:`~cytomask.prediction.predictor.Predictor.prepare`; also as :func:`check_told_by_parts`.
    OutputError
        If the disk is full.
    """
    check_told_by_parts(model.postprocess)
    check_pixels(progress, image)
    work = GiantWork(model, image, progress, image_id, file_name)
    return lead_giant(
        by_this_process(work), image, progress, outputs, channels=model.channels, coco=coco,
        class_labels=class_labels, style=style,
    )  # fmt: skip


def lead_giant(
    hands: Hands,
    image: Image,
    progress: ImageProgress,
    outputs: Mapping[str, Path],
    *,
    channels: Sequence[str | int] | None = None,
    coco: bool = False,
    class_labels: Sequence[Path] = (),
    style: OverlayStyle | None = None,
) -> FoundObjects:
    """Lead the work on an image: say what is to be done next, and put together what was done.

    Parameters
    ----------
    hands
        Does the parts of each step.
    image, progress, outputs, coco, class_labels, style
        As for :func:`predict_giant`; the image has been looked at by :func:`check_pixels`.
    channels
        Those that the overlay shows.
    """
    plan = _propose(hands)
    spool = Spool(progress.folder / SPOOL_NAME)
    spool.join(plan.tiles)
    _make_objects(hands, spool, plan)
    objects = _Objects(spool, image, plan.classes)
    for _ in hands("warn", [objects.largest.tolist()]):
        pass
    parts, bands = spool.folder / PARTS_NAME, list(range(len(spool.bands())))
    lines = progress.folder / COCO_LINES_NAME
    if coco and not lines.exists():
        _finish(hands("coco", bands, "writing COCO results"))
        with replacing(lines) as temporary, temporary.open("wb") as file:
            copy_lines([parts / COCO_PART.format(band) for band in bands], file)
    if "table" in outputs:
        _finish(hands("table", bands, "measuring"))
        write_table(outputs["table"], (pd.read_parquet(parts / TABLE_PART.format(band)) for band in bands))
    if "rois" in outputs:
        with replacing(outputs["rois"]) as temporary:
            write_regions(temporary, (objects.of(number) for number in range(len(spool.tiles))), plan.classes)
    labels = None
    if "labels" in outputs:
        labels = _paint(hands, progress.folder, image)
    if "overlay" in outputs:
        painter = Painter(spool, image.shape, plan.classes)
        _write_overlay(painter, labels, image, outputs["overlay"], channels, objects, style or OverlayStyle())
    for number, target in enumerate(class_labels, start=1):
        target.parent.mkdir(exist_ok=True)
        part = _paint(hands, progress.folder, image, number)
        part.finish()
        _move(part.path, target, progress.folder)
    if labels is not None:
        labels.finish()
        _move(labels.path, outputs["labels"], progress.folder)
    return FoundObjects(objects.counts, plan.scale, plan.told)


def _propose(hands: Hands) -> GiantPlan:
    """Make a plan and let the network see all tiles; with smaller ones where memory runs out."""
    failed: str | None = None
    while True:
        ((_, plan),) = hands("begin", [failed])
        try:
            _finish(hands("propose", plan.missing, "predicting"))
            return plan
        except Exception as error:
            if not out_of_memory(error):
                raise
            failed = str(error).splitlines()[0] if str(error) else "out of memory"
        # Only here have the failed batch's arrays been let go.


def _make_objects(hands: Hands, spool: Spool, plan: GiantPlan) -> None:
    """Make numbered objects of what the network proposes."""
    reach, left = outlook(spool)
    spool.write_reach(reach)
    if not plan.assembles:
        settle(lambda tiles: hands("settle", tiles, "settling conflicts"), left)
    missing = [number for number in range(len(spool.tiles)) if not spool.has_objects(number)]
    if plan.assembles:
        warn_of_cut_groups(sum(not whole for _, whole in hands("assemble", missing, "making objects")))
    else:
        _finish(hands("draw", missing, "drawing objects"))
    number_objects(spool)


def _finish(done: Iterator[tuple[Any, Any]]) -> None:
    for _ in done:
        pass


def check_told_by_parts(postprocess: Postprocess) -> None:
    """Refuse Soft-NMS, and objects that are the whole of a class: they cannot be told from a part of the image.

    Raises
    ------
    ConfigError
        If an object's score, or what belongs to it, hangs on the whole image.
    """
    if postprocess.nms != "hard":
        raise ConfigError(
            "Soft-NMS lowers scores in the order of all objects of an image, so it cannot be worked through on disk",
            where="--nms", found=f"nms {postprocess.nms}", expected="hard",
            fix="use --in-memory if there is memory for the image, or --nms hard (and a --nms-threshold that suits it)",
        )  # fmt: skip
    if getattr(postprocess, "objects", None) == "whole":
        raise ConfigError(
            "all pixels of a class are one object, which cannot be worked through on disk",
            where="objects", found="whole", expected="auto, seeds, components or shape",
            fix="use --in-memory if there is memory for the image, or --set objects=components",
        )  # fmt: skip


def check_pixels(progress: ImageProgress, image: Image) -> None:
    """Begin anew when the image is not the one that the progress is of."""
    pixels = {"pixels": pixel_identity(image)}
    if progress.read("pixels") != pixels:
        if progress.read("pixels") is not None:
            say("the image has changed since: begun anew")
        progress.clear()
        progress.begin()
        progress.write("pixels", pixels)


class _Objects:
    """The objects of a spool, a row of tiles at a time, in the order of their numbers."""

    def __init__(self, spool: Spool, image: Image, class_names: tuple[str, ...]) -> None:
        self.spool, self.image, self.class_names = spool, image, class_names
        found, sizes = np.zeros(len(class_names) + 1, np.int64), [np.zeros((1, 2), np.int64)]
        for number in range(len(spool.tiles)):
            objects = self.of(number)
            found += np.bincount(objects.classes, minlength=len(found))
            if len(objects):
                sizes.append((objects.windows[:, 2:] - objects.windows[:, :2]).max(axis=0, keepdims=True))
        #: Objects per class name.
        self.counts = {name: int(found[i]) for i, name in enumerate(class_names, start=1)}
        #: Height and width of the tallest and of the widest, ``(N, 2)``.
        self.largest = np.concatenate(sizes)

    def of(self, number: int) -> Instances:
        """The objects of one tile."""
        return self.spool.objects(number, self.image.shape, self.class_names)

    def facts(self, ids: np.ndarray) -> tuple[dict[int, int], dict[int, float]]:
        """Class and score of each of some objects."""
        classes: dict[int, int] = {}
        scores: dict[int, float] = {}
        for number in range(len(self.spool.tiles)):
            objects = self.of(number)
            chosen = np.isin(objects.ids, ids)
            numbers = objects.ids[chosen].tolist()
            classes.update(zip(numbers, objects.classes[chosen].tolist()))
            scores.update(zip(numbers, objects.scores[chosen].tolist()))
        return classes, scores


def _paint(hands: Hands, folder: Path, image: Image, only: int | None = None) -> LabelZarrWriter:
    """Paint the label image of all classes or one, square by square; a file beside it counts the squares done."""
    path, count = labels_path(folder, only), folder / ("painted" if only is None else f"class-{only}-painted")
    writer: LabelZarrWriter | None = None
    if count.exists() and path.exists():
        with suppress(OutputError):
            writer = LabelZarrWriter.open(path)
    if writer is None:
        count.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        writer = LabelZarrWriter.create(path, image.shape, pixel_size=image.pixel_size)
        count.touch()
    if writer.complete:
        return writer
    done = count.stat().st_size
    missing = range(done, len(squares(image.shape, writer)))
    early: set[int] = set()
    for (_, square), _ in hands("paint", [(only, square) for square in missing], "painting labels"):
        early.add(square)
        # Only squares before which all are done are counted: others are painted again when this is broken off.
        while done in early:
            early.remove(done)
            done += 1
            with count.open("ab") as file:
                file.write(b".")
    return writer


def _write_overlay(
    painter: Painter,
    labels: LabelZarrWriter | None,
    image: Image,
    target: Path,
    channels: Sequence[str | int] | None,
    objects: _Objects,
    style: OverlayStyle,
) -> None:
    """Draw the overview: the image shrunk, with the objects that are seen at that size."""
    if channels is not None:
        image = image.select([image.channel_index(channel) for channel in channels])
    small = image.overview(OVERVIEW_SIDE)
    shrink = -(-max(image.shape) // OVERVIEW_SIDE)
    # Each pixel of the overview is the mean of a square; its label is the one in the middle.
    rows, columns = (
        np.minimum(np.arange(n) * shrink + shrink // 2, length - 1) for n, length in zip(small.shape, image.shape)
    )
    coarse = np.zeros(small.shape, np.int32)
    side = PAINTED_CHUNKS * (labels.chunk if labels is not None else 1024)
    for y0, x0, y1, x1 in blocks(image.shape, side):
        top, bottom = np.searchsorted(rows, [y0, y1])
        left, right = np.searchsorted(columns, [x0, x1])
        if top == bottom or left == right:
            continue
        block = labels.read(y0, y1, x0, x1) if labels is not None else painter.paint(y0, x0, y1, x1)
        coarse[top:bottom, left:right] = block[np.ix_(rows[top:bottom] - y0, columns[left:right] - x0)]
    classes, scores = objects.facts(np.unique(coarse[coarse > 0]))
    seen = Instances.from_labels(coarse, classes=classes, scores=scores, class_names=objects.class_names)
    write_png(target, style.draw(small, seen, counts=list(objects.counts.values())))


def _move(source: Path, target: Path, folder: Path) -> None:
    """Put a finished folder in its place; what an earlier run left there goes."""
    try:
        if target.exists():
            old = folder / "replaced"
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        source.rename(target)
    except OSError as error:
        raise OutputError(
            "the label image cannot be put in its place",
            where=target,
            found=error.strerror or error,
            fix="move what is there out of the way, and give the same command again",
        ) from error
