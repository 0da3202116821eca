"""Boxes, their overlaps, and boxes as changes of others."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cytomask.models.region.box_coder import MAX_LOG_GROWTH, decode, encode
from cytomask.models.region.boxes import clip, coverage, nonempty, pairwise_iou

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


@st.composite
def some_boxes(draw: st.DrawFn, count: int) -> torch.Tensor:
    corner = st.floats(-50, 400, width=32)
    side = st.floats(1, 200, width=32)
    rows = [[draw(corner), draw(corner), draw(side), draw(side)] for _ in range(count)]
    boxes = torch.tensor(rows, dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


@given(some_boxes(4), some_boxes(4))
def test_decoding_undoes_encoding_unless_a_box_grows_too_much(sources: torch.Tensor, targets: torch.Tensor) -> None:
    grown = (targets[:, 2:] - targets[:, :2]) / (sources[:, 2:] - sources[:, :2])
    found = decode(encode(sources, targets, WEIGHTS), sources, WEIGHTS)
    usable = (grown < 60).all(dim=1)
    torch.testing.assert_close(found[usable], targets[usable], atol=0.02, rtol=1e-4)


def test_growth_is_limited() -> None:
    [[x0, y0, x1, y1]] = decode(torch.tensor([[0.0, 0, 1e4, -1e4]]), torch.tensor([[0.0, 0, 16, 16]]), WEIGHTS).tolist()
    assert math.isclose(x1 - x0, 16 * math.exp(MAX_LOG_GROWTH), rel_tol=1e-5)
    assert math.isclose(x1 - x0, 1000, rel_tol=1e-5)
    assert (y1 - y0, (x0 + x1) / 2, y0) == (0, 8, 8)


def test_each_class_moves_the_same_box() -> None:
    generator = torch.Generator().manual_seed(0)
    deltas = torch.randn(5, 12, generator=generator)
    boxes = torch.rand(5, 4, generator=generator) + torch.tensor([0.0, 0, 3, 3])
    together = decode(deltas, boxes, WEIGHTS)
    apart = [decode(deltas[:, 4 * c : 4 * c + 4], boxes, WEIGHTS) for c in range(3)]
    assert torch.equal(together, torch.cat(apart, dim=1))
    assert decode(deltas[:0], boxes[:0], WEIGHTS).shape == (0, 12)
    assert decode(deltas.bfloat16(), boxes, WEIGHTS).dtype == torch.float32


def test_overlaps_are_those_of_pixels() -> None:
    generator = np.random.default_rng(0)

    def draw(count: int) -> np.ndarray:
        corners = np.sort(generator.integers(0, 12, (count, 2, 2)), axis=1)
        return corners.reshape(count, 4)

    def mask(box: np.ndarray) -> np.ndarray:
        out = np.zeros((12, 12), bool)
        out[box[1] : box[3], box[0] : box[2]] = True
        return out

    a, b = draw(30), draw(20)
    iou = np.zeros((30, 20))
    part = np.zeros((30, 20))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            shared = (mask(first) & mask(second)).sum()
            iou[i, j] = shared / max(1, (mask(first) | mask(second)).sum())
            part[i, j] = shared / max(1, mask(first).sum())
    ta, tb = torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32)
    np.testing.assert_allclose(pairwise_iou(ta, tb).numpy(), iou, rtol=1e-6)
    np.testing.assert_allclose(coverage(ta, tb).numpy(), part, rtol=1e-6)
    assert nonempty(ta).tolist() == [bool(mask(box).any()) for box in a]


def test_boxes_outside_are_clipped_to_nothing() -> None:
    boxes = torch.tensor([[-9.0, -9, -1, -1], [8, 2, 12, 4], [1, 1, 2, 2]])
    clipped = clip(boxes, (5, 8))
    assert clipped.tolist() == [[0, 0, 0, 0], [8, 2, 8, 4], [1, 1, 2, 2]]
    assert nonempty(clipped).tolist() == [False, False, True]
