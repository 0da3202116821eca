"""Points inside boxes: where they are, what features are there, and which are the least certain.

Points are float32, ``x`` and ``y`` as shares of a box's width and height, from its upper left corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cytomask.models.batch_part import random_of_items


def grid_points(side: int, device: torch.device | None = None) -> Tensor:
    """The centres of ``side`` x ``side`` cells, row by row, ``(side * side, 2)``.

    Examples
    --------
    >>> grid_points(2)
    tensor([[0.2500, 0.2500],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.7500, 0.7500]])
    """
    centres = (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def points_in_image(boxes: Tensor, points: Tensor) -> Tensor:
    """Turn shares of boxes into pixels, ``(R, P, 2)``; ``points`` are of each box, or ``(P, 2)`` for all.

    Examples
    --------
    >>> points_in_image(torch.tensor([[10.0, 20.0, 30.0, 60.0]]), torch.tensor([[0.5, 0.25]]))
    tensor([[[20., 30.]]])
    """
    start, end = boxes[:, None, :2], boxes[:, None, 2:]
    return points * (end - start) + start


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Read maps bilinearly at points, each at its own: ``(N, C, Y, X)`` and ``(N, P, 2)`` to ``(N, C, P)``.

    The points are shares of the map's extent; outside, half a cell from the outermost centres on, values fall to zero.

    Examples
    --------
    >>> sample_maps(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[0.25, 0.5], [0.5, 0.5], [0.0, 0.5]]]))
    tensor([[[1.0000, 2.0000, 0.5000]]])
    """
    return F.grid_sample(maps, (2 * points - 1)[:, :, None], align_corners=False)[..., 0]


def sample_features(features: Tensor, boxes: list[Tensor], points: Tensor, stride: int) -> Tensor:
    """Read a feature map at points of the boxes of each image.

    Parameters
    ----------
    features
        float32 ``(B, C, Y, X)``.
    boxes
        For each image ``(R_b, 4)`` in pixels.
    points
        ``(R, P, 2)`` for the boxes of all images one after another, or ``(P, 2)`` for every box.
    stride
        Pixels per cell of the map.

    Returns
    -------
    torch.Tensor
        float32 ``(R, C, P)``.
    """
    height, width = features.shape[-2:]
    extent = torch.tensor([width * stride, height * stride], dtype=torch.float32, device=features.device)
    counts = [len(b) for b in boxes]
    at = points_in_image(torch.cat(boxes), points).split(counts)
    found = [
        F.grid_sample(features[i : i + 1], (2 * (here / extent) - 1)[None], align_corners=False)[0].transpose(0, 1)
        for i, here in enumerate(at)
    ]
    return torch.cat(found)


def draw_training_points(
    certainty_at: Tensor, count: int, oversample: float, importance: float, regions: Sequence[int] | None = None
) -> Tensor:
    """Draw points at random, and mostly keep those where a mask is uncertain (PointRend, section 3.1).

    Parameters
    ----------
    certainty_at
        float32 ``(R, Y, X)``: logits of the coarse masks.
    count
        Points per mask that are kept.
    oversample
        So many times more are drawn.
    importance
        Share of the kept points that are the least certain of those drawn; the others are drawn anew, evenly.
    regions
        How many of the masks are of each image of the batch; None: all are of one.

    Returns
    -------
    torch.Tensor
        float32 ``(R, count, 2)``.
    """
    regions = [len(certainty_at)] if regions is None else regions
    device = certainty_at.device
    uncertain = int(importance * count)
    drawn = random_of_items(regions, (int(count * oversample), 2), "points", device)
    # Logits are read at the points, and only then made to certainties: between a certain yes and a certain no lies
    # an uncertain point.
    certainty = sample_maps(certainty_at[:, None], drawn)[:, 0].abs()
    kept = drawn.gather(1, certainty.topk(uncertain, dim=1, largest=False).indices[..., None].expand(-1, -1, 2))
    return torch.cat([kept, random_of_items(regions, (count - uncertain, 2), "more points", device)], dim=1)


def least_certain(logits: Tensor, count: int) -> Tensor:
    """Find the cells of each mask ``(R, Y, X)`` whose logits are nearest to 0: int64 ``(R, count or all)``.

    Examples
    --------
    >>> least_certain(torch.tensor([[[5.0, -1.0], [0.0, 3.0]]]), 2)
    tensor([[2, 1]])
    """
    certainty = logits.flatten(1).abs()
    return certainty.topk(min(count, certainty.shape[1]), dim=1, largest=False).indices
