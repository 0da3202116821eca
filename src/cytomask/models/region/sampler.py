"""A random choice of boxes that a loss looks at, with no more than a share of objects."""

from __future__ import annotations

import torch
from torch import Tensor


def sample(
    labels: Tensor, count: int, positive: float, background: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Choose ``count`` boxes, or as many as there are.

    Parameters
    ----------
    labels
        ``(N,)``: -1 is never chosen, ``background`` is background, all others are objects.
    count
        Objects and background together.
    positive
        Largest share of objects; what they leave is filled with background.
    background
        The label of the background.
    generator
        What decides, on the labels' device; None: torch's own.

    Returns
    -------
    objects, others
        int64 positions in ``labels``.

    Examples
    --------
    >>> objects, others = sample(torch.tensor([1, 0, 0, -1, 1, 1, 0]), 4, 0.5, background=0)
    >>> len(objects), len(others)
    (2, 2)
    """
    objects = torch.nonzero((labels != -1) & (labels != background)).flatten()
    others = torch.nonzero(labels == background).flatten()
    n_objects = min(len(objects), int(count * positive))
    n_others = min(len(others), count - n_objects)
    return _some(objects, n_objects, generator), _some(others, n_others, generator)


def _some(positions: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    return positions[torch.randperm(len(positions), generator=generator, device=positions.device)[:count]]
