"""Let the maps of neighbouring tiles pass into one another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cytomask.models.proposals import Proposals
from cytomask.prediction.tiles import Tile

#: Name of the weights among the data of blended pieces.
WEIGHT = "weight"
#: No pixel that a tile has seen counts for nothing.
_LEAST = 1e-3


def blended(pieces: Proposals, tile: Tile, boxes: np.ndarray, width: int) -> Proposals:
    """Give the pixels of a tile's pieces their weights in the mean of all tiles that see them.

    Weights rise in a straight line from the border of what the tile sees to ``2 width`` inside, where its neighbours
    see nothing more; where the image ends they do not fall. Those of all tiles add up to about one.

    Parameters
    ----------
    pieces
        Of a map, in the frame of the whole image.
    tile
        What it sees, and what it owns.
    boxes
        ``(N, 4)``, ``(y0, x0, y1, x1)`` of the pieces.
    width
        How far tiles see beyond their cores.

    Returns
    -------
    Proposals
        With the weights, float16 ``(N, h, w)``, as a further part of the data.
    """
    if not len(pieces):
        side = next(iter(pieces.data.values())).shape[-2:]
        return Proposals(
            pieces.points, pieces.scores, pieces.classes, {**pieces.data, WEIGHT: np.zeros((0, *side), np.float16)}
        )
    starts = boxes[:, :2].astype(np.int64)
    side = (boxes[0, 2:] - boxes[0, :2]).astype(np.int64)
    ramps = [
        _ramp(starts[:, axis, None] + np.arange(side[axis]), tile.read[axis], tile.read[axis + 2], width,
              np.isfinite(tile.core[axis]), np.isfinite(tile.core[axis + 2]))
        for axis in range(2)
    ]  # fmt: skip
    weights = np.maximum(ramps[0][:, :, None] * ramps[1][:, None, :], _LEAST).astype(np.float16)
    return Proposals(pieces.points, pieces.scores, pieces.classes, {**pieces.data, WEIGHT: weights})


def _ramp(
    places: npt.NDArray[np.int64], start: int, stop: int, width: int, rises: bool, falls: bool
) -> npt.NDArray[np.float64]:
    """Weight along one axis."""
    weight = np.ones(places.shape)
    if width:
        if rises:
            weight = np.minimum(weight, (places - start + 0.5) / (2 * width))
        if falls:
            weight = np.minimum(weight, (stop - places - 0.5) / (2 * width))
    return np.clip(weight, 0, 1)
