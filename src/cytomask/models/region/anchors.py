"""Reference boxes at every place of every level of the pyramid (Ren et al. 2015; Lin et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cytomask.models.region.config import AnchorConfig

#: So many shapes of pyramids are remembered.
_REMEMBERED = 8


class Anchors:
    """Makes the anchors of feature maps.

    Parameters
    ----------
    config
        Sizes, ratios and offset.
    strides
        Pixels between two places, for each level, finest first.

    Examples
    --------
    >>> anchors = Anchors(AnchorConfig(), strides=(4, 8, 16, 32, 64))
    >>> maps = [torch.zeros(1, 8, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64)]
    >>> anchors.per_place, [len(level) for level in anchors(maps)]
    (3, [768, 192, 48, 12, 3])
    """

    def __init__(self, config: AnchorConfig, strides: Sequence[int]) -> None:
        self.strides = tuple(strides)
        self.offset = config.offset
        self.shapes = [_centred_boxes(sizes, config.ratios) for sizes in config.sizes]
        self._remembered: dict[tuple[object, ...], list[Tensor]] = {}

    @property
    def per_place(self) -> int:
        """Anchors at each place: sizes times ratios."""
        return len(self.shapes[0])

    def __call__(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Anchors of feature maps ``(B, C, rows, columns)``.

        Returns
        -------
        list of torch.Tensor
            For each level float32 ``(rows * columns * per_place, 4)``: row by row, place by place; at one place size
            by size, and of one size ratio by ratio. Not to be changed: they are remembered.
        """
        grids = [(int(f.shape[-2]), int(f.shape[-1])) for f in features]
        key = (features[0].device, *grids)
        if key not in self._remembered:
            if len(self._remembered) >= _REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            # Made in prediction, they may be used in training.
            with torch.inference_mode(False), torch.no_grad():
                self._remembered[key] = [
                    self._level(level, grid, features[0].device) for level, grid in enumerate(grids)
                ]
        return self._remembered[key]

    def _level(self, level: int, grid: tuple[int, int], device: torch.device) -> Tensor:
        stride = self.strides[level]
        rows, columns = (
            torch.arange(self.offset * stride, count * stride, step=stride, dtype=torch.float32, device=device)
            for count in grid
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        places = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
        return (places + self.shapes[level].to(device)).reshape(-1, 4)


def _centred_boxes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Boxes ``(sizes * ratios, 4)`` around the origin, with the area of a square of that size."""
    boxes = []
    for size in sizes:
        for ratio in ratios:
            width = math.sqrt(size**2 / ratio)
            height = ratio * width
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes, dtype=torch.float32)
