"""Summaries of many images: pooled over objects, averaged over images, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cytomask.evaluation.boundary import boundary_figures
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.error_kinds import kind_counts, named_counts
from cytomask.evaluation.image_scores import ImageScores
from cytomask.evaluation.matching import (
    FIGURES,
    MEAN_THRESHOLDS,
    Matching,
    figures,
    mean_per_image,
    pooled,
    threshold_name,
)
from cytomask.evaluation.pixels import pixel_figures
from cytomask.evaluation.score import mean_accuracy

BACKGROUND = "background"


def summarise(
    images: Sequence[ImageScores], class_names: Sequence[str] = ("object",), bootstrap: Bootstrap | None = None
) -> dict[str, Any]:
    """Summarise the counts of several images as they stand in ``metrics.json``.

    Parameters
    ----------
    images
        Counts of each image, all at the same thresholds.
    class_names
        Names of the classes, as many as the images were counted with.
    bootstrap
        How confidence intervals are made; None leaves them out.

    Returns
    -------
    dict
        ``matching`` (``pooled`` and ``mean_per_image``, under each threshold), ``mean_accuracy_50_90`` and its mean per
        image, ``aji`` and its mean per image, ``boundary``, ``pixels``, ``error_kinds``; ``classes`` when there are
        several; ``confidence_intervals``, which repeats this shape with ``[low, high]`` in place of each figure (not of
        counts), or None where there are fewer than two images. Plain numbers, None where a figure is not defined.
    """
    together = pooled([image.matching for image in images])
    per_image = mean_per_image([image.matching for image in images])
    shared, covered = sum(image.aji_shared for image in images), sum(image.aji_covered for image in images)
    known = [image.aji for image in images if image.aji_covered]
    result: dict[str, Any] = {
        "n_images": len(images),
        "n_true": together.n_true,
        "n_pred": together.n_pred,
        "images_without_objects": sum(i.matching.n_true + i.matching.n_pred == 0 for i in images),
        "matching": {
            "pooled": together.as_dict(),
            "mean_per_image": _by_threshold(together, per_image),
        },
        "mean_accuracy_50_90": mean_accuracy(together),
        "mean_accuracy_50_90_mean_per_image": mean_50_90(together, per_image["accuracy"]),
        "aji": shared / covered if covered else None,
        "aji_mean_per_image": float(np.mean(known)) if known else None,
        "boundary": _boundary(images, np.ones((1, len(images))), lambda values: values[0]),
        "pixels": _pixels(images, np.ones((1, len(images))), lambda values: values[0], class_names),
        "error_kinds": named_counts(np.sum([kind_counts(image.kinds) for image in images], axis=0)),
    }
    if len(class_names) > 1:
        result["classes"] = {}
        for k, name in enumerate(class_names):
            one = pooled([image.by_class[k] for image in images])
            result["classes"][name] = {
                "n_true": one.n_true,
                "n_pred": one.n_pred,
                "matching": {"pooled": one.as_dict()},
                "mean_accuracy_50_90": mean_accuracy(one),
                "error_kinds": named_counts(np.sum([image.kinds_by_class[k] for image in images], axis=0)),
            }
    if bootstrap is not None and bootstrap.resamples > 0:
        result["confidence_intervals"] = _intervals(images, class_names, bootstrap) if len(images) > 1 else None
    return plain(result)


def plain(value: Any) -> Any:
    """Turn numpy numbers and arrays into Python's, and NaN, which JSON does not know, into None."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _intervals(images: Sequence[ImageScores], class_names: Sequence[str], bootstrap: Bootstrap) -> dict[str, Any]:
    """Compute all figures on all resamples at once; the first axis of every array is the resample."""
    weights = bootstrap.weights(len(images))
    matchings = [image.matching for image in images]
    together = resampled_figures(matchings, weights)
    of_image = [m.figures() for m in matchings]
    means = {name: weights @ np.array([f[name] for f in of_image]) / len(images) for name in FIGURES}
    aji = np.array([image.aji for image in images])
    has_objects = ~np.isnan(aji)
    shared = weights @ np.array([image.aji_shared for image in images])
    covered = weights @ np.array([image.aji_covered for image in images])
    first = matchings[0]

    def bounds(values: np.ndarray) -> np.ndarray:
        """Intervals with the bounds along the last axis."""
        return np.moveaxis(bootstrap.interval(values), 0, -1)

    result: dict[str, Any] = {
        "level": bootstrap.level,
        "resamples": bootstrap.resamples,
        "seed": bootstrap.seed,
        "matching": {
            "pooled": _by_threshold(first, {name: bounds(v) for name, v in together.items()}),
            "mean_per_image": _by_threshold(first, {name: bounds(v) for name, v in means.items()}),
        },
        "mean_accuracy_50_90": bounds(mean_50_90(first, together["accuracy"])),
        "mean_accuracy_50_90_mean_per_image": bounds(mean_50_90(first, means["accuracy"])),
        "aji": bounds(_ratio(shared, covered)),
        "aji_mean_per_image": bounds(_ratio(weights[:, has_objects] @ aji[has_objects], weights @ has_objects)),
        "boundary": _boundary(images, weights, bounds),
        "pixels": _pixels(images, weights, bounds, class_names),
    }
    if len(class_names) > 1:
        result["classes"] = {}
        for k, name in enumerate(class_names):
            of_class = resampled_figures([image.by_class[k] for image in images], weights)
            result["classes"][name] = {
                "matching": {"pooled": _by_threshold(first, {n: bounds(v) for n, v in of_class.items()})},
                "mean_accuracy_50_90": bounds(mean_50_90(first, of_class["accuracy"])),
            }
    return result


