"""Make one set of objects of several sets found in the same image, by several models or in several views of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numba import njit

from cytomask.errors import ConfigError, LabelError
from cytomask.geometry.bit_mask_windows import recut_masks, tight_windows
from cytomask.geometry.bit_masks import Packed, byte_offsets
from cytomask.geometry.box_fusion import check_weights, fuse_groups, weighted_boxes_fusion
from cytomask.geometry.soft_nms import box_ious, suppress
from cytomask.instances import Instances, mask_ious

#: How sets of objects become one; see :func:`fuse_instances`.
Method = Literal["wbf", "nms", "soft-nms"]
METHODS: tuple[Method, ...] = get_args(Method)
#: Overlap from which objects are taken for the same (soft-nms: from which a score falls).
IOU_THRESHOLDS: dict[Method, float] = {"wbf": 0.5, "nms": 0.5, "soft-nms": 0.3}
#: Shares of the votes that are taken for half: sums of floats differ in their last bits.
_HALF = 0.5 * (1 - 1e-12)


@dataclass(frozen=True)
class Fusion:
    """How the objects of several models or views become one set.

    Attributes
    ----------
    method
        As for :func:`fuse_instances`.
    iou_threshold
        As for :func:`fuse_instances`; None: 0.5, for soft-nms 0.3.
    score_threshold
        Fused objects below this score are dropped. None: for wbf half the models' own threshold, so that an object must
        be seen by about half of the models or views; for soft-nms the models' threshold; for nms none, as the models
        have used theirs.
    by
        Whether overlap is that of masks or of boxes.

    Raises
    ------
    ConfigError
        If there is no such method, or a threshold is not from 0 to 1.
    """

    method: Method = "wbf"
    iou_threshold: float | None = None
    score_threshold: float | None = None
    by: Literal["mask", "box"] = "mask"

    def __post_init__(self) -> None:
        for where, value, known in (("--fuse", self.method, METHODS), ("--fuse-by", self.by, ("mask", "box"))):
            if value not in known:
                raise ConfigError(
                    "there is no such way to fuse objects", where=where, found=value, expected=", ".join(known)
                )
        for where, threshold in (("--fuse-iou", self.iou_threshold), ("--fuse-score", self.score_threshold)):
            if threshold is not None and not 0 <= threshold <= 1:
                raise ConfigError("a threshold is wrong", where=where, found=threshold, expected="from 0 to 1")

    def resolved(self, thresholds: Sequence[float], weights: Sequence[float]) -> Fusion:
        """Fill in what is not given, from the score thresholds of the models and their weights."""
        score = self.score_threshold
        if score is None:
            score = {
                "wbf": 0.5 * float(np.average(thresholds, weights=weights)),
                "nms": 0.0,
                "soft-nms": min(thresholds),
            }[self.method]
        iou = self.iou_threshold if self.iou_threshold is not None else IOU_THRESHOLDS[self.method]
        return replace(self, iou_threshold=iou, score_threshold=score)

    def fuse(self, parts: Sequence[Instances], weights: Sequence[float]) -> Instances:
        """Fuse as :func:`fuse_instances` does; a score threshold that is not given is 0."""
        return fuse_instances(
            parts, self.method, weights, iou_threshold=self.iou_threshold, by=self.by,
            score_threshold=self.score_threshold or 0.0,
        )  # fmt: skip


def fuse_instances(
    parts: Sequence[Instances],
    method: Method = "wbf",
    weights: Sequence[float] | None = None,
    *,
    iou_threshold: float | None = None,
    by: Literal["mask", "box"] = "mask",
    score_threshold: float = 0.0,
) -> Instances:
    """Fuse several sets of objects of one image.

    Only objects of classes of the same name are taken for the same object. Memory follows the objects, not the image.

    Parameters
    ----------
    parts
        At least one, of the same image; any may be empty.
    method
        ``"wbf"``: the objects that overlap the best of them form a group, which becomes one object. Its box is the mean
        of their boxes by score, its score their mean, in which parts that did not find it count as 0 (weighted boxes
        fusion). A pixel belongs to its mask if members with at least half of the group's score cover it and it lies in
        the box; only members vote, since the score tells already who did not find it. Where no pixel has half of the
        votes, the mask is that of the best member.

        ``"nms"``: of objects that overlap, the best stays as it is. ``"soft-nms"``: the others' scores fall by their
        overlap (linear Soft-NMS).
    weights
        How much each part counts; None: all the same. For nms and soft-nms they tell who is the better one.
    iou_threshold
        Overlap from which objects are taken for the same; None: 0.5, for soft-nms 0.3.
    by
        ``"mask"``, or ``"box"`` for the overlap of boxes, for models whose boxes are better than their masks.
    score_threshold
        Fused objects below this score are dropped.

    Returns
    -------
    Instances
        Numbered 1, 2, 3 … by the first row, then the first column of their masks; the classes of all parts. None is
        empty.

    Raises
    ------
    LabelError
        If there is no part, or they are of images of different size.
    ValueError
        If there is no such method, or the weights do not fit.

    Examples
    --------
    >>> a = Instances.from_labels(np.array([[1, 1, 1, 0, 2]]), scores={1: 0.75, 2: 0.75})
    >>> b = Instances.from_labels(np.array([[1, 1, 0, 0, 0]]), scores={1: 0.25})
    >>> fused = fuse_instances([a, b])
    >>> fused.to_labels(), fused.scores
    (array([[1, 1, 1, 0, 2]], dtype=int32), array([0.5  , 0.375], dtype=float32))
    """
    if not parts:
        raise LabelError("there are no objects to fuse", fix="give at least one set, which may be empty")
    if method not in METHODS or by not in ("mask", "box"):
        raise ValueError(f"objects are fused by {', '.join(METHODS)}, and mask or box, not {method}, {by}")
    model_weights = check_weights(weights, len(parts))
    threshold = IOU_THRESHOLDS[method] if iou_threshold is None else float(iou_threshold)
    everything = Instances.concatenate(with_common_classes(parts)).renumbered()
    models = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    votes = everything.scores.astype(np.float64) * model_weights[models]
    if method == "wbf":
        fused = _fuse_groups(everything, models, model_weights, votes, threshold, by)
    else:
        i, j, iou = _overlaps(everything, by)
        # Ranked by weighted score; what stays has its own, lowered by its overlaps.
        kept, ranks = suppress(
            votes, i, j, iou, decay="hard" if method == "nms" else "linear", iou_threshold=threshold, prune=-1.0
        )
        left = np.divide(ranks, votes[kept], out=np.ones(len(kept)), where=votes[kept] > 0)
        taken = everything.take(kept)
        fused = replace(taken, scores=(taken.scores * left).astype(np.float32))
    fused = fused.take((fused.scores >= score_threshold) & (fused.areas() > 0))
    windows = fused.windows
    return fused.take(
        np.lexsort((fused.classes, windows[:, 3], windows[:, 2], windows[:, 1], windows[:, 0]))
    ).renumbered()


def with_common_classes(parts: Sequence[Instances]) -> list[Instances]:
    """Give all parts the same classes: those of the first, then those that the others have besides, by name.

    Examples
    --------
    >>> a = Instances.from_labels(np.array([[1]]), class_names=("cell",))
    >>> b = Instances.from_labels(np.array([[1]]), classes={1: 2}, class_names=("debris", "cell"))
    >>> [(part.class_names, part.classes.tolist()) for part in with_common_classes([a, b])]
    [(('cell', 'debris'), [1]), (('cell', 'debris'), [1])]
    """
    names = common_classes([part.class_names for part in parts])
    united = []
    for part in parts:
        numbers = np.array([0, *(names.index(name) + 1 for name in part.class_names)], np.int32)
        united.append(replace(part, classes=numbers[part.classes], class_names=names))
    return united


def common_classes(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All class names of several models, in the order in which they come.

    Examples
    --------
    >>> common_classes([("cell", "debris"), ("nucleus", "cell")])
    ('cell', 'debris', 'nucleus')
    """
    return tuple(dict.fromkeys(name for part in names for name in part))


