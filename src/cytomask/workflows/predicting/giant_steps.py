"""The steps of working through a giant image, each of many parts, whoever does them.

Every part leaves files that are complete or not there, and does nothing when they are there; so parts may be done by
any process, in any order, and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from cytomask.data.normalise import NormaliseStatistics
from cytomask.formats.ome_zarr_labels import LabelZarrWriter
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.table import measure, write_table
from cytomask.models.assembling import AssemblingSegmenter
from cytomask.models.segmenter import Postprocess
from cytomask.prediction.assembling import assemble
from cytomask.prediction.blockwise import Painter, blocks, draw, visit
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.prepare import PreparedImage, prepare_image
from cytomask.prediction.spool import Spool
from cytomask.prediction.tiles import Tile
from cytomask.progress import track
from cytomask.workflows.predicting.coco_results import coco_lines, write_lines
from cytomask.workflows.predicting.progress import ImageProgress

#: Chunks of the label image that are painted together, along each axis.
PAINTED_CHUNKS = 2
#: Files and folders in the folder of the progress.
LABELS_NAME, SPOOL_NAME, PARTS_NAME = "labels.ome.zarr", "spool", "parts"
#: The part of each row of tiles, beside the tiles: on their plan it hangs.
COCO_PART, TABLE_PART = "coco-{:06d}.jsonl", "table-{:06d}.parquet"


class Hands(Protocol):
    """Who does the parts of a step: this process, or many."""

    def __call__(self, step: str, parts: Sequence[Any], saying: str = "") -> Iterator[tuple[Any, Any]]:
        """Do some parts of a step, a method of :class:`GiantWork`; give each with its result, in any order.

        Parameters
        ----------
        step
            Name of the method.
        parts
            What to do.
        saying
            What people are told meanwhile.
        """


@dataclass(frozen=True)
class GiantModel:
    """A model as it is used on an image that is worked through on disk.

    Attributes
    ----------
    predictor, postprocess
        The model and its thresholds.
    channels, diameter
        As for :meth:`~cytomask.prediction.predictor.Predictor.prepare`.
    """

    predictor: Predictor
    postprocess: Postprocess
    channels: Sequence[str | int] | None = None
    diameter: float | Literal["auto"] | None = None


@dataclass(frozen=True)
class GiantPlan:
    """How an image is cut, and what is known of it before the network has seen it.

    Attributes
    ----------
    tiles
        All tiles.
    missing
        Batches of tiles that the network has not seen yet.
    scale, told
        As of :class:`~cytomask.prediction.prepare.PreparedImage`.
    classes
        Names of the object classes.
    assembles
        Whether objects are made of maps of pixels, instead of competing with each other.
    """

    tiles: tuple[Tile, ...]
    missing: list[int]
    scale: tuple[float, float]
    told: tuple[str, ...]
    classes: tuple[str, ...]
    assembles: bool


class GiantWork:
    """An image, its model, and the folder in which its progress is kept: does the parts of each step.

    Every step takes some parts and yields each with its result when it is done.

    Parameters
    ----------
    model
        The model.
    image
        Any image that is read by windows.
    progress
        Begun, and locked by whoever leads the work.
    image_id, file_name
        For the COCO results.
    """

    def __init__(
        self, model: GiantModel, image: Image, progress: ImageProgress, image_id: int = 1, file_name: str = ""
    ) -> None:
        self.model, self.image, self.progress = model, image, progress
        self.image_id, self.file_name = image_id, file_name
        self.spool = Spool(progress.folder / SPOOL_NAME)
        self._segmenter = model.predictor.segmenter
        #: Side of a tile and tiles per batch, where a plan has been joined.
        self.tiling: tuple[int, int] | None = None

    @property
    def parts(self) -> Path:
        """Folder of the files of each row of tiles."""
        return self.spool.folder / PARTS_NAME

    @cached_property
    def prepared(self) -> PreparedImage:
        """The image, ready for the network."""
        return _prepare(self.model, self.image, self.progress)

    def join(self) -> None:
        """Take up a plan that :meth:`begin` made in another process."""
        self.model.predictor.join_spool(self.spool, self.prepared)

    def begin(self, parts: Sequence[str | None]) -> Iterator[tuple[str | None, GiantPlan]]:
        """Settle what hangs on the whole image, and make a plan; a part tells why the one before it failed, or None."""
        predictor = self.model.predictor
        for failed in parts:
            missing = predictor.begin_spool(self.spool, self.prepared, failed)
            self.parts.mkdir(exist_ok=True)
            yield failed, GiantPlan(
                self.spool.tiles, missing, self.prepared.scale, self.prepared.told, self._segmenter.config.classes,
                isinstance(self._segmenter, AssemblingSegmenter),
            )  # fmt: skip

    def propose(self, parts: Sequence[int]) -> Iterator[tuple[int, None]]:
        """Run the network on batches of tiles."""
        for batch in self.model.predictor.fill_spool(self.spool, self.prepared, self.model.postprocess, parts):
            yield batch, None

    def settle(self, parts: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Tell what can be told of tiles' open proposals; the result is how many are still open."""
        for tile in parts:
            yield tile, visit(self.spool, self._segmenter, self.model.postprocess, tile, self._reach)

    def draw(self, parts: Sequence[int]) -> Iterator[tuple[int, None]]:
        """Draw the survivors of tiles."""
        for tile in parts:
            draw(self.spool, self._segmenter, tile, self.prepared.native_shape, self.prepared.scale)
            yield tile, None

    def assemble(self, parts: Sequence[int]) -> Iterator[tuple[int, bool]]:
        """Make the objects of tiles; the result is False where some were cut."""
        segmenter, prepared = self._segmenter, self.prepared
        assert isinstance(segmenter, AssemblingSegmenter)
        for tile in parts:
            yield tile, assemble(
                self.spool, segmenter, self.model.postprocess, tile, self._reach, prepared.shape,
                prepared.native_shape, prepared.scale,
            )  # fmt: skip

    def warn(self, parts: Sequence[list[tuple[int, int]]]) -> Iterator[tuple[int, None]]:
        """Warn of objects, of which height and width are told, that may have been cut at the borders of tiles."""
        for number, sizes in enumerate(parts):
            self.model.predictor.warn_of_cut_objects(np.array(sizes).reshape(-1, 2), self.prepared)
            yield number, None

    def coco(self, parts: Sequence[int]) -> Iterator[tuple[int, None]]:
        """Write the COCO results of rows of tiles."""
        bands = self.spool.bands()
        for band in parts:
            path = self.parts / COCO_PART.format(band)
            if not path.exists():
                whole = Instances.concatenate([self._objects(tile) for tile in bands[band]])
                write_lines(path, coco_lines(whole.take(np.argsort(whole.ids)), self.image_id, self.file_name))
            yield band, None

    def table(self, parts: Sequence[int]) -> Iterator[tuple[int, None]]:
        """Measure the objects of rows of tiles, each tile's with the pixels around them."""
        bands = self.spool.bands()
        for band in parts:
            path = self.parts / TABLE_PART.format(band)
            if not path.exists():
                measured = [measure(self._objects(tile), self.image) for tile in bands[band]]
                filled = [table for table in measured if len(table)] or measured[:1]
                write_table(path, pd.concat(filled, ignore_index=True).sort_values("id", ignore_index=True))
            yield band, None

    def paint(self, parts: Sequence[tuple[int | None, int]]) -> Iterator[tuple[tuple[int | None, int], None]]:
        """Paint squares of the label image of a class, or of all classes; it has been begun."""
        for only, square in parts:
            writer = LabelZarrWriter.open(labels_path(self.progress.folder, only))
            y0, x0, y1, x1 = squares(self.image.shape, writer)[square]
            painted = self._painter.paint(y0, x0, y1, x1, only)
            if painted.any():
                writer.write(y0, x0, painted)
            yield (only, square), None

    @cached_property
    def _reach(self) -> np.ndarray:
        return self.spool.read_reach()

    @cached_property
    def _painter(self) -> Painter:
        return Painter(self.spool, self.image.shape, self._segmenter.config.classes)

    def _objects(self, tile: int) -> Instances:
        return self.spool.objects(tile, self.image.shape, self._segmenter.config.classes)


def by_this_process(work: GiantWork) -> Hands:
    """Do all parts here, one after the other."""

    def hands(step: str, parts: Sequence[Any], saying: str = "") -> Iterator[tuple[Any, Any]]:
        return track(getattr(work, step)(parts), saying, total=len(parts))

    return hands


def labels_path(folder: Path, only: int | None) -> Path:
    """Where the label image of all classes, or of one, lies while it is painted."""
    return folder / (LABELS_NAME if only is None else f"class-{only}-{LABELS_NAME}")


def squares(shape: tuple[int, int], writer: LabelZarrWriter) -> list[tuple[int, int, int, int]]:
    """The squares in which a label image is painted, each of whole chunks."""
    return list(blocks(shape, PAINTED_CHUNKS * writer.chunk))


def _prepare(model: GiantModel, image: Image, progress: ImageProgress) -> PreparedImage:
    """Settle channels, normalisation and scale once; they are kept, so that going on needs no second look."""
    predictor = model.predictor
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
            chosen=model.channels,
            known=statistics,
        )
        return replace(settled, scale=tuple(kept["scale"]), told=tuple(kept["told"]))
    prepared = predictor.prepare(image, diameter=model.diameter, channels=model.channels, postprocess=model.postprocess)
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
