"""Evaluate predictions against the truth: everything that ``metrics.json`` holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cytomask.errors import DataError, LabelError
from cytomask.evaluation.boundary import TOLERANCE
from cytomask.evaluation.coco import precision_recall_curves, summarise_coco
from cytomask.evaluation.coco_matching import Kind, ScoredPairs, pair_scored
from cytomask.evaluation.coco_settings import CocoSettings, notice_of_crowding
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.curves import iou_curves
from cytomask.evaluation.definitions import DEFINITIONS
from cytomask.evaluation.grouping import group_images
from cytomask.evaluation.headline import headline
from cytomask.evaluation.image_scores import KIND_THRESHOLD, ImageScores, Pair, score_image
from cytomask.evaluation.integrated import integrated_ap
from cytomask.evaluation.matching import THRESHOLDS
from cytomask.evaluation.pairs import crowd_ids, to_instances
from cytomask.evaluation.sizes import figures_by_size
from cytomask.evaluation.summary import plain, summarise
from cytomask.evaluation.worst import BestImages, WorstImage, WorstImages

KINDS: tuple[Kind, ...] = ("segm", "bbox")
#: Below so many images intervals are too optimistic, which is told.
FEW_IMAGES = 10


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    metrics
        The contents of ``metrics.json``: plain numbers, lists and dictionaries.
    images
        The counts of each image.
    worst
        What is needed to draw the images of the lowest accuracy, the worst first.
    best
        The same for those of the highest, the best first; with few images some are among the worst, too.
    """

    metrics: dict[str, Any]
    images: list[ImageScores]
    worst: list[WorstImage] = field(default_factory=list)
    best: list[WorstImage] = field(default_factory=list)

    def rows(self) -> list[dict[str, Any]]:
        """One row per image, as in ``per_image.csv``."""
        return [image.row() for image in self.images]


def evaluate_pairs(
    pairs: Iterable[Pair],
    *,
    class_names: Sequence[str] = ("object",),
    thresholds: Sequence[float] = THRESHOLDS,
    bootstrap: Bootstrap | None = None,
    coco: CocoSettings | None = None,
    tolerance: float = TOLERANCE,
    group_by: Sequence[str] = (),
    n_worst: int = 0,
    n_best: int = 0,
) -> Evaluation:
    """Score images one by one and summarise them.

    Parameters
    ----------
    pairs
        Truth and prediction of each image. They may be read as they are asked for: of each image only counts are kept,
        a few numbers per object, and the pairs of objects that overlap where there are scores for COCO metrics.
    class_names
        Names of class 1, 2, … With several, figures of each class are added, and truth and prediction must tell
        classes.
    thresholds
        IoU thresholds of the matching; the ten from 0.50 to 0.95 are added where they are missing.
    bootstrap
        How confidence intervals are made.
    coco
        Limits and area ranges of the COCO metrics, which are computed when all predictions have scores.
    tolerance
        How far apart outlines may lie for boundary F1, in pixels.
    group_by
        Properties of the images by which they are grouped; none given, those that make a few groups.
    n_worst
        Of so many images, those of the lowest accuracy, the objects are kept for pictures.
    n_best
        The same for those of the highest accuracy.

    Returns
    -------
    Evaluation
        Its ``metrics`` are described by their own ``definitions``.

    Raises
    ------
    LabelError
        If truth and prediction of an image differ in size, or are no proper labels; the image is named.
    DataError
        If there is no image.
    ConfigError
        If a property to group by does not exist, or a limit makes no sense.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.zeros((8, 8), int)
    >>> truth[2:6, 2:7] = 1
    >>> found = evaluate_pairs([Pair("right", truth, truth), Pair("shifted", truth, np.roll(truth, 1, axis=1))])
    >>> pooled = found.metrics["matching"]["pooled"]
    >>> pooled["0.50"]["accuracy"], pooled["0.75"]["tp"], found.metrics["coco"]["reason"]
    (1.0, 1, 'the predictions have no scores (label images), which COCO metrics rank by')
    """
    coco, thresholds = coco or CocoSettings(), all_thresholds(thresholds)
    found = ((pair, score_pair(pair, len(class_names), thresholds, tolerance, coco)) for pair in pairs)
    return evaluate_scored(
        found, class_names=class_names, thresholds=thresholds, bootstrap=bootstrap, coco=coco, tolerance=tolerance,
        group_by=group_by, n_worst=n_worst, n_best=n_best,
    )  # fmt: skip


