"""Areas, overlaps and clipping of boxes."""

from __future__ import annotations

import torch
from torch import Tensor


def areas(boxes: Tensor) -> Tensor:
    """Areas of boxes ``(N, 4)``, in square pixels.

    Examples
    --------
    >>> areas(torch.tensor([[1.0, 2.0, 4.0, 4.0]]))
    tensor([6.])
    """
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def intersections(a: Tensor, b: Tensor) -> Tensor:
    """Areas that each box of ``a`` shares with each of ``b``: ``(N, 4)``, ``(M, 4)`` to ``(N, M)``."""
    # One axis after the other: the two (N, M, 2) corners at once would take twice the memory.
    width = torch.minimum(a[:, None, 2], b[:, 2]).sub_(torch.maximum(a[:, None, 0], b[:, 0])).clamp_(min=0)
    height = torch.minimum(a[:, None, 3], b[:, 3]).sub_(torch.maximum(a[:, None, 1], b[:, 1])).clamp_(min=0)
    return width.mul_(height)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each box of ``a`` with each of ``b``.

    Parameters
    ----------
    a, b
        float32 ``(N, 4)`` and ``(M, 4)``.

    Returns
    -------
    torch.Tensor
        float32 ``(N, M)``; 0 where boxes share nothing, also where one has no area.

    Examples
    --------
    >>> pairwise_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1], [5, 5, 6, 6]]))
    tensor([[0.5000, 0.0000]])
    """
    shared = intersections(a, b)
    union = (areas(a)[:, None] + areas(b)).sub_(shared)
    return torch.where(shared > 0, shared / union, 0.0)


def coverage(a: Tensor, b: Tensor) -> Tensor:
    """Share of each box of ``a`` that lies in each of ``b``: ``(N, 4)``, ``(M, 4)`` to ``(N, M)``.

    Examples
    --------
    >>> coverage(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 9, 1]]))
    tensor([[0.5000]])
    """
    shared = intersections(a, b)
    return torch.where(shared > 0, shared / areas(a)[:, None], 0.0)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes ``(…, 4)``, cut at the borders of a picture of ``size`` rows and columns.

    Examples
    --------
    >>> clip(torch.tensor([[-3.0, 1.0, 9.0, 9.0]]), (5, 7))
    tensor([[0., 1., 7., 5.]])
    """
    rows, columns = size
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack(
        [x0.clamp(0, columns), y0.clamp(0, rows), x1.clamp(0, columns), y1.clamp(0, rows)],
        dim=-1,
    )


def nonempty(boxes: Tensor) -> Tensor:
    """Tell which boxes ``(N, 4)`` have an area: bool ``(N,)``."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
