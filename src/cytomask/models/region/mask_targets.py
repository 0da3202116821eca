"""What the mask branches learn: pieces of the true masks, cut from the label layers without ever drawing a mask.

Only the samples that are asked for are read, so memory follows the number of boxes and not the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cytomask.models.region.structures import Regions, Truth

#: How many samples of the label layers are held at a time.
SAMPLES = 1 << 21


@torch.no_grad()
def mask_targets(truth: Truth, regions: Regions, side: int) -> Tensor:
    """Cut the mask of each region's object out of its box, and resize it to a square.

    Every cell averages bilinear samples of the object's full mask, on a grid of one sample per pixel at least, and is
    inside from one half on: RoIAlign (He et al., "Mask R-CNN", 2017) with aligned corners, in single precision and
    on the CPU summed in the order of torchvision's operator, so that cells which lie on the edge of an object fall on
    the same side as there.

    Parameters
    ----------
    truth
        Objects of one image.
    regions
        Boxes of the same image, all of foreground.
    side
        Rows and columns of a target.

    Returns
    -------
    torch.Tensor
        bool ``(R, side, side)``.

    Examples
    --------
    >>> layers = torch.zeros(1, 4, 4, dtype=torch.int32)
    >>> layers[0, 1:3, 1:] = 5
    >>> one = torch.zeros(1, dtype=torch.int64)
    >>> boxes = torch.tensor([[1.0, 1.0, 4.0, 3.0]])
    >>> truth = Truth(boxes, one, layers[0, 1, 1][None], one, layers, torch.zeros(0, 4))
    >>> mask_targets(truth, Regions(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), one, one), 4)[0].int()
    tensor([[0, 0, 0, 0],
            [0, 1, 1, 1],
            [0, 1, 1, 1],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    boxes = regions.boxes.float()
    targets = torch.zeros(len(boxes), side, side, dtype=torch.bool, device=boxes.device)
    bins = (boxes[:, 2:] - 0.5 - (boxes[:, :2] - 0.5)) / side
    grids = torch.ceil(bins).clamp(min=0).long()
    # Large boxes first: those of a chunk need about equally many samples.
    order = torch.argsort(grids.amax(1), descending=True, stable=True)
    largest = grids.amax(1)[order].tolist()
    begin = 0
    while begin < len(order):
        fitting = SAMPLES // max((side * largest[begin]) ** 2, 1)
        index = order[begin : begin + max(fitting, 1)]
        begin += len(index)
        targets[index] = _average(truth, regions.matched[index], boxes[index], bins[index], grids[index], side) >= 0.5
    return targets


def _average(truth: Truth, matched: Tensor, boxes: Tensor, bins: Tensor, grids: Tensor, side: int) -> Tensor:
    """Mean of the samples in each cell, ``(R, side, side)``; boxes with fewer samples than others have void ones."""
    columns, rows = (_sample_places(boxes[:, k], bins[:, k], grids[:, k], side) for k in (0, 1))
    # Samples first, cells last: (gy, gx, R, side, side).
    y, x = rows[:, None, :, :, None], columns[None, :, :, None, :]
    height, width = truth.layers.shape[1:]
    ones = torch.ones((), device=boxes.device)
    y_low, y_high, north, south, y_valid = _clamped_neighbours(y, height, ones)
    x_low, x_high, west, east, x_valid = _clamped_neighbours(x, width, ones)
    read = _Reader(truth, matched[:, None, None])
    values = (north * west) * read(y_low, x_low)
    values += (north * east) * read(y_low, x_high)
    values += (south * west) * read(y_high, x_low)
    values += (south * east) * read(y_high, x_high)
    values *= y_valid & x_valid
    if values.device.type != "cpu":
        total = values.sum((0, 1))
    else:
        total = values.new_zeros(values.shape[2:])
        # One after another, as the operator does: a sum in another order differs in the last digit, and decides ties.
        for sample in values.flatten(0, 1):
            total += sample
    return total / grids.prod(1).clamp(min=1)[:, None, None]


def _sample_places(start: Tensor, size: Tensor, count: Tensor, side: int) -> Tensor:
    """Coordinates of the samples along one axis, ``(g, R, side)``, NaN where a box has no more samples."""
    device = start.device
    cell = torch.arange(side, device=device, dtype=torch.float32)
    sample = torch.arange(int(count.max()), device=device, dtype=torch.float32)[:, None, None]
    start, size, count = start[:, None] - 0.5, size[:, None], count[:, None]
    places = start + cell * size + (sample + 0.5) * size / count
    return torch.where(sample < count, places, torch.nan)


def _clamped_neighbours(at: Tensor, size: int, ones: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Between which pixels each place lies, with which weights, and whether it counts at all.

    Up to one pixel outside, the image's margin goes on; further out there is nothing, as also for NaN.
    """
    valid = (at >= -1) & (at <= size)
    at = torch.where(valid, at, 0.0).clamp(min=0)
    low = at.floor().long()
    beyond = low >= size - 1
    low = low.clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    share = torch.where(beyond, 0.0, at - low)
    return low, high, ones - share, share, valid


class _Reader:
    """Values of objects' masks at pixels: 1.0 where the layer of an object has its id."""

    def __init__(self, truth: Truth, matched: Tensor) -> None:
        """``matched`` has axes of length 1 where the pixels that are asked for have more."""
        _, self.height, self.width = truth.layers.shape
        self.pixels = truth.layers.flatten()
        self.begin = truth.layer[matched] * (self.height * self.width)
        self.ids = truth.ids[matched]

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        index = self.begin + y * self.width + x
        found = self.pixels.index_select(0, index.flatten()).view(index.shape)
        return (found == self.ids).float()


@torch.no_grad()
def sample_masks(truth: Truth, matched: Tensor, points: Tensor) -> Tensor:
    """Read objects' masks at points, bilinearly between the pixels' centres; outside of the image there is nothing.

    Parameters
    ----------
    truth
        Objects of one image.
    matched
        int64 ``(R,)``: which objects.
    points
        float32 ``(R, P, 2)``: x and y in pixels; the centre of the first pixel is at 0.5.

    Returns
    -------
    torch.Tensor
        float32 ``(R, P)``, from 0 to 1.

    Examples
    --------
    >>> layers = torch.tensor([[[0, 7], [0, 7]]], dtype=torch.int32)
    >>> one = torch.zeros(1, dtype=torch.int64)
    >>> box = torch.tensor([[1.0, 0.0, 2.0, 2.0]])
    >>> truth = Truth(box, one, layers[0, 0, 1:], one, layers, torch.zeros(0, 4))
    >>> sample_masks(truth, one, torch.tensor([[[1.5, 0.5], [1.0, 0.5], [0.5, 0.5], [2.0, 0.5]]]))
    tensor([[1.0000, 0.5000, 0.0000, 0.5000]])
    """
    height, width = truth.layers.shape[1:]
    read = _Reader(truth, matched[:, None])
    x_low, west, east = _neighbours(points[..., 0], width)
    y_low, north, south = _neighbours(points[..., 1], height)
    values = torch.zeros_like(points[..., 0])
    for y, y_weight in ((y_low, north), (y_low + 1, south)):
        for x, x_weight in ((x_low, west), (x_low + 1, east)):
            known = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            found = read(y.clamp(0, height - 1), x.clamp(0, width - 1))
            values += y_weight * x_weight * found * known
    return values


def _neighbours(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    # The way through [-1, 1] is that of torch's grid_sample, for the same rounding.
    at = ((2 * (at / size) - 1 + 1) * size - 1) / 2
    low = at.clamp(-2, size + 1).floor()
    share = at - low
    return low.long(), 1 - share, share
