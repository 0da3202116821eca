"""What holds for every model family: the contract that training, tiling and serving are written against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cytomask.label_layers import LabelLayers
from cytomask.models.assembling import AssemblingSegmenter
from cytomask.models.registry import FAMILIES, build_segmenter
from cytomask.models.segmenter import Segmenter
from cytomask.workflows.generated import generate_field

#: A network of each kind that is small enough for a test.
_REGION: dict[str, Any] = {
    "backbone": {"depth": 18, "width": 16, "stem_width": 16},
    "pyramid": {"width": 16},
    "anchors": {"sizes": [[12], [24], [48], [96], [192]]},
    "rpn": {"train_before": 100, "train_after": 60, "test_before": 60, "test_after": 60},
    "sampling": {"batch": 64},
    "box": {"linear_width": 32},
    "mask": {"convolutions": 1, "width": 16},
}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "star": (
        "star",
        {"rays": 8, "backbone": {"kind": "residual", "widths": [8, 16], "blocks": [1, 1], "features": 16}},
    ),
    "region": ("region", _REGION),
    "cascade": ("region", {**_REGION, "cascade": True, "box": {**_REGION["box"], "class_agnostic": True}}),
    "pointrend": (
        "region",
        {**_REGION, "mask": {"kind": "pointrend", "coarse_width": 32, "point_width": 16, "steps": 2}},
    ),
    "unet": ("dense", {"network": {"kind": "resnet_unet", "depth": 18, "width": 16}, "output": "distance"}),
    "swin": ("dense", {"network": {"kind": "swin_unet", "width": 16, "blocks": [2, 2, 2]}, "output": "binary"}),
}


@pytest.fixture(params=SMALL)
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    family, config = SMALL[request.param]
    torch.manual_seed(0)
    return build_segmenter(family, {**config, "in_channels": 2, "classes": ["a", "b"]})


def item(segmenter: Segmenter, seed: int = 0, size: int = 64, objects: int = 8) -> dict[str, Any]:
    image, labels = generate_field(np.random.default_rng(seed), size=size, objects=objects)
    ids = np.unique(labels)[1:].tolist()
    layers = LabelLayers.from_labels(labels, {i: 1 + i % 2 for i in ids}, class_names=("a", "b"))
    pixels = np.stack([image, 255 - image]).astype(np.float32) / 255
    return {
        "image": torch.from_numpy(pixels),
        **{name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in segmenter.targets(layers).items()},
    }


def losses(segmenter: Segmenter, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    batch = segmenter.collate(items)
    return segmenter.losses(batch.pop("image"), batch)


def test_layer_groups_hold_every_parameter_once(segmenter: Segmenter) -> None:
    held = [p for group in segmenter.layer_groups() for module in group for p in module.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == set(segmenter.parameters())


def test_every_family_is_tried_here() -> None:
    assert {family for family, _ in SMALL.values()} == set(FAMILIES)


def test_the_losses_reach_every_parameter(segmenter: Segmenter) -> None:
    found = losses(segmenter.train(), [item(segmenter, 0), item(segmenter, 1)])
    total = torch.stack(list(found.values())).sum()
    assert torch.isfinite(total)
    assert total > 0
    total.backward()
    missed = [name for name, p in segmenter.named_parameters() if p.requires_grad and p.grad is None]
    assert not missed


def test_training_lowers_the_loss(segmenter: Segmenter) -> None:
    items = [item(segmenter, 0), item(segmenter, 1)]
    optimiser = torch.optim.AdamW(segmenter.train().parameters(), lr=2e-3)
    course = []
    for _ in range(12):
        total = torch.stack(list(losses(segmenter, items).values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        course.append(float(total.detach()))
    assert np.mean(course[-3:]) < 0.9 * np.mean(course[:2])


def test_a_patch_without_objects_is_learnt_from(segmenter: Segmenter) -> None:
    layers = LabelLayers.from_labels(np.zeros((64, 64), np.int32), class_names=("a", "b"))
    empty = {
        "image": torch.rand(2, 64, 64),
        **{name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in segmenter.targets(layers).items()},
    }
    for items in ([empty], [item(segmenter), empty]):
        total = torch.stack(list(losses(segmenter.train(), items).values())).sum()
        assert torch.isfinite(total)
        total.backward()


def test_what_is_proposed_lies_in_its_bounds_and_moves_with_its_points(segmenter: Segmenter) -> None:
    segmenter.eval()
    image = item(segmenter)["image"][None]
    postprocess = segmenter.postprocess_class(score_threshold=0.0)
    proposals = segmenter.propose(image, postprocess)[0]
    assert len(proposals) > 0
    assert proposals.points.dtype == np.float32
    assert set(np.unique(proposals.classes)) <= {1, 2}
    boxes, bounds = segmenter.boxes(proposals), segmenter.bounds(proposals)
    assert (boxes[:, :2] >= bounds[:, :2]).all()
    assert (boxes[:, 2:] <= bounds[:, 2:]).all()
    some = proposals.take(np.arange(min(20, len(proposals))))
    drawn, moved = segmenter.render(some, (400, 400)), segmenter.render(some.shifted(160, 160), (400, 400))
    inside = (bounds[: len(some), :2] > 0).all(axis=1)
    there = drawn.areas() > 0
    for windows in (drawn.windows[there],):
        assert (windows[:, :2] >= np.maximum(bounds[: len(some)][there, :2], 0)).all()
        assert (windows[:, 2:] <= bounds[: len(some)][there, 2:]).all()
    assert np.abs(drawn.areas()[inside] - moved.areas()[inside]).max(initial=0) <= 2


def test_objects_are_numbered_and_none_is_empty(segmenter: Segmenter) -> None:
    found = segmenter.eval().predict(item(segmenter)["image"][None], segmenter.postprocess_class(score_threshold=0.0))
    assert found[0].ids.tolist() == list(range(1, len(found[0]) + 1))
    assert (found[0].areas() > 0).all()


@pytest.mark.parametrize("nms", ["hard", "linear", "gaussian"])
@pytest.mark.parametrize("by", ["box", "mask"])
def test_every_kind_of_suppression_works_for_every_family(segmenter: Segmenter, nms: str, by: str) -> None:
    if isinstance(segmenter, AssemblingSegmenter):
        pytest.skip("objects that are made of a map do not compete")
    postprocess = segmenter.postprocess_class.model_validate(
        {"score_threshold": 0.1, "nms": nms, "nms_by": by, "nms_threshold": 0.3, "per_class": True}
    )
    image = item(segmenter)["image"][None]
    loose = postprocess.model_copy(update={"nms": "hard", "nms_by": "box", "nms_threshold": 1.0})
    generous = len(segmenter.eval().predict(image, loose)[0])
    found = segmenter.predict(image, postprocess)[0]
    assert (found.scores > 0.1).all()
    assert len(found) <= generous


def test_what_fills_up_a_window_does_not_matter(segmenter: Segmenter) -> None:
    segmenter.eval()
    image = item(segmenter, size=64)["image"][None]
    padded = torch.nn.functional.pad(image, (0, 64, 0, 64))
    noisy = padded.clone()
    noisy[..., 64:, :] = 5.0
    noisy[..., :, 64:] = 5.0
    if not segmenter.needs_whole_objects:
        pytest.skip("this family's proposals from padding are owned by no tile")
    postprocess = segmenter.postprocess_class(score_threshold=0.0)
    first, second = (segmenter.propose(x, postprocess, [(64, 64)])[0] for x in (padded, noisy))
    assert np.array_equal(first.scores, second.scores)
    boxes = segmenter.boxes(first)
    assert boxes.min() >= 0
    assert boxes.max() <= 64


def test_the_network_is_saved_and_built_again(segmenter: Segmenter) -> None:
    again = build_segmenter(segmenter.family, segmenter.config.model_dump(mode="json"))
    again.load_state_dict(segmenter.state_dict())
    image = item(segmenter)["image"][None]
    postprocess = segmenter.postprocess_class(score_threshold=0.2)
    first, second = (s.eval().propose(image, postprocess)[0] for s in (segmenter, again))
    assert np.array_equal(first.points, second.points)
    assert np.array_equal(first.scores, second.scores)
