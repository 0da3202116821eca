"""Features of boxes."""

from __future__ import annotations

import math

import pytest
import torch

from cytomask.models.region.pooler import Pooler

STRIDES = (4, 8, 16, 32, 64)


def ramps(strides: tuple[int, ...], side: int = 512, images: int = 1) -> list[torch.Tensor]:
    """Each cell holds the column (channel 0), the row (1) of its middle in pixels, the stride (2), the image (3)."""
    levels = []
    for stride in strides:
        middle = (torch.arange(side // stride) + 0.5) * stride
        x, y = middle.expand(side // stride, -1), middle[:, None].expand(-1, side // stride)
        one = torch.ones_like(x)
        levels.append(torch.stack([torch.stack([x, y, stride * one, i * one]) for i in range(images)]))
    return levels


@pytest.mark.parametrize("sampling", [0, 2])
def test_bins_hold_the_mean_of_their_region(sampling: int) -> None:
    boxes = torch.tensor([[64.0, 100, 92, 142], [120, 60, 300, 333], [40, 40, 460, 460]])
    pooled = Pooler(7, STRIDES, sampling)(ramps(STRIDES), [boxes])
    centre = (torch.arange(7) + 0.5) / 7
    for found, (x0, y0, x1, y1) in zip(pooled, boxes.tolist(), strict=True):
        # Of a slope the mean is the value in the middle.
        torch.testing.assert_close(found[0], (x0 + centre * (x1 - x0)).expand(7, 7), atol=0.02, rtol=0)
        torch.testing.assert_close(found[1], (y0 + centre * (y1 - y0))[:, None].expand(7, 7), atol=0.02, rtol=0)


@pytest.mark.parametrize("first", [2, 4])
def test_large_boxes_come_from_coarse_levels_and_the_fifth_is_never_seen(first: int) -> None:
    strides = tuple(first * 2**i for i in range(5))
    sides = torch.tensor([1.0, 30, 55, 57, 111, 113, 223, 225, 447, 449])
    boxes = torch.stack([0 * sides, 0 * sides, sides, sides], dim=1)
    pooled = Pooler(2, strides)(ramps(strides), [boxes])
    for side, found in zip(sides.tolist(), pooled[:, 2, 0, 0].tolist(), strict=True):
        expected = 16 * 2.0 ** math.floor(math.log2(side / 224))
        assert found == min(max(expected, strides[0]), strides[3])


def test_boxes_keep_their_order_and_their_image() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = []
    for count in (5, 0, 9):
        corner = torch.rand(count, 2, generator=generator) * 100
        boxes.append(torch.cat([corner, corner + 2 + 300 * torch.rand(count, 2, generator=generator)], dim=1))
    pooler, features = Pooler(3, STRIDES), ramps(STRIDES, images=3)
    pooled = pooler(features, boxes)
    assert pooled[:, 3, 1, 1].tolist() == [0] * 5 + [2] * 9
    for i in (0, 2):
        for row, box in enumerate(boxes[i]):
            alone = pooler([f[i : i + 1] for f in features], [box[None]])[0]
            assert torch.equal(alone[:3], pooled[row if i == 0 else 5 + row][:3])


def test_nothing_gives_nothing_and_gradients_flow() -> None:
    features = [f.requires_grad_() for f in ramps(STRIDES)]
    pooler = Pooler(3, STRIDES)
    none = pooler(features, [torch.zeros(0, 4)])
    assert none.shape == (0, 4, 3, 3)
    none.sum().backward()
    pooler(features, [torch.tensor([[8.0, 8, 40, 40]])]).sum().backward()
    assert features[0].grad is not None
    assert features[0].grad.abs().sum() > 0


def test_broken_boxes_and_half_precision_do_no_harm() -> None:
    features = [f.bfloat16() for f in ramps(STRIDES)]
    broken = torch.tensor([[math.nan, 0, 4, 4], [0, 0, math.inf, 4], [5, 5, 5, 5], [-900, -900, -800, -850]])
    pooled = Pooler(3, STRIDES)(features, [broken])
    assert pooled.dtype == torch.float32
    assert torch.isfinite(pooled).all()