def resampled_figures(matchings: Sequence[Matching], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Pooled figures of each resample, ``(R, T)``."""
    counts = (
        weights @ np.array([getattr(m, name) for m in matchings], float).reshape(len(matchings), -1)
        for name in ("tp", "n_true", "n_pred", "iou_sum")
    )
    return figures(*counts)


def _boundary(
    images: Sequence[ImageScores], weights: np.ndarray, summary: Callable[[np.ndarray], Any]
) -> dict[str, Any]:
    """Boundary figures of each resample, pooled and averaged over the images with outlines, then summarised."""
    counts = np.array([image.boundary for image in images])
    of_image = boundary_figures(counts)
    known = ~np.isnan(of_image["f1"])
    return {
        "pooled": {name: summary(value) for name, value in boundary_figures(weights @ counts).items()},
        "mean_per_image": {
            name: summary(_ratio(weights[:, known] @ value[known], weights @ known)) for name, value in of_image.items()
        },
    }


def _ratio(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.divide(value, by, out=np.full(value.shape, np.nan), where=by > 0)


def mean_50_90(matching: Matching, accuracy: np.ndarray) -> np.ndarray:
    """Mean over the thresholds 0.50 … 0.90 of the last axis; see :func:`mean_accuracy`."""
    return accuracy[..., [k for k, t in enumerate(matching.thresholds) if t in MEAN_THRESHOLDS]].mean(-1)


def _by_threshold(matching: Matching, values: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    names = [threshold_name(t) for t in matching.thresholds]
    return {name: {key: value[k] for key, value in values.items()} for k, name in enumerate(names)}


def _pixels(
    images: Sequence[ImageScores],
    weights: np.ndarray,
    summary: Callable[[np.ndarray], Any],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Pixel figures of each resample, pooled, and averaged over the images of which each tells, then summarised."""
    confusions = np.array([image.confusion for image in images])
    pooled_figures = pixel_figures(np.tensordot(weights, confusions, axes=1))
    means = {}
    for name, value in pixel_figures(confusions).items():
        known = ~np.isnan(value)
        means[name] = _ratio(weights @ np.where(known, value, 0), weights @ known)
    pooled_named, means_named = (
        {**values, "iou": dict(zip((BACKGROUND, *class_names), values["iou"]))}
        for values in ({name: summary(v) for name, v in figures.items()} for figures in (pooled_figures, means))
    )
    return {**pooled_named, "mean_per_image": means_named}
