"""Configurations of detectron2: what they say here, and that what cannot be had is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cytomask.data.short_edge import ShortestEdge
from cytomask.errors import ConfigError
from cytomask.models.region.config import CASCADE, ConvolutionMaskConfig, PointRendMaskConfig
from cytomask.models.region.detectron2_config import Detectron2Config, read_config
from cytomask.models.region.detectron2_yaml import read_settings

BASE = "_BASE_: ../Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: True}\n"


def read(tmp_path: Path, text: str, *changes: str) -> Detectron2Config:
    (tmp_path / "a.yaml").write_text(text)
    return read_config(tmp_path / "a.yaml", changes)


def test_the_published_mask_rcnn(tmp_path: Path) -> None:
    found = read(tmp_path, BASE)
    config = found.config
    assert config.backbone.depth == 50
    assert config.backbone.stride_in_1x1
    assert config.backbone.norm == "frozen_batch"
    assert config.backbone.freeze == 2
    assert config.pyramid.norm == "none"
    assert config.anchors.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert config.anchors.ratios == (0.5, 1, 2)
    rpn = config.rpn
    assert (rpn.train_before, rpn.train_after, rpn.test_before, rpn.test_after) == (2000, 1000, 1000, 1000)
    box = config.box
    assert (box.pool, box.linear, box.linear_width, box.convolutions) == (7, 2, 1024, 0)
    assert config.cascade is False
    assert isinstance(config.mask, ConvolutionMaskConfig)
    assert (config.mask.pool, config.mask.convolutions, config.mask.norm) == (14, 4, "none")
    assert len(config.classes) == 80
    assert found.normalisation.mean == (123.675, 116.28, 103.53)  # red, green, blue
    assert found.normalisation.std == (1, 1, 1)
    assert found.bgr
    assert found.channels.mode == "rgb"
    assert found.resize == ShortestEdge(shortest=800, longest=1333)
    post = found.postprocess
    assert (post.score_threshold, post.nms_threshold, post.max_objects) == (0.05, 0.5, 100)
    assert (post.nms, post.nms_by, post.per_class) == ("hard", "box", True)
    assert found.notes == ()


def test_the_published_cascade_and_pointrend(tmp_path: Path) -> None:
    text = BASE + "X: 1"
    heads = ["MODEL.ROI_HEADS.NAME=CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG=True"]
    assert read(tmp_path, text, *heads).config.stages == CASCADE
    found = read(tmp_path, "_BASE_: Base-PointRend-RCNN-FPN.yaml\nMODEL: {PIXEL_STD: [57.375, 57.120, 58.395]}")
    assert found.config.mask == PointRendMaskConfig()
    assert found.config.box.train_on_predicted
    assert found.normalisation.std == (58.395, 57.12, 57.375)


@pytest.mark.parametrize(
    ("change", "place", "value"),
    [
        ("MODEL.RESNETS.DEPTH=101", "backbone.depth", 101),
        ("MODEL.RESNETS.NORM=SyncBN", "backbone.norm", "batch"),
        ("MODEL.RESNETS.STEM_OUT_CHANNELS=32", "backbone.stem_width", 32),
        ("MODEL.RESNETS.RES2_OUT_CHANNELS=128", "backbone.width", 128),
        ("MODEL.RESNETS.NUM_GROUPS=32", "backbone.groups", 32),
        ("MODEL.RESNETS.WIDTH_PER_GROUP=8", "backbone.group_width", 8),
        ("MODEL.RESNETS.STRIDE_IN_1X1=False", "backbone.stride_in_1x1", False),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE=[True, True, True, True]", "backbone.deformable", (True, True, True, True)),
        ("MODEL.RESNETS.DEFORM_MODULATED=True", "backbone.modulated", True),
        ("MODEL.RESNETS.DEFORM_NUM_GROUPS=2", "backbone.deform_groups", 2),
        ("MODEL.BACKBONE.FREEZE_AT=0", "backbone.freeze", 0),
        ("MODEL.FPN.NORM=GN", "pyramid.norm", "group"),
        ("MODEL.FPN.FUSE_TYPE=avg", "pyramid.fuse", "avg"),
        ("MODEL.ANCHOR_GENERATOR.SIZES=[[4, 8]]", "anchors.sizes", ((4, 8),) * 5),
        ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS=[[1.0]]", "anchors.ratios", (1.0,)),
        ("MODEL.ANCHOR_GENERATOR.OFFSET=0.5", "anchors.offset", 0.5),
        ("MODEL.RPN.CONV_DIMS=[-1, 256]", "rpn.convolutions", 2),
        ("MODEL.RPN.NMS_THRESH=0.6", "rpn.nms", 0.6),
        ("MODEL.RPN.IOU_THRESHOLDS=(0.2, 0.6)", "rpn.iou", (0.2, 0.6)),
        ("MODEL.RPN.PRE_NMS_TOPK_TEST=77", "rpn.test_before", 77),
        ("MODEL.RPN.POST_NMS_TOPK_TEST=77", "rpn.test_after", 77),
        ("MODEL.ROI_HEADS.IOU_THRESHOLDS=[0.6]", "sampling.iou", 0.6),
        ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE=128", "sampling.batch", 128),
        ("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT=False", "sampling.append_truth", False),
        ("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO=2", "box.sampling", 2),
        ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG=True", "box.class_agnostic", True),
        ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS=(1, 2, 3, 4)", "box.weights", (1, 2, 3, 4)),
        ("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA=0.5", "box.beta", 0.5),
        ("MODEL.ROI_MASK_HEAD.NUM_CONV=8", "mask.convolutions", 8),
        ("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK=True", "mask.class_agnostic", True),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST=1e-3", "postprocess.score_threshold", 0.001),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST=0.3", "postprocess.nms_threshold", 0.3),
        ("TEST.DETECTIONS_PER_IMAGE=7", "postprocess.max_objects", 7),
    ],
)  # fmt: skip
def test_settings_that_change_results_are_carried_over(tmp_path: Path, change: str, place: str, value: object) -> None:
    found = read(tmp_path, BASE, change)
    part: object = found if place.startswith("postprocess") else found.config
    for name in place.split("."):
        before, part = part, getattr(part, name)
    assert part == value, before
    # So that the test can fail: the setting was another one.
    plain: object = read(tmp_path, BASE) if place.startswith("postprocess") else read(tmp_path, BASE).config
    for name in place.split("."):
        plain = getattr(plain, name)
    assert plain != value


@pytest.mark.parametrize(
    "change",
    ["MODEL.META_ARCHITECTURE=PanopticFPN", "MODEL.KEYPOINT_ON=True", "MODEL.MASK_ON=False",
     "MODEL.BACKBONE.NAME=build_resnet_backbone", "MODEL.BACKBONE.NAME=build_vit_fpn_backbone",
     "MODEL.RESNETS.RES5_DILATION=2", "MODEL.RESNETS.DEPTH=200", "MODEL.RESNETS.NORM=LN",
     "MODEL.PROPOSAL_GENERATOR.NAME=RRPN", "MODEL.ANCHOR_GENERATOR.NAME=RotatedAnchorGenerator",
     "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS=[[1.0], [2.0], [1.0], [1.0], [1.0]]",
     "MODEL.ANCHOR_GENERATOR.SIZES=[[8], [9]]",
     "MODEL.RPN.BBOX_REG_WEIGHTS=(2, 1, 1, 1)", "MODEL.RPN.CONV_DIMS=[64]", "MODEL.ROI_HEADS.NAME=Res5ROIHeads",
     "MODEL.ROI_HEADS.NAME=CascadeROIHeads", "MODEL.ROI_BOX_HEAD.POOLER_TYPE=ROIAlign",
     "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE=True", "MODEL.ROI_MASK_HEAD.NAME=ImplicitPointRendMaskHead",
     "MODEL.ROI_MASK_HEAD.NAME=PointRendMaskHead", "INPUT.FORMAT=YUV-BT.601", "MODEL.PIXEL_STD=[1.0]",
     "MODEL.ROI_HEADS.NUM_CLASSES=many", "MODEL.ROI_HEADS.NUM_CLASSES=0", "MODEL.RPN.IOU_THRESHOLDS=[0.3]",
     "MODEL.RESNETS.DEFORM_ON_PER_STAGE=[True]", "TEST.DETECTIONS_PER_IMAGE=-1"],
)  # fmt: skip
def test_what_cannot_be_had_is_refused(tmp_path: Path, change: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(tmp_path, BASE, change)
    key, _, value = change.partition("=")
    if value == "CascadeROIHeads":  # it is what else that needs
        key, value = "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "False"
    if value == "PointRendMaskHead":
        key, value = "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", "False"
    if change not in ("MODEL.ROI_HEADS.NUM_CLASSES=0", "MODEL.RPN.IOU_THRESHOLDS=[0.3]"):
        assert key in str(told.value)
        assert value.strip("()[]").split(",")[0] in str(told.value)


def test_other_numbers_of_channels_and_no_resizing(tmp_path: Path) -> None:
    one = read(
        tmp_path, BASE, "MODEL.PIXEL_MEAN=[100.0]", "MODEL.PIXEL_STD=[50]", "INPUT.FORMAT=L", "INPUT.MIN_SIZE_TEST=0"
    )
    assert (one.config.in_channels, one.channels.mode, one.resize, one.bgr) == (1, "gray", None, False)
    five = read(tmp_path, BASE, "MODEL.PIXEL_MEAN=[1, 2, 3, 4, 5]", "MODEL.PIXEL_STD=[1, 1, 1, 1, 1]")
    assert (five.config.in_channels, five.channels.mode, five.channels.count, five.bgr) == (5, "select", 5, False)
    assert five.normalisation.mean == (1, 2, 3, 4, 5)
    rgb = read(tmp_path, BASE, "INPUT.FORMAT=RGB")
    assert (rgb.bgr, rgb.normalisation.mean[0]) == (False, 103.53)
    small = read(tmp_path, BASE, "INPUT.MIN_SIZE_TEST=800", "INPUT.MAX_SIZE_TEST=640")
    assert small.resize is not None
    assert max(small.resize.size((300, 400))) == 640


def test_losses_without_a_counterpart_are_told(tmp_path: Path) -> None:
    assert "giou" in read(tmp_path, BASE, "MODEL.RPN.BBOX_REG_LOSS_TYPE=giou").notes[0]


def test_bases_are_followed_and_overridden(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (tmp_path / "base.yaml").write_text(
        "_BASE_: somewhere/Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: True, FPN: {NORM: GN, OUT_CHANNELS: 64}}"
    )
    (folder / "own.yaml").write_text("_BASE_: [../../base.yaml]\nMODEL: {FPN: {NORM: ''}}")
    found = read_config(folder / "own.yaml").config
    assert (found.pyramid.norm, found.pyramid.width) == ("none", 64)


def test_a_dump_of_the_whole_configuration_with_tuples_and_aliases(tmp_path: Path) -> None:
    text = (
        "MODEL:\n  PIXEL_MEAN: &id001\n  - 1.0\n  - 2.0\n  - 3.0\n  PIXEL_STD: *id001\n"
        "  RPN: {IOU_THRESHOLDS: !!python/tuple [0.2, 0.5]}\n"
        "  ROI_BOX_HEAD: {BBOX_REG_WEIGHTS: '(1.0, 1.0, 2.0, 2.0)'}\n"
        "VERSION: 2\n_BASE_: Base-RCNN-FPN.yaml\n"
    )
    found = read(tmp_path, text, "MODEL.MASK_ON=True")
    assert found.config.rpn.iou == (0.2, 0.5)
    assert found.config.box.weights == (1, 1, 2, 2)
    assert found.normalisation.std == (3, 2, 1)


def test_names_from_before_the_publication(tmp_path: Path) -> None:
    text = BASE + "TEST: {DETECTIONS_PER_IMG: 9}\nVERSION: 1\n"
    assert read(tmp_path, text).postprocess.max_objects == 9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: !!python/object/apply:os.system ['x']", "would make Python objects"),
        ("a: !!python/name:os.system", "would make Python objects"),
        ("a: [", "cannot be read"), ("- 1", "no table"), ("", "no table"),
        ("_BASE_: a.yaml", "too many bases"), ("_BASE_: missing.yaml", "is missing"),
        ("_BASE_: /etc/passwd", "no YAML file"), ("_BASE_: 7", "no YAML file"),
        ("_BASE_: https://example.org/own.yaml", "is missing"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(tmp_path, text)


def test_tables_that_hold_each_other_take_no_time(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"] + [
        f"a{k}: &a{k} {{x: *a{k - 1}, y: *a{k - 1}, z: *a{k - 1}}}" for k in range(1, 40)
    ]
    with pytest.raises(ConfigError, match="too many settings"):
        read(tmp_path, "\n".join(lines))


def test_a_change_of_what_is_not_known(tmp_path: Path) -> None:
    for change in ("MODEL.NOTHING=3", "MODEL.MASK_ON"):
        with pytest.raises(ConfigError, match="not known"):
            read(tmp_path, BASE, change)


def test_all_settings_that_are_looked_at_have_a_default(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{}")
    assert read_settings(tmp_path / "a.yaml")["MODEL.ROI_HEADS.NAME"] == "Res5ROIHeads"
    with pytest.raises(ConfigError, match=r"MODEL\.MASK_ON"):
        read_config(tmp_path / "a.yaml")
