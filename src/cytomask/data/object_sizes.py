"""How large the annotated objects of a data set are: what grids, rays, anchors, tiles and scales are derived from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cytomask.data.dataset import Dataset
from cytomask.data.sample import Sample
from cytomask.errors import DataError
from cytomask.geometry.bit_masks import label_windows
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


def box_shapes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and shapes of the objects' bounding boxes in a label image; see :func:`window_shapes`.

    Parameters
    ----------
    labels
        int ``(Y, X)``, 0 for background.

    Returns
    -------
    sides, elongations
        float64 ``(objects,)`` each, by ascending id.

    Examples
    --------
    >>> sides, elongations = box_shapes(np.array([[4, 4, 4, 4], [0, 2, 0, 0]]))
    >>> sides.tolist(), elongations.tolist()
    ([1.0, 2.0], [1.0, 4.0])
    """
    return window_shapes(label_windows(labels)[1])


def window_shapes(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and shapes of bounding boxes.

    Parameters
    ----------
    windows
        int ``(N, 4)``: ``(y0, x0, y1, x1)`` in pixels, the end excluded; none is empty.

    Returns
    -------
    sides, elongations
        float64 ``(N,)`` each: the side in pixels of the square with the box's area, and the box's longer side over its
        shorter.

    Examples
    --------
    >>> sides, elongations = window_shapes(np.array([[0, 0, 2, 8]]))
    >>> sides.tolist(), elongations.tolist()
    ([4.0], [4.0])
    """
    height, width = (windows[:, 2:] - windows[:, :2]).astype(np.float64).T
    return np.sqrt(height * width), np.maximum(height, width) / np.minimum(height, width)


def object_size_statistics(
    samples: Sequence[Sample], dataset: Dataset, scale: Callable[[tuple[int, int]], float] | None = None
) -> dict[str, float]:
    """Percentiles of the objects' sizes and shapes over (at most ``MAX_IMAGES``) annotated images.

    Parameters
    ----------
    samples, dataset
        The images.
    scale
        Tells by how much an image of a height and width is scaled before it is looked at; None leaves all as they are.

    Returns
    -------
    dict
        ``n_objects``; ``diameter_p5``, ``diameter_p50``, ``diameter_p95``: of the circles with the objects' areas
        (pixels); ``box_side_p5``, ``box_side_p50``, ``box_side_p95``: of the squares with their bounding boxes' areas
        (pixels); ``elongation_p90``: longer over shorter side of the bounding box.

    Raises
    ------
    DataError
        If there is not a single annotated object.
    """
    chosen = samples[:: max(1, -(-len(samples) // MAX_IMAGES))]
    parts, boxes = [], []
    for sample in track(chosen, "measuring objects"):
        layers = dataset.load_layers(sample)
        factor = 1.0 if scale is None else scale(layers.shape)
        parts += [equivalent_diameters(layer) * factor for layer in layers.layers]
        for sides, elongations in map(box_shapes, layers.layers):
            boxes.append((sides * factor, elongations))
    diameters = np.concatenate(parts) if parts else np.zeros(0)
    if diameters.size == 0:
        raise DataError(
            "the training images hold no annotated object",
            found=f"{len(chosen)} images looked at",
            fix="look at the data with cytomask check",
        )
    sides, elongations = (np.concatenate(column) for column in zip(*boxes, strict=True))
    return size_percentiles(diameters, sides, elongations)


def size_percentiles(diameters: np.ndarray, sides: np.ndarray, elongations: np.ndarray) -> dict[str, float]:
    """Sum up the sizes and shapes of objects, as :func:`object_size_statistics` describes it.

    Parameters
    ----------
    diameters
        Of the circles with the objects' areas, in pixels; of at least one object.
    sides, elongations
        As from :func:`box_shapes`.

    Examples
    --------
    >>> found = size_percentiles(np.array([9.0, 11.0]), np.array([8.0, 10.0]), np.ones(2))
    >>> found["n_objects"], found["diameter_p50"], found["box_side_p50"], found["elongation_p90"]
    (2.0, 10.0, 9.0, 1.0)
    """
    statistics = {"n_objects": float(diameters.size)}
    for name, values, percentiles in (
        ("diameter", diameters, (5, 50, 95)),
        ("box_side", sides, (5, 50, 95)),
        ("elongation", elongations, (90,)),
    ):
        statistics |= {f"{name}_p{p}": float(np.percentile(values, p)) for p in percentiles}
    return statistics