def _overlaps(objects: Instances, by: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of different objects of the same class that overlap, both ways round, and their IoU."""
    if by == "box":
        return box_ious(objects.boxes, objects.classes)
    i, j, iou = mask_ious(objects, objects)
    same = (i != j) & (objects.classes[i] == objects.classes[j])
    return i[same], j[same], iou[same]


def _fuse_groups(
    objects: Instances, models: np.ndarray, weights: np.ndarray, votes: np.ndarray, threshold: float, by: str
) -> Instances:
    order = np.argsort(-votes, kind="stable")
    if by == "box":
        ends = np.cumsum(np.bincount(models, minlength=len(weights)))[:-1]
        parts = (np.split(column, ends) for column in (objects.boxes, objects.scores, objects.classes))
        groups = weighted_boxes_fusion(*parts, weights=weights.tolist(), iou_threshold=threshold).groups
    else:
        i, j, iou = _overlaps(objects, by)
        begins = np.searchsorted(i, np.arange(len(objects) + 1))
        groups = _join_leaders(order, begins, j, iou, threshold)
    # A box without area belongs to no group.
    order = order[groups[order] >= 0]
    # Members side by side, the best of each group first.
    order = order[np.argsort(groups[order], kind="stable")]
    groups = groups[order]
    ends = np.flatnonzero(np.diff(groups, append=-1)) + 1
    begins = np.concatenate([np.zeros(1, np.int64), ends])
    if not len(groups):
        return Instances.empty(objects.shape, objects.class_names)
    boxes, scores = fuse_groups(
        groups,
        objects.boxes[order].astype(np.float64),
        objects.scores[order].astype(np.float64),
        models[order],
        weights,
    )
    boxes = boxes.astype(np.float32)
    # Where all votes are 0, the members count alike.
    silent = np.bincount(groups, votes[order]) == 0
    masks = _vote(objects, order, begins, np.where(silent[groups], 1.0, votes[order]), boxes)
    masks = recut_masks(*masks, tight_windows(*masks))
    return Instances.from_packed(
        objects.shape, *masks, classes=objects.classes[order[begins[:-1]]], scores=scores.astype(np.float32),
        boxes=boxes, class_names=objects.class_names,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _join_leaders(
    order: np.ndarray, begins: np.ndarray, others: np.ndarray, ious: np.ndarray, threshold: float
) -> np.ndarray:
    """Let each object join the leader that it overlaps most, or else become one; the best come first."""
    groups = np.full(len(order), -1, np.int64)
    leads = np.zeros(len(order), np.bool_)
    count = 0
    for k in order:
        best, best_iou = -1, threshold
        for place in range(begins[k], begins[k + 1]):
            other = others[place]
            if leads[other] and (
                ious[place] > best_iou or (best >= 0 and ious[place] == best_iou and groups[other] < groups[best])
            ):
                best, best_iou = other, ious[place]
        if best >= 0:
            groups[k] = groups[best]
        else:
            leads[k] = True
            groups[k] = count
            count += 1
    return groups


def _vote(objects: Instances, order: np.ndarray, begins: np.ndarray, votes: np.ndarray, boxes: np.ndarray) -> Packed:
    """Make one mask of each group's masks."""
    windows = objects.windows[order].astype(np.int64)
    # Empty windows may lie anywhere.
    empty = (windows[:, 2] <= windows[:, 0]) | (windows[:, 3] <= windows[:, 1])
    low, high = (
        np.where(empty[:, None], np.iinfo(np.int32).max, windows[:, :2]),
        np.where(empty[:, None], 0, windows[:, 2:]),
    )
    low, high = np.minimum.reduceat(low, begins[:-1]), np.maximum.reduceat(high, begins[:-1])
    union = np.concatenate([np.minimum(low, high), high], axis=1).astype(np.int32)
    clip = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(np.int64)
    offsets = byte_offsets(union)
    bits = np.zeros(int(offsets[-1]), np.uint8)
    _count_votes(
        np.ascontiguousarray(objects.windows), objects.bits, objects.offsets, order, begins, votes, clip, union, bits,
        offsets, _HALF,
    )  # fmt: skip
    return union, bits, offsets


@njit(cache=True, nogil=True)
def _count_votes(
    windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray, order: np.ndarray, begins: np.ndarray,
    votes: np.ndarray, clip: np.ndarray, union: np.ndarray, new_bits: np.ndarray, new_offsets: np.ndarray, half: float,
) -> None:  # fmt: skip
    largest = 0
    for g in range(len(union)):
        largest = max(largest, (union[g, 2] - union[g, 0]) * (union[g, 3] - union[g, 1]))
    counts = np.zeros(largest)
    for g in range(len(union)):
        top, left = np.int64(union[g, 0]), np.int64(union[g, 1])
        height, width = union[g, 2] - top, union[g, 3] - left
        counts[: height * width] = 0.0
        total = 0.0
        for m in range(begins[g], begins[g + 1]):
            k = order[m]
            total += votes[m]
            p = 8 * offsets[k]
            for y in range(windows[k, 0], windows[k, 2]):
                for x in range(windows[k, 1], windows[k, 3]):
                    if bits[p >> 3] & (0x80 >> (p & 7)):
                        counts[(y - top) * width + x - left] += votes[m]
                    p += 1
        found = False
        target = 8 * new_offsets[g]
        for y in range(max(top, clip[g, 0]), min(top + height, clip[g, 2])):
            for x in range(max(left, clip[g, 1]), min(left + width, clip[g, 3])):
                place = (y - top) * width + x - left
                if counts[place] >= half * total:
                    new_bits[(target + place) >> 3] |= 0x80 >> ((target + place) & 7)
                    found = True
        if found:
            continue
        # They agree on no pixel: the best one's mask.
        k = order[begins[g]]
        p = 8 * offsets[k]
        for y in range(windows[k, 0], windows[k, 2]):
            for x in range(windows[k, 1], windows[k, 3]):
                if bits[p >> 3] & (0x80 >> (p & 7)):
                    place = target + (y - top) * width + x - left
                    new_bits[place >> 3] |= 0x80 >> (place & 7)
                p += 1