def all_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    """Add the ten IoU thresholds that are always among them."""
    return tuple(sorted({*thresholds, *THRESHOLDS}))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPair:
    """What is counted on one image.

    Attributes
    ----------
    scores
        Counts of the matching.
    coco
        Pairs of scored predictions and true objects, by mask and by box; None where the predictions have no scores.
    """

    scores: ImageScores
    coco: dict[Kind, ScoredPairs] | None


def score_pair(
    pair: Pair, n_classes: int, thresholds: Sequence[float], tolerance: float, coco: CocoSettings
) -> ScoredPair:
    """Count all that is counted on one image; parameters are as for :func:`evaluate_pairs`.

    Raises
    ------
    LabelError
        If truth and prediction differ in size, or are no proper labels; the image is named.
    """
    try:
        return ScoredPair(score_image(pair, n_classes, thresholds, tolerance), _scored_pairs(pair, coco, n_classes))
    except LabelError as error:
        where = f"{pair.name}" if error.where is None else f"{pair.name}: {error.where}"
        raise LabelError(error.what, where=where, found=error.found, expected=error.expected, fix=error.fix) from error


def _scored_pairs(pair: Pair, settings: CocoSettings, n_classes: int) -> dict[Kind, ScoredPairs] | None:
    prediction = pair.scored_instances()
    if prediction is None:
        return None
    truth, crowd = to_instances(pair.truth), crowd_ids(pair.truth, pair.crowd)
    limit = settings.max_dets[-1]
    return {kind: pair_scored(truth, prediction, kind, limit, n_classes, crowd) for kind in KINDS}


def evaluate_scored(
    found: Iterable[tuple[Pair, ScoredPair]],
    *,
    class_names: Sequence[str],
    thresholds: Sequence[float],
    bootstrap: Bootstrap | None = None,
    coco: CocoSettings | None = None,
    tolerance: float = TOLERANCE,
    group_by: Sequence[str] = (),
    n_worst: int = 0,
    n_best: int = 0,
) -> Evaluation:
    """Summarise images that have been scored.

    Parameters
    ----------
    found
        Each image's pair, of which the objects are looked at only where they are kept for pictures, and what was
        counted on it by :func:`score_pair`; the order of the images decides on the last bits of sums.
    thresholds
        Of :func:`all_thresholds`, as the images were scored with them.
    class_names, bootstrap, coco, tolerance, group_by, n_worst, n_best
        As for :func:`evaluate_pairs`.

    Raises
    ------
    DataError, ConfigError
        As :func:`evaluate_pairs`.
    """
    bootstrap, coco = bootstrap or Bootstrap(), coco or CocoSettings()
    images: list[ImageScores] = []
    scored = ScoredImages(coco, len(class_names))
    worst, best = WorstImages(n_worst), BestImages(n_best)
    for pair, one in found:
        images.append(one.scores)
        scored.add(one.coco)
        worst.offer(pair, one.scores)
        best.offer(pair, one.scores)
    if not images:
        raise DataError("there are no images to evaluate")
    names = [image.name for image in images]
    scored.settle(len(images))
    everything = range(len(images))
    metrics = _summary(images, scored, everything, class_names, bootstrap)
    metrics["boundary"]["tolerance_px"] = tolerance
    grouped = group_images(images, group_by)
    groups = {
        column: {value: _summary(images, scored, members, class_names, bootstrap) for value, members in values.items()}
        for column, values in grouped.items()
    }
    integrated, intervals = integrated_ap(images, grouped, bootstrap)
    if intervals is not None and metrics.get("confidence_intervals"):
        metrics["confidence_intervals"]["integrated_ap"] = intervals
    curves = iou_curves(images, bootstrap)
    if scored.complete:
        curves["precision_recall"] = scored.precision_recall(class_names)
    metrics = {
        **{key: value for key, value in metrics.items() if key != "confidence_intervals"},
        "integrated_ap": integrated,
        "curves": curves,
        "by_size": figures_by_size(images, bootstrap),
        "by_group": {
            column: {value: _in_short(one) for value, one in values.items()} for column, values in groups.items()
        },
        "confidence_intervals": metrics.get("confidence_intervals"),
        "groups": groups,
        "thresholds": list(thresholds),
        "kind_threshold": KIND_THRESHOLD,
        "class_names": list(class_names),
        "notices": [*_empty(metrics), *_notices(names, scored, bootstrap)],
        "definitions": DEFINITIONS,
    }
    return Evaluation(plain(metrics), images, worst.images(), best.images())


