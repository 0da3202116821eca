"""Faults that the masks alone show: pieces, crumbs, specks, holes, doubles, and objects that look merged."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from cytomask.data.check.anatomy import Anatomy, fill, piece_gaps
from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding, many
from cytomask.instances import Instances, intersections

#: An object this small may be a speck, if it is also small beside the others: pixels, and share of the median area.
SPECK_PIXELS, SPECK_SHARE = 12, 0.08
#: A piece beside the largest is a crumb below this share of the object's area (and of the median area).
CRUMB_SHARE = 0.1
#: Pieces of at least this share of the median area, further apart than this share of the median diameter, are taken
#: for several objects.
PIECE_SHARE, PIECE_GAP = 0.2, 0.5
#: A piece is parted from the rest by an object that covers this share of the way between them.
ACROSS = 0.5
#: An object whose holes make up this share of its filled area is a ring.
RING_SHARE = 0.4
#: Pairs of objects are the same, or overlap much, from this intersection over union on.
SAME_IOU, MUCH_IOU = 0.95, 0.5
#: Merged objects: area beside the median, solidity, and how much narrower than its lobes the neck is.
MERGED_AREA, MERGED_SOLIDITY, NECK = 1.7, 0.9, 0.6
#: Objects of an image are taken for convex, so that a dented one stands out, where this share of them is.
CONVEX_SHARE, CONVEX = 0.85, 0.9
#: Holes and crumbs are grave if this share of the objects has them, or a hole is this share of its object.
GRAVE_SHARE, GRAVE_HOLE = 0.05, 0.1
#: Fewer objects than this say nothing of what is usual in an image.
ENOUGH = 8


def object_faults(objects: Instances, anatomy: Anatomy, crowd: Collection[int] = (), **about: Any) -> list[Finding]:
    """Find what is wrong with the masks of one image.

    Parameters
    ----------
    objects
        The objects.
    anatomy
        Their measures.
    crowd
        Ids of crowd regions, which are left alone.
    about
        Fields for the findings: image, file, split.

    Returns
    -------
    list of Finding
        At most one of each kind.

    Examples
    --------
    >>> labels = np.zeros((60, 90), np.int32)
    >>> for k in range(8):
    ...     labels[5:15, 10 * k + 1 : 10 * k + 9] = k + 1
    >>> labels[40:48, 40:48] = 3
    >>> from cytomask.data.check.anatomy import describe_objects
    >>> cells = Instances.from_labels(labels)
    >>> [f.kind for f in object_faults(cells, describe_objects(cells))]
    ['scattered-object']
    """
    plain = ~np.isin(anatomy.ids, list(crowd)) & (anatomy.areas > 0)
    if not plain.any():
        return []
    usual = usual_areas(objects, plain)
    makers = (_pieces, _specks, _holes, _merged)
    found = [one for make in makers for one in make(objects, anatomy, plain, usual, about)]
    return found + list(_doubles(objects, plain, about))


def usual_areas(objects: Instances, plain: np.ndarray) -> np.ndarray:
    """The median area of the chosen objects of each object's class, float64 ``(N,)``: granules are no small cells."""
    areas, usual = objects.areas(), np.ones(len(objects))
    for c in np.unique(objects.classes[plain]):
        of_class = objects.classes == c
        usual[of_class] = np.median(areas[of_class & plain])
    return usual


