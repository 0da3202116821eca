"""Settle, render, number and paint a giant image's proposals tile by tile, to the result of doing it at once.

The network's proposals lie in a :class:`~cytomask.prediction.spool.Spool`. A proposal's fate may hang on others, whose
fates hang on others again, across any number of tiles. But whatever is told of a part of them as certain is so for the
whole (see :meth:`~cytomask.models.segmenter.Segmenter.settle`). So each tile is visited with what its open proposals
may meet in other tiles; what cannot be told yet stays open until a later round, when more is known. **Every round tells
something: the best of the open proposals competes with none that is better and open.**
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from cytomask.geometry.fate import DROPPED, OPEN
from cytomask.instances import Instances
from cytomask.models.segmenter import Postprocess, Segmenter
from cytomask.prediction.spool import Spool

#: Side of a cell, in network pixels, by which neighbours are sought.
CELL = 32
#: Most cells of one search.
MOST_CELLS = 1_000_000


def settle(visits: Callable[[list[int]], Iterable[tuple[int, int]]], left: npt.NDArray[np.int64]) -> int:
    """Tell the fates of all proposals, tile by tile, in as many rounds as it takes.

    Tiles may be visited at the same time, and in any order: a fate that is written is certain, and one that a visit did
    not see yet leaves proposals open.

    Parameters
    ----------
    visits
        Visits tiles as :func:`visit`, and gives for each its number and how many of its proposals are still open.
    left
        Open proposals of each tile, as :func:`outlook` says.

    Returns
    -------
    int
        How many rounds it took.
    """
    left, rounds = left.copy(), 0
    while left.any():
        before = int(left.sum())
        todo = np.flatnonzero(left)
        # Chains of competitors run either way: to and fro, fewer rounds do.
        todo = todo[::-1] if rounds % 2 else todo
        for number, still_open in visits(todo.tolist()):
            left[number] = still_open
        rounds += 1
        if left.sum() >= before:
            raise RuntimeError(f"settling leaves {before} proposals open that nothing keeps open")
    return rounds


def outlook(spool: Spool) -> tuple[np.ndarray, npt.NDArray[np.int64]]:
    """The box around all that each tile's proposals compete for, ``(T, 4)``, and how many are open, ``(T,)``."""
    count = len(spool.tiles)
    reach, left = np.zeros((count, 4)), np.zeros(count, np.int64)
    for number in range(count):
        records = spool.records(number)
        reach[number] = union(records["bounds"])
        left[number] = np.count_nonzero(spool.fates(number, len(records)) == OPEN)
    return reach, left


def visit(spool: Spool, segmenter: Segmenter, postprocess: Postprocess, number: int, reach: np.ndarray) -> int:
    """Tell what can be told of one tile's open proposals; returns how many are still open.

    Parameters
    ----------
    spool
        With the proposals of all tiles; takes the tile's fates.
    segmenter, postprocess
        Settle the conflicts.
    number
        The tile.
    reach
        As :func:`outlook` gives it.
    """
    own = spool.records(number)
    fates = spool.fates(number, len(own))
    opened = np.flatnonzero(fates == OPEN)
    neighbourhood = _Neighbourhood(own["bounds"][opened])
    parts, known, places = [], [], []
    for other in np.flatnonzero(meet(reach, neighbourhood.box)).tolist():
        records = own if other == number else spool.records(other)
        what = fates if other == number else spool.fates(other, len(records))
        chosen = what != DROPPED
        chosen[chosen] = neighbourhood.touches(records["bounds"][chosen])
        if other == number:
            chosen[opened] = True
        rows = np.flatnonzero(chosen)
        parts.append(records[rows])
        known.append(what[rows])
        places.append(np.where(what[rows] == OPEN, rows, -1) if other == number else np.full(len(rows), -1))
    records, known_fates, place = np.concatenate(parts), np.concatenate(known), np.concatenate(places)
    points = records["points"]
    order = np.lexsort((points[:, 1], points[:, 0]))
    records, known_fates, place = records[order], known_fates[order], place[order]
    foreign = (place < 0) & (known_fates == OPEN)
    told = segmenter.settle(Spool.proposals(records), postprocess, known_fates, foreign)
    mine = place >= 0
    fates[place[mine]] = told[mine]
    spool.write_fates(number, fates)
    return int(np.count_nonzero(fates == OPEN))


