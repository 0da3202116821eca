"""How large the annotated objects of a data set are: what grids, rays, tiles and scales are derived from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cytomask.data.dataset import Dataset
from cytomask.data.sample import Sample
from cytomask.errors import DataError
from cytomask.progress import track

#: So many images say enough; more only take time.
MAX_IMAGES = 200


def equivalent_diameters(labels: np.ndarray) -> np.ndarray:
    """Diameters of the circles with the objects' areas, in pixels.

    Parameters
    ----------
    labels
        int ``(Y, X)``, 0 for background.

    Returns
    -------
    np.ndarray
        float64 ``(objects,)``, by ascending id.

    Examples
    --------
    >>> equivalent_diameters(np.array([[0, 4, 4], [0, 4, 4]])).round(2)
    array([2.26])
    """
    foreground = labels[labels > 0]
    _, areas = np.unique(foreground, return_counts=True)
    return 2 * np.sqrt(areas / np.pi)


def object_size_statistics(samples: Sequence[Sample], dataset: Dataset) -> dict[str, float]:
    """Percentiles of the objects' equivalent diameters over (at most ``MAX_IMAGES``) annotated images.

    Returns
    -------
    dict
        ``n_objects``, ``diameter_p5``, ``diameter_p50``, ``diameter_p95`` (pixels).

    Raises
    ------
    DataError
        If there is not a single annotated object.
    """
    chosen = samples[:: max(1, -(-len(samples) // MAX_IMAGES))]
    parts = []
    for sample in track(chosen, "measuring objects"):
        layers = dataset.load_layers(sample)
        parts += [equivalent_diameters(layer) for layer in layers.layers]
    diameters = np.concatenate(parts) if parts else np.zeros(0)
    if diameters.size == 0:
        raise DataError("the training images hold no annotated object", found=f"{len(chosen)} images looked at")
    p5, p50, p95 = np.percentile(diameters, [5, 50, 95])
    return {
        "n_objects": float(diameters.size),
        "diameter_p5": float(p5),
        "diameter_p50": float(p50),
        "diameter_p95": float(p95),
    }