def speck_positions(anatomy: Anatomy, plain: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Positions of objects that are specks beside the others of their class in the image."""
    small = (anatomy.areas <= SPECK_PIXELS) & (anatomy.areas < SPECK_SHARE * usual) & ~anatomy.touching
    return np.flatnonzero(plain & small)


def sort_pieces(
    mask: np.ndarray, usual: float, others: np.ndarray | None = None
) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
    """Tell the pieces of a mask beside its largest: objects of their own, crumbs, and the gaps of the former.

    Pieces that are neither are in none of the lists: what is near and not small, and what another object parts from the
    rest by lying across.

    Parameters
    ----------
    mask
        One object.
    usual
        Median area of the image's objects.
    others
        Where other objects are, of the mask's shape.
    """
    own, crumbs, gaps = [], [], []
    area = int(mask.sum())
    far = max(3.0, PIECE_GAP * 2 * np.sqrt(usual / np.pi))
    for size, gap, covered, piece in piece_gaps(mask, others):
        if size > 2 and covered > ACROSS:
            continue
        if size <= max(2.0, CRUMB_SHARE * min(usual, area)):
            crumbs.append(piece)
        elif size >= PIECE_SHARE * usual and gap > far:
            own.append(piece)
            gaps.append(gap)
    return own, crumbs, gaps


def union_of(objects: Instances, plain: np.ndarray) -> np.ndarray:
    """Where any of the chosen objects is, bool ``(Y, X)``."""
    union = np.zeros(objects.shape, bool)
    for i in np.flatnonzero(plain).tolist():
        y0, x0, y1, x1 = objects.windows[i]
        union[y0:y1, x0:x1] |= objects.mask(i)
    return union


def _pieces(
    objects: Instances, anatomy: Anatomy, plain: np.ndarray, usual: np.ndarray, about: dict[str, Any]
) -> Iterator[Finding]:
    scattered, crumbly, widest, stray = [], [], 0.0, 0
    several = np.flatnonzero(plain & (anatomy.pieces > 1)).tolist()
    union = union_of(objects, plain) if several else None
    for i in several:
        mask = objects.mask(i)
        others = None if union is None else cut(union, objects.windows[i]) & ~mask
        own, crumbs, gaps = sort_pieces(mask, usual[i], others)
        if own:
            scattered.append(i)
            widest = max(widest, *gaps)
        if crumbs:
            crumbly.append(i)
            stray += sum(int(piece.sum()) for piece in crumbs)
    if scattered:
        pieces = int(anatomy.pieces[scattered].max())
        yield finding(
            "scattered-object",
            f"{many(len(scattered), 'id is', 'ids are')} in pieces far apart (up to {pieces} pieces, "
            f"{widest:.0f} px apart)",
            objects=anatomy.ids[scattered], window=_around(anatomy, scattered, objects.shape), value=widest, **about,
        )  # fmt: skip
    if crumbly:
        yield finding(
            "crumbs", f"{many(stray, 'stray pixel')} beside {many(len(crumbly), 'object')}",
            severity="warning" if _grave(len(crumbly), plain) else "note",
            objects=anatomy.ids[crumbly], window=_around(anatomy, crumbly, objects.shape), value=stray, **about,
        )  # fmt: skip


def _specks(
    objects: Instances, anatomy: Anatomy, plain: np.ndarray, usual: np.ndarray, about: dict[str, Any]
) -> Iterator[Finding]:
    specks = speck_positions(anatomy, plain, usual)
    if len(specks):
        largest = int(anatomy.areas[specks].max())
        yield finding(
            "specks",
            f"{many(len(specks), 'object')} of at most {largest} px, where the median has {usual[specks].max():.0f} px",
            objects=anatomy.ids[specks], window=_around(anatomy, specks, objects.shape), value=len(specks), **about,
        )  # fmt: skip


def _holes(
    objects: Instances,
    anatomy: Anatomy,
    plain: np.ndarray,
    usual: np.ndarray,  # noqa: ARG001
    about: dict[str, Any],
) -> Iterator[Finding]:
    empty = _empty_holes(objects, anatomy, plain)
    rings = empty > RING_SHARE * (anatomy.areas + empty)
    if rings.sum() >= max(2, 0.5 * plain.sum()):
        chosen = np.flatnonzero(rings)
        yield finding(
            "outlines-only", f"{len(chosen)} of {many(int(plain.sum()), 'object')} are rings around a hole",
            objects=anatomy.ids[chosen], window=_around(anatomy, chosen, objects.shape), value=len(chosen), **about,
        )  # fmt: skip
        return
    holed = np.flatnonzero(empty)
    empty = empty[holed]
    if len(holed):
        lost = int(empty.sum())
        grave = _grave(len(holed), plain) or bool((empty > GRAVE_HOLE * anatomy.areas[holed]).any())
        yield finding(
            "holes", f"{many(len(holed), 'object has', 'objects have')} holes, {many(lost, 'pixel')} in all",
            severity="warning" if grave else "note", objects=anatomy.ids[holed],
            window=_around(anatomy, holed[np.argsort(-empty)], objects.shape), value=lost, **about,
        )  # fmt: skip


def _empty_holes(objects: Instances, anatomy: Anatomy, plain: np.ndarray) -> np.ndarray:
    """Pixels of each object's holes, int64 ``(N,)``; what another object fills is no hole in the annotation."""
    empty = np.zeros(len(objects), np.int64)
    holed = np.flatnonzero(plain & (anatomy.holes > 0))
    if len(holed):
        union = union_of(objects, plain)
        # The innermost first: its hole is not one of those around it.
        for i in holed[np.argsort(anatomy.areas[holed], kind="stable")].tolist():
            there = cut(union, objects.windows[i])
            hole = fill(objects.mask(i)) & ~there
            empty[i] = int(hole.sum())
            there |= hole
    return empty


def _grave(count: int, plain: np.ndarray) -> bool:
    """Whether so many of the objects are concerned that it matters."""
    return count >= max(2, GRAVE_SHARE * plain.sum())


def cut(image: np.ndarray, window: Sequence[int] | np.ndarray) -> np.ndarray:
    """The part of an image in a window."""
    y0, x0, y1, x1 = (int(v) for v in window)
    return image[y0:y1, x0:x1]


def _merged(
    objects: Instances, anatomy: Anatomy, plain: np.ndarray, usual: np.ndarray, about: dict[str, Any]
) -> Iterator[Finding]:
    convex = np.zeros(len(objects), bool)
    for c in np.unique(objects.classes[plain]):
        of_class = objects.classes == c
        whole = plain & of_class & ~anatomy.touching & (anatomy.areas > SPECK_PIXELS)
        if whole.sum() >= ENOUGH and (anatomy.solidity[whole] >= CONVEX).mean() >= CONVEX_SHARE:
            convex |= of_class
    one = anatomy.largest > 0.9 * anatomy.areas
    large = plain & convex & one & (anatomy.areas > MERGED_AREA * usual) & (anatomy.solidity < MERGED_SOLIDITY)
    suspects = [i for i in np.flatnonzero(large).tolist() if lobes(objects.mask(i), usual[i]) >= 2]
    if suspects:
        times = float((anatomy.areas[suspects] / usual[suspects]).max())
        yield finding(
            "merged-objects",
            f"{many(len(suspects), 'object looks', 'objects look')} like two or more grown together: up to {times:.1f} "
            "times the median area, with a waist",
            objects=anatomy.ids[suspects], window=_around(anatomy, suspects, objects.shape), value=times, **about,
        )  # fmt: skip


def lobes(mask: np.ndarray, usual: float) -> int:
    """Count the parts that a mask falls into at its waists, each as large as a fair share of a usual object.

    Parameters
    ----------
    mask
        One object.
    usual
        Median area of the others.

    Examples
    --------
    >>> y, x = np.mgrid[:20, :36]
    >>> two = (np.hypot(y - 10, x - 9) < 9) | (np.hypot(y - 10, x - 26) < 9)
    >>> lobes(two, 254.0), lobes(np.hypot(y - 10, x - 18) < 9, 254.0)
    (2, 1)
    """
    depth = distance_transform_edt(np.pad(fill(mask), 1))
    parts, count = label(depth > NECK * depth.max(), np.ones((3, 3), int))
    if count < 2:
        return 1
    # The cores grow back to where they came from: each pixel belongs to the nearest core.
    nearest = distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    owner = parts[tuple(nearest)] * (depth > 0)
    sizes = np.bincount(owner.ravel(), minlength=count + 1)[1:]
    return int((sizes >= 0.35 * usual).sum())


def _doubles(objects: Instances, plain: np.ndarray, about: dict[str, Any]) -> Iterator[Finding]:
    first, second, iou = close_pairs(objects, plain)
    for kind, chosen, word in (
        ("duplicate-objects", iou >= SAME_IOU, "have the same mask"),
        ("overlapping-objects", (iou >= MUCH_IOU) & (iou < SAME_IOU), f"share more than {MUCH_IOU:.0%} of their area"),
    ):
        if chosen.any():
            pairs = np.stack([first[chosen], second[chosen]], axis=1)
            yield finding(
                kind, f"{many(len(pairs), 'pair')} of objects {word}",
                objects=objects.ids[pairs.ravel()], window=_box(objects.windows[pairs[0]], objects.shape),
                value=float(len(pairs)), **about,
            )  # fmt: skip


def close_pairs(objects: Instances, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of positions (the first lower) of objects of one class that share pixels, and their IoU."""
    first, second, shared = intersections(objects, objects)
    keep = (first < second) & plain[first] & plain[second] & (objects.classes[first] == objects.classes[second])
    first, second, shared = first[keep], second[keep], shared[keep]
    areas = objects.areas()
    return first, second, shared / (areas[first] + areas[second] - shared)


def _around(anatomy: Anatomy, chosen: Sequence[int] | np.ndarray, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """A window around the first of the chosen objects."""
    return _box(anatomy.windows[[int(chosen[0])]], shape)


def _box(windows: np.ndarray, shape: tuple[int, int], margin: int = 16) -> tuple[int, int, int, int]:
    y0, x0 = windows[:, :2].min(axis=0) - margin
    y1, x1 = windows[:, 2:].max(axis=0) + margin
    return max(int(y0), 0), max(int(x0), 0), min(int(y1), shape[0]), min(int(x1), shape[1])
