"""Training targets of the dense family: what is true of every pixel."""

from __future__ import annotations

import math

import numpy as np

from cytomask.geometry.bit_masks import label_windows, paint_translated
from cytomask.geometry.object_distance import normalised_edt
from cytomask.geometry.object_edges import gap_widths, inner_boundaries
from cytomask.label_layers import LabelLayers
from cytomask.models.dense.config import DenseConfig

#: Numbers of ``parts``.
BACKGROUND, INTERIOR, BOUNDARY = 0, 1, 2
#: Border weights below this much are taken for 0: a pixel's own weight is 1.
_LEAST_WEIGHT = 1e-3


def dense_targets(layers: LabelLayers, config: DenseConfig) -> dict[str, np.ndarray]:
    """Make the targets of one patch.

    Nothing is known of pixels in crowd regions, unless a single object lies there, too: they are not valid. Where
    objects overlap, a pixel belongs to the one in which it lies deeper (its distance to the outside over the largest in
    the object); only the channels of the output ``binary`` hold overlapping classes whole.

    Parameters
    ----------
    layers
        The annotated objects, ``(K, Y, X)``.
    config
        Which output is to be learnt, of which classes, and whether borders weigh more.

    Returns
    -------
    dict
        ``valid`` uint8 ``(Y, X)``: 1 where something is known; and by the output:

        - binary: ``present`` uint8 ``(n, Y, X)``: 1 where an object of the class is;
        - softmax: ``labels`` uint8 ``(Y, X)``: the class, 0 for the background;
        - boundary: ``parts`` uint8 ``(Y, X)``: 0 background, 1 interior, 2 boundary, which is ``boundary_width`` wide
          and lies in the object (see :func:`~cytomask.geometry.object_edges.inner_boundaries`). Of an object that is
          all boundary the deepest pixels are interior;
        - distance: ``foreground`` uint8 ``(Y, X)``, and ``distance`` float32 ``(Y, X)``: how far a pixel is from all
          that is not its object, over the largest such distance in the object;
        - boundary and distance, with several classes: ``labels``, as above;
        - with a border weight, ``border`` float32 ``(Y, X)``: ``w exp(-(d1 + d2)² / 2 s²)`` on background pixels,
          with the distances to the two nearest objects, 0 elsewhere (Ronneberger et al. 2015).

    Examples
    --------
    >>> truth = LabelLayers.from_labels(np.array([[0, 7, 7, 7, 3, 3, 3]]))
    >>> dense_targets(truth, DenseConfig(output="boundary"))["parts"]
    array([[0, 2, 1, 2, 2, 1, 1]], dtype=uint8)
    """
    classes = dict(layers.classes)
    # Regions of many objects are no objects.
    singles = [_without(layer, layers.crowd) for layer in layers.layers]
    single = owners(singles)
    targets = {"valid": _valid(layers, single)}
    if config.output == "binary":
        present = np.zeros((len(config.classes), *layers.shape), np.uint8)
        for layer in singles:
            of_class = _class_map(layer, classes)
            for k in range(len(present)):
                present[k] |= of_class == k + 1
        targets["present"] = present
    elif config.output == "softmax":
        targets["labels"] = _class_map(single, classes)
    elif config.output == "boundary":
        targets["parts"] = _parts(single, config.boundary_width)
    else:
        targets["foreground"] = (single > 0).astype(np.uint8)
        targets["distance"] = np.ascontiguousarray(normalised_edt(single), np.float32)
    if config.output in ("boundary", "distance") and len(config.classes) > 1:
        targets["labels"] = _class_map(single, classes)
    if config.loss.border_weight is not None:
        targets["border"] = border_weights(single, config.loss.border_weight, config.loss.border_sigma)
    return targets