class ScoredImages:
    """The pairs of scored predictions and true objects of each image, by mask and by box."""

    def __init__(self, settings: CocoSettings, n_classes: int) -> None:
        self.settings, self._n_classes = settings, n_classes
        self._pairs: dict[Kind, list[ScoredPairs]] = {kind: [] for kind in KINDS}
        self._n_images = 0

    def add(self, found: dict[Kind, ScoredPairs] | None) -> None:
        """Keep an image's pairs, if its predictions have scores."""
        for kind, pairs in (found or {}).items():
            self._pairs[kind].append(pairs)

    def settle(self, n_images: int) -> None:
        """Say how many images there are in all, and fix the ranges of areas, for groups of images as for all."""
        self._n_images = n_images
        found = self._pairs["segm"]
        areas = [one.true_areas[~one.true_crowd] for one in found]
        self.settings = replace(self.settings, areas=self.settings.ranges(np.concatenate([np.zeros(0), *areas])))

    @property
    def complete(self) -> bool:
        """Whether all images have scores."""
        return len(self._pairs["segm"]) == self._n_images

    def crowding(self) -> list[int]:
        """Of each image the most objects that a class has on either side."""
        return [one.crowding for one in self._pairs["segm"]]

    def metrics(
        self, members: Sequence[int], class_names: Sequence[str], bootstrap: Bootstrap
    ) -> dict[str, dict[str, Any] | str | None]:
        """COCO metrics of some of the images, by mask and by box, or why there are none."""
        if not self.complete:
            reason = "the predictions have no scores (label images), which COCO metrics rank by"
            if n := len(self._pairs["segm"]):
                reason = f"only {n} of {self._n_images} predictions have scores, which COCO metrics rank by"
            return {"segm": None, "bbox": None, "reason": reason}
        return {
            kind: summarise_coco([pairs[k] for k in members], self.settings, class_names, bootstrap)
            for kind, pairs in self._pairs.items()
        }

    def precision_recall(self, class_names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
        """The curves that lowering the score draws, by mask, at each IoU threshold that has a name."""
        return precision_recall_curves(self._pairs["segm"], self.settings, len(class_names))


def _summary(
    images: Sequence[ImageScores],
    scored: ScoredImages,
    members: Sequence[int],
    class_names: Sequence[str],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Figures of some of the images, with the intervals of COCO metrics among the others."""
    metrics = summarise([images[k] for k in members], class_names, bootstrap)
    coco: dict[str, Any] = scored.metrics(members, class_names, bootstrap)
    intervals = {kind: coco[kind].pop("confidence_intervals", None) for kind in KINDS if coco[kind]}
    if metrics.get("confidence_intervals") and any(intervals.values()):
        metrics["confidence_intervals"]["coco"] = intervals
    return {**metrics, "coco": coco}


def _in_short(metrics: dict[str, Any]) -> dict[str, Any]:
    counts = {key: metrics[key] for key in ("n_images", "n_true", "n_pred")}
    return {**counts, **headline(metrics), "error_kinds": metrics["error_kinds"]}


def _empty(metrics: dict[str, Any]) -> list[str]:
    """What to mind where there are no objects: figures of nothing are 0, which looks like a failure."""
    images, empty = metrics["n_images"], metrics["images_without_objects"]
    if not metrics["n_true"]:
        return ["the truth holds no object in any image: there is nothing to find, and all ratios of matching are 0"]
    notices = [] if metrics["n_pred"] else ["the predictions hold no object in any image"]
    if empty:
        verb, count = ("has", "counts") if empty == 1 else ("have", "count")
        notices.append(
            f"{empty} of {images} images {verb} no object on either side, and {count} as 0 in means per image"
        )
    return notices


def _notices(names: Sequence[str], scored: ScoredImages, bootstrap: Bootstrap) -> list[str]:
    notices = []
    if len(names) == 1:
        notices.append("confidence intervals need two images or more: there is one")
    elif len(names) < FEW_IMAGES and bootstrap.resamples > 0:
        notices.append(f"intervals from {len(names)} images are rough, and rather too narrow than too wide")
    crowding = notice_of_crowding(names, scored.crowding(), scored.settings) if scored.complete else None
    return [*notices, *([crowding] if crowding else [])]
