"""Everything that is counted on one image; all summaries are made of these counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cytomask.evaluation.aji import aji_counts
from cytomask.evaluation.boundary import TOLERANCE, as_array, boundary_counts, boundary_figures
from cytomask.evaluation.error_kinds import ErrorKinds, kind_counts, kinds_of_pairs, named_counts
from cytomask.evaluation.matching import THRESHOLDS, Matching, match_pairs, threshold_name
from cytomask.evaluation.pairs import ObjectPairs, Objects, crowd_ids, crowd_region, image_size, pair_objects
from cytomask.evaluation.pixels import pixel_confusion, pixel_figures
from cytomask.evaluation.score import mean_accuracy
from cytomask.instances import Instances

#: The IoU thresholds at which the curves are drawn: 0.05, 0.10 … 0.95.
CURVE_THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))
#: The IoU thresholds over which precision is integrated: 20 from 0 to 1.
INTEGRATED_THRESHOLDS = tuple(k / 19 for k in range(20))
#: The IoU from which on an object is a hit, when objects are sorted by what became of them.
KIND_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The truth and the prediction of one image.

    Attributes
    ----------
    name
        What the image is called.
    truth, prediction
        Its objects: label images, :class:`Instances` or :class:`LabelLayers`, of the same size.
    group
        Properties by which images are grouped, such as ``{"modality": "fluorescence"}``.
    scored
        The predicted instances with their scores, for COCO metrics. If None, ``prediction`` serves if it is instances.
    has_scores
        False for instances whose scores say nothing, as for label images, which have none.
    crowd
        Ids of true objects that are regions of many, besides those that ``truth`` marks itself.
    image
        The image's file, for pictures.
    """

    name: str
    truth: Objects
    prediction: Objects
    group: Mapping[str, str] = field(default_factory=dict)
    scored: Instances | None = None
    has_scores: bool = True
    crowd: frozenset[int] = frozenset()
    image: Path | None = None

    def scored_instances(self) -> Instances | None:
        """Predicted instances with scores, or None."""
        if not self.has_scores:
            return None
        if self.scored is None and isinstance(self.prediction, Instances):
            return self.prediction
        return self.scored


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """Counts of one image.

    Attributes
    ----------
    name, group, shape
        Which image; height and width.
    matching
        Matched objects at each threshold, whatever their class.
    by_class
        The same for each class alone; empty where there is one class only.
    aji_shared, aji_covered
        Numerator and denominator of the aggregated Jaccard index.
    confusion
        Pixels by true and predicted class; those of crowd regions are left out.
    boundary
        Pixels of outlines, int64 ``(4,)``; see :class:`~cytomask.evaluation.boundary.BoundaryCounts`.
    curve
        Matched objects at the thresholds of the curves.
    integrated_tp
        int64 ``(20,)``: matched pairs at the thresholds over which precision is integrated.
    kinds
        What became of every object at an IoU of 0.5.
    kinds_by_class
        Objects of each kind of each class, int64 ``(2, 5)`` each; empty where there is one class only.
    true_areas
        Pixels of each true object, in the order of ``kinds``.
    """

    name: str
    group: Mapping[str, str]
    shape: tuple[int, int]
    matching: Matching
    by_class: tuple[Matching, ...]
    aji_shared: int
    aji_covered: int
    confusion: np.ndarray
    boundary: np.ndarray
    curve: Matching
    integrated_tp: np.ndarray
    kinds: ErrorKinds
    kinds_by_class: tuple[np.ndarray, ...]
    true_areas: np.ndarray

    @property
    def aji(self) -> float:
        """Aggregated Jaccard index of the image; NaN without any object."""
        return self.aji_shared / self.aji_covered if self.aji_covered else math.nan

    def row(self) -> dict[str, str | int | float]:
        """The image as a row of a table.

        Groups first, then figures of the whole image, the kinds of its true and predicted objects (``truth_missed``,
        ``prediction_split`` …), and counts and figures at each threshold as ``tp_50``, ``accuracy_50`` …; NaN where a
        figure is not defined.
        """
        row: dict[str, str | int | float] = {"name": self.name}
        row |= {key: value for key, value in self.group.items() if key not in row}
        row |= {
            "height": self.shape[0],
            "width": self.shape[1],
            "n_true": self.matching.n_true,
            "n_pred": self.matching.n_pred,
            "mean_accuracy_50_90": mean_accuracy(self.matching),
            "aji": self.aji,
        }
        pixels = pixel_figures(self.confusion)
        row |= {name: float(pixels[name]) for name in ("mean_iou", "foreground_iou", "dice", "pixel_accuracy")}
        row["boundary_f1"] = float(boundary_figures(self.boundary)["f1"])
        for side, counts in named_counts(kind_counts(self.kinds)).items():
            row |= {f"{side}_{kind}": n for kind, n in counts.items()}
        for threshold in self.matching.thresholds:
            suffix = threshold_name(threshold).removeprefix("0.").replace(".", "_")
            values = self.matching.at(threshold)
            row |= {f"{key}_{suffix}": value for key, value in values.items() if key not in ("n_true", "n_pred")}
        return row


def score_image(
    pair: Pair, n_classes: int = 1, thresholds: Sequence[float] = THRESHOLDS, tolerance: float = TOLERANCE
) -> ImageScores:
    """Count everything on one image.

    Parameters
    ----------
    pair
        Truth and prediction.
    n_classes
        Number of classes; with 1 all objects are of one class, whatever they say.
    thresholds
        IoU thresholds of the matching.
    tolerance
        How far apart outlines may lie, in pixels.

    Raises
    ------
    LabelError
        If the two sides differ in size, or a label image holds anything but integers from 0.

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0]])
    >>> scores = score_image(Pair("a", truth, np.array([[5, 5, 5, 0, 0, 0, 0, 6]])))
    >>> row = scores.row()
    >>> row["n_true"], row["tp_50"], row["tp_80"], row["aji"]
    (2, 1, 0, 0.42857142857142855)
    """
    crowd = crowd_ids(pair.truth, pair.crowd)
    pairs = pair_objects(pair.truth, pair.prediction, crowd)
    of_classes = [pairs.of_class(c) for c in range(1, n_classes + 1)] if n_classes > 1 else []
    shared, covered = aji_counts(pairs)
    left_out, single = crowd_region(pair.truth, crowd), pair.truth
    if crowd and isinstance(single, Instances):
        # A crowd's outline may cross single objects, where it would count.
        single = single.take(~np.isin(single.ids, list(crowd)))
    return ImageScores(
        pair.name, dict(pair.group), image_size(pair.truth),
        match_pairs(pairs, thresholds),
        tuple(match_pairs(one, thresholds) for one in of_classes),
        shared, covered,
        pixel_confusion(pair.truth, pair.prediction, n_classes, pairs, left_out),
        as_array(boundary_counts(single, pair.prediction, tolerance, left_out)),
        match_pairs(pairs, CURVE_THRESHOLDS),
        _integrated(pairs),
        kinds_of_pairs(pairs, KIND_THRESHOLD),
        tuple(kind_counts(kinds_of_pairs(one, KIND_THRESHOLD)) for one in of_classes),
        pairs.truth_areas,
    )  # fmt: skip


def _integrated(pairs: ObjectPairs) -> np.ndarray:
    # An IoU of 0 is reached by every pair, so that the smaller side is matched whole.
    above = match_pairs(pairs, INTEGRATED_THRESHOLDS[1:]).tp
    return np.concatenate([[min(pairs.n_true, pairs.n_pred)], above])