class _Neighbourhood:
    """The cells of a coarse grid that some boxes touch, to find out quickly which others may meet them."""

    def __init__(self, boxes: np.ndarray) -> None:
        self.box = union(boxes)
        extent = np.maximum(self.box[2:] - self.box[:2], 1)
        self.side = max(float(CELL), float(np.sqrt(extent.prod() / MOST_CELLS)), float(extent.max()) / MOST_CELLS)
        shape = tuple(int(n) for n in extent // self.side + 1)
        y0, x0, y1, x1 = self._cells(boxes, shape).T
        # Each box adds one to its cells: marked at its corners, then summed up along both axes.
        marks = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
        for y, x, step in ((y0, x0, 1), (y1, x0, -1), (y0, x1, -1), (y1, x1, 1)):
            np.add.at(marks, (y, x), step)
        covered = marks.cumsum(0).cumsum(1)[:-1, :-1] > 0
        self.sums = np.pad(covered.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32), ((1, 0), (1, 0)))

    def touches(self, boxes: np.ndarray) -> npt.NDArray[np.bool_]:
        """Say of other boxes whether they touch one of the cells."""
        shape = self.sums.shape[0] - 1, self.sums.shape[1] - 1
        y0, x0, y1, x1 = self._cells(boxes, shape).T
        found = self.sums[y1, x1] - self.sums[y0, x1] - self.sums[y1, x0] + self.sums[y0, x0]
        return np.asarray(meet(boxes, self.box) & (found > 0))

    def _cells(self, boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """First cell and the one after the last, along both axes."""
        first = (boxes[:, :2] - self.box[:2]) // self.side
        last = (boxes[:, 2:] - self.box[:2]) // self.side + 1
        limit = np.array(shape)
        return np.concatenate([np.clip(first, 0, limit - 1), np.clip(last, 1, limit)], axis=1).astype(np.int64)


def union(boxes: np.ndarray) -> np.ndarray:
    """The box around all boxes, float64 ``(4,)``; one that meets none where there are none."""
    if not len(boxes):
        return np.array([np.inf, np.inf, -np.inf, -np.inf])
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]).astype(np.float64)


def meet(boxes: np.ndarray, box: np.ndarray) -> npt.NDArray[np.bool_]:
    """Say which boxes share at least a border with one box."""
    return np.asarray((boxes[:, :2] <= box[2:]).all(axis=1) & (boxes[:, 2:] >= box[:2]).all(axis=1))


def draw(spool: Spool, segmenter: Segmenter, number: int, shape: tuple[int, int], scale: tuple[float, float]) -> None:
    """Draw the survivors of one tile, unless that has been done; afterwards those of all tiles are to be numbered.

    Parameters
    ----------
    spool
        With the fates of all proposals; takes the objects.
    segmenter
        Draws them.
    number
        The tile.
    shape, scale
        As for :meth:`~cytomask.models.segmenter.Segmenter.render`.
    """
    if spool.has_objects(number):
        return
    survivors = spool.survivors(number)
    drawn = segmenter.render(survivors, shape, scale)
    there = drawn.areas() > 0
    spool.write_objects(number, drawn.take(there), survivors.points[there])


def number_objects(spool: Spool) -> int:
    """Number the objects of all tiles, which have been written, as the whole image's are: by their points.

    Returns
    -------
    int
        How many objects there are.
    """
    total = 0
    for band in spool.bands():
        points = [spool.points(number) for number in band]
        rows, columns = np.concatenate(points).T
        ids = np.empty(len(rows), np.int32)
        ids[np.lexsort((columns, rows))] = np.arange(total + 1, total + len(rows) + 1)
        total += len(rows)
        for number, part in zip(band, np.split(ids, np.cumsum([len(p) for p in points])[:-1])):
            spool.write_ids(number, part)
    return total


class Painter:
    """Paint label images of parts of the native image, as the whole would look there.

    Parameters
    ----------
    spool
        With the objects of all tiles.
    shape, class_names
        Of the image and its objects.
    """

    def __init__(self, spool: Spool, shape: tuple[int, int], class_names: tuple[str, ...]) -> None:
        self.spool, self.shape, self.class_names = spool, shape, class_names
        self.reach = np.array([spool.reach(number) for number in range(len(spool.tiles))], np.int64).reshape(-1, 4)

    def paint(self, y0: int, x0: int, y1: int, x1: int, only: int | None = None) -> npt.NDArray[np.uint32]:
        """Paint one part, of all classes or ``only`` one: of overlapping objects the better scored is on top.

        Of equal scores, the later one is.
        """
        box = np.array([y0, x0, y1, x1])
        parts = []
        for number in np.flatnonzero(_cross(self.reach, box)).tolist():
            objects = self.spool.objects(number, self.shape, self.class_names)
            chosen = _cross(objects.windows, box)
            objects = objects.take(chosen if only is None else chosen & (objects.classes == only))
            if len(objects):
                parts.append(objects)
        if not parts:
            return np.zeros((y1 - y0, x1 - x0), np.uint32)
        objects = Instances.concatenate(parts)
        return objects.take(np.argsort(objects.ids)).cropped(y0, x0, y1, x1).to_labels(np.uint32)


def blocks(shape: tuple[int, int], side: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut an image into squares ``(y0, x0, y1, x1)``, row by row; the last ones may be smaller.

    Examples
    --------
    >>> list(blocks((3, 5), 4))
    [(0, 0, 3, 4), (0, 4, 3, 5)]
    """
    height, width = shape
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield y, x, min(y + side, height), min(x + side, width)


def _cross(boxes: np.ndarray, box: np.ndarray) -> npt.NDArray[np.bool_]:
    """Say which boxes share pixels with one box."""
    return np.asarray((boxes[:, :2] < box[2:]).all(axis=1) & (boxes[:, 2:] > box[:2]).all(axis=1))
