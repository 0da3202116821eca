"""Connected components of classes of pixels, and what tidies up objects: small ones dropped, holes filled.

All are linear in the number of pixels, and what becomes of an object hangs on its own pixels and on its holes alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from cytomask.geometry.union_find import root as find_root


def connected_components(classes: npt.NDArray[np.generic], connectivity: int = 1) -> tuple[npt.NDArray[np.int32], int]:
    """Give every connected part of one class its own number.

    Parameters
    ----------
    classes
        bool or integers ``(Y, X)``, 0 for background. Pixels of different values are never connected.
    connectivity
        1: pixels that share an edge are connected; 2: also those that share a corner.

    Returns
    -------
    labels : numpy.ndarray
        int32 ``(Y, X)``: 1, 2, 3 … in the order of the components' first pixels, row by row; 0 for background.
    count : int
        How many there are.

    Raises
    ------
    ValueError
        When ``classes`` is not a two-dimensional array of bool or integers, or ``connectivity`` neither 1 nor 2.

    Examples
    --------
    >>> connected_components(np.array([[0, 1, 1], [1, 0, 2], [1, 0, 2]]))
    (array([[0, 1, 1],
           [2, 0, 3],
           [2, 0, 3]], dtype=int32), 3)
    >>> connected_components(np.array([[0, 1, 1], [1, 0, 2], [1, 0, 2]]), connectivity=2)[1]
    2
    """
    if connectivity not in (1, 2):
        raise ValueError(f"connectivity must be 1 (edges) or 2 (edges and corners), not {connectivity}")
    classes = _integers(classes)
    parts, count = _pieces(classes, False, connectivity == 2)
    return parts, int(count)


def drop_small(labels: npt.NDArray[np.integer], min_area: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Drop objects of fewer than ``min_area`` pixels, and number the others 1, 2, 3 … in the order of their labels.

    Parameters
    ----------
    labels
        Integers ``(Y, X)``, 0 for background, none negative. An object's parts count together.
    min_area
        Pixels of the smallest object that stays. 0 and 1 keep all, and only renumber.

    Returns
    -------
    labels : numpy.ndarray
        int32 ``(Y, X)``, a new array.
    kept : numpy.ndarray
        int64: the old labels of the objects 1, 2, 3 …

    Raises
    ------
    ValueError
        When ``labels`` is not a two-dimensional array of integers, or holds negative ones.

    Examples
    --------
    >>> drop_small(np.array([[7, 7, 0, 9], [4, 0, 5, 5]]), 2)
    (array([[2, 2, 0, 0],
           [0, 0, 1, 1]], dtype=int32), array([5, 7]))
    """
    labels = _integers(labels)
    if labels.size == 0:
        return labels.astype(np.int32), np.zeros(0, np.int64)
    if labels.min() < 0:
        raise ValueError("labels must not be negative")
    top = int(labels.max())
    if top <= max(4 * labels.size, 1 << 16):
        areas = _areas(labels, top)
        areas[0] = 0
        kept = np.flatnonzero(areas >= max(min_area, 1))
        fresh = np.zeros(top + 1, np.int32)
        fresh[kept] = np.arange(1, len(kept) + 1, dtype=np.int32)
        return _looked_up(labels, fresh), kept.astype(np.int64)
    # So few objects have so large labels that a slot per label would take more memory than the image.
    values, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    stays = (values > 0) & (sizes >= min_area)
    fresh = (np.cumsum(stays) * stays).astype(np.int32)
    return fresh[places.reshape(labels.shape)], values[stays].astype(np.int64)


