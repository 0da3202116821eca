"""What a dense network says of pixels, cut into blocks: the proposals that tiles exchange.

A block is owned by one tile as every proposal is, by its first pixel. So the map of the whole image is put together of
what the tiles own, each pixel from one tile, before any object is made of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from cytomask.models.dense.config import DenseConfig
from cytomask.models.proposals import Proposals

#: Side of a block in network pixels; cores of tiles are multiples of it.
BLOCK = 32
#: Name of the blocks among the data of proposals.
MAPS = "maps"
#: Name of the weights of pixels among them, where tiles are blended.
WEIGHT = "weight"


def activated(logits: Tensor, config: DenseConfig) -> Tensor:
    """What is said of pixels as numbers of 0 to 1: float32 ``(B, K, Y, X)`` of a network's output.

    - ``binary`` and ``softmax``: the probability of each class, without the background.
    - ``boundary``: the probability of being in an object, of being in its interior, and of each class if several.
    - ``distance``: the probability of being in an object, the distance to its border, and of each class if several.
    """
    logits = logits.float()
    if config.output == "binary":
        return torch.sigmoid(logits)
    if config.output == "softmax":
        return torch.softmax(logits, dim=1)[:, 1:]
    if config.output == "boundary":
        parts = torch.softmax(logits[:, :3], dim=1)
        heads, rest = [parts[:, 1:].sum(dim=1, keepdim=True), parts[:, 1:2]], logits[:, 3:]
    else:
        heads, rest = [torch.sigmoid(logits[:, :1]), logits[:, 1:2].clamp(0, 1)], logits[:, 2:]
    if rest.shape[1]:
        heads.append(torch.softmax(rest, dim=1))
    return torch.cat(heads, dim=1)


def foreground(maps: Tensor, config: DenseConfig) -> Tensor:
    """The probability that a pixel belongs to any object, ``(…, Y, X)`` of maps ``(…, K, Y, X)``."""
    if config.output == "softmax":
        return maps.sum(dim=-3)
    return maps.amax(dim=-3) if config.output == "binary" else maps[..., 0, :, :]


def to_blocks(maps: Tensor, config: DenseConfig, threshold: float) -> Proposals:
    """Cut the maps of one image into blocks; those without a pixel above the threshold are left out.

    Parameters
    ----------
    maps
        As :func:`activated` gives them, of one image: ``(K, Y, X)``.
    config
        Tells what the maps are.
    threshold
        Of the probability to belong to an object.

    Returns
    -------
    Proposals
        ``points`` are the blocks' first pixels, ``scores`` the highest probabilities to be of an object, ``classes``
        the likeliest classes there; ``data["maps"]`` is float16 ``(N, K, 32, 32)``.
    """
    count, height, width = maps.shape
    maps = F.pad(maps, (0, -width % BLOCK, 0, -height % BLOCK))
    rows, columns = maps.shape[1] // BLOCK, maps.shape[2] // BLOCK
    # Objects are made of half floats, so what is left out is told by them too.
    blocks = maps.half().reshape(count, rows, BLOCK, columns, BLOCK).permute(1, 3, 0, 2, 4)
    blocks = blocks.reshape(rows * columns, count, BLOCK, BLOCK)
    scores = foreground(blocks.float(), config).flatten(1).amax(dim=1)
    kept = torch.nonzero(scores > threshold)[:, 0]
    blocks, scores = blocks[kept], scores[kept]
    places = torch.stack([kept // columns, kept % columns], dim=1) * BLOCK
    n = len(config.classes)
    first = 0 if config.output in ("binary", "softmax") else 2
    likeliest = blocks[:, first : first + n].float().flatten(2).amax(dim=2).argmax(dim=1) + 1 if n > 1 else None
    return Proposals(
        points=places.to(torch.float32).cpu().numpy(),
        scores=scores.cpu().numpy(),
        classes=np.ones(len(kept), np.int32) if likeliest is None else likeliest.to(torch.int32).cpu().numpy(),
        data={MAPS: blocks.contiguous().cpu().numpy()},
    )


def from_blocks(proposals: Proposals, window: tuple[int, int, int, int], count: int) -> npt.NDArray[np.float16]:
    """Put blocks together to the maps of a window ``(y0, x0, y1, x1)``: float16 ``(count, y1 - y0, x1 - x0)``.

    Where there is no block, the maps are 0. Where several tiles gave the same block, they are averaged by their
    weights.
    """
    y0, x0, y1, x1 = window
    maps = np.zeros((count, max(y1 - y0, 0), max(x1 - x0, 0)), np.float16)
    blocks, places = _merged(proposals)
    for block, (y, x) in zip(blocks, places):
        top, left, bottom, right = max(y, y0), max(x, x0), min(y + BLOCK, y1), min(x + BLOCK, x1)
        if top < bottom and left < right:
            maps[:, top - y0 : bottom - y0, left - x0 : right - x0] = block[
                :, top - y : bottom - y, left - x : right - x
            ]
    return maps


def _merged(proposals: Proposals) -> tuple[npt.NDArray[np.float16], list[tuple[int, int]]]:
    """Blocks and their places, each place once."""
    blocks = proposals.data[MAPS]
    points = np.floor(proposals.points).astype(np.int64)
    if WEIGHT not in proposals.data:
        return blocks, [(y, x) for y, x in points.tolist()]
    unique, place = np.unique(points, axis=0, return_inverse=True)
    place = place.reshape(-1)
    weights = proposals.data[WEIGHT].astype(np.float32)[:, None]
    total = np.zeros((len(unique), *blocks.shape[1:]), np.float32)
    weight = np.zeros((len(unique), 1, *blocks.shape[2:]), np.float32)
    np.add.at(total, place, blocks.astype(np.float32) * weights)
    np.add.at(weight, place, weights)
    return (total / np.maximum(weight, 1e-6)).astype(np.float16), [(y, x) for y, x in unique.tolist()]
