"""What a configuration of detectron2 says, in the settings of the region family.

Every setting that changes what the network finds is either carried over or refused by name; settings of training that
have no counterpart are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import MeanStd
from cytomask.data.short_edge import ShortestEdge
from cytomask.errors import ConfigError, first_problem
from cytomask.models.region.config import RegionConfig, RegionPostprocess
from cytomask.models.region.detectron2_yaml import read_settings
from cytomask.models.region.point_head import COARSE_CHANNELS

_LEVELS = ["p2", "p3", "p4", "p5", "p6"]
_STAGES = ["res2", "res3", "res4", "res5"]
#: Settings with one value that can be had here.
_ONLY: dict[str, Any] = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.KEYPOINT_ON": False,
    "MODEL.MASK_ON": True,
    "MODEL.LOAD_PROPOSALS": False,
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": _STAGES,
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.FPN.IN_FEATURES": _STAGES,
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "MODEL.ANCHOR_GENERATOR.NAME": "DefaultAnchorGenerator",
    "MODEL.RPN.HEAD_NAME": "StandardRPNHead",
    "MODEL.RPN.IN_FEATURES": _LEVELS,
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1, 1, 1, 1],
    "MODEL.ROI_HEADS.IN_FEATURES": _LEVELS[:4],
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False,
}
_KINDS = "a Mask R-CNN, a Cascade Mask R-CNN or a PointRend with masks and a feature pyramid"
#: The same, for the two kinds of mask heads.
_ONLY_CONVOLUTION = {"MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlignV2"}
_ONLY_POINTREND = {
    "MODEL.ROI_MASK_HEAD.IN_FEATURES": ["p2"],
    "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON": True,
    "MODEL.POINT_HEAD.NAME": "StandardPointHead",
    "MODEL.POINT_HEAD.IN_FEATURES": ["p2"],
}
#: Settings of training without a counterpart, with the value that means what is done here.
_TRAINING: dict[str, Any] = {
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False,
}
_NORMS = {
    "": "none", "FrozenBN": "frozen_batch", "GN": "group",
    **dict.fromkeys(("BN", "SyncBN", "nnSyncBN", "naiveSyncBN"), "batch"),
}  # fmt: skip
_HEADS = {"StandardROIHeads": False, "PointRendROIHeads": False, "CascadeROIHeads": True}
_MASK_HEADS = {
    "MaskRCNNConvUpsampleHead": "convolution", "PointRendMaskHead": "pointrend", "CoarseMaskHead": "pointrend",
}  # fmt: skip


@dataclass(frozen=True)
class Detectron2Config:
    """A configuration of detectron2 in cytomask's terms.

    Attributes
    ----------
    config
        The network. Its classes are named ``class1`` and so on, for the file does not name them.
    normalisation, resize, channels
        How images are prepared, with channels in the order red, green, blue; ``resize`` is None where images keep
        their size.
    postprocess
        The thresholds.
    bgr
        The checkpoint's first convolution takes blue, green, red.
    notes
        What of the configuration has no counterpart; it matters to training only.
    """

    config: RegionConfig
    normalisation: MeanStd
    resize: ShortestEdge | None
    channels: ChannelExpectation
    postprocess: RegionPostprocess
    bgr: bool
    notes: tuple[str, ...]


def read_config(path: str | Path, changes: Sequence[str] = ()) -> Detectron2Config:
    """Read a YAML configuration: one that detectron2 dumped, or one of its zoo with its bases.

    Parameters
    ----------
    path
        The file.
    changes
        Settings that count instead of the file's, as ``KEY=VALUE``.

    Raises
    ------
    ConfigError
        If it cannot be read, or if a setting cannot be had here; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mask_rcnn_R_50_FPN_3x.yaml"
    ...     _ = path.write_text("{_BASE_: ../Base-RCNN-FPN.yaml, MODEL: {MASK_ON: True, ROI_HEADS: {NUM_CLASSES: 4}}}")
    ...     found = read_config(path)
    >>> found.config.backbone.depth, found.config.classes[-1], found.bgr, found.postprocess.score_threshold
    (50, 'class4', True, 0.05)
    """
    path = Path(path)
    settings = _Settings(read_settings(path, changes), path)
    try:
        return _convert(settings)
    except ValidationError as error:
        raise ConfigError(
            "the configuration has a value that makes no network", where=path, found=first_problem(error)
        ) from error


def _convert(settings: _Settings) -> Detectron2Config:
    settings.demand(_ONLY)
    mean, std = settings.numbers("MODEL.PIXEL_MEAN"), settings.numbers("MODEL.PIXEL_STD")
    if len(mean) != len(std):
        raise settings.refused("MODEL.PIXEL_STD", f"as many numbers as MODEL.PIXEL_MEAN has ({len(mean)})")
    order = settings.choice("INPUT.FORMAT", {"BGR": "BGR", "RGB": "RGB", "L": "L"})
    # The order of colours is told only of colour pictures; what a program feeds with more channels is its own.
    bgr = order == "BGR" and len(mean) == 3
    classes = settings.whole("MODEL.ROI_HEADS.NUM_CLASSES")
    head = settings.choice("MODEL.ROI_MASK_HEAD.NAME", _MASK_HEADS)
    fields = {
        "in_channels": len(mean),
        "classes": tuple(f"class{k + 1}" for k in range(classes)),
        "backbone": _backbone(settings),
        "pyramid": {
            "width": settings.whole("MODEL.FPN.OUT_CHANNELS"),
            "norm": settings.choice("MODEL.FPN.NORM", _NORMS),
            "fuse": settings.choice("MODEL.FPN.FUSE_TYPE", {"sum": "sum", "avg": "avg"}),
        },
        "anchors": _anchors(settings),
        "rpn": _rpn(settings),
        "sampling": _sampling(settings),
        "box": _box(settings),
        "cascade": _cascade(settings),
        "mask": _pointrend_mask(settings) if head == "pointrend" else _convolution_mask(settings),
    }
    shortest, longest = settings.whole("INPUT.MIN_SIZE_TEST"), settings.whole("INPUT.MAX_SIZE_TEST")
    thresholds = {
        "score_threshold": settings.number("MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
        "nms": "hard",
        "nms_by": "box",
        "nms_threshold": settings.number("MODEL.ROI_HEADS.NMS_THRESH_TEST"),
        "per_class": True,
        "max_objects": settings.whole("TEST.DETECTIONS_PER_IMAGE"),
    }
    mode = {1: "gray", 3: "rgb"}.get(len(mean), "select")
    return Detectron2Config(
        config=RegionConfig.model_validate(fields),
        normalisation=MeanStd(mean=mean[::-1] if bgr else mean, std=std[::-1] if bgr else std),
        # Where the longest side allowed is below the shortest, it alone counts.
        resize=ShortestEdge(shortest=min(shortest, longest), longest=longest) if shortest else None,
        channels=ChannelExpectation.model_validate({"mode": mode, "count": len(mean)}),
        postprocess=RegionPostprocess.model_validate(thresholds),
        bgr=bgr,
        notes=tuple(
            f"{key}: {settings[key]!r} is not carried over; it matters to training only"
            for key, value in _TRAINING.items()
            if settings[key] != value
        ),
    )


def _backbone(settings: _Settings) -> dict[str, Any]:
    resnets = "MODEL.RESNETS."
    return {
        "depth": settings.choice(resnets + "DEPTH", {depth: depth for depth in (18, 34, 50, 101, 152)}),
        "stem_width": settings.whole(resnets + "STEM_OUT_CHANNELS"),
        "width": settings.whole(resnets + "RES2_OUT_CHANNELS"),
        "groups": settings.whole(resnets + "NUM_GROUPS"),
        "group_width": settings.whole(resnets + "WIDTH_PER_GROUP"),
        "stride_in_1x1": settings.flag(resnets + "STRIDE_IN_1X1"),
        "norm": settings.choice(resnets + "NORM", _NORMS),
        "deformable": settings.flags(resnets + "DEFORM_ON_PER_STAGE", 4),
        "modulated": settings.flag(resnets + "DEFORM_MODULATED"),
        "deform_groups": settings.whole(resnets + "DEFORM_NUM_GROUPS"),
        "freeze": min(5, settings.whole("MODEL.BACKBONE.FREEZE_AT")),
    }


def _anchors(settings: _Settings) -> dict[str, Any]:
    sizes = settings.rows("MODEL.ANCHOR_GENERATOR.SIZES")
    if len(sizes) == 1:
        sizes = sizes * len(_LEVELS)
    if len(sizes) != len(_LEVELS) or len({len(row) for row in sizes}) != 1:
        raise settings.refused("MODEL.ANCHOR_GENERATOR.SIZES", "sizes for five levels, equally many for each")
    ratios = settings.rows("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS")
    if any(row != ratios[0] for row in ratios):
        raise settings.refused("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "the same ratios for all levels")
    return {"sizes": sizes, "ratios": ratios[0], "offset": settings.number("MODEL.ANCHOR_GENERATOR.OFFSET")}


def _rpn(settings: _Settings) -> dict[str, Any]:
    rpn, width = "MODEL.RPN.", settings.whole("MODEL.FPN.OUT_CHANNELS")
    convolutions = settings.numbers(rpn + "CONV_DIMS")
    if any(n not in (-1, width) for n in convolutions):
        raise settings.refused(rpn + "CONV_DIMS", f"-1 or {width} (MODEL.FPN.OUT_CHANNELS) for each")
    weight = settings.number(rpn + "LOSS_WEIGHT")
    return {
        "convolutions": len(convolutions),
        "iou": settings.numbers(rpn + "IOU_THRESHOLDS"),
        "batch": settings.whole(rpn + "BATCH_SIZE_PER_IMAGE"),
        "positive": settings.number(rpn + "POSITIVE_FRACTION"),
        "nms": settings.number(rpn + "NMS_THRESH"),
        "train_before": settings.whole(rpn + "PRE_NMS_TOPK_TRAIN"),
        "train_after": settings.whole(rpn + "POST_NMS_TOPK_TRAIN"),
        "test_before": settings.whole(rpn + "PRE_NMS_TOPK_TEST"),
        "test_after": settings.whole(rpn + "POST_NMS_TOPK_TEST"),
        "area": None,  # detectron2 counts by image
        "beta": settings.number(rpn + "SMOOTH_L1_BETA"),
        "objectness_weight": weight,
        "box_weight": weight * settings.number(rpn + "BBOX_REG_LOSS_WEIGHT"),
    }


def _sampling(settings: _Settings) -> dict[str, Any]:
    heads = "MODEL.ROI_HEADS."
    (iou,) = settings.numbers(heads + "IOU_THRESHOLDS", 1)
    return {
        "batch": settings.whole(heads + "BATCH_SIZE_PER_IMAGE"),
        "positive": settings.number(heads + "POSITIVE_FRACTION"),
        "iou": iou,
        "append_truth": settings.flag(heads + "PROPOSAL_APPEND_GT"),
    }


def _box(settings: _Settings) -> dict[str, Any]:
    head = "MODEL.ROI_BOX_HEAD."
    return {
        "pool": settings.whole(head + "POOLER_RESOLUTION"),
        "sampling": settings.whole(head + "POOLER_SAMPLING_RATIO"),
        "convolutions": settings.whole(head + "NUM_CONV"),
        "convolution_width": settings.whole(head + "CONV_DIM"),
        "linear": settings.whole(head + "NUM_FC"),
        "linear_width": settings.whole(head + "FC_DIM"),
        "norm": settings.choice(head + "NORM", _NORMS),
        "class_agnostic": settings.flag(head + "CLS_AGNOSTIC_BBOX_REG"),
        "weights": settings.numbers(head + "BBOX_REG_WEIGHTS", 4),
        "beta": settings.number(head + "SMOOTH_L1_BETA"),
        "box_weight": settings.number(head + "BBOX_REG_LOSS_WEIGHT"),
        "train_on_predicted": settings.flag(head + "TRAIN_ON_PRED_BOXES"),
    }


def _cascade(settings: _Settings) -> list[dict[str, Any]] | bool:
    if not settings.choice("MODEL.ROI_HEADS.NAME", _HEADS):
        return False
    settings.demand({"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True})
    head = "MODEL.ROI_BOX_CASCADE_HEAD."
    overlaps, weights = settings.numbers(head + "IOUS"), settings.rows(head + "BBOX_REG_WEIGHTS")
    if len(overlaps) != len(weights):
        raise settings.refused(head + "BBOX_REG_WEIGHTS", f"one row for each of {head}IOUS ({len(overlaps)})")
    return [{"iou": iou, "weights": row} for iou, row in zip(overlaps, weights)]


def _convolution_mask(settings: _Settings) -> dict[str, Any]:
    settings.demand(_ONLY_CONVOLUTION)
    head = "MODEL.ROI_MASK_HEAD."
    return {
        "kind": "convolution",
        "pool": settings.whole(head + "POOLER_RESOLUTION"),
        "sampling": settings.whole(head + "POOLER_SAMPLING_RATIO"),
        "convolutions": settings.whole(head + "NUM_CONV"),
        "width": settings.whole(head + "CONV_DIM"),
        "norm": settings.choice(head + "NORM", _NORMS),
        "class_agnostic": settings.flag(head + "CLS_AGNOSTIC_MASK"),
    }


def _pointrend_mask(settings: _Settings) -> dict[str, Any]:
    head, points = "MODEL.ROI_MASK_HEAD.", "MODEL.POINT_HEAD."
    classes, width = settings.whole("MODEL.ROI_HEADS.NUM_CLASSES"), settings.whole("MODEL.FPN.OUT_CHANNELS")
    settings.demand(
        {**_ONLY_POINTREND, points + "NUM_CLASSES": classes, head + "CONV_DIM": min(width, COARSE_CHANNELS)}
    )
    return {
        "kind": "pointrend",
        "coarse_pool": settings.whole(head + "POOLER_RESOLUTION"),
        "coarse_linear": settings.whole(head + "NUM_FC"),
        "coarse_width": settings.whole(head + "FC_DIM"),
        "coarse_side": settings.whole(head + "OUTPUT_SIDE_RESOLUTION"),
        "point_linear": settings.whole(points + "NUM_FC"),
        "point_width": settings.whole(points + "FC_DIM"),
        "coarse_in_each_layer": settings.flag(points + "COARSE_PRED_EACH_LAYER"),
        "train_points": settings.whole(points + "TRAIN_NUM_POINTS"),
        "oversample": settings.number(points + "OVERSAMPLE_RATIO"),
        "importance": settings.number(points + "IMPORTANCE_SAMPLE_RATIO"),
        "steps": settings.whole(points + "SUBDIVISION_STEPS"),
        "points": settings.whole(points + "SUBDIVISION_NUM_POINTS"),
        "class_agnostic": settings.flag(points + "CLS_AGNOSTIC_MASK"),
    }


class _Settings:
    """Settings by their dotted keys, of the types that they must have."""

    def __init__(self, values: dict[str, Any], path: Path) -> None:
        self._values, self._path = values, path

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def refused(self, key: str, expected: str, fix: str | None = None) -> ConfigError:
        return ConfigError(
            "a setting of the configuration cannot be had here",
            where=self._path,
            found=f"{key}: {self._values[key]!r}"[:300],
            expected=expected,
            fix=fix,
        )

    def demand(self, only: dict[str, Any]) -> None:
        for key, value in only.items():
            if self[key] != value:
                raise self.refused(key, repr(value), f"give the configuration of {_KINDS}")

    def choice(self, key: str, known: dict[Any, Any]) -> Any:
        value = self[key]
        if not isinstance(value, str | int) or value not in known:
            raise self.refused(key, "one of " + ", ".join(map(repr, known)))
        return known[value]

    def whole(self, key: str) -> int:
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise self.refused(key, "a whole number")
        return value

    def number(self, key: str) -> float:
        return self._number(key, self[key])

    def flag(self, key: str) -> bool:
        if not isinstance(self[key], bool):
            raise self.refused(key, "True or False")
        return self[key]

    def flags(self, key: str, n: int) -> list[bool]:
        value = self[key]
        if not isinstance(value, list) or len(value) != n or not all(isinstance(x, bool) for x in value):
            raise self.refused(key, f"{n} times True or False")
        return value

    def numbers(self, key: str, n: int | None = None) -> tuple[float, ...]:
        value = self[key]
        if not isinstance(value, list) or not value or len(value) != (n or len(value)):
            raise self.refused(key, f"a list of {n or ''} numbers".replace("  ", " "))
        return tuple(self._number(key, x) for x in value)

    def rows(self, key: str) -> list[tuple[float, ...]]:
        """A list of lists of numbers; a list of numbers is one row."""
        value = self[key]
        if isinstance(value, list) and value and not any(isinstance(x, list | tuple) for x in value):
            value = [value]
        if not isinstance(value, list) or not value or not all(isinstance(x, Sequence) and len(x) for x in value):
            raise self.refused(key, "a list of lists of numbers")
        return [tuple(self._number(key, x) for x in row) for row in value]

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refused(key, "numbers")
        return float(value)
