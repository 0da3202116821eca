"""Boxes as changes of other boxes (Girshick et al. 2014): what the two box regressions predict."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: A box grows at most by this factor's logarithm in one step, so that no exponential overflows.
MAX_LOG_GROWTH = math.log(1000 / 16)

Weights = tuple[float, float, float, float]


def encode(sources: Tensor, targets: Tensor, weights: Weights) -> Tensor:
    """Changes that turn ``sources`` into ``targets``.

    Parameters
    ----------
    sources, targets
        float32 ``(N, 4)``; both need an area.
    weights
        Factors of ``dx, dy, dw, dh``.

    Returns
    -------
    torch.Tensor
        float32 ``(N, 4)``: shift of the centre in widths and heights of the source, logarithm of the growth.

    Examples
    --------
    >>> encode(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[1.0, 0, 5, 4]]), (10.0, 10.0, 5.0, 5.0))
    tensor([[2.5000, 0.0000, 0.0000, 0.0000]])
    """
    sources, targets = sources.float(), targets.float()
    x, y, width, height = _centres(sources)
    target_x, target_y, target_width, target_height = _centres(targets)
    wx, wy, ww, wh = weights
    return torch.stack(
        [
            wx * (target_x - x) / width,
            wy * (target_y - y) / height,
            ww * torch.log(target_width / width),
            wh * torch.log(target_height / height),
        ],
        dim=1,
    )


def decode(deltas: Tensor, boxes: Tensor, weights: Weights) -> Tensor:
    """Apply changes to boxes.

    Parameters
    ----------
    deltas
        ``(N, 4 * C)``: ``C`` changes for each box, such as one per class.
    boxes
        ``(N, 4)``.
    weights
        Factors of ``dx, dy, dw, dh``, as in :func:`encode`.

    Returns
    -------
    torch.Tensor
        float32 ``(N, 4 * C)``, whatever the precision of ``deltas``.

    Examples
    --------
    >>> decode(torch.tensor([[2.5, 0, 0, 0]]), torch.tensor([[0.0, 0, 4, 4]]), (10.0, 10.0, 5.0, 5.0))
    tensor([[1., 0., 5., 4.]])
    """
    x, y, width, height = (part[:, None] for part in _centres(boxes.float()))
    wx, wy, ww, wh = weights
    dx, dy, dw, dh = deltas.float().reshape(len(deltas), deltas.shape[1] // 4, 4).unbind(-1)
    new_x, new_y = dx / wx * width + x, dy / wy * height + y
    half_width = 0.5 * (torch.exp((dw / ww).clamp(max=MAX_LOG_GROWTH)) * width)
    half_height = 0.5 * (torch.exp((dh / wh).clamp(max=MAX_LOG_GROWTH)) * height)
    corners = [new_x - half_width, new_y - half_height, new_x + half_width, new_y + half_height]
    return torch.stack(corners, dim=-1).reshape(deltas.shape)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return boxes[:, 0] + 0.5 * width, boxes[:, 1] + 0.5 * height, width, height
