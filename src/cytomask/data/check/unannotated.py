"""Blobs that look like annotated objects and are not annotated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, find_objects, gaussian_filter, label, maximum_filter

from cytomask.data.check.anatomy import hull_area

#: Fewer annotated objects than this do not say what an object looks like.
ENOUGH = 5
#: Share of the annotated objects that must stand out from the background by brightness alone.
RECOGNISED = 0.8
#: A blob must be this large (of the annotated objects' areas: the percentile, and times the largest) ...
SMALLEST, LARGEST = 25, 1.5
#: ... as convex as most objects, and stand out from its surroundings as much as this percentile of them.
SOLID, CONTRAST = 0.85, 20
#: At most this share of a blob's rim may lean on annotated objects.
LEANING = 0.3
#: At most this share of the image away from annotations may be as bright as objects are.
BACKGROUND = 0.05


@dataclass(frozen=True, slots=True)
class Blob:
    """Something that looks like an object: its window ``(y0, x0, y1, x1)``, area in pixels and relative contrast."""

    window: tuple[int, int, int, int]
    area: int
    contrast: float


def forgotten_objects(grey: npt.NDArray[np.floating], labels: npt.NDArray[np.int32]) -> list[Blob]:
    """Find what looks like the annotated objects but is not annotated.

    Only images whose annotated objects stand out by brightness are judged; of others nothing is said. A blob counts if
    its size, convexity, brightness and contrast are those of annotated objects, and it lies clear of them and of the
    image's border.

    Parameters
    ----------
    grey
        ``(Y, X)``.
    labels
        int ``(Y, X)``, 0 for the background.

    Returns
    -------
    list of Blob
        The clearest first; ``contrast`` is relative to the annotated objects' median.

    Examples
    --------
    >>> y, x = np.mgrid[:120, :120]
    >>> discs = (np.hypot(y % 40 - 20, x % 40 - 20) < 10).astype(np.float32)
    >>> labels = np.where(discs > 0, 1 + y // 40 * 3 + x // 40, 0).astype(np.int32)
    >>> [blob.window for blob in forgotten_objects(discs, np.where(labels == 5, 0, labels))]
    [(51, 51, 70, 70)]
    """
    smooth = gaussian_filter(np.asarray(grey, np.float32), 1.0)
    inside = labels > 0
    areas = np.bincount(labels.ravel())
    ids = np.flatnonzero(areas[1:]) + 1
    if len(ids) < ENOUGH or inside.mean() > 0.6:
        return []
    typical = float(np.median(areas[ids]))
    margin = max(2, round(0.15 * float(np.sqrt(typical))))
    clear = ~maximum_filter(inside, 2 * margin + 1)
    if clear.mean() < 0.1:
        return []
    sums = np.bincount(labels.ravel(), smooth.ravel())
    means = sums[ids] / areas[ids]
    background = float(np.median(smooth[clear]))
    sign = 1.0 if np.median(means) >= background else -1.0
    smooth, means, background = sign * smooth, sign * means, sign * background
    noise = 1.4826 * float(np.median(np.abs(smooth[clear] - background))) + 1e-9
    # Between the background and the dimmer of the objects.
    dim = float(np.percentile(means, 20))
    level = background + 0.5 * (dim - background)
    if dim - background < 6 * noise or (means > level).mean() < RECOGNISED:
        return []
    candidates = clear & (smooth > level)
    # Objects that are annotated reach beyond their outlines a little; what is left over of them is no blob.
    if (smooth[clear] > level).mean() > BACKGROUND:
        return []
    low, high = float(np.percentile(areas[ids], SMALLEST)), LARGEST * float(areas[ids].max())
    found = []
    parts, _ = label(candidates)
    for k, place in enumerate(find_objects(parts), start=1):
        mask = parts[place] == k
        area = int(mask.sum())
        y0, x0, y1, x1 = place[0].start, place[1].start, place[0].stop, place[1].stop
        at_border = y0 == 0 or x0 == 0 or y1 == grey.shape[0] or x1 == grey.shape[1]
        if at_border or not max(low, 12) <= area <= high or area < SOLID * hull_area(mask):
            continue
        # The glow around an annotated object leans on it along most of its length.
        around = (slice(y0 - 1, y1 + 1), slice(x0 - 1, x1 + 1))
        ring = binary_dilation(np.pad(mask, 1)) & ~np.pad(mask, 1)
        if (~clear[around])[ring].mean() > LEANING:
            continue
        contrast = _contrast(smooth, candidates | inside, mask, (y0, x0, y1, x1))
        if contrast >= 6 * noise:
            found.append((contrast, area, (y0, x0, y1, x1)))
    if not found:
        return []
    contrasts = _contrasts(smooth, labels, ids, inside)
    usual, needed = float(np.median(contrasts)), float(np.percentile(contrasts, CONTRAST))
    return [Blob(w, area, contrast / usual) for contrast, area, w in sorted(found, reverse=True) if contrast >= needed]


def _contrasts(smooth: np.ndarray, labels: np.ndarray, ids: np.ndarray, inside: np.ndarray) -> np.ndarray:
    places = find_objects(labels)
    found = []
    for i in ids[:: max(1, len(ids) // 100)]:
        place = places[i - 1]
        window = (place[0].start, place[1].start, place[0].stop, place[1].stop)
        found.append(_contrast(smooth, inside, labels[place] == i, window))
    return np.array(found)


def _contrast(smooth: np.ndarray, occupied: np.ndarray, mask: np.ndarray, window: tuple[int, int, int, int]) -> float:
    """Mean brightness of a blob above that of the free pixels around it."""
    y0, x0, y1, x1 = window
    margin = 5
    top, left = max(y0 - margin, 0), max(x0 - margin, 0)
    around = (slice(top, y1 + margin), slice(left, x1 + margin))
    wide = np.zeros(smooth[around].shape, bool)
    wide[y0 - top : y1 - top, x0 - left : x1 - left] = mask
    ring = binary_dilation(wide, iterations=margin) & ~binary_dilation(wide, iterations=2)
    free = ring & ~occupied[around]
    ring = free if free.sum() >= 10 else ring
    cut = smooth[around]
    return float(cut[wide].mean() - np.median(cut[ring])) if ring.any() else 0.0
