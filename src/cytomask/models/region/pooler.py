"""Features of boxes, each taken from the level of the pyramid that suits its size (Lin et al. 2017, equation 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from cytomask.models.region.boxes import areas

#: A box with the area of a square of this side is seen at stride 16; one of half the side at stride 8.
CANONICAL_SIDE = 224
CANONICAL_LEVEL = 4

#: The coarsest level of the pyramid only serves the proposals.
LEVELS = 4


class Pooler(nn.Module):
    """RoIAlign (He et al. 2017) on the first four levels of a pyramid.

    Parameters
    ----------
    side
        Rows and columns of the pooled features.
    strides
        Of the pyramid's levels, finest first, each twice the one before; only the first four are used.
    sampling
        Samples per bin and axis; 0: as many as the box has pixels of the level.

    Examples
    --------
    >>> pooler = Pooler(7, strides=(4, 8, 16, 32, 64))
    >>> maps = [torch.zeros(1, 8, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64)]
    >>> pooler(maps, [torch.tensor([[0.0, 0, 20, 10]])]).shape
    torch.Size([1, 8, 7, 7])
    """

    def __init__(self, side: int, strides: Sequence[int], sampling: int = 0) -> None:
        super().__init__()
        self.side = side
        self.sampling = sampling
        self.strides = tuple(strides)[:LEVELS]

    def levels(self, boxes: Tensor) -> Tensor:
        """int64 ``(N,)``: the level, from 0, that each of the boxes ``(N, 4)`` is pooled from."""
        first = round(math.log2(self.strides[0]))
        level = torch.floor(CANONICAL_LEVEL + torch.log2(areas(boxes).sqrt() / CANONICAL_SIDE + 1e-8))
        return level.clamp(first, first + len(self.strides) - 1).to(torch.int64) - first

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Pool each image's boxes.

        Parameters
        ----------
        features
            ``(B, C, rows, columns)`` of each level; levels above the fourth are not looked at.
        boxes
            For each of the ``B`` images ``(N, 4)``.

        Returns
        -------
        torch.Tensor
            float32 ``(sum of N, C, side, side)``, image by image.
        """
        image = torch.cat([torch.full_like(b[:, :1], i, dtype=torch.float32) for i, b in enumerate(boxes)])
        # The kernel must not meet a box that is no number; it gets an empty one instead.
        corners = torch.nan_to_num(torch.cat(list(boxes)).float(), nan=0.0, posinf=0.0, neginf=0.0)
        regions = torch.cat([image, corners], dim=1)
        levels = self.levels(corners)
        parts, order = [], []
        for level, stride in enumerate(self.strides):
            here = torch.nonzero(levels == level).flatten()
            # RoIAlign has no kernel for half precision everywhere.
            parts.append(
                roi_align(features[level].float(), regions[here], self.side, 1 / stride, self.sampling, aligned=True)
            )
            order.append(here)
        return torch.cat(parts)[torch.argsort(torch.cat(order))]
