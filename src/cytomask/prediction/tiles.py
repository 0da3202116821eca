"""Cut an image into tiles that together see exactly what the whole image shows.

Every tile has a *core* and a *read* window. The cores partition the image: a proposal belongs to the one tile in whose
core its point lies. The read window is larger by what may influence those proposals: the network's halo and, for
families that must see an object whole, half the overlap. All windows start and end on multiples of the network's stride
(in coordinates of the whole image), and never reach beyond the image rounded up to the stride; so pooling grids and
zero padding are the same as for the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from cytomask.errors import ConfigError

#: Side of a tile where none is asked for: the activations of a U-Net then stay below a gigabyte.
DEFAULT_TILE = 1536


@dataclass(frozen=True, slots=True)
class Tile:
    """One piece of an image; all coordinates are pixels of the scaled whole image, half-open ``(y0, x0, y1, x1)``.

    Attributes
    ----------
    core
        What the tile owns. Cores at the image's rim reach to infinity outwards, so that a point on the rim or in
        the padding is owned too.
    read
        What the network is fed.
    """

    core: tuple[float, float, float, float]
    read: tuple[int, int, int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the read window."""
        y0, x0, y1, x1 = self.read
        return y1 - y0, x1 - x0

    def owns(self, points: np.ndarray) -> np.ndarray:
        """Say which of ``(N, 2)`` points (rows and columns of the whole image) lie in the core."""
        y0, x0, y1, x1 = self.core
        rows, columns = points[:, 0], points[:, 1]
        return np.asarray((rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1))


def plan_tiles(
    shape: tuple[int, int],
    *,
    tile: int = DEFAULT_TILE,
    overlap: int = 0,
    stride: int = 1,
    halo: int = 0,
    needs_whole_objects: bool = False,
    alignment: int | None = None,
) -> list[Tile]:
    """Plan the tiles of an image, row by row.

    **An object smaller than the overlap comes out of the tiles exactly as from the whole image**, as long as its
    point lies in the middle of its extent. Families that find an object without seeing it whole need no overlap.

    Parameters
    ----------
    shape
        Height and width of the image as the network sees it (after scaling, before padding).
    tile
        Side of core plus overlap. An axis no longer than this is not cut.
    overlap
        What neighbouring tiles share: the core's side is at most ``tile - overlap``.
    stride
        Windows start and end on multiples of it.
    halo
        Radius of the receptive field.
    needs_whole_objects
        Whether the read window must also hold the objects that stick out of the core.
    alignment
        Windows start on multiples of it, itself a multiple of the stride, where the network divides what it sees into
        windows of its own. None: the stride.

    Raises
    ------
    ConfigError
        If the tile leaves no core.

    Examples
    --------
    >>> for t in plan_tiles((100, 300), tile=128, overlap=32, stride=8, halo=10):
    ...     print(t.core, t.read)
    (-inf, -inf, inf, 80.0) (0, 0, 104, 96)
    (-inf, 80.0, inf, 160.0) (0, 64, 104, 176)
    (-inf, 160.0, inf, 240.0) (0, 144, 104, 256)
    (-inf, 240.0, inf, inf) (0, 224, 104, 304)
    """
    alignment = alignment or stride
    check_tile(tile, overlap, alignment)
    margin = halo + ((overlap + 1) // 2 if needs_whole_objects else 0)
    rows, columns = (_cut(size, tile, overlap, stride, alignment, margin) for size in shape)
    return [
        Tile(core=(top, left, bottom, right), read=(read_top, read_left, read_bottom, read_right))
        for top, bottom, read_top, read_bottom in rows
        for left, right, read_left, read_right in columns
    ]


def check_tile(tile: int, overlap: int, alignment: int) -> None:
    """Make sure that a tile has a core.

    Raises
    ------
    ConfigError
        If the overlap is negative, or the tile is smaller than overlap plus alignment.
    """
    if overlap < 0:
        raise ConfigError("the overlap of tiles is negative", where="--overlap", found=overlap, expected="0 or more")
    if tile - overlap < alignment:
        enough = max(4 * overlap, min(8 * alignment, 1024), overlap + alignment, 256)
        raise ConfigError(
            "the tile is too small for its overlap",
            where="--tile, --overlap",
            found=f"tile {tile}, overlap {overlap}",
            expected=f"a tile of at least overlap + {alignment} pixels",
            fix=f"use --tile {enough}, or a smaller overlap",
        )


def _cut(
    size: int, tile: int, overlap: int, stride: int, alignment: int, margin: int
) -> list[tuple[float, float, int, int]]:
    """Core start and stop, read start and stop, along one axis."""
    padded = -(-size // stride) * stride
    if size <= tile:
        return [(-np.inf, np.inf, 0, padded)]
    units = -(-padded // alignment)
    # As few cores as the tile allows, and those of one size (but for the last): less memory, and equal batches.
    count = -(-units // ((tile - overlap) // alignment))
    core = -(-units // count) * alignment
    edges = [*range(0, padded, core), padded]
    before, after = (-(-margin // step) * step for step in (alignment, stride))
    return [
        (
            -np.inf if start == 0 else float(start),
            np.inf if stop == padded else float(stop),
            max(0, start - before),
            min(padded, stop + after),
        )
        for start, stop in pairwise(edges)
    ]


def equal_batches(tiles: Sequence[Tile], batch_size: int) -> Iterator[list[Tile]]:
    """Group tiles whose read windows have one shape into batches of at most ``batch_size``.

    Examples
    --------
    >>> tiles = plan_tiles((64, 256), tile=64, stride=8, halo=8)
    >>> [[t.shape for t in batch] for batch in equal_batches(tiles, 2)]
    [[(64, 72), (64, 72)], [(64, 80), (64, 80)]]
    """
    groups: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        groups.setdefault(tile.shape, []).append(tile)
    for group in groups.values():
        rest = iter(group)
        while batch := list(islice(rest, batch_size)):
            yield batch
