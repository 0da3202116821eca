"""How many of the pixels of a data set are of each kind: what class weights are derived from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cytomask.data.dataset import Dataset
from cytomask.data.object_sizes import MAX_IMAGES
from cytomask.data.sample import Sample
from cytomask.errors import DataError
from cytomask.label_layers import LabelLayers
from cytomask.progress import track


def pixel_shares(samples: Sequence[Sample], dataset: Dataset, count: Callable[[LabelLayers], np.ndarray]) -> np.ndarray:
    """Shares of the kinds of pixels over (at most ``MAX_IMAGES``) annotated images, of all pixels together.

    Parameters
    ----------
    samples, dataset
        The images; only their annotations are read.
    count
        Counts the pixels of each kind in an annotation, int64 ``(K,)``.

    Returns
    -------
    numpy.ndarray
        float64 ``(K,)``, which adds up to 1.

    Raises
    ------
    DataError
        If not a single pixel was counted.
    """
    chosen = samples[:: max(1, -(-len(samples) // MAX_IMAGES))]
    counts = [count(dataset.load_layers(sample)) for sample in track(chosen, "counting pixels")]
    total = np.sum(counts, axis=0, dtype=np.float64)
    if not np.sum(total):
        raise DataError(
            "nothing is known of any pixel of the training images",
            found=f"{len(chosen)} images looked at",
            fix="look at the data with cytomask check",
        )
    return total / total.sum()


def balanced_weights(shares: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """Weights that make all kinds of pixels count the same in all: one over the share, with a mean of 1.

    Kinds that do not occur weigh 1, and do not enter the mean: nothing is known of how rare they are.

    Examples
    --------
    >>> balanced_weights([0.75, 0.25])
    (0.5, 1.5)
    >>> balanced_weights([0.8, 0.0, 0.2])
    (0.4, 1.0, 1.6)
    """
    shares = np.asarray(shares, np.float64)
    weights, there = np.ones(shares.shape), shares > 0
    if there.any():
        weights[there] = 1 / shares[there]
        weights[there] /= weights[there].mean()
    # Four digits say enough, and can be read.
    return tuple(float(f"{weight:.4g}") for weight in weights)