def pixel_counts(layers: LabelLayers, config: DenseConfig) -> np.ndarray:
    """Count the pixels of each kind that class weights are for: background first.

    Returns
    -------
    numpy.ndarray
        int64: of the background, and of each class (outputs binary and softmax), of interior and boundary, or of the
        foreground (distance). Pixels of which nothing is known are not counted. With the output binary, overlapping
        classes both count.

    Examples
    --------
    >>> pixel_counts(LabelLayers.from_labels(np.array([[0, 7, 7, 7, 3, 3, 3]])), DenseConfig(output="boundary"))
    array([1, 3, 3])
    """
    quiet = config.model_copy(update={"loss": config.loss.model_copy(update={"border_weight": None})})
    targets = dense_targets(layers, quiet)
    known = targets["valid"] > 0
    if config.output == "binary":
        present = targets["present"][:, known] > 0
        return np.array([np.count_nonzero(~present.any(axis=0)), *np.count_nonzero(present, axis=1)], np.int64)
    name, kinds = {
        "softmax": ("labels", 1 + len(config.classes)), "boundary": ("parts", 3), "distance": ("foreground", 2)
    }[config.output]  # fmt: skip
    return np.bincount(targets[name][known], minlength=kinds).astype(np.int64)


def owners(layers: list[np.ndarray]) -> np.ndarray:
    """The object that each pixel belongs to: of several, the one in which it lies deeper.

    Parameters
    ----------
    layers
        Label images ``(Y, X)``; objects of one layer do not overlap.

    Returns
    -------
    numpy.ndarray
        int32 ``(Y, X)``, 0 for the background.

    Examples
    --------
    >>> owners([np.array([[1, 1, 1, 1, 1, 0]], np.int32), np.array([[0, 0, 0, 2, 2, 0]], np.int32)])
    array([[1, 1, 1, 2, 2, 0]], dtype=int32)
    """
    if len(layers) == 1:
        return layers[0]
    owner = layers[0].copy()
    depth = normalised_edt(owner)
    for layer in layers[1:]:
        own = normalised_edt(layer)
        deeper = own > depth
        owner[deeper], depth = layer[deeper], np.maximum(own, depth)
    return owner


def border_weights(labels: np.ndarray, weight: float, sigma: float) -> np.ndarray:
    """Extra weights of background pixels between objects that are close to each other (Ronneberger et al. 2015).

    Parameters
    ----------
    labels
        int ``(Y, X)``, 0 for the background.
    weight, sigma
        The weight in a gap of no width; how fast it falls with the width, in pixels.

    Returns
    -------
    numpy.ndarray
        float32 ``(Y, X)``; 0 on objects, where fewer than two objects are, and instead of less than 0.001.

    Examples
    --------
    >>> border_weights(np.array([[1, 0, 2, 0, 0]]), weight=10, sigma=2).round(2).tolist()
    [[0.0, 6.07..., 0.0, 1.35..., 0.10...]]
    """
    reach = sigma * math.sqrt(max(2 * math.log(weight / _LEAST_WEIGHT), 0.0))
    return (weight * np.exp(-(gap_widths(labels, reach) ** 2) / np.float32(2 * sigma**2))).astype(np.float32)


def _without(layer: np.ndarray, crowd: frozenset[int]) -> np.ndarray:
    if not crowd:
        return layer
    return np.where(np.isin(layer, np.fromiter(crowd, np.int32)), np.int32(0), layer)


def _valid(layers: LabelLayers, single: np.ndarray) -> np.ndarray:
    """1 but where crowd regions are and no single object is."""
    if not layers.crowd:
        return np.ones(layers.shape, np.uint8)
    return ((single > 0) | ~layers.union()).astype(np.uint8)


def _class_map(labels: np.ndarray, classes: dict[int, int]) -> np.ndarray:
    if set(classes.values()) <= {1}:
        return (labels > 0).astype(np.uint8)
    out = np.zeros(labels.shape, np.uint8)
    labels = np.ascontiguousarray(labels)
    ids, _ = label_windows(labels)
    paint_translated(out, labels, ids, np.array([classes.get(int(i), 1) for i in ids], np.uint8))
    return out


def _parts(labels: np.ndarray, width: int) -> np.ndarray:
    edge = inner_boundaries(labels, width)
    parts = (labels > 0).astype(np.uint8)
    parts[edge] = BOUNDARY
    hearts = np.unique(labels[parts == INTERIOR])
    thin = edge & ~np.isin(labels, hearts)
    if thin.any():
        parts[thin & (normalised_edt(labels) == 1)] = INTERIOR
    return parts
