"""The same weights, features and boxes give what detectron2 gives.

Weights and features come from a formula, so that only results are stored; ``fixtures/make_box_fixtures.py`` makes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cytomask.models.region.box_branch import BoxBranch
from cytomask.models.region.config import AnchorConfig, BoxHeadConfig, RegionConfig, RpnConfig, SamplingConfig
from cytomask.models.region.rpn import RegionProposalNetwork
from cytomask.models.region.structures import Truth

STRIDES = (4, 8, 16, 32, 64)
WIDTH = 32
CLASSES = 3
SIDE = (128, 192)
SIZES = ((128, 192), (120, 150))
ANCHOR_SIZES = (16.0, 32.0, 64.0, 128.0, 256.0)
ALL = 100_000
SCORE = 0.2


def noise(name: str, shape: Sequence[int]) -> Tensor:
    """Numbers in -1 … 1 that look random: float32, from the name alone."""
    count = 1
    for side in shape:
        count *= side
    phase = zlib.crc32(name.encode()) % 9973
    wave = torch.sin((torch.arange(count, dtype=torch.float64) + phase) * 12.9898) * 43758.5453
    return ((wave - wave.floor()) * 2 - 1).float().reshape(tuple(shape))


def weights(name: str, shape: Sequence[int]) -> Tensor:
    """Weights of the layer of that name: large enough that answers differ from box to box."""
    values = noise(name, shape)
    if "norm.weight" in name:
        return 1 + 0.2 * values
    if name.endswith("bias"):
        return 0.1 * values
    fan_in = values[0].numel()
    return values * (3 / fan_in) ** 0.5 * (1.5 if "box_deltas" in name or "deltas" in name else 2.0)


def fill(module: torch.nn.Module) -> None:
    """Give every parameter its weights."""
    for name, parameter in module.named_parameters():
        parameter.data = weights(name, parameter.shape)


def features() -> list[Tensor]:
    """A pyramid of two images."""
    return [noise(f"level {s}", (2, WIDTH, SIDE[0] // s, SIDE[1] // s)) for s in STRIDES]


def truths() -> list[Truth]:
    """Some objects of very different sizes, two of them the same; and an image without any."""
    boxes = torch.tensor(
        [
            [10, 12, 31, 29], [60, 20, 92, 60], [100, 70, 170, 120], [11, 13, 30, 31], [150, 5, 158, 14],
            [60, 20, 92, 60], [0, 100, 20, 128],
        ],
        dtype=torch.float32,
    )  # fmt: skip
    classes = torch.tensor([0, 1, 2, 1, 0, 2, 1])
    nothing = torch.zeros(0, 4)
    layers = torch.zeros(1, *SIDE, dtype=torch.int32)
    ids = torch.arange(1, 8, dtype=torch.int32)
    return [
        Truth(boxes, classes, ids, torch.zeros(7, dtype=torch.int64), layers, nothing),
        Truth(nothing, classes[:0], ids[:0], torch.zeros(0, dtype=torch.int64), layers, nothing),
    ]


def proposals() -> list[Tensor]:
    """Boxes around the true objects and anywhere else."""
    near = truths()[0].boxes.repeat(6, 1)
    near = near + noise("near", near.shape) * 4
    middle = (noise("far", (30, 2)) + 1) * torch.tensor([75.0, 60.0])
    half = (noise("size", (30, 2)) + 1.2) * 20
    far = torch.cat([middle - half, middle + half], dim=1)
    limits = [torch.tensor([s[1], s[0], s[1], s[0]], dtype=torch.float32) for s in SIZES]
    return [torch.cat([near, far]).clamp(min=0).minimum(limits[0]), far.clamp(min=0).minimum(limits[1])]


@pytest.fixture(scope="module")
def oracle() -> dict[str, np.ndarray]:
    """What detectron2 made of the same weights, features and boxes."""
    with np.load(Path(__file__).with_name("fixtures") / "boxes.npz") as file:
        return dict(file)


def region_config(cascade: bool) -> RegionConfig:
    return RegionConfig(
        classes=("a", "b", "c"),
        sampling=SamplingConfig(batch=ALL, positive=1.0),
        box=BoxHeadConfig(
            convolutions=1, convolution_width=32, norm="group", linear=1, linear_width=24, beta=0.3,
            class_agnostic=cascade, train_on_predicted=not cascade,
        ),
        cascade=cascade,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["single", "cascade"])
def branch(request: pytest.FixtureRequest) -> tuple[str, BoxBranch]:
    module = BoxBranch(region_config(request.param == "cascade"), STRIDES, WIDTH)
    fill(module)
    return request.param, module


@pytest.fixture(scope="module")
def rpn() -> RegionProposalNetwork:
    config = RpnConfig(batch=ALL, positive=1.0, train_before=300, train_after=100, test_before=300, test_after=100)
    module = RegionProposalNetwork(config, AnchorConfig(sizes=tuple((s,) for s in ANCHOR_SIZES)), STRIDES, WIDTH)
    fill(module)
    return module


def by_rows(boxes: np.ndarray) -> np.ndarray:
    return boxes[np.lexsort(boxes.round(1).T[::-1])]


def test_the_same_boxes_are_proposed(rpn: RegionProposalNetwork, oracle: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        found = rpn.propose(features(), SIZES)
    for i, boxes in enumerate(found):
        np.testing.assert_allclose(boxes.numpy(), oracle[f"proposals_{i}"], atol=2e-3)


def test_the_proposal_losses_are_the_same(rpn: RegionProposalNetwork, oracle: dict[str, np.ndarray]) -> None:
    losses, found = rpn.losses(features(), truths(), SIZES)
    values = [float(losses[name].detach()) for name in ("rpn_objectness", "rpn_box")]
    np.testing.assert_allclose(values, oracle["rpn_losses"], rtol=1e-4)
    assert [len(boxes) for boxes in found] == [100, 100]
    assert not any(boxes.requires_grad for boxes in found)


def test_the_losses_of_each_stage_are_the_same(branch: tuple[str, BoxBranch], oracle: dict[str, np.ndarray]) -> None:
    kind, module = branch
    losses, _ = module.losses(features(), proposals(), truths(), SIZES)
    assert list(losses) == (
        ["class", "box"] if kind == "single" else ["class_1", "box_1", "class_2", "box_2", "class_3", "box_3"]
    )
    np.testing.assert_allclose(
        [float(value.detach()) for value in losses.values()], oracle[f"{kind}_losses"], rtol=1e-4
    )


def test_masks_are_trained_on_the_same_boxes(branch: tuple[str, BoxBranch], oracle: dict[str, np.ndarray]) -> None:
    """Of a single stage on the predicted ones, of a cascade on the first stage's proposals."""
    kind, module = branch
    _, regions = module.losses(features(), proposals(), truths(), SIZES)
    for i, found in enumerate(regions):
        # The order is drawn at random.
        wanted = oracle[f"{kind}_regions_{i}"]
        np.testing.assert_allclose(by_rows(found.boxes.numpy()), by_rows(wanted), atol=2e-3)
        assert not found.boxes.requires_grad
        assert (found.classes == truths()[i].classes[found.matched]).all()


def test_the_same_objects_are_found(branch: tuple[str, BoxBranch], oracle: dict[str, np.ndarray]) -> None:
    kind, module = branch
    with torch.no_grad():
        found = module.detect(
            features(), proposals(), SIZES,
            score_threshold=SCORE, nms_threshold=0.5, per_class=True, max_objects=100,
        )  # fmt: skip
    for i, image in enumerate(found):
        np.testing.assert_array_equal(image.classes.numpy(), oracle[f"{kind}_classes_{i}"])
        np.testing.assert_allclose(image.scores.numpy(), oracle[f"{kind}_scores_{i}"], atol=1e-5)
        np.testing.assert_allclose(image.boxes.numpy(), oracle[f"{kind}_boxes_{i}"], atol=2e-3)