def fill_object_holes(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Make background that one single object encloses part of that object.

    Background is enclosed by an object if no path of pixels that share edges leads from it to the image's border
    without passing that object: a ring that is closed only by pixels touching at their corners is closed. Other objects
    in the hole stay, and what lies between them and the ring is filled. Within nested rings, the innermost takes it.
    Background that only several objects together enclose stays background.

    Parameters
    ----------
    labels
        Integers ``(Y, X)``, 0 for background. Values must fit int32.

    Returns
    -------
    numpy.ndarray
        int32 ``(Y, X)``, a new array.

    Raises
    ------
    ValueError
        When ``labels`` is not a two-dimensional array of integers.

    Notes
    -----
    For each object this is :func:`scipy.ndimage.binary_fill_holes`, but all objects are done in one pass: pieces of
    objects and of background are the vertices of a graph, the outside of the image is its root, and an object encloses
    what it cuts off from the root (its articulation points, Tarjan 1972). Where two objects cross each other at a
    corner, as on a chess board, neither is closed there.

    Examples
    --------
    >>> fill_object_holes(np.array([[0, 1, 1, 1], [1, 0, 2, 1], [1, 1, 1, 1], [0, 3, 3, 0]]))
    array([[0, 1, 1, 1],
           [1, 1, 2, 1],
           [1, 1, 1, 1],
           [0, 3, 3, 0]], dtype=int32)
    """
    labels = _integers(labels)
    out = labels.astype(np.int32)
    if out.size == 0:
        return out
    pieces, count = _pieces(out, True, True)
    values = np.zeros(count + 1, np.int32)
    open_ = np.zeros(count + 1, np.bool_)
    _describe(out, pieces, values, open_)
    if ((values[1:] == 0) & ~open_[1:]).any():
        starts, ends = _neighbours(pieces, count)
        _fill(out, pieces, _owners(starts, ends, values))
    return out


def _integers(values: npt.NDArray[np.generic]) -> npt.NDArray[np.integer]:
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise ValueError(f"expected bool or integers (Y, X), not {values.dtype} of shape {values.shape}")
    return np.ascontiguousarray(values.view(np.uint8) if values.dtype == np.bool_ else values)


@njit(cache=True, nogil=True)
def _join(parents, a, b):  # type: ignore[no-untyped-def]
    """Join two sets under the smaller number, which is then that of the set's first pixel; return it."""
    a, b = find_root(parents, a), find_root(parents, b)
    if a < b:
        parents[b] = a
        return a
    parents[a] = b
    return b


@njit(cache=True, nogil=True)
def _pieces(values, background, corners):  # type: ignore[no-untyped-def]
    """Number connected runs of equal values: with ``background`` also those of 0, which never connect by corners."""
    height, width = values.shape
    part = np.zeros((height, width), np.int32)
    parents = np.empty(height * width + 1, np.int32)
    parts = 0
    for y in range(height):
        for x in range(width):
            value = values[y, x]
            if value == 0 and not background:
                continue
            own = 0
            if x > 0 and values[y, x - 1] == value:
                own = part[y, x - 1]
            if y > 0:
                # Beyond the run's first pixel, what touches above has been joined unless the row above begins anew.
                if values[y - 1, x] == value:
                    above = part[y - 1, x]
                    if own == 0:
                        own = above
                    elif own != above and (x == 0 or values[y - 1, x - 1] != value):
                        own = _join(parents, own, above)
                if corners and value != 0:
                    if x > 0 and own != part[y - 1, x - 1] and values[y - 1, x - 1] == value:
                        own = part[y - 1, x - 1] if own == 0 else _join(parents, own, part[y - 1, x - 1])
                    if x + 1 < width and own != part[y - 1, x + 1] and values[y - 1, x + 1] == value:
                        own = part[y - 1, x + 1] if own == 0 else _join(parents, own, part[y - 1, x + 1])
            if own == 0:
                parts += 1
                own = parts
                parents[own] = own
            part[y, x] = own
    fresh = np.zeros(parts + 1, np.int32)
    count = 0
    for node in range(1, parts + 1):
        root = find_root(parents, node)
        if root == node:
            count += 1
            fresh[node] = count
        else:
            fresh[node] = fresh[root]
    for y in range(height):
        for x in range(width):
            part[y, x] = fresh[part[y, x]]
    return part, count


@njit(cache=True, nogil=True)
def _areas(labels, top):  # type: ignore[no-untyped-def]
    areas = np.zeros(top + 1, np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            areas[labels[y, x]] += 1
    return areas


@njit(cache=True, nogil=True)
def _looked_up(labels, fresh):  # type: ignore[no-untyped-def]
    out = np.empty(labels.shape, np.int32)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            out[y, x] = fresh[labels[y, x]]
    return out


@njit(cache=True, nogil=True)
def _describe(labels, pieces, values, open_):  # type: ignore[no-untyped-def]
    """What label each piece has, and whether it touches the image's border."""
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            piece = pieces[y, x]
            values[piece] = labels[y, x]
            if y == 0 or x == 0 or y == height - 1 or x == width - 1:
                open_[piece] = True


@njit(cache=True, nogil=True)
def _neighbours(pieces, count):  # type: ignore[no-untyped-def]
    """Pieces that share edges, as lists one after another: ``ends[starts[a]:starts[a + 1]]``; 0 is the outside.

    A pair stands there as often as its border changes direction or is interrupted, which does no harm.
    """
    height, width = pieces.shape
    starts = np.zeros(count + 2, np.int64)
    ends = np.empty(0, np.int32)
    filled = np.zeros(count + 2, np.int64)
    for turn in range(2):
        if turn == 1:
            for a in range(count + 1):
                starts[a + 1] += starts[a]
            ends = np.empty(starts[count + 1], np.int32)
            filled[:] = starts
        for y in range(-1, height):
            last_a, last_b = -1, -1
            for x in range(width):
                a = pieces[y, x] if y >= 0 else 0
                b = pieces[y + 1, x] if y + 1 < height else 0
                if a != b and (a != last_a or b != last_b):
                    if turn == 0:
                        starts[a + 1] += 1
                        starts[b + 1] += 1
                    else:
                        ends[filled[a]], ends[filled[b]] = b, a
                        filled[a] += 1
                        filled[b] += 1
                last_a, last_b = a, b
        for y in range(height):
            for x in range(-1, width):
                a = pieces[y, x] if x >= 0 else 0
                b = pieces[y, x + 1] if x + 1 < width else 0
                if a == b:
                    continue
                if y > 0:
                    above_a = pieces[y - 1, x] if x >= 0 else 0
                    above_b = pieces[y - 1, x + 1] if x + 1 < width else 0
                    if above_a == a and above_b == b:
                        continue
                if turn == 0:
                    starts[a + 1] += 1
                    starts[b + 1] += 1
                else:
                    ends[filled[a]], ends[filled[b]] = b, a
                    filled[a] += 1
                    filled[b] += 1
    return starts, ends


@njit(cache=True, nogil=True)
def _owners(starts, ends, values):  # type: ignore[no-untyped-def]
    """The label of the innermost object that cuts each piece off from the outside (piece 0), or 0.

    A depth-first search from the outside; a vertex cuts off a child's subtree from which no edge leads above it.
    """
    n = len(values)
    found = np.zeros(n, np.int32)  # when a piece was found, from 1
    lowest = np.zeros(n, np.int32)
    parent = np.zeros(n, np.int32)
    order = np.empty(n, np.int32)
    place = starts[:-1].copy()
    stack = np.empty(n, np.int32)
    depth, clock = 1, 1
    stack[0] = 0
    found[0] = lowest[0] = 1
    order[0] = 0
    while depth > 0:
        node = stack[depth - 1]
        if place[node] < starts[node + 1]:
            other = ends[place[node]]
            place[node] += 1
            if found[other] == 0:
                parent[other] = node
                order[clock] = other
                clock += 1
                found[other] = lowest[other] = clock
                stack[depth] = other
                depth += 1
            else:
                lowest[node] = min(lowest[node], found[other])
        else:
            depth -= 1
            if depth > 0:
                above = stack[depth - 1]
                lowest[above] = min(lowest[above], lowest[node])
    owners = np.zeros(n, np.int32)
    for k in range(1, clock):
        node = order[k]
        above = parent[node]
        cut_off = above != 0 and values[above] != 0 and lowest[node] >= found[above]
        owners[node] = values[above] if cut_off else owners[above]
    return owners


@njit(cache=True, nogil=True)
def _fill(labels, pieces, owners):  # type: ignore[no-untyped-def]
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] == 0:
                labels[y, x] = owners[pieces[y, x]]
