"""Pieces of true masks: what torchvision's operators give for full bitmaps, to the last bit."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import grid_sample
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import roi_align

from cytomask.models.region import mask_targets as module
from cytomask.models.region.mask_targets import mask_targets, sample_masks
from cytomask.models.region.structures import Regions, Truth

FIXTURES = Path(__file__).with_name("fixtures")


def scene(seed: int, height: int, width: int) -> tuple[Truth, Tensor]:
    """Boxes and rings of pixels in two layers, of ids far apart; and their full bitmaps, float32 ``(N, Y, X)``."""
    rng = np.random.default_rng(seed)
    layers = np.zeros((2, height, width), np.int32)
    y, x = np.mgrid[:height, :width]
    for number in range(8):
        cy, cx = rng.integers(0, (height, width))
        ry, rx = rng.integers(1, (height // 2 + 2, width // 2 + 2))
        near = np.maximum(abs(y - cy) / ry, abs(x - cx) / rx) if number % 3 else np.hypot((y - cy) / ry, (x - cx) / rx)
        layers[number % 2][(near < 1) & (near >= 0.4 * (number % 4 == 0))] = 1000 * number + 7
    found = [(layer, i) for layer in range(2) for i in np.unique(layers[layer]) if i]
    bitmaps = np.array([layers[layer] == i for layer, i in found])
    spots = [np.argwhere(b)[:, ::-1] for b in bitmaps]
    boxes = torch.tensor(np.array([[*s.min(0), *(s.max(0) + 1)] for s in spots]), dtype=torch.float32)
    truth = Truth(
        boxes,
        torch.zeros(len(found), dtype=torch.int64),
        torch.tensor([i for _, i in found], dtype=torch.int32),
        torch.tensor([layer for layer, _ in found]),
        torch.from_numpy(layers),
        torch.zeros(0, 4),
    )
    return truth, torch.from_numpy(bitmaps).float()


def regions_near(truth: Truth, seed: int, kind: str) -> Regions:
    generator = torch.Generator().manual_seed(seed)
    matched = torch.randint(0, len(truth), (12,), generator=generator)
    boxes = truth.boxes[matched]
    if kind == "moved by whole pixels":
        boxes = boxes + torch.randint(-6, 7, boxes.shape, generator=generator)
    elif kind == "moved":
        boxes = boxes + 5 * torch.randn(boxes.shape, generator=generator)
    boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:] - 0.5), boxes[:, 2:]], dim=1)
    return Regions(boxes, torch.zeros_like(matched), matched)


def test_targets_are_those_of_detectron2() -> None:
    _, regions, truths = runpy.run_path(str(FIXTURES / "make_masks.py"))["example"]()
    found = torch.cat([mask_targets(t, r, 28) for t, r in zip(truths, regions, strict=True)])
    assert found.dtype == torch.bool
    with np.load(FIXTURES / "masks.npz") as stored:
        expected = np.unpackbits(stored["targets"], count=found.numel()).reshape(found.shape)
    assert 0.1 < expected.mean() < 0.9
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("kind", ["the objects' own", "moved by whole pixels", "moved"])
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(4, 150),
    width=st.integers(4, 150),
    side=st.sampled_from([3, 7, 28]),
)
def test_targets_are_those_of_full_bitmaps(kind: str, seed: int, height: int, width: int, side: int) -> None:
    # Boxes reach beyond the image too.
    truth, bitmaps = scene(seed, height, width)
    regions = regions_near(truth, seed % 1000, kind)
    rois = torch.cat([regions.matched[:, None], regions.boxes], dim=1)
    expected = roi_align(bitmaps[:, None], rois, side, aligned=True)[:, 0] >= 0.5
    assert torch.equal(mask_targets(truth, regions, side), expected)


def test_few_samples_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, _ = scene(4, 120, 90)
    regions = regions_near(truth, 1, "moved")
    whole = mask_targets(truth, regions, 14)
    monkeypatch.setattr(module, "SAMPLES", 1)
    assert torch.equal(mask_targets(truth, regions, 14), whole)
    assert whole.any()


def test_objects_under_others_are_cut_from_their_own_layer() -> None:
    layers = torch.zeros(2, 8, 8, dtype=torch.int32)
    layers[0, :, :4], layers[1, :, 2:] = 3, 3
    boxes = torch.tensor([[0.0, 0, 4, 8], [2, 0, 8, 8]])
    zeros = torch.zeros(2, dtype=torch.int64)
    truth = Truth(boxes, zeros, torch.tensor([3, 3], dtype=torch.int32), torch.tensor([0, 1]), layers, boxes[:0])
    whole = torch.tensor([[0.0, 0, 8, 8]]).expand(3, 4)
    found = mask_targets(truth, Regions(whole, zeros.new_zeros(3), torch.tensor([1, 0, 1])), 8)
    assert found[:, 3].int().tolist() == [[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1, 1]]
    points = torch.tensor([[[1.5, 4.5], [3.5, 4.5], [6.5, 4.5]]]).expand(2, 3, 2)
    assert sample_masks(truth, torch.tensor([0, 1]), points).tolist() == [[1, 1, 0], [0, 1, 1]]


def test_no_regions_no_targets_and_boxes_without_size() -> None:
    truth, _ = scene(0, 30, 30)
    none = torch.zeros(0, dtype=torch.int64)
    assert mask_targets(truth, Regions(torch.zeros(0, 4), none, none), 7).shape == (0, 7, 7)
    assert sample_masks(truth, none, torch.zeros(0, 5, 2)).shape == (0, 5)
    empty = Truth(torch.zeros(0, 4), none, none.int(), none, truth.layers, torch.zeros(0, 4))
    assert mask_targets(empty, Regions(torch.zeros(0, 4), none, none), 7).shape == (0, 7, 7)
    one = torch.zeros(2, dtype=torch.int64)
    flat = torch.tensor([[5.0, 5, 5, 9], [3, 3, 3, 3]])
    assert not mask_targets(truth, Regions(flat, one, one), 7).any()


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 60), width=st.integers(1, 60))
def test_masks_at_points_are_those_of_full_bitmaps(seed: int, height: int, width: int) -> None:
    truth, bitmaps = scene(seed, height, width)
    generator = torch.Generator().manual_seed(seed % 1000)
    matched = torch.randint(0, len(truth), (5,), generator=generator)
    size = torch.tensor([width, height], dtype=torch.float32)
    points = torch.rand(5, 30, 2, generator=generator) * (size + 6) - 3
    points[:, ::3] = (points[:, ::3] * 2).round() / 2
    expected = grid_sample(bitmaps[matched, None], (2 * (points / size) - 1)[:, :, None], align_corners=False)
    torch.testing.assert_close(sample_masks(truth, matched, points), expected[:, 0, :, 0], atol=2e-5, rtol=0)


class LargestResult(TorchDispatchMode):
    """Remembers how many bytes the largest tensor has that is made within, and is no view of a given one."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given, self.size = given.data_ptr(), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and tensor.data_ptr() != self.given:
                self.size = max(self.size, tensor.numel() * tensor.element_size())
        return result


def test_memory_follows_neither_the_image_nor_the_number_of_objects() -> None:
    sizes = []
    for side, count in ((400, 10), (4000, 100)):
        layers = torch.zeros(1, side, side, dtype=torch.int32)
        start = torch.arange(float(count))[:, None] * 38
        boxes = torch.cat([start, start + 10, start + 30, start + 50], dim=1)
        for i, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
            layers[0, y0:y1, x0:x1] = i + 1
        number = torch.arange(count)
        truth = Truth(boxes, number * 0, number.int() + 1, number * 0, layers, boxes[:0])
        regions = Regions(boxes, number * 0, number)
        with LargestResult(layers) as made:
            assert mask_targets(truth, regions, 28).all()
            points = (boxes[:, None, :2] + boxes[:, None, 2:]).expand(-1, 50, 2) / 2
            assert sample_masks(truth, number, points).all()
        sizes.append(made.size)
    # Ten times as many boxes, a hundred times as many pixels.
    assert 0 < sizes[1] <= 10 * sizes[0]
