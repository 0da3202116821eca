"""Spread overlapping objects over layers, so that no two of one layer overlap."""

from __future__ import annotations

import numpy as np
from numba import njit


def first_fit_layers(first: np.ndarray, second: np.ndarray, n: int) -> np.ndarray:
    """Choose a layer for each object, the objects with most neighbours first (greedy colouring, Welsh and Powell 1967).

    Parameters
    ----------
    first, second
        int64: the pairs that overlap, both ways, sorted by ``first``; pairs of an object with itself do not matter.
    n
        How many objects there are.

    Returns
    -------
    numpy.ndarray
        int64 ``(n,)``: layers from 0; at most one more than the most neighbours that an object has.

    Examples
    --------
    >>> first_fit_layers(np.array([0, 1, 1, 2]), np.array([1, 0, 2, 1]), 4)
    array([1, 0, 1, 0])
    """
    other = first != second
    first, second = first[other], second[other]
    degree = np.bincount(first, minlength=n)
    begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(degree)])
    return _first_fit(np.argsort(-degree, kind="stable"), begins, np.ascontiguousarray(second))


@njit(cache=True, nogil=True)
def _first_fit(order: np.ndarray, begins: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    n = order.size
    layers = np.full(n, -1, np.int64)
    # Which object last found the layer taken: saves clearing a table for each object.
    taken_for = np.full(n + 1, -1, np.int64)
    for i in order:
        for k in range(begins[i], begins[i + 1]):
            layer = layers[neighbours[k]]
            if layer >= 0:
                taken_for[layer] = i
        layer = 0
        while taken_for[layer] == i:
            layer += 1
        layers[i] = layer
    return layers
