"""Read detectron2's configuration files: YAML with bases and defaults, as a flat table of dotted keys."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cytomask.errors import ConfigError

#: No honest configuration is larger, has more settings, or more bases below each other.
_MOST_BYTES, _MOST_SETTINGS, _MOST_BASES = 1 << 20, 4000, 8
#: What detectron2 and its PointRend project assume where a file says nothing (of settings that are looked at).
DEFAULTS: dict[str, Any] = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN", "MODEL.MASK_ON": False, "MODEL.KEYPOINT_ON": False,
    "MODEL.LOAD_PROPOSALS": False, "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675], "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "INPUT.FORMAT": "BGR", "INPUT.MIN_SIZE_TEST": 800, "INPUT.MAX_SIZE_TEST": 1333,
    "MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.OUT_FEATURES": ["res4"], "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.NORM": "FrozenBN", "MODEL.RESNETS.WIDTH_PER_GROUP": 64, "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.RESNETS.RES5_DILATION": 1, "MODEL.RESNETS.RES2_OUT_CHANNELS": 256, "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False] * 4, "MODEL.RESNETS.DEFORM_MODULATED": False,
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": 1,
    "MODEL.FPN.IN_FEATURES": [], "MODEL.FPN.OUT_CHANNELS": 256, "MODEL.FPN.NORM": "", "MODEL.FPN.FUSE_TYPE": "sum",
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN", "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "MODEL.ANCHOR_GENERATOR.NAME": "DefaultAnchorGenerator", "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RPN.HEAD_NAME": "StandardRPNHead", "MODEL.RPN.IN_FEATURES": ["res4"], "MODEL.RPN.BOUNDARY_THRESH": -1,
    "MODEL.RPN.IOU_THRESHOLDS": [0.3, 0.7], "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256,
    "MODEL.RPN.POSITIVE_FRACTION": 0.5, "MODEL.RPN.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 1.0, "MODEL.RPN.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.RPN.SMOOTH_L1_BETA": 0.0, "MODEL.RPN.LOSS_WEIGHT": 1.0, "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000, "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000, "MODEL.RPN.NMS_THRESH": 0.7, "MODEL.RPN.CONV_DIMS": [-1],
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads", "MODEL.ROI_HEADS.NUM_CLASSES": 80,
    "MODEL.ROI_HEADS.IN_FEATURES": ["res4"], "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.5],
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512, "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05, "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": True, "TEST.DETECTIONS_PER_IMAGE": 100,
    "MODEL.ROI_BOX_HEAD.NAME": "", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 1.0, "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.0, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0, "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 0, "MODEL.ROI_BOX_HEAD.FC_DIM": 1024, "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 256, "MODEL.ROI_BOX_HEAD.NORM": "",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False, "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": False,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False, "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False,
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": [0.5, 0.6, 0.7],
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": [
        [10.0, 10.0, 5.0, 5.0], [20.0, 20.0, 10.0, 10.0], [30.0, 30.0, 15.0, 15.0]],
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead", "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 0, "MODEL.ROI_MASK_HEAD.NUM_CONV": 0,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 256, "MODEL.ROI_MASK_HEAD.NORM": "",
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": False, "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_MASK_HEAD.IN_FEATURES": ["p2"], "MODEL.ROI_MASK_HEAD.FC_DIM": 1024, "MODEL.ROI_MASK_HEAD.NUM_FC": 2,
    "MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION": 7, "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON": False,
    "MODEL.POINT_HEAD.NAME": "StandardPointHead", "MODEL.POINT_HEAD.NUM_CLASSES": 80,
    "MODEL.POINT_HEAD.IN_FEATURES": ["p2"], "MODEL.POINT_HEAD.TRAIN_NUM_POINTS": 196,
    "MODEL.POINT_HEAD.OVERSAMPLE_RATIO": 3, "MODEL.POINT_HEAD.IMPORTANCE_SAMPLE_RATIO": 0.75,
    "MODEL.POINT_HEAD.SUBDIVISION_STEPS": 5, "MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS": 784,
    "MODEL.POINT_HEAD.FC_DIM": 256, "MODEL.POINT_HEAD.NUM_FC": 3, "MODEL.POINT_HEAD.CLS_AGNOSTIC_MASK": False,
    "MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER": True,
}  # fmt: skip
#: What detectron2's own base files say, for a configuration that was copied without them.
_FPN: dict[str, Any] = {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone", "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"], "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000, "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads", "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7, "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
}  # fmt: skip
BASES: dict[str, dict[str, Any]] = {
    "Base-RCNN-FPN.yaml": _FPN,
    "Base-PointRend-RCNN-FPN.yaml": _FPN
    | {
        "MODEL.MASK_ON": True,
        "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True,
        "MODEL.ROI_MASK_HEAD.NAME": "PointRendMaskHead",
        "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "",
        "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON": True,
    },
}
#: Names of settings before detectron2 was published -> since.
_RENAMED = {
    "MODEL.RPN_HEAD.NAME": "MODEL.RPN.HEAD_NAME",
    "MODEL.RPN.ANCHOR_SIZES": "MODEL.ANCHOR_GENERATOR.SIZES",
    "MODEL.RPN.ANCHOR_ASPECT_RATIOS": "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "MODEL.ROI_HEADS.SCORE_THRESH": "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS": "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "TEST.DETECTIONS_PER_IMG": "TEST.DETECTIONS_PER_IMAGE",
}


def read_settings(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    r"""Read a configuration with its bases; settings that none of them names have detectron2's defaults.

    Parameters
    ----------
    path
        A YAML file: a whole configuration as detectron2 dumps it, or one of its zoo. Bases are looked for beside it;
        those of detectron2's own that are missing there are known.
    changes
        Settings that count instead of the file's, as ``KEY=VALUE``.

    Returns
    -------
    dict
        Dotted key -> number, text, or list.

    Raises
    ------
    ConfigError
        If a file is missing, is no such YAML, or has tags that would make Python objects.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.yaml"
    ...     _ = path.write_text("_BASE_: ../Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: True}")
    ...     settings = read_settings(path)
    >>> settings["MODEL.MASK_ON"], settings["MODEL.ROI_HEADS.NAME"], settings["TEST.DETECTIONS_PER_IMAGE"]
    (True, 'StandardROIHeads', 100)
    """
    found = _with_bases(path, 0) | _changed(changes)
    return DEFAULTS | {_RENAMED.get(key, key): _value(value) for key, value in found.items()}


def _changed(changes: Sequence[str]) -> dict[str, str]:
    pairs = [change.partition("=") for change in changes]
    for key, equals, _ in pairs:
        if not equals or _RENAMED.get(key, key) not in DEFAULTS:
            raise ConfigError(
                "a setting to be changed is not known",
                found=f"{key}{equals}",
                expected="KEY=VALUE, for example MODEL.ROI_HEADS.NUM_CLASSES=4",
            )
    return {key: value for key, _, value in pairs}


def _with_bases(path: Path, depth: int) -> dict[str, Any]:
    if depth > _MOST_BASES:
        raise ConfigError("the configuration has too many bases below each other", where=path)
    fields = _load(path)
    bases = fields.pop("_BASE_", [])
    found: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else [None]:
        found |= _base(path, base, depth)
    return found | _flat(fields, path)


def _base(path: Path, base: Any, depth: int) -> dict[str, Any]:
    if not isinstance(base, str) or not base.endswith((".yaml", ".yml")):
        raise ConfigError("a base of the configuration is no YAML file", where=path, found=f"_BASE_: {base!r}")
    name = base.replace("\\", "/").rsplit("/", 1)[-1]
    relative = not ("://" in base or base.startswith("~") or Path(base).is_absolute())
    if relative and (path.parent / base).is_file():
        return _with_bases(path.parent / base, depth + 1)
    if name in BASES:
        return dict(BASES[name])
    raise ConfigError(
        "a base of the configuration is missing",
        where=path,
        found=f"_BASE_: {base}",
        expected="a file beside the configuration, or one of " + ", ".join(BASES),
        fix="copy it along in the same arrangement of folders, or give the configuration that detectron2 dumped "
        "(config.yaml in its output folder)",
    )


class _Loader(yaml.SafeLoader):
    """Plain YAML, and tuples as lists."""


def _tuple_as_list(loader: _Loader, node: Any) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple_as_list)


def _load(path: Path) -> dict[str, Any]:
    expected = "a configuration of detectron2, in YAML"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError("the configuration is too large", where=path, found=f"{path.stat().st_size} bytes")
        fields = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError("the configuration cannot be read", where=path, found=error.strerror) from error
    except yaml.constructor.ConstructorError as error:
        raise ConfigError(
            "the configuration would make Python objects, which is not done",
            where=path,
            found=f"{error.problem}{f' in line {error.problem_mark.line + 1}' if error.problem_mark else ''}",
            expected=expected + " without tags besides !!python/tuple",
            fix="replace them by plain values",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(
            "the configuration cannot be read", where=path, found=str(error).splitlines()[0], expected=expected
        ) from error
    if not isinstance(fields, dict):
        raise ConfigError("the configuration is no table", where=path, found=type(fields).__name__, expected=expected)
    return fields


def _flat(fields: dict[Any, Any], path: Path) -> dict[str, Any]:
    """Dotted keys; a stack instead of recursion, and a limit, for tables that hold each other."""
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [("", fields)]
    steps = 0
    while waiting:
        prefix, part = waiting.pop()
        steps += 1
        if steps > _MOST_SETTINGS:
            raise ConfigError("the configuration has too many settings", where=path)
        if isinstance(part, dict):
            waiting += [(f"{prefix}.{key}" if prefix else str(key), value) for key, value in part.items()]
        else:
            found[prefix] = part
    return found


def _value(value: Any) -> Any:
    """A text that Python would write for a number, list or tuple is taken for that, as detectron2 does."""
    if isinstance(value, str) and len(value) < 2000:
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return value
    return list(value) if isinstance(value, tuple) else value
