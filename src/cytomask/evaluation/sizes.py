"""How well objects of different sizes are found: figures by the true objects' diameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.error_kinds import HIT, TRUTH_KINDS
from cytomask.evaluation.image_scores import ImageScores

#: How many bins, if there are objects enough.
BINS = 5
_FEWEST_IN_BIN = 5


def figures_by_size(
    images: Sequence[ImageScores], bootstrap: Bootstrap | None = None, n_bins: int = BINS
) -> list[dict[str, Any]]:
    """Sort all true objects into bins of equally many by their diameter, and tell what became of them.

    Parameters
    ----------
    images
        Counts of each image.
    bootstrap
        How confidence intervals are made; None leaves them out.
    n_bins
        How many bins at most: fewer where that leaves less than five objects for each. Equal diameters are not torn
        apart, so that bins may differ in number.

    Returns
    -------
    list of dict
        From the smallest to the largest objects: ``diameter_px`` ``[low, high]`` (of the circle of the same area),
        ``n``, ``recall`` (fraction of hits at an IoU of 0.5), ``mean_iou`` (with the best prediction, 0 where there is
        none) and ``kinds`` (counts); ``confidence_intervals`` of the two figures. Empty without true objects.

    Examples
    --------
    >>> from cytomask.evaluation.image_scores import Pair, score_image
    >>> labels = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((3, 3), int))
    >>> [(b["n"], b["recall"]) for b in figures_by_size([score_image(Pair("a", labels, labels))])]
    [(25, 1.0)]
    """
    diameters = [2 * np.sqrt(image.true_areas / np.pi) for image in images]
    every = np.concatenate([np.zeros(0), *diameters])
    if not len(every):
        return []
    n_bins = max(1, min(n_bins, len(every) // _FEWEST_IN_BIN))
    inner = np.quantile(every, np.arange(1, n_bins) / n_bins, method="inverted_cdf")
    # A bin begins right above the largest diameter of the one below.
    inner = np.unique(inner[inner < every.max()])
    n_bins = len(inner) + 1
    counts = np.zeros((len(images), n_bins, len(TRUTH_KINDS)))
    iou = np.zeros((len(images), n_bins))
    for k, (image, diameter) in enumerate(zip(images, diameters)):
        place = np.searchsorted(inner, diameter, side="left")
        np.add.at(counts[k], (place, image.kinds.truth_kinds), 1)
        iou[k] = np.bincount(place, image.kinds.truth_iou, minlength=n_bins)
    place = np.searchsorted(inner, every, side="left")
    whole = _figures(counts[None].sum(1), iou[None].sum(1))
    drawn = None
    if bootstrap is not None and bootstrap.resamples > 0 and len(images) > 1:
        weights = bootstrap.weights(len(images))
        drawn = _figures(np.tensordot(weights, counts, axes=1), weights @ iou)
    bins = []
    for b in range(n_bins):
        members = every[place == b]
        of_bin: dict[str, Any] = {
            "diameter_px": [float(members.min()), float(members.max())],
            "n": len(members),
            **{name: float(value[0, b]) for name, value in whole.items()},
            "kinds": dict(zip(TRUTH_KINDS, counts[:, b].sum(0).astype(int).tolist())),
        }
        if drawn is not None and bootstrap is not None:
            of_bin["confidence_intervals"] = {
                name: bootstrap.interval(value[:, b]).tolist() for name, value in drawn.items()
            }
        bins.append(of_bin)
    return bins


def _figures(counts: np.ndarray, iou: np.ndarray) -> dict[str, np.ndarray]:
    """Recall and mean IoU ``(R, B)`` of counts ``(R, B, kinds)`` and sums of IoU."""
    n = counts.sum(-1)
    return {
        name: np.divide(value, n, out=np.full(n.shape, np.nan), where=n > 0)
        for name, value in (("recall", counts[..., HIT]), ("mean_iou", iou))
    }
