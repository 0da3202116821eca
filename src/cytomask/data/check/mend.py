"""Mend the masks of one image, as far as that is safe without a person looking."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from cytomask.data.check.anatomy import describe_objects, fill
from cytomask.data.check.kinds import many
from cytomask.data.check.object_faults import (
    SAME_IOU,
    close_pairs,
    cut,
    sort_pieces,
    speck_positions,
    union_of,
    usual_areas,
)
from cytomask.instances import Instances

#: Mending one thing may uncover another; so many rounds are made at most.
_ROUNDS = 10


@dataclass(frozen=True)
class Mended:
    """One thing that was done: which kind of finding it mends, the ids of the objects, and what was done in words."""

    kind: str
    objects: tuple[int, ...]
    what: str


def mend_objects(objects: Instances, crowd: Collection[int] = ()) -> tuple[Instances, list[Mended]]:
    """Fill holes, drop crumbs, specks and doubles, and make objects of pieces that lie far apart.

    Parameters
    ----------
    objects
        The objects of one image; their windows may be any, their boxes are computed anew.
    crowd
        Ids of crowd regions, which are left as they are.

    Returns
    -------
    tuple
        The mended objects, and what was done. Ids stay; new objects get ids above all others.

    Examples
    --------
    >>> labels = np.zeros((30, 30), np.int32)
    >>> labels[2:12, 2:12] = 1
    >>> labels[5, 5] = 0
    >>> labels[20:28, 20:28] = 1
    >>> mended, done = mend_objects(Instances.from_labels(labels))
    >>> mended.ids.tolist(), mended.areas().tolist(), [one.what for one in done]
    ([1, 2], [100, 64], ['1 object filled: 1 pixel', '1 piece far off made an object'])
    """
    done: dict[str, list[Mended]] = {}
    for _ in range(_ROUNDS):
        changed = False
        for step in (_drop_empty, _fill, _sort_pieces, _drop_doubles, _drop_specks):
            objects, one = step(objects, frozenset(crowd))
            if one is not None:
                changed = True
                done.setdefault(one.kind, []).append(one)
        if not changed:
            break
    return objects, [one for several in done.values() for one in several]


def _rebuilt(objects: Instances, crops: list[np.ndarray], origins: list[tuple[int, int]], index: list[int],
             ids: list[int]) -> Instances:  # fmt: skip
    """Objects of other masks; each takes class and score of the one at its index."""
    return Instances.from_crops(
        objects.shape, crops, np.array(origins, np.int32).reshape(-1, 2), classes=objects.classes[index],
        scores=objects.scores[index], ids=ids, class_names=objects.class_names,
    )  # fmt: skip


def _plain(objects: Instances, crowd: frozenset[int]) -> np.ndarray:
    return ~np.isin(objects.ids, list(crowd)) & (objects.areas() > 0)


def _drop_empty(objects: Instances, crowd: frozenset[int]) -> tuple[Instances, Mended | None]:  # noqa: ARG001
    empty = objects.areas() == 0
    if not empty.any():
        return objects, None
    what = f"{many(int(empty.sum()), 'object')} without pixels dropped"
    return objects.take(~empty), Mended("empty-mask", tuple(objects.ids[empty].tolist()), what)


def _fill(objects: Instances, crowd: frozenset[int]) -> tuple[Instances, Mended | None]:
    plain = _plain(objects, crowd)
    holed = np.flatnonzero(plain & (describe_objects(objects).holes > 0)).tolist()
    if not holed:
        return objects, None
    union = union_of(objects, plain)
    crops = [objects.mask(i) for i in range(len(objects))]
    filled, ids = 0, []
    # The innermost first: what it fills is no hole of those around it.
    for i in sorted(holed, key=lambda i: int(objects.areas()[i])):
        free = ~cut(union, objects.windows[i])
        new = crops[i] | (fill(crops[i]) & free)
        added = int(new.sum()) - int(crops[i].sum())
        if added:
            filled += added
            ids.append(int(objects.ids[i]))
            crops[i] = new
            cut(union, objects.windows[i])[new] = True
    if not ids:
        return objects, None
    origins = [(int(y), int(x)) for y, x in objects.windows[:, :2]]
    mended = _rebuilt(objects, crops, origins, list(range(len(objects))), objects.ids.tolist())
    return mended, Mended("holes", tuple(ids), f"{many(len(ids), 'object')} filled: {many(filled, 'pixel')}")


def _sort_pieces(objects: Instances, crowd: frozenset[int]) -> tuple[Instances, Mended | None]:
    """Drop crumbs, and make objects of far pieces; the two are told together where both were done."""
    anatomy, plain = describe_objects(objects), _plain(objects, crowd)
    several = set(np.flatnonzero(plain & (anatomy.pieces > 1)).tolist())
    if not several:
        return objects, None
    usual, union = usual_areas(objects, plain), union_of(objects, plain)
    crops, origins, index, ids = [], [], [], []
    new_id, stray, parted, touched = int(objects.ids.max()) + 1, 0, 0, []
    for i in range(len(objects)):
        crop, origin = objects.mask(i), (int(objects.windows[i, 0]), int(objects.windows[i, 1]))
        others = cut(union, objects.windows[i]) & ~crop
        own, crumbs = sort_pieces(crop, usual[i], others)[:2] if i in several else ([], [])
        for piece in (*own, *crumbs):
            crop = crop & ~piece
        crops.append(crop)
        origins.append(origin)
        index.append(i)
        ids.append(int(objects.ids[i]))
        for piece in own:
            crops.append(piece)
            origins.append(origin)
            index.append(i)
            ids.append(new_id)
            new_id += 1
        if own or crumbs:
            touched.append(int(objects.ids[i]))
            parted += len(own)
            stray += sum(int(piece.sum()) for piece in crumbs)
    if not touched:
        return objects, None
    said = []
    if parted:
        said.append(f"{many(parted, 'piece')} far off made {'an object' if parted == 1 else 'objects'}")
    if stray:
        said.append(f"{many(stray, 'stray pixel')} dropped")
    kind = "scattered-object" if parted else "crumbs"
    return _rebuilt(objects, crops, origins, index, ids), Mended(kind, tuple(touched), ", ".join(said))


def _drop_doubles(objects: Instances, crowd: frozenset[int]) -> tuple[Instances, Mended | None]:
    first, second, iou = close_pairs(objects, _plain(objects, crowd))
    dropped = np.zeros(len(objects), bool)
    for i, j in zip(first[iou >= SAME_IOU].tolist(), second[iou >= SAME_IOU].tolist()):
        if not dropped[i]:
            dropped[j] = True
    if not dropped.any():
        return objects, None
    what = f"{many(int(dropped.sum()), 'object')} dropped that repeated another"
    return objects.take(~dropped), Mended("duplicate-objects", tuple(objects.ids[dropped].tolist()), what)


def _drop_specks(objects: Instances, crowd: frozenset[int]) -> tuple[Instances, Mended | None]:
    anatomy, plain = describe_objects(objects), _plain(objects, crowd)
    if not plain.any():
        return objects, None
    specks = speck_positions(anatomy, plain, usual_areas(objects, plain))
    if not len(specks):
        return objects, None
    keep = np.ones(len(objects), bool)
    keep[specks] = False
    what = f"{many(len(specks), 'object')} of at most {int(anatomy.areas[specks].max())} px dropped"
    return objects.take(keep), Mended("specks", tuple(objects.ids[specks].tolist()), what)
