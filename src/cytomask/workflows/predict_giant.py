"""Predict one giant image with memory bounded by a tile and its objects, in steps that can be broken off.

What is found lies on disk from the first tile on. Each step leaves files that are complete or not there, and makes only
those that are missing; so the same call goes on where an earlier one stopped, and comes to the same end.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cytomask.data.normalise import NormaliseStatistics
from cytomask.errors import ConfigError, OutputError
from cytomask.formats.annotations.imagej_files import write_regions
from cytomask.formats.ome_zarr_labels import LabelZarrWriter
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.table import measure, write_table
from cytomask.models.assembling import AssemblingSegmenter
from cytomask.models.segmenter import Postprocess
from cytomask.output import replacing
from cytomask.prediction.assembling import assemble
from cytomask.prediction.blockwise import Painter, blocks, render, settle
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.prepare import PreparedImage, prepare_image
from cytomask.prediction.spool import Spool
from cytomask.progress import say, track
from cytomask.reporting.overlay import OverlayStyle, write_png
from cytomask.workflows.coco_results import coco_lines, copy_lines, write_lines
from cytomask.workflows.predict_progress import ImageProgress, pixel_identity

#: Images of at least this many pixels (16384 x 16384) are worked through on disk, if nothing else is asked for.
GIANT_PIXELS = 2**28
#: Longer side of the overlay: an overview, as a viewer of the labels shows the details.
OVERVIEW_SIDE = 4096
#: Chunks of the label image that are painted together, along each axis.
PAINTED_CHUNKS = 2
LABELS_NAME, COCO_LINES_NAME = "labels.ome.zarr", "coco.jsonl"


@dataclass(frozen=True)
class GiantResult:
    """What was found in a giant image; the files lie where they were wanted.

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
    predictor: Predictor,
    image: Image,
    postprocess: Postprocess,
    progress: ImageProgress,
    outputs: Mapping[str, Path],
    *,
    channels: Sequence[str | int] | None = None,
    diameter: float | Literal["auto"] | None = None,
    image_id: int = 1,
    file_name: str = "",
    coco: bool = False,
    class_labels: Sequence[Path] = (),
    style: OverlayStyle | None = None,
) -> GiantResult:
    """Segment an image tile by tile, all results on disk; go on where an earlier call was broken off.

    The objects, their numbers and their order, the label image and the table are what
    :meth:`~cytomask.prediction.predictor.Predictor.segment` and the writers of whole images give.

    Parameters
    ----------
    predictor, postprocess
        The model and its thresholds.
    image
        Any image that is read by windows.
    progress
        Begun, and locked.
    outputs
        Where to write ``labels`` (an OME-Zarr folder), ``overlay`` (an overview), ``table`` and ``rois``; what is not
        there is not written.
    channels, diameter
        As for :meth:`~cytomask.prediction.predictor.Predictor.prepare`.
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
    check_told_by_parts(postprocess)
    _check_pixels(progress, image)
    prepared = _prepare(predictor, image, postprocess, progress, channels, diameter)
    spool = Spool(progress.folder / "spool")
    predictor.propose_to(spool, prepared, postprocess)
    if isinstance(predictor.segmenter, AssemblingSegmenter):
        assemble(spool, predictor.segmenter, postprocess, prepared.shape, prepared.native_shape, prepared.scale)
    else:
        settle(spool, predictor.segmenter, postprocess)
        render(spool, predictor.segmenter, prepared.native_shape, prepared.scale)
    names = predictor.segmenter.config.classes
    objects = _Objects(spool, image, names)
    predictor.warn_of_cut_objects(objects.largest, prepared)
    # Beside the tiles, on the plan of which they hang: if that changes, they go, too.
    parts = spool.folder / "parts"
    parts.mkdir(exist_ok=True)
    if coco:
        _write_coco(objects, parts, progress.folder / COCO_LINES_NAME, image_id, file_name)
    if "table" in outputs:
        _write_table(objects, parts, outputs["table"])
    if "rois" in outputs:
        with replacing(outputs["rois"]) as temporary:
            write_regions(temporary, (objects.of(number) for number in range(len(spool.tiles))), names)
    labels = None
    painter = Painter(spool, image.shape, names)
    if "labels" in outputs:
        labels = _paint(painter, progress.folder, image)
    if "overlay" in outputs:
        _write_overlay(painter, labels, image, outputs["overlay"], channels, objects, style or OverlayStyle())
    for number, target in enumerate(class_labels, start=1):
        target.parent.mkdir(exist_ok=True)
        part = _paint(painter, progress.folder, image, number)
        part.finish()
        _move(part.path, target, progress.folder)
    if labels is not None:
        labels.finish()
        _move(labels.path, outputs["labels"], progress.folder)
    return GiantResult(objects.counts, prepared.scale, prepared.told)


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


def _check_pixels(progress: ImageProgress, image: Image) -> None:
    """Begin anew when the image is not the one that the progress is of."""
    pixels = {"pixels": pixel_identity(image)}
    if progress.read("pixels") != pixels:
        if progress.read("pixels") is not None:
            say("the image has changed since: begun anew")
        progress.clear()
        progress.begin()
        progress.write("pixels", pixels)


def _prepare(
    predictor: Predictor,
    image: Image,
    postprocess: Postprocess,
    progress: ImageProgress,
    channels: Sequence[str | int] | None,
    diameter: float | Literal["auto"] | None,
) -> PreparedImage:
    """Settle channels, normalisation and scale once; they are kept, so that going on needs no second look."""
    kept = progress.read("prepared")
    if kept is not None:
        taken = kept["statistics"]
        shape, dtype = (-1, 1, 1), np.dtype(taken["dtype"])
        offset, scale = (np.array(taken[name], dtype).reshape(shape) for name in ("offset", "scale"))
        statistics = NormaliseStatistics(offset, scale, tuple(taken["clip"]) if taken["clip"] else None)
        settled = prepare_image(
            image,
            channels=predictor.channels,
            normalisation=predictor.normalisation,
            chosen=channels,
            known=statistics,
        )
        return replace(settled, scale=tuple(kept["scale"]), told=tuple(kept["told"]))
    prepared = predictor.prepare(image, diameter=diameter, channels=channels, postprocess=postprocess)
    statistics = prepared.statistics
    content: dict[str, Any] = {
        "statistics": {
            "dtype": str(statistics.offset.dtype),
            # A float has the same bits when it comes back from JSON.
            "offset": statistics.offset.ravel().tolist(),
            "scale": statistics.scale.ravel().tolist(),
            "clip": list(statistics.clip) if statistics.clip else None,
        },
        "scale": list(prepared.scale),
        "told": list(prepared.told),
    }
    progress.write("prepared", content)
    return prepared


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

    def bands(self, parts: Path, name: str) -> Iterator[tuple[Path, list[int]]]:
        """File for each row of tiles, and the tiles."""
        for place, band in enumerate(self.spool.bands()):
            yield parts / name.format(place), band


def _write_coco(objects: _Objects, parts: Path, target: Path, image_id: int, file_name: str) -> None:
    if target.exists():
        return
    written = []
    for path, band in track(list(objects.bands(parts, "coco-{:06d}.jsonl")), "writing COCO results"):
        if not path.exists():
            whole = _in_order([objects.of(number) for number in band])
            write_lines(path, coco_lines(whole, image_id, file_name))
        written.append(path)
    with replacing(target) as temporary, temporary.open("wb") as file:
        copy_lines(written, file)


def _write_table(objects: _Objects, parts: Path, target: Path) -> None:
    """Measure each tile's objects with the pixels around them, and put the rows together in order."""
    written = []
    for path, band in track(list(objects.bands(parts, "table-{:06d}.parquet")), "measuring"):
        if not path.exists():
            measured = [measure(objects.of(number), objects.image) for number in band]
            filled = [table for table in measured if len(table)] or measured[:1]
            write_table(path, pd.concat(filled, ignore_index=True).sort_values("id", ignore_index=True))
        written.append(path)
    write_table(target, (pd.read_parquet(path) for path in written))


def _in_order(parts: list[Instances]) -> Instances:
    whole = Instances.concatenate(parts)
    return whole.take(np.argsort(whole.ids))


def _paint(painter: Painter, folder: Path, image: Image, only: int | None = None) -> LabelZarrWriter:
    """Paint the label image of all classes or one, square by square; a file beside it counts the squares done."""
    mark = "" if only is None else f"class-{only}-"
    path, count = folder / f"{mark}{LABELS_NAME}", folder / f"{mark}painted"
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
    squares = list(blocks(image.shape, PAINTED_CHUNKS * writer.chunk))
    done = count.stat().st_size
    for y0, x0, y1, x1 in track(squares[done:], "painting labels"):
        painted = painter.paint(y0, x0, y1, x1, only)
        if painted.any():
            writer.write(y0, x0, painted)
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
