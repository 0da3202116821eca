"""Which object a box stands for: compared with a plain full matrix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cytomask.models.region import matcher
from cytomask.models.region.boxes import pairwise_iou
from cytomask.models.region.matcher import ignore_covered, match

BOXES = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 6), st.integers(0, 6)), min_size=0, max_size=12
)


def as_boxes(rows: list[tuple[int, int, int, int]]) -> torch.Tensor:
    return torch.tensor([[x, y, x + w, y + h] for x, y, w, h in rows], dtype=torch.float32).reshape(-1, 4)


def plainly(
    truth: torch.Tensor, boxes: torch.Tensor, low: float, high: float, keep_best: bool
) -> tuple[list[int], list[int]]:
    """Box by box, as the paper says it."""
    iou = pairwise_iou(truth, boxes).tolist()
    matched, labels = [], []
    for j in range(len(boxes)):
        column = [row[j] for row in iou]
        best = max(column, default=0.0)
        matched.append(column.index(best) if column else 0)
        label = 0 if best < low else -1 if best < high else 1
        if keep_best and any(row[j] > 0 and row[j] == max(row) for row in iou):
            label = 1
        labels.append(label)
    return matched, labels


# Small whole numbers: many overlaps are equal, and ties must be settled as they are there.
@given(BOXES, BOXES, st.booleans(), st.sampled_from([1, 3, 2**20]))
def test_parts_give_what_the_full_matrix_gives(
    truth: list[tuple[int, int, int, int]], boxes: list[tuple[int, int, int, int]], keep_best: bool, pairs: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matcher, "MAX_PAIRS", pairs)
        matched, labels = match(as_boxes(truth), as_boxes(boxes), (0.25, 0.5), (0, -1, 1), keep_best)
    expected, wanted = plainly(as_boxes(truth), as_boxes(boxes), 0.25, 0.5, keep_best)
    assert matched.tolist() == expected
    assert labels.tolist() == wanted
    assert (matched.dtype, labels.dtype) == (torch.int64, torch.int8)


def test_a_threshold_belongs_to_the_upper_side() -> None:
    truth = as_boxes([(0, 0, 2, 2)])
    assert match(truth, as_boxes([(0, 0, 2, 1)]), (0.5,), (0, 1), keep_best=False)[1].tolist() == [1]


def test_all_equally_good_anchors_are_kept() -> None:
    truth = as_boxes([(4, 4, 2, 2)])
    boxes = as_boxes([(0, 0, 8, 8), (2, 2, 8, 8), (5, 5, 8, 8), (20, 20, 2, 2)])
    assert match(truth, boxes, (0.3, 0.7), (0, -1, 1), keep_best=True)[1].tolist() == [1, 1, 0, 0]


def test_an_object_that_nothing_touches_makes_nothing_an_object() -> None:
    labels = match(as_boxes([(50, 50, 2, 2)]), as_boxes([(0, 0, 8, 8)]), (0.3, 0.7), (0, -1, 1), keep_best=True)[1]
    assert labels.tolist() == [0]


@pytest.mark.parametrize("pairs", [1, 2**20])
def test_only_background_in_crowds_is_ignored(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "MAX_PAIRS", pairs)
    crowds = as_boxes([(0, 0, 10, 10), (30, 30, 4, 4)])
    boxes = as_boxes([(0, 0, 4, 4), (6, 0, 8, 4), (7, 0, 8, 4), (1, 1, 3, 3), (30, 30, 4, 4), (50, 50, 1, 1)])
    labels = torch.tensor([0, 0, 0, 1, -1, 0], dtype=torch.int8)
    # The second lies exactly half inside.
    assert ignore_covered(labels, boxes, crowds).tolist() == [-1, 0, 0, 1, -1, 0]
    assert ignore_covered(labels, boxes, crowds[:0]) is labels
    assert len(ignore_covered(labels[:0], boxes[:0], crowds)) == 0


def test_two_thousand_objects_among_many_anchors() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2000, 4, generator=generator) * torch.tensor([1000.0, 1000, 20, 20])
    truth[:, 2:] += truth[:, :2] + 8
    y, x = torch.meshgrid(torch.arange(0, 1024, 8.0), torch.arange(0, 1024, 8.0), indexing="ij")
    boxes = torch.stack([x - 12, y - 12, x + 12, y + 12], dim=-1).reshape(-1, 4)
    matched, labels = match(truth, boxes, (0.3, 0.7), (0, -1, 1), keep_best=True)
    some = torch.randperm(len(boxes), generator=generator)[:500]
    iou = pairwise_iou(truth, boxes[some])
    assert torch.equal(iou.gather(0, matched[some][None])[0], iou.amax(dim=0))
    every = torch.zeros(2000, dtype=torch.bool)
    best = pairwise_iou(truth[:100], boxes)
    every[matched[labels == 1]] = True
    assert (labels[best.argmax(dim=1)] == 1).all()
    assert every.sum() > 1000
