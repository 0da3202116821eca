"""Make objects of a giant image's map tile by tile, to the result of doing it at once.

The pieces of the map lie in a :class:`~cytomask.prediction.spool.Spool`. A tile owns the objects whose first pixel lies
in its core. What becomes of a group of connected foreground pixels is told from the group alone; so each tile looks as
far beyond its core as the groups reach that begin in it, and no further.
"""

from __future__ import annotations

import numpy as np

from cytomask.geometry.components import connected_components
from cytomask.models.assembling import AssemblingSegmenter
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter import Postprocess
from cytomask.prediction.blockwise import meet
from cytomask.prediction.spool import Spool
from cytomask.prediction.tiles import Tile
from cytomask.progress import warn

#: How far a tile looks at first, in network pixels.
REACH = 128
#: Most pixels of a window: groups that reach further are cut there.
MOST_PIXELS = 2**25

Window = tuple[int, int, int, int]


def assemble(
    spool: Spool,
    segmenter: AssemblingSegmenter,
    postprocess: Postprocess,
    number: int,
    reach: np.ndarray,
    shape: tuple[int, int],
    native_shape: tuple[int, int],
    scale: tuple[float, float],
) -> bool:
    """Make the objects of one tile, unless that has been done; afterwards those of all tiles are to be numbered.

    Parameters
    ----------
    spool
        With the pieces of all tiles; takes the objects.
    segmenter, postprocess
        Make objects of maps.
    number
        The tile.
    reach
        The box around the pieces of each tile, as :func:`~cytomask.prediction.blockwise.outlook` gives it.
    shape
        Height and width of the image in network pixels.
    native_shape, scale
        As for :meth:`~cytomask.models.segmenter.Segmenter.render`.

    Returns
    -------
    bool
        False if groups of touching objects are larger than can be looked at, and were cut.
    """
    if spool.has_objects(number):
        return True
    tile = spool.tiles[number]
    pieces, window, whole = _surroundings(spool, segmenter, postprocess, tile, shape, reach)
    objects, points = segmenter.assemble(pieces, postprocess, window, native_shape, scale)
    owned = tile.owns(points)
    spool.write_objects(number, objects.take(owned), points[owned])
    return whole


def warn_of_cut_groups(cut: int) -> None:
    """Say in how many tiles groups were cut, if in any."""
    if cut:
        warn(
            f"in {cut} tile{'' if cut == 1 else 's'} groups of touching objects are larger than can be looked at "
            "at once: where they were cut, objects may be cut or doubled; a higher --score-threshold parts groups"
        )


def _surroundings(
    spool: Spool,
    segmenter: AssemblingSegmenter,
    postprocess: Postprocess,
    tile: Tile,
    shape: tuple[int, int],
    reach: np.ndarray,
) -> tuple[Proposals, Window, bool]:
    """The pieces and the window in which all groups that touch the tile's core are whole; False where they are not."""
    y0, x0, y1, x1 = tile.core
    core = (max(0, int(max(y0, 0))), int(max(x0, 0)), int(min(y1, shape[0])), int(min(x1, shape[1])))
    margin = REACH
    while True:
        window = (
            max(0, core[0] - margin), max(0, core[1] - margin), min(shape[0], core[2] + margin),
            min(shape[1], core[3] + margin),
        )  # fmt: skip
        pieces = _pieces(spool, window, reach)
        if _whole(segmenter.foreground(pieces, postprocess, window), core, window, shape):
            return pieces, window, True
        larger = (core[2] - core[0] + 4 * margin) * (core[3] - core[1] + 4 * margin)
        if larger > MOST_PIXELS:
            return pieces, window, False
        margin *= 2


def _whole(mask: np.ndarray, core: Window, window: Window, shape: tuple[int, int]) -> bool:
    """Whether no group touches both the core and a border of the window within the image."""
    groups, _ = connected_components(mask, connectivity=2)
    y0, x0 = window[:2]
    inside = np.unique(groups[core[0] - y0 : core[2] - y0, core[1] - x0 : core[3] - x0])
    sides = [
        (groups[0], window[0] > 0), (groups[:, 0], window[1] > 0),
        (groups[-1], window[2] < shape[0]), (groups[:, -1], window[3] < shape[1]),
    ]  # fmt: skip
    cut = [np.unique(side) for side, inner in sides if inner and side.size]
    if not cut:
        return True
    touched = np.intersect1d(inside, np.concatenate(cut))
    return not (touched > 0).any()


def _pieces(spool: Spool, window: Window, reach: np.ndarray) -> Proposals:
    """All pieces that touch a window."""
    box = np.array(window, np.float64)
    found = []
    for number in np.flatnonzero(meet(reach, box)).tolist():
        records = spool.records(number)
        found.append(records[meet(records["bounds"], box)])
    return Spool.proposals(np.concatenate(found) if found else spool.records(0)[:0])
