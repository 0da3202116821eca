"""Both mask branches: detectron2's losses and masks, nothing to learn or to draw, low precision, many boxes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytomask.models.region import mask_branch, point_rend
from cytomask.models.region.config import RegionConfig
from cytomask.models.region.mask_branch import ConvolutionMaskBranch, make_mask_branch
from cytomask.models.region.mask_head import of_class
from cytomask.models.region.point_rend import PointRendMaskBranch
from cytomask.models.region.structures import Regions, Truth

FIXTURES = Path(__file__).with_name("fixtures")
MAKER = runpy.run_path(str(FIXTURES / "make_masks.py"))
CASES: dict[str, dict] = MAKER["CASES"]


def build(case: str, **changes: Any) -> ConvolutionMaskBranch | PointRendMaskBranch:
    settings = {"mask": {**CASES[case], **changes}, "classes": ("a", "b", "c")}
    branch = make_mask_branch(RegionConfig.model_validate(settings), MAKER["STRIDES"], MAKER["WIDTH"])
    MAKER["fill"](branch.state_dict())
    return branch


@pytest.fixture(scope="module")
def example() -> tuple[list[Tensor], list[Regions], list[Truth]]:
    return MAKER["example"]()


def drawn(branch: nn.Module, features: list[Tensor], regions: list[Regions]) -> list[Tensor]:
    with torch.inference_mode():
        return branch.masks(features, [r.boxes for r in regions], [r.classes for r in regions])


# What detectron2 gives


@pytest.mark.parametrize("case", CASES)
def test_losses_and_masks_are_those_of_detectron2(case: str, example: Any) -> None:
    features, regions, truths = example
    branch = build(case)
    with np.load(FIXTURES / "masks.npz") as stored:
        expected = {name.split("/")[1]: stored[name] for name in stored.files if name.startswith(f"{case}/")}
    assert sum(p.numel() for p in branch.parameters()) == expected["parameters"]
    # PointRend draws the same points.
    torch.manual_seed(3)
    losses = branch.losses(features, regions, truths)
    np.testing.assert_allclose([losses[k].item() for k in sorted(losses)], expected["losses"], rtol=1e-5)
    masks = torch.cat(drawn(branch, features, regions)).sigmoid()
    assert masks.dtype == torch.float32
    assert masks.std() > 0.05
    np.testing.assert_allclose(masks[::5, ::11, ::9], expected["masks"], atol=2e-5)
    np.testing.assert_allclose((masks > 0.5).sum((1, 2)), expected["areas"], atol=2)


def test_the_published_heads_have_the_size_of_detectron2s() -> None:
    counted = (("convolution", 2_643_280), ("pointrend", 18_461_856))
    for kind, count in counted:
        settings = {"mask": {"kind": kind}, "classes": [f"class {i}" for i in range(80)]}
        with torch.device("meta"):
            branch = make_mask_branch(RegionConfig.model_validate(settings), MAKER["STRIDES"], 256)
        assert sum(p.numel() for p in branch.parameters()) == count


# Every loss reaches what it should


@pytest.mark.parametrize("case", CASES)
def test_losses_reach_every_parameter_and_the_features(case: str, example: Any) -> None:
    features, regions, truths = example
    features = [f.clone().requires_grad_() for f in features]
    branch = build(case)
    sum(branch.losses(features, regions, truths).values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in branch.parameters())
    assert features[0].grad.abs().sum() > 0
    # The coarsest level is for proposals; nothing is asked of it.
    assert features[4].grad is None or not features[4].grad.any()


@pytest.mark.parametrize("case", ["plain", "pointrend"])
def test_weights_scale_the_losses(case: str, example: Any) -> None:
    found = []
    for weight in (1.0, 2.5, 0.0):
        torch.manual_seed(0)
        found.append(build(case, weight=weight).losses(*example))
    for name in found[0]:
        assert found[1][name].item() == pytest.approx(2.5 * found[0][name].item(), rel=1e-6)
        assert found[2][name].item() == 0


@pytest.mark.parametrize("case", CASES)
def test_images_without_regions_add_nothing(case: str, example: Any) -> None:
    features, regions, truths = example
    none = regions[0].take(torch.zeros(0, dtype=torch.int64))
    nothing = Truth(*[getattr(truths[0], k)[:0] for k in ("boxes", "classes", "ids", "layer")], truths[0].layers,
                    torch.zeros(0, 4))  # fmt: skip
    branch = build(case)
    losses = branch.losses(features, [none, none], [nothing, truths[1]])
    assert all(value.item() == 0 and value.shape == () for value in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in branch.parameters())
    torch.manual_seed(0)
    one = branch.losses(features, [none, regions[1]], [nothing, truths[1]])
    torch.manual_seed(0)
    alone = branch.losses([f[1:] for f in features], regions[1:], truths[1:])
    for name in one:
        assert one[name].item() == pytest.approx(alone[name].item(), rel=1e-6)
        assert one[name].item() > 0


# Prediction


@pytest.mark.parametrize("case", CASES)
def test_masks_hang_neither_on_other_boxes_nor_on_the_chunk(
    case: str, example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, regions, _ = example
    branch = build(case)
    whole = drawn(branch, features, regions)
    monkeypatch.setattr(mask_branch, "CHUNK", 5)
    monkeypatch.setattr(point_rend, "CHUNK", 5)
    for together, apart in zip(whole, drawn(branch, features, regions), strict=True):
        torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)
    (single,) = drawn(branch, [f[1:] for f in features], [regions[1].take(torch.tensor([3]))])
    torch.testing.assert_close(single[0], whole[1][3], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_no_boxes_no_masks(case: str, example: Any) -> None:
    features, regions, _ = example
    branch = build(case)
    none = regions[0].take(torch.zeros(0, dtype=torch.int64))
    first, second = drawn(branch, features, [none, regions[1]])
    side = branch.config.side
    assert first.shape == (0, side, side)
    assert second.shape == (len(regions[1]), side, side)


@pytest.mark.parametrize("case", ["plain", "pointrend"])
def test_classes_have_masks_of_their_own(case: str, example: Any) -> None:
    features, regions, _ = example
    branch = build(case)
    other = [Regions(r.boxes, (r.classes + 1) % 3, r.matched) for r in regions]
    assert not torch.allclose(drawn(branch, features, regions)[0], drawn(branch, features, other)[0], atol=0.1)
    # And with one mask for all the class does not matter.
    agnostic = build(case, class_agnostic=True)
    assert torch.equal(drawn(agnostic, features, regions)[0], drawn(agnostic, features, other)[0])


def test_of_class_picks_each_regions_own() -> None:
    logits = torch.randn(4, 3, 5, 2)
    classes = torch.tensor([2, 0, 1, 1])
    assert torch.equal(of_class(logits, classes), torch.stack([x[c] for x, c in zip(logits, classes, strict=True)]))
    assert torch.equal(of_class(logits[:, :1], classes), logits[:, 0])
    assert of_class(logits[:0], classes[:0]).shape == (0, 5, 2)


@pytest.mark.parametrize("case", CASES)
def test_low_precision_learns_and_draws_the_same_but_for_rounding(case: str, example: Any) -> None:
    features, regions, truths = example
    branch = build(case)
    torch.manual_seed(1)
    exact = branch.losses(features, regions, truths)
    masks = drawn(branch, features, regions)
    low = [f.bfloat16() for f in features]
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(1)
        losses = branch.losses(low, regions, truths)
        sum(losses.values()).backward()
        rough = drawn(branch, low, regions)
    for name in exact:
        assert losses[name].dtype == torch.float32
        assert losses[name].item() == pytest.approx(exact[name].item(), rel=0.05)
    for a, b in zip(masks, rough, strict=True):
        assert b.dtype == torch.float32
        assert ((a > 0) == (b > 0)).float().mean() > 0.9


# PointRend's masks begin as large as all its points allow


@pytest.mark.parametrize(
    ("settings", "start", "doublings"),
    [
        ({}, 28, 3),
        ({"points": 783}, 14, 4),
        ({"points": 196}, 14, 4),
        ({"points": 195}, 7, 5),
        ({"steps": 1}, 14, 0),
        ({"steps": 0}, 7, 0),
        ({"coarse_side": 40, "steps": 2}, 40, 2),
    ],
)  # fmt: skip
def test_first_doublings_are_left_out(settings: dict, start: int, doublings: int, example: Any) -> None:
    features, regions, _ = example
    branch = build("pointrend", **settings)
    assert isinstance(branch, PointRendMaskBranch)
    assert (branch.start, branch.doublings) == (start, doublings)
    (masks,) = drawn(branch, [f[:1] for f in features], [regions[0].take(torch.arange(2))])
    assert masks.shape == (2, branch.config.side, branch.config.side)
    assert masks.isfinite().all()
