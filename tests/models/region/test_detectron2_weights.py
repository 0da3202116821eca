"""Arrays of detectron2's checkpoints: each has one place in our networks, whatever the version that named it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cytomask.errors import BundleError
from cytomask.models.region.config import RegionConfig
from cytomask.models.region.detectron2_config import read_config
from cytomask.models.region.detectron2_names import our_name, present_name
from cytomask.models.region.detectron2_weights import left_out, read_checkpoint, to_cytomask
from cytomask.models.region.segmenter import RegionSegmenter

FIXTURES = Path(__file__).parent / "fixtures"
#: What three configurations of the zoo say besides their bases, for four classes.
ZOO = {
    "mask_rcnn": "{_BASE_: ../Base-RCNN-FPN.yaml, MODEL: {MASK_ON: True, ROI_HEADS: {NUM_CLASSES: 4}}}",
    "cascade": """
_BASE_: ../Base-RCNN-FPN.yaml
MODEL:
  MASK_ON: True
  RESNETS:
    {STRIDE_IN_1X1: False, NUM_GROUPS: 32, WIDTH_PER_GROUP: 8, DEPTH: 152,
     DEFORM_ON_PER_STAGE: [False, True, True, True]}
  ROI_HEADS: {NAME: CascadeROIHeads, NUM_CLASSES: 4}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_CONV: 4, NUM_FC: 1, NORM: GN, CLS_AGNOSTIC_BBOX_REG: True}
  ROI_MASK_HEAD: {NUM_CONV: 8, NORM: GN}
""",
    "pointrend": """
_BASE_: Base-PointRend-RCNN-FPN.yaml
MODEL:
  RESNETS: {STRIDE_IN_1X1: False, NUM_GROUPS: 32, WIDTH_PER_GROUP: 8, DEPTH: 101}
  ROI_HEADS: {NUM_CLASSES: 4}
  POINT_HEAD: {NUM_CLASSES: 4}
""",
}
PARAMETERS = {"mask_rcnn": 43_934_184, "cascade": 182_234_428, "pointrend": 118_955_452}


def shapes(texts: np.ndarray) -> dict[str, tuple[int, ...]]:
    parts = [str(text).split(" ") for text in texts]
    return {name: tuple(int(n) for n in sides if n) for name, *sides in parts}


@pytest.mark.parametrize("network", ZOO)
def test_every_array_of_the_published_networks_has_its_place(network: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ZOO[network])
    config = read_config(tmp_path / "a.yaml").config
    with np.load(FIXTURES / "detectron2_networks.npz") as file:
        theirs, parameters = shapes(file[network]), int(file[f"{network} parameters"])
    with torch.device("meta"):
        ours = RegionSegmenter(config)
        state = {name: torch.empty(shape) for name, shape in theirs.items()}
    assert left_out(state) == ({}, [])
    mapped = to_cytomask(state, config)
    assert {name: tuple(t.shape) for name, t in mapped.items()} == {
        n: tuple(t.shape) for n, t in ours.state_dict().items()
    }
    assert sum(p.numel() for p in ours.parameters()) == parameters == PARAMETERS[network]


def test_colours_are_turned_only_where_they_come_the_other_way_round() -> None:
    name, weight = "backbone.bottom_up.stem.conv1.weight", torch.arange(24.0).reshape(2, 3, 2, 2)
    ours = to_cytomask({name: weight}, RegionConfig())
    image = torch.rand(1, 3, 5, 5)
    given = torch.nn.functional.conv2d(image.flip(1), weight)
    assert torch.allclose(torch.nn.functional.conv2d(image, ours["pyramid.backbone.stem.conv1.weight"]), given)
    assert torch.equal(to_cytomask({name: weight}, RegionConfig(), bgr=False)[our_name(name) or ""], weight)
    four = torch.rand(2, 4, 2, 2)
    assert torch.equal(to_cytomask({name: four}, RegionConfig())[our_name(name) or ""], four)


def test_frozen_norms_without_statistics_only_scale_and_shift() -> None:
    names = ["backbone.bottom_up.res2.0.conv1.norm.weight", "roi_heads.box_head.conv1.norm.weight"]
    config = RegionConfig.model_validate({"backbone": {"norm": "frozen_batch"}, "box": {"norm": "group"}})
    ours = to_cytomask({name: torch.full((3,), 5.0) for name in names}, config)
    norm = "pyramid.backbone.res2.0.conv1.norm."
    assert ours[norm + "running_mean"].tolist() == [0, 0, 0]
    assert ours[norm + "running_var"].tolist() == [1, 1, 1]
    assert len(ours) == 4  # other norms need no statistics


@pytest.mark.parametrize(
    ("name", "present"),
    [
        ("module.backbone.fpn_output3.norm.weight", "backbone.fpn_output3.norm.weight"),
        ("roi_heads.mask_point_head.predictor.bias", "roi_heads.mask_head.point_head.predictor.bias"),
        ("roi_heads.mask_coarse_head.coarse_mask_fc2.weight", "roi_heads.mask_head.coarse_head.fc2.weight"),
        ("stem.conv1.norm.running_var", "backbone.bottom_up.stem.conv1.norm.running_var"),
        ("res_conv1_bn_s", "backbone.bottom_up.stem.conv1.norm.weight"),
        ("conv1_gn_b", "backbone.bottom_up.stem.conv1.norm.bias"),
        ("res5_2_branch2c_bn_rm", "backbone.bottom_up.res5.2.conv3.norm.running_mean"),
        ("res3_0_branch1_w", "backbone.bottom_up.res3.0.shortcut.weight"),
        ("res2_0_branch2a_bn_beta", "backbone.bottom_up.res2.0.conv1.norm.bias"),
        ("fc1000_w", "fc1000_w"),
        ("backbone.bottom_up.res2.0.conv1.weight", "backbone.bottom_up.res2.0.conv1.weight"),
    ],
)
def test_earlier_names(name: str, present: str) -> None:
    assert present_name(name) == present


def test_a_backbone_of_caffe2s_by_itself(tmp_path: Path) -> None:
    arrays = {"conv1_w": np.ones((2, 3, 1, 1), "f4"), "res2_0_branch2a_w": np.ones((2, 2, 1, 1), "f4"),
              "fc1000_b": np.ones(3, "f4"), "conv1_w_momentum": np.ones(3, "f4")}  # fmt: skip
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": arrays, "cfg": "a text"}, 2))
    state = read_checkpoint(tmp_path / "R-50.pkl")
    ignored, unknown = left_out(state)
    assert set(ignored) == {"fc1000_b", "conv1_w_momentum"}
    assert not unknown
    assert set(to_cytomask(state, RegionConfig())) == {
        "pyramid.backbone.stem.conv1.weight", "pyramid.backbone.res2.0.conv1.weight"}  # fmt: skip


@pytest.mark.parametrize("content", [{"model": {}}, {"model": {"a": "b"}}, [1, 2], {"model": [3]}, 7])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(BundleError, match="no checkpoint that can be read"):
        read_checkpoint(tmp_path / "a.pkl")


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        read_checkpoint(tmp_path / "a.pkl")
