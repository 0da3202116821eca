"""Which array of a detectron2 checkpoint is which of ours, by name."""

from __future__ import annotations

import re

#: Patterns of detectron2's names -> our names; ``{1-2}`` is group 1 less two.
_OURS: tuple[tuple[str, str], ...] = (
    (r"backbone\.bottom_up\.((?:stem|res[2-5])\..+)", r"pyramid.backbone.\1"),
    (r"backbone\.fpn_lateral([2-5])\.(.+)", r"pyramid.lateral.{1-2}.\2"),
    (r"backbone\.fpn_output([2-5])\.(.+)", r"pyramid.output.{1-2}.\2"),
    (r"proposal_generator\.rpn_head\.conv\.(weight|bias)", r"rpn.convolutions.0.\1"),
    (r"proposal_generator\.rpn_head\.conv\.conv(\d+)\.(.+)", r"rpn.convolutions.\1.\2"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(.+)", r"rpn.objectness.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(.+)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.conv(\d+)\.(.+)", r"box_branch.heads.0.convolutions.\1.\2"),
    (r"roi_heads\.box_head\.fc(\d+)\.(.+)", r"box_branch.heads.0.linear.\1.\2"),
    (r"roi_heads\.box_head\.(\d+)\.conv(\d+)\.(.+)", r"box_branch.heads.\1.convolutions.\2.\3"),
    (r"roi_heads\.box_head\.(\d+)\.fc(\d+)\.(.+)", r"box_branch.heads.\1.linear.\2.\3"),
    (r"roi_heads\.box_predictor\.cls_score\.(.+)", r"box_branch.heads.0.class_logits.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.+)", r"box_branch.heads.0.box_deltas.\1"),
    (r"roi_heads\.box_predictor\.(\d+)\.cls_score\.(.+)", r"box_branch.heads.\1.class_logits.\2"),
    (r"roi_heads\.box_predictor\.(\d+)\.bbox_pred\.(.+)", r"box_branch.heads.\1.box_deltas.\2"),
    (r"roi_heads\.mask_head\.mask_fcn(\d+)\.(.+)", r"mask_branch.head.convolutions.\1.\2"),
    (r"roi_heads\.mask_head\.deconv\.(.+)", r"mask_branch.head.enlarge.\1"),
    (r"roi_heads\.mask_head\.predictor\.(.+)", r"mask_branch.head.predictor.\1"),
    (r"roi_heads\.mask_head\.coarse_head\.reduce_channel_dim_conv\.(.+)", r"mask_branch.coarse.narrow.\1"),
    (r"roi_heads\.mask_head\.coarse_head\.reduce_spatial_dim_conv\.(.+)", r"mask_branch.coarse.halve.\1"),
    (r"roi_heads\.mask_head\.coarse_head\.fc(\d+)\.(.+)", r"mask_branch.coarse.linear.\1.\2"),
    (r"roi_heads\.mask_head\.coarse_head\.prediction\.(.+)", r"mask_branch.coarse.predictor.\1"),
    (r"roi_heads\.mask_head\.point_head\.fc(\d+)\.(.+)", r"mask_branch.point.linear.\1.\2"),
    (r"roi_heads\.mask_head\.point_head\.predictor\.(.+)", r"mask_branch.point.predictor.\1"),
)
_OURS_COMPILED = tuple((re.compile(theirs), ours) for theirs, ours in _OURS)
#: Names of earlier versions of detectron2 -> of the present one.
_EARLIER: tuple[tuple[str, str], ...] = (
    (r"^module\.", ""),
    (r"^(?=(?:stem|res[2-5])\.)", "backbone.bottom_up."),
    (r"^roi_heads\.mask_point_head\.", "roi_heads.mask_head.point_head."),
    (r"^roi_heads\.mask_coarse_head\.", "roi_heads.mask_head.coarse_head."),
    (r"^(roi_heads\.mask_head\.coarse_head\.)coarse_mask_fc", r"\1fc"),
)
#: Arrays that no network needs here, and why.
_IGNORED: tuple[tuple[str, str], ...] = (
    (r"pixel_(mean|std)", "the configuration says how pixels are normalised"),
    (r"proposal_generator\.anchor_generator\.cell_anchors\.\d+", "the anchors follow from the configuration"),
    (r"(backbone\.bottom_up\.)?(stem\.)?(fc|linear|fc1000|pred)[._](weight|bias|w|b)", "a classifier of whole images"),
    (r".+_momentum|lr|weight_order", "a state of training"),
)
_CAFFE2_STEM = re.compile(r"(?:res_)?conv1(_bn|_gn)?_(w|b|s|rm|riv|gamma|beta|running_mean|running_var)")
_CAFFE2_BLOCK = re.compile(
    r"res([2-5])_(\d+)_branch(1|2a|2b|2c)(_bn|_gn)?_(w|b|s|rm|riv|gamma|beta|running_mean|running_var)"
)
_CAFFE2_BRANCHES = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_CAFFE2_LEAVES = {
    "w": "weight", "b": "bias", "s": "weight", "rm": "running_mean", "riv": "running_var", "gamma": "weight",
    "beta": "bias", "running_mean": "running_mean", "running_var": "running_var",
}  # fmt: skip
#: The classes of COCO, which most published checkpoints know, in their order.
COCO_CLASSES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


def our_name(name: str) -> str | None:
    """Our name of one of detectron2's arrays; None if none of ours is meant.

    Examples
    --------
    >>> our_name("backbone.bottom_up.res3.0.conv2_offset.weight")
    'pyramid.backbone.res3.0.conv2_offset.weight'
    >>> our_name("backbone.fpn_lateral2.bias"), our_name("roi_heads.box_predictor.2.cls_score.bias")
    ('pyramid.lateral.0.bias', 'box_branch.heads.2.class_logits.bias')
    """
    for theirs, ours in _OURS_COMPILED:
        if found := theirs.fullmatch(name):
            expanded = found.expand(ours)
            return expanded.replace("{1-2}", str(int(found[1]) - 2)) if "{1-2}" in expanded else expanded
    return None


def present_name(name: str) -> str:
    """Detectron2's present name of an array of an earlier version, or of a backbone by itself (also of Caffe2's).

    Examples
    --------
    >>> present_name("res2.0.conv1.norm.weight")
    'backbone.bottom_up.res2.0.conv1.norm.weight'
    >>> present_name("res4_22_branch2b_bn_riv"), present_name("conv1_w")
    ('backbone.bottom_up.res4.22.conv2.norm.running_var', 'backbone.bottom_up.stem.conv1.weight')
    >>> present_name("roi_heads.mask_coarse_head.coarse_mask_fc1.bias")
    'roi_heads.mask_head.coarse_head.fc1.bias'
    """
    if found := _CAFFE2_STEM.fullmatch(name):
        layer, norm, leaf = "stem.conv1", found[1], found[2]
    elif found := _CAFFE2_BLOCK.fullmatch(name):
        layer, norm, leaf = f"res{found[1]}.{found[2]}.{_CAFFE2_BRANCHES[found[3]]}", found[4], found[5]
    else:
        for earlier, present in _EARLIER:
            name = re.sub(earlier, present, name)
        return name
    return f"backbone.bottom_up.{layer}{'.norm' if norm else ''}.{_CAFFE2_LEAVES[leaf]}"


def reason_to_ignore(name: str) -> str | None:
    """Why an array is not needed; None if it is, or if it is not known.

    Examples
    --------
    >>> reason_to_ignore("pixel_mean")
    'the configuration says how pixels are normalised'
    >>> reason_to_ignore("roi_heads.keypoint_head.conv_fcn1.weight") is None
    True
    """
    return next((reason for pattern, reason in _IGNORED if re.fullmatch(pattern, name)), None)
