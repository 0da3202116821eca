"""Compare two models on the same images: the difference of a figure, its interval, and whether chance explains it.

Every figure is a function of sums over images. So models are drawn again, and exchanged, together: an image that is
hard for both weighs on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import ImageScores
from cytomask.evaluation.matching import MEAN_THRESHOLDS, figures
from cytomask.evaluation.permutation import exchanges, holm, permutation_test


@dataclass(frozen=True)
class PairedFigure:
    """A figure by which models are compared.

    Attributes
    ----------
    name
        Its name in tables.
    title
        Its name for people.
    counts
        What each image adds to the sums, float ``(N, K)``.
    value
        Turns sums ``(..., K)`` into the figure ``(...)``; NaN where it is not defined.
    """

    name: str
    title: str
    counts: Callable[[Sequence[ImageScores]], np.ndarray]
    value: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PairedDifference:
    """How two models differ in one figure on the images that both have.

    Attributes
    ----------
    figure
        Name of the figure.
    first, second
        Names of the models.
    n_images
        Images that both have.
    values
        The figure of either model on these images.
    difference
        That of the first less that of the second.
    low, high
        Its bootstrap interval; NaN without one.
    p, p_holm
        p-value of the permutation test, and the same corrected for all pairs of models; NaN if undefined.
    first_better, second_better
        Images on which either is better.
    """

    figure: str
    first: str
    second: str
    n_images: int
    values: tuple[float, float]
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    first_better: int
    second_better: int


def compare_pairs(
    models: dict[str, Sequence[ImageScores]],
    bootstrap: Bootstrap | None = None,
    chosen: Sequence[PairedFigure] | None = None,
) -> list[PairedDifference]:
    """Compare each two models in every figure.

    Parameters
    ----------
    models
        The counts of each image, by model; images are paired by their names.
    bootstrap
        How intervals are made; its seed also draws exchanges where they are too many to try all.
    chosen
        The figures; None for all.

    Returns
    -------
    list of PairedDifference
        Figure by figure, pairs in the order of the models. Models without a common image make no pair.

    Examples
    --------
    >>> from cytomask.evaluation.image_scores import Pair, score_image
    >>> truth = np.zeros((8, 8), int)
    >>> truth[2:6, 2:7] = 1
    >>> def of(shift):
    ...     return [score_image(Pair(name, truth, np.roll(truth, shift, axis=1))) for name in "abcd"]
    >>> one = compare_pairs({"good": of(0), "bad": of(3)}, Bootstrap(resamples=100))[0]
    >>> one.figure, one.difference, one.p, one.first_better
    ('accuracy_50', 1.0, 0.125, 4)
    """
    bootstrap = bootstrap or Bootstrap()
    result: list[PairedDifference] = []
    for figure in PAIRED_FIGURES if chosen is None else chosen:
        of_figure = []
        for first, second in combinations(models, 2):
            sides = _common(models[first], models[second])
            if sides[0]:
                of_figure.append(_compare(figure, (first, second), sides, bootstrap))
        corrected = holm([one[0] for one in of_figure])
        result += [make(p) for (_, make), p in zip(of_figure, corrected)]
    return result


def single_values(figure: PairedFigure, images: Sequence[ImageScores]) -> np.ndarray:
    """The figure of each image alone, float ``(N,)``."""
    return figure.value(figure.counts(images))


def figure_interval(
    figure: PairedFigure, images: Sequence[ImageScores], bootstrap: Bootstrap
) -> tuple[float, tuple[float, float] | None]:
    """The figure of all images, and its interval; None where there are fewer than two images."""
    counts = figure.counts(images)
    value = float(figure.value(counts.sum(axis=0)))
    if len(images) < 2 or bootstrap.resamples < 1:
        return value, None
    low, high = bootstrap.interval(figure.value(bootstrap.weights(len(images)) @ counts))
    return value, (float(low), float(high))


def _common(first: Sequence[ImageScores], second: Sequence[ImageScores]) -> tuple[list[ImageScores], list[ImageScores]]:
    by_name = {image.name: image for image in second}
    return [i for i in first if i.name in by_name], [by_name[i.name] for i in first if i.name in by_name]


def _compare(
    figure: PairedFigure,
    names: tuple[str, str],
    sides: tuple[list[ImageScores], list[ImageScores]],
    bootstrap: Bootstrap,
) -> tuple[float, Callable[[float], PairedDifference]]:
    """The p-value, and what makes the result when it is corrected."""
    first, second = figure.counts(sides[0]), figure.counts(sides[1])
    n = len(first)
    low = high = float("nan")
    if n > 1 and bootstrap.resamples > 0:
        weights = bootstrap.weights(n)
        low, high = bootstrap.interval(figure.value(weights @ first) - figure.value(weights @ second))
    p = permutation_test(first, second, figure.value, exchanges(n, bootstrap.seed))
    values = float(figure.value(first.sum(axis=0))), float(figure.value(second.sum(axis=0)))
    of_image = figure.value(first) - figure.value(second)

    def make(p_holm: float) -> PairedDifference:
        return PairedDifference(
            figure.name, *names, n, values, values[0] - values[1], float(low), float(high), p, p_holm,
            int((of_image > 0).sum()), int((of_image < 0).sum()),
        )  # fmt: skip

    return p, make


# The figures


def _at(images: Sequence[ImageScores], thresholds: Sequence[float]) -> np.ndarray:
    """True and predicted objects, then matched pairs at each threshold, then the sums of their IoU."""
    rows = []
    for image in images:
        one = image.matching
        places = [one.thresholds.index(t) for t in thresholds]
        rows.append([one.n_true, one.n_pred, *one.tp[places], *one.iou_sum[places]])
    return np.array(rows, float).reshape(len(images), 2 + 2 * len(thresholds))


def _of_objects(name: str, thresholds: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    def value(sums: np.ndarray) -> np.ndarray:
        n = len(thresholds)
        found = figures(sums[..., 2 : 2 + n], sums[..., :1], sums[..., 1:2], sums[..., 2 + n :])[name]
        return found.mean(axis=-1)

    return value


def _objects(name: str, title: str, figure: str, thresholds: Sequence[float]) -> PairedFigure:
    return PairedFigure(name, title, lambda images: _at(images, thresholds), _of_objects(figure, thresholds))


def _aji(images: Sequence[ImageScores]) -> np.ndarray:
    return np.array([[image.aji_shared, image.aji_covered] for image in images], float)


def foreground_counts(images: Sequence[ImageScores]) -> np.ndarray:
    """Pixels that are objects on both sides, and on either, whatever their class: float ``(N, 2)``."""
    both = [image.confusion[1:, 1:].sum() for image in images]
    either = [image.confusion.sum() - image.confusion[0, 0] for image in images]
    return np.array([both, either], float).T


def _foreground_per_image(images: Sequence[ImageScores]) -> np.ndarray:
    value = _ratio(foreground_counts(images))
    known = ~np.isnan(value)
    return np.stack([np.where(known, value, 0), known.astype(float)], axis=-1)


def _ratio(sums: np.ndarray) -> np.ndarray:
    part, whole = sums[..., 0], sums[..., 1]
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


#: The figures by which models are compared.
PAIRED_FIGURES = (
    _objects("accuracy_50", "Accuracy at IoU 0.50", "accuracy", (0.5,)),
    _objects("mean_accuracy_50_90", "Mean accuracy, IoU 0.50 to 0.90", "accuracy", MEAN_THRESHOLDS),
    _objects("f1_50", "F1", "f1", (0.5,)),
    _objects("pq_50", "Panoptic quality", "pq", (0.5,)),
    PairedFigure("aji", "Aggregated Jaccard index", _aji, _ratio),
    PairedFigure("pixel_iou", "Pixel IoU, all images together", foreground_counts, _ratio),
    PairedFigure("pixel_iou_per_image", "Pixel IoU, mean per image", _foreground_per_image, _ratio),
)
