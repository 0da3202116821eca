"""How far people agree with each other, which is as far as a prediction can be asked to agree with one of them.

Figures between two annotators do not depend on which of them is called the truth: F1, accuracy and the mean IoU of
matched pairs are symmetric by themselves, and the aggregated Jaccard index, which is not, is averaged over both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cytomask.errors import LabelError
from cytomask.evaluation.aji import aji_counts
from cytomask.evaluation.boundary import TOLERANCE, boundary_figures
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.error_kinds import PREDICTION_KINDS, kind_counts
from cytomask.evaluation.image_scores import ImageScores, Pair, score_image
from cytomask.evaluation.pairs import Objects, crowd_ids, pair_objects, to_instances
from cytomask.evaluation.summary import mean_50_90, resampled_figures
from cytomask.instances import intersections

#: The figures of a comparison.
FIGURES = ("f1_50", "accuracy_50", "mean_accuracy_50_90", "mean_matched_iou_50", "aji", "boundary_f1")


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    scores: ImageScores
    aji_shared_back: int
    aji_covered_back: int


class Agreement:
    """Compares the annotations of each image with one another and with the prediction.

    Parameters
    ----------
    prediction
        What the prediction is called.
    annotators
        Names of the annotators, two or more.
    tolerance
        How far apart outlines may lie for boundary F1, in pixels.

    Examples
    --------
    >>> labels = np.array([[1, 1, 0, 2, 2, 0]])
    >>> agreement = Agreement("model", ["Ann", "Ben"])
    >>> agreement.add("a", {"model": labels, "Ann": labels, "Ben": np.array([[1, 1, 0, 0, 0, 0]])})
    >>> [(p["first"], p["second"], round(p["figures"]["f1_50"], 3)) for p in agreement.summary()["pairs"]]
    [('Ann', 'model', 1.0), ('Ben', 'model', 0.667), ('Ann', 'Ben', 0.667)]
    """

    def __init__(self, prediction: str, annotators: Sequence[str], tolerance: float = TOLERANCE) -> None:
        self._prediction, self._annotators, self._tolerance = prediction, tuple(annotators), tolerance
        couples = [(name, prediction) for name in annotators] + list(combinations(annotators, 2))
        self._found: dict[tuple[str, str], list[_Compared]] = {couple: [] for couple in couples}

    def add(self, image: str, sides: Mapping[str, Objects], crowds: Mapping[str, frozenset[int]] | None = None) -> None:
        """Compare all that there is of one image.

        Parameters
        ----------
        image
            Its name.
        sides
            Objects by the name of who found them; an annotator without this image is left out.
        crowds
            Ids of crowd regions of each; what the other has there is left out.

        Raises
        ------
        LabelError
            If two differ in size.
        """
        crowds = crowds or {}
        for (first, second), found in self._found.items():
            if first not in sides or second not in sides:
                continue
            try:
                one, other = _single(sides, crowds, first, second), _single(sides, crowds, second, first)
                scores = score_image(Pair(image, one, other), tolerance=self._tolerance)
            except LabelError as error:
                raise LabelError(
                    error.what, where=f"{image}: {second} and {first}", found=error.found, expected=error.expected,
                    fix=error.fix,
                ) from error  # fmt: skip
            back = aji_counts(pair_objects(other, one))
            found.append(_Compared(scores, *back))

    def extend(self, other: Agreement) -> None:
        """Add the images of another comparison of the same annotators behind those of this one."""
        for couple, found in self._found.items():
            found.extend(other._found[couple])

    def summary(self, bootstrap: Bootstrap | None = None) -> dict[str, Any]:
        """Summarise all images as in ``metrics.json``.

        Returns
        -------
        dict
            ``prediction`` and ``annotators`` (names); ``pairs``, of each annotator with the prediction and then of the
            annotators: ``first``, ``second``, ``n_images``, ``n_first``, ``n_second``, ``figures``,
            ``confidence_intervals`` (None for fewer than two images), and ``error_kinds`` with the first as the truth;
            ``model`` and ``ceiling``: the mean of each figure over the pairs with the prediction, and over the others.
        """
        pairs = [_summary(couple, found, bootstrap) for couple, found in self._found.items() if found]
        with_model = [one["figures"] for one in pairs if one["second"] == self._prediction]
        between = [one["figures"] for one in pairs if one["second"] != self._prediction]
        return {
            "prediction": self._prediction,
            "annotators": list(self._annotators),
            "pairs": pairs,
            "model": _means(with_model),
            "ceiling": _means(between),
        }


def _summary(couple: tuple[str, str], found: Sequence[_Compared], bootstrap: Bootstrap | None) -> dict[str, Any]:
    figures = {name: float(value[0]) for name, value in _figures(found, np.ones((1, len(found)))).items()}
    intervals = None
    if bootstrap is not None and bootstrap.resamples > 0 and len(found) > 1:
        drawn = _figures(found, bootstrap.weights(len(found)))
        intervals = {name: bootstrap.interval(value).tolist() for name, value in drawn.items()}
    counts = np.sum([kind_counts(one.scores.kinds) for one in found], axis=0)
    # "Missed" and "spurious" are words for a truth; between people an object is only in one of the two annotations.
    kinds = [*PREDICTION_KINDS[:-1], "alone"]
    return {
        "first": couple[0],
        "second": couple[1],
        "n_images": len(found),
        "n_first": sum(one.scores.matching.n_true for one in found),
        "n_second": sum(one.scores.matching.n_pred for one in found),
        "figures": figures,
        "confidence_intervals": intervals,
        "error_kinds": {side: dict(zip(kinds, row)) for side, row in zip(("first", "second"), counts.tolist())},
    }


def _figures(found: Sequence[_Compared], weights: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of each resample, ``(R,)``."""
    matchings = [one.scores.matching for one in found]
    matched = resampled_figures(matchings, weights)
    half = matchings[0].thresholds.index(0.5)
    there, back = (
        weights @ np.array(counts, float)
        for counts in (
            [(one.scores.aji_shared, one.scores.aji_covered) for one in found],
            [(one.aji_shared_back, one.aji_covered_back) for one in found],
        )
    )
    aji = (_ratio(there[:, 0], there[:, 1]) + _ratio(back[:, 0], back[:, 1])) / 2
    boundary = boundary_figures(weights @ np.array([one.scores.boundary for one in found]))
    values = (
        matched["f1"][:, half],
        matched["accuracy"][:, half],
        mean_50_90(matchings[0], matched["accuracy"]),
        matched["mean_matched_iou"][:, half],
        aji,
        boundary["f1"],
    )
    return dict(zip(FIGURES, values))


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    if not figures:
        return None
    return {name: float(np.mean([one[name] for one in figures])) for name in FIGURES}


def _ratio(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.divide(value, by, out=np.full(value.shape, np.nan), where=by > 0)


def _single(
    sides: Mapping[str, Objects], crowds: Mapping[str, frozenset[int]], name: str, other: str
) -> Objects:  # fmt: skip
    """One side without its crowd regions, and without what lies in crowd regions of the other by half or more."""
    objects, counterpart = sides[name], sides[other]
    own = crowd_ids(objects, crowds.get(name, ()))
    others = crowd_ids(counterpart, crowds.get(other, ()))
    if not own and not others:
        return objects
    instances = to_instances(objects)
    instances = instances.take(~np.isin(instances.ids, list(own)))
    regions = to_instances(counterpart)
    regions = regions.take(np.isin(regions.ids, list(others)))
    index, _, shared = intersections(instances, regions)
    return instances.take(2 * np.bincount(index, shared, len(instances)) < instances.areas())
