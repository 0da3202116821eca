"""From proposals to objects: matching, cascades, crowds, and what is found."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torchvision.ops import box_iou

from cytomask.models.region import box_branch
from cytomask.models.region.box_branch import BoxBranch, ScaleGradient, select
from cytomask.models.region.box_head import BoxHead
from cytomask.models.region.box_losses import box_head_losses, smooth_l1_sum
from cytomask.models.region.config import BoxHeadConfig, RegionConfig
from cytomask.models.region.structures import Truth

STRIDES = (4, 8, 16, 32, 64)
SIZE = (128, 128)
LIMITS: dict[str, Any] = {"score_threshold": 0.05, "nms_threshold": 0.5, "per_class": True, "max_objects": 1000}


def pyramid(images: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(images, 16, 128 // s, 128 // s, generator=generator) for s in STRIDES]


def truth(boxes: list[list[float]], classes: list[int], ignored: list[list[float]] | None = None) -> Truth:
    n = len(boxes)
    return Truth(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(classes, dtype=torch.int64),
        torch.arange(1, n + 1, dtype=torch.int32),
        torch.zeros(n, dtype=torch.int64),
        torch.zeros(1, *SIZE, dtype=torch.int32),
        torch.tensor(ignored or [], dtype=torch.float32).reshape(-1, 4),
    )


def build(classes: int = 2, cascade: Any = False, **box: Any) -> BoxBranch:
    torch.manual_seed(0)
    config = RegionConfig(
        classes=tuple(f"class {i}" for i in range(classes)), box={"linear_width": 16, **box}, cascade=cascade
    )  # type: ignore[arg-type]
    branch = BoxBranch(config, STRIDES, width=16)
    for parameter in branch.parameters():
        parameter.data = torch.randn_like(parameter) * 0.1
    return branch


def some_boxes(count: int = 300) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(count, 2, generator=generator) * 100
    return torch.cat([corner, corner + 4 + 24 * torch.rand(count, 2, generator=generator)], dim=1)


def test_the_head_has_the_layers_that_are_asked_for() -> None:
    head = BoxHead(BoxHeadConfig(convolutions=2, convolution_width=16, norm="group", linear=1, pool=5), 8, 3)
    names = {name: tuple(parameter.shape) for name, parameter in head.named_parameters()}
    assert names["convolutions.1.weight"] == (16, 8, 3, 3)
    assert names["convolutions.2.norm.weight"] == (16,)
    assert "convolutions.1.bias" not in names
    assert names["linear.1.weight"] == (1024, 16 * 25)
    assert names["box_deltas.weight"] == (12, 1024)
    assert BoxHead(BoxHeadConfig(class_agnostic=True), 8, 3).box_deltas.out_features == 4
    logits, deltas = BoxHead(BoxHeadConfig(linear=0), 8, 1)(torch.zeros(3, 8, 7, 7))
    assert logits.abs().max() == 0
    assert deltas.shape == (3, 4)


def test_mask_r_cnns_head_has_detectron2s_number_of_parameters() -> None:
    head = BoxHead(BoxHeadConfig(), 256, 4)
    count = sum(p.numel() for p in head.parameters())
    assert count == (256 * 49 + 1) * 1024 + 1025 * 1024 + 1025 * 5 + 1025 * 16


def test_losses_of_hand_made_predictions() -> None:
    config = BoxHeadConfig(class_weight=2.0, box_weight=3.0)
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 12, 12]])
    targets = torch.tensor([[1.0, 0, 5, 4], [0, 0, 4, 4], [0, 2, 4, 6], [0, 0, 1, 1]])
    classes = torch.tensor([1, 0, 1, 2])
    deltas = torch.zeros(4, 8)
    deltas[2, 4:] = torch.tensor([1.0, 5.0, 0, 0])
    deltas[2, :4] = 100.0
    deltas[3] = 100.0
    classification, regression = box_head_losses(
        config, torch.zeros(4, 3), deltas, boxes, classes, targets, (10.0, 10.0, 5.0, 5.0)
    )
    assert float(classification) == pytest.approx(2 * math.log(3))
    # Row 0 is off by 2.5; row 1 fits; row 2 by 1; row 3 is background. Divided by all four.
    assert float(regression) == pytest.approx(3 * (2.5 + 0 + 1) / 4)
    assert float(smooth_l1_sum(torch.tensor([0.1, -2.0]), torch.zeros(2), 0.5)) == pytest.approx(0.01 + 1.75)


def test_gradients_are_scaled_once_per_stage() -> None:
    x = torch.ones(3, requires_grad=True)
    y = ScaleGradient.apply(x * 1, 0.25)
    assert torch.equal(y, x)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.25] * 3


def test_features_learn_from_the_mean_of_the_stages_and_heads_from_each(monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole:
        @staticmethod
        def apply(features: torch.Tensor, share: float) -> torch.Tensor:
            return features

    branch = build(cascade=True)
    one = truth([[10, 10, 40, 40], [60, 60, 90, 80]], [1, 0])

    def gradients() -> tuple[torch.Tensor, torch.Tensor]:
        features = [f.requires_grad_() for f in pyramid()]
        # All fit into the sample: only their order is drawn.
        losses, _ = branch.losses(features, [some_boxes(60)], [one], [SIZE])
        weight = branch.heads[1].linear["1"].weight  # type: ignore[index, union-attr]
        found = torch.autograd.grad(sum(losses.values()), [features[0], weight])  # type: ignore[arg-type]
        return found[0], found[1]

    shared = gradients()
    monkeypatch.setattr(box_branch, "ScaleGradient", Whole)
    whole = gradients()
    torch.testing.assert_close(shared[0] * 3, whole[0], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(shared[1], whole[1], rtol=1e-3, atol=1e-6)


def test_the_heads_learn_from_objects_first_then_background() -> None:
    branch = build()
    one = truth([[10, 10, 40, 40], [60, 60, 90, 80]], [1, 0])
    near = torch.tensor([[12.0, 12, 40, 40], [60, 60, 90, 78], [10, 10, 24, 40]])
    regions = branch.sample(torch.cat([near, some_boxes(40) + 200]), one)
    expected = {(1, 0): 2, (0, 1): 2}
    for (label, which), count in expected.items():
        assert int(((regions.classes == label) & (regions.matched == which)).sum()) == count
    assert (regions.classes == 2).sum() == 41
    assert (regions.classes[:4] < 2).all()
    branch.sampling = branch.sampling.model_copy(update={"append_truth": False, "batch": 8, "positive": 0.25})
    fewer = branch.sample(torch.cat([near, some_boxes(40) + 200]), one)
    assert len(fewer) == 8
    assert (fewer.classes < 2).sum() == 2


def test_nothing_is_learnt_in_crowds() -> None:
    one = truth([[10, 10, 40, 40]], [0], ignored=[[0, 0, 128, 128]])
    for branch in (build(), build(cascade=True)):
        regions = branch.sample(some_boxes(), one)
        assert (regions.classes == 0).all()
        losses, _ = branch.losses(pyramid(), [some_boxes()], [one], [SIZE])
        assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("cascade", [False, True])
@pytest.mark.parametrize("agnostic", [False, True])
def test_every_weight_learns(cascade: bool, agnostic: bool) -> None:
    branch = build(cascade=cascade, class_agnostic=agnostic)
    truths = [truth([[10, 10, 40, 40], [60, 60, 90, 80]], [1, 0]), truth([], [])]
    features = [f.requires_grad_() for f in pyramid(2)]
    losses, regions = branch.losses(features, [some_boxes(), some_boxes()], truths, [SIZE, SIZE])
    assert len(losses) == (6 if cascade else 2)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for name, parameter in branch.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert [len(r) > 0 for r in regions] == [True, False]
    assert all((r.classes < 2).all() for r in regions)


@pytest.mark.parametrize("cascade", [False, True])
def test_no_objects_and_no_proposals_are_no_trouble(cascade: bool) -> None:
    branch = build(cascade=cascade, train_on_predicted=True)
    losses, regions = branch.losses(pyramid(), [torch.zeros(0, 4)], [truth([], [])], [SIZE])
    assert [float(value.detach()) for value in losses.values()] == [0.0] * len(losses)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert len(regions[0]) == 0
    with torch.no_grad():
        [found] = branch.detect(pyramid(), [torch.zeros(0, 4)], [SIZE], **LIMITS)
    assert (found.boxes.shape, found.scores.shape, found.classes.dtype) == ((0, 4), (0,), torch.int64)


def test_a_cascade_hands_each_stage_the_boxes_of_the_one_before() -> None:
    """Heads that always shift by half a width: three stages shift three times, each by the width over its weights."""
    branch = build(classes=1, cascade=True)
    for head in branch.heads:
        for parameter in head.parameters():
            parameter.data.zero_()
        head.box_deltas.bias.data[0] = 5.0
        head.class_logits.bias.data[:] = torch.tensor([1.0, 0.0])
    with torch.no_grad():
        [found] = branch.detect(pyramid(), [torch.tensor([[10.0, 20, 30, 40]])], [SIZE], **LIMITS)
    shift = 20 * (5 / 10 + 5 / 20 + 5 / 30)
    torch.testing.assert_close(found.boxes, torch.tensor([[10 + shift, 20, 30 + shift, 40]]))
    assert float(found.scores[0]) == pytest.approx(1 / (1 + math.exp(-1)))


def test_stages_demand_more_and_more() -> None:
    branch = build(
        classes=1, cascade=[{"iou": 0.5, "weights": [10, 10, 5, 5]}, {"iou": 0.9, "weights": [20, 20, 9, 9]}]
    )
    one = truth([[10, 10, 40, 40]], [0])
    boxes = torch.tensor([[10.0, 10, 40, 30], [10, 10, 40, 39]])
    assert branch._label(boxes, one, 0).classes.tolist() == [0, 0]
    assert branch._label(boxes, one, 1).classes.tolist() == [1, 0]


def test_masks_of_a_cascade_may_be_trained_on_its_last_boxes() -> None:
    one = truth([[10, 10, 40, 40]], [0])
    proposals = [torch.tensor([[11.0, 10, 40, 41], [10, 12, 40, 40]])]
    for predicted in (False, True):
        branch = build(classes=1, cascade=True, train_on_predicted=predicted)
        for head in branch.heads:
            for parameter in head.parameters():
                parameter.data.zero_()
            head.box_deltas.bias.data[0] = 0.1
        _, [regions] = branch.losses(pyramid(), proposals, [one], [SIZE])
        rows = sorted(regions.boxes.tolist())
        shift = 0.1 / 10 + 0.1 / 20 + 0.1 / 30 if predicted else 0.0
        expected = [[10.0, 10, 40, 40], [10, 12, 40, 40], [11, 10, 40, 41]]
        for row, (x0, y0, x1, y1) in zip(rows, expected, strict=True):
            assert row == pytest.approx([x0 + shift * (x1 - x0), y0, x1 + shift * (x1 - x0), y1], abs=1e-3)


@pytest.mark.parametrize("cascade", [False, True])
def test_many_boxes_in_parts_give_the_same(cascade: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = build(cascade=cascade).eval()
    boxes = [some_boxes(150), some_boxes(70)]
    with torch.no_grad():
        whole = branch.detect(pyramid(2), boxes, [SIZE, SIZE], **LIMITS)
        monkeypatch.setattr(box_branch, "CHUNK", 32)
        parts = branch.detect(pyramid(2), boxes, [SIZE, SIZE], **LIMITS)
    for a, b in zip(whole, parts, strict=True):
        assert torch.equal(a.classes, b.classes)
        torch.testing.assert_close(a.boxes, b.boxes, atol=1e-3, rtol=0)


def test_classes_compete_only_if_told() -> None:
    scores = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    options: dict[str, Any] = {"score_threshold": 0.15, "nms_threshold": 0.5, "max_objects": 10}
    apart = select(scores, boxes, SIZE, per_class=True, **options)
    assert list(zip(apart.classes.tolist(), apart.scores.tolist(), strict=True)) == [
        (0, pytest.approx(0.6)), (1, pytest.approx(0.4)), (1, pytest.approx(0.2)),
    ]  # fmt: skip
    together = select(scores, boxes, SIZE, per_class=False, **options)
    assert together.classes.tolist() == [0, 1]
    assert together.boxes.tolist() == [[0, 0, 10, 10], [50, 50, 60, 60]]
    assert len(select(scores, boxes, SIZE, per_class=True, **{**options, "max_objects": 1})) == 1
    assert len(select(scores, boxes, SIZE, per_class=True, **{**options, "score_threshold": 0.6})) == 0


def test_each_class_has_its_box_and_rows_without_numbers_are_dropped() -> None:
    scores = torch.tensor([[0.6, 0.3, 0.1], [0.6, 0.3, math.nan], [0.6, 0.3, 0.1]])
    boxes = torch.tensor([[0.0, 0, 10, 10, 20, 20, 30, 500]]).repeat(3, 1)
    boxes[2, 5] = math.inf
    found = select(scores, boxes, SIZE, **LIMITS)
    assert found.classes.tolist() == [0, 1]
    assert found.boxes.tolist() == [[0, 0, 10, 10], [20, 20, 30, 128]]


def test_two_thousand_proposals_are_all_looked_at() -> None:
    branch = build(classes=1).eval()
    for parameter in branch.parameters():
        parameter.data.zero_()
    y, x = torch.meshgrid(torch.arange(45) * 2.8, torch.arange(45) * 2.8, indexing="ij")
    grid = torch.stack([x, y, x + 2.5, y + 2.5], dim=-1).reshape(-1, 4)
    with torch.no_grad():
        [found] = branch.detect(pyramid(), [grid], [(200, 200)], **{**LIMITS, "max_objects": 5000})
    assert len(found) == 2025
    assert float(box_iou(found.boxes, grid).amax(dim=1).min()) > 0.99


def test_half_precision_gives_float_answers() -> None:
    branch = build(cascade=True, convolutions=1, convolution_width=16, norm="group")
    one = truth([[10, 10, 40, 40]], [0])
    with torch.autocast("cpu", torch.bfloat16):
        losses, regions = branch.losses(pyramid(), [some_boxes()], [one], [SIZE])
        with torch.no_grad():
            [found] = branch.detect(pyramid(), [some_boxes()], [SIZE], **LIMITS)
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values())
    assert {regions[0].boxes.dtype, found.boxes.dtype, found.scores.dtype} == {torch.float32}
