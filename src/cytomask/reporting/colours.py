"""Give objects colours: neighbours differ, the same object keeps its colour, and the colour-blind tell them apart."""

from __future__ import annotations

import numpy as np
from numba import njit

from cytomask.instances import Instances

#: Light, saturated colours (RGB) that stand out from black and, with a dark rim, from white, grey, pink and purple.
PALETTE = np.array(
    [
        (255, 222, 40),  # yellow
        (70, 200, 255),  # sky blue
        (255, 128, 20),  # orange
        (60, 235, 140),  # green
        (255, 120, 215),  # pink
        (75, 125, 255),  # blue
        (200, 255, 60),  # lime
        (255, 70, 60),  # red
        (190, 150, 255),  # lavender
        (0, 225, 215),  # turquoise
    ],
    np.uint8,
)
#: Linear RGB as seen with deuteranopia, the most frequent colour blindness (Machado et al. 2009, severity 1).
_DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
#: Colours less alike than this are as good as any others, so that all of them are used.
_DISTINCT = 0.18
#: Gap between the boxes of two objects, as a part of the smaller one's longer side, up to which they are neighbours.
_GAP = 0.6
#: How much a neighbour weighs whose box is not at the object's.
_FAR = 0.2


def class_colours(count: int) -> np.ndarray:
    """Colours of the first classes, uint8 ``(count, 3)``; after the tenth they begin anew.

    Examples
    --------
    >>> class_colours(2).tolist()
    [[255, 222, 40], [70, 200, 255]]
    """
    return PALETTE[np.arange(count) % len(PALETTE)]


def colour_of_objects(
    instances: Instances, palette: np.ndarray = PALETTE, grounds: np.ndarray | None = None
) -> np.ndarray:
    """Choose a colour for every object, so that neighbours look as different as they can.

    Objects are coloured by ascending id. Each would like the colour that belongs to its id, and takes the one that
    differs enough from those of its neighbours if that one does not. So the result depends on ids and places only, not
    on the order of the objects.

    Parameters
    ----------
    instances
        N objects.
    palette
        uint8 ``(K, 3)``, RGB.
    grounds
        uint8 ``(M, 3)``: colours of the picture on which outlines are to stand out; colours like them are avoided.

    Returns
    -------
    numpy.ndarray
        int64 ``(N,)``: positions in the palette.

    Examples
    --------
    >>> labels = np.repeat(np.arange(1, 9)[None], 4, axis=0)
    >>> colours = colour_of_objects(Instances.from_labels(labels))
    >>> bool((colours[1:] != colours[:-1]).all())
    True
    """
    order = np.argsort(instances.ids, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    windows = instances.windows.astype(np.int64)
    by_row = np.argsort(windows[:, 0], kind="stable")
    pairs, touching = _neighbours(windows, by_row)
    # Each object looks at its neighbours of lower rank: sort the pairs by the object that is coloured later.
    later, earlier = rank[pairs[:, 0]], rank[pairs[:, 1]]
    later, earlier = np.maximum(later, earlier), np.minimum(later, earlier)
    sequence = np.argsort(later, kind="stable")
    starts = np.searchsorted(later[sequence], np.arange(len(order) + 1))
    # Labelling goes row by row, so ids that follow each other are often neighbours: they want colours far apart.
    wanted = instances.ids[order].astype(np.int64) * 7 % len(palette)
    drowned = np.zeros(len(palette)) if grounds is None or not len(grounds) else _alike(palette, grounds).mean(axis=1)
    weights = np.where(touching[sequence], 1.0, _FAR)
    shunned = 3 * np.maximum(0, drowned - _DISTINCT)
    chosen = _colour(starts, earlier[sequence], weights, wanted, _alike(palette, palette), shunned)
    result = np.empty(len(order), np.int64)
    result[order] = chosen
    return result


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How alike colours look, from 0 to 1, to normal or colour-blind eyes (whichever see less), ``(K, M)``."""
    difference = np.full((len(one), len(other)), np.inf)
    for sight in (np.eye(3), _DEUTERANOPIA):
        lab = [_lab(np.clip((colours / 255.0) ** 2.2 @ sight.T, 0, 1)) for colours in (one, other)]
        difference = np.minimum(difference, np.linalg.norm(lab[0][:, None] - lab[1][None], axis=-1))
    return np.exp(-difference / 20)


def _lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB (sRGB primaries, D65)."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


@njit(cache=True, nogil=True)
def _neighbours(windows: np.ndarray, by_row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of objects whose boxes are near each other, int64 ``(P, 2)``, and whether these touch or overlap.

    ``by_row`` sorts the boxes by their top.
    """
    n = len(windows)
    pairs = np.empty((max(16, 8 * n), 2), np.int64)
    touching = np.empty(len(pairs), np.bool_)
    found = 0
    for position in range(n):
        a = by_row[position]
        size_a = max(windows[a, 2] - windows[a, 0], windows[a, 3] - windows[a, 1])
        for follower in range(position + 1, n):
            b = by_row[follower]
            if windows[b, 0] - windows[a, 2] > _GAP * size_a + 2:
                break
            gap = max(windows[b, 0] - windows[a, 2], windows[b, 1] - windows[a, 3], windows[a, 1] - windows[b, 3])
            size_b = max(windows[b, 2] - windows[b, 0], windows[b, 3] - windows[b, 1])
            if gap > _GAP * min(size_a, size_b) + 2:
                continue
            if found == len(pairs):
                more = np.empty((2 * len(pairs), 2), np.int64)
                more[:found] = pairs
                pairs = more
                more_touching = np.empty(len(pairs), np.bool_)
                more_touching[:found] = touching
                touching = more_touching
            pairs[found, 0], pairs[found, 1] = a, b
            touching[found] = gap <= 1
            found += 1
    return pairs[:found].copy(), touching[:found].copy()


@njit(cache=True, nogil=True)
def _colour(
    starts: np.ndarray,
    earlier: np.ndarray,
    weights: np.ndarray,
    wanted: np.ndarray,
    likeness: np.ndarray,
    shunned: np.ndarray,
) -> np.ndarray:
    """Colour objects one by one: the wanted colour, or the one least like those of the neighbours."""
    n, k = len(wanted), len(likeness)
    chosen = np.empty(n, np.int64)
    for i in range(n):
        best, best_cost = wanted[i], np.inf
        for step in range(k):
            colour = (wanted[i] + 3 * step) % k
            cost = 0.02 * step + shunned[colour]
            for j in range(starts[i], starts[i + 1]):
                cost += weights[j] * max(0.0, likeness[colour, chosen[earlier[j]]] - _DISTINCT)
            if cost < best_cost:
                best, best_cost = colour, cost
        chosen[i] = best
    return chosen
