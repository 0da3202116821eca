"""Containment: which object holds which, such as the cell of every mitochondrion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numba import njit

from cytomask.errors import ConfigError
from cytomask.instances import Instances, intersections
from cytomask.measuring.centres import class_column
from cytomask.measuring.column_names import safe_names
from cytomask.measuring.gaps import gap_between
from cytomask.measuring.lengths import Scale
from cytomask.measuring.outlines import outlines

#: Part of an object's area that must lie inside of another one, which then holds it.
SHARE = 0.5
#: What is told of an object whose parent is not certain.
SEVERAL, STRADDLES = "several", "straddles"


def fill_holes(instances: Instances) -> Instances:
    """The same objects without holes: organelles that are cut out of their cell lie in it again.

    Examples
    --------
    >>> ring = np.ones((3, 3), int)
    >>> ring[1, 1] = 0
    >>> fill_holes(Instances.from_labels(ring)).areas()
    array([9])
    """
    return replace(instances, bits=_filled(instances.windows.astype(np.int64), instances.bits, instances.offsets))


@njit(cache=True, nogil=True)
def _filled(windows: np.ndarray, bits: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Packed masks without holes: all that cannot be reached from outside by steps to the side."""
    filled = bits.copy()
    for i in range(len(windows)):
        height, width = windows[i, 2] - windows[i, 0], windows[i, 3] - windows[i, 1]
        if height < 3 or width < 3:
            continue
        stride = width + 2
        # 1 in the mask, 2 where one came from outside.
        field = np.zeros((height + 2) * stride, np.uint8)
        held = 0
        for k in range(height * width):
            bit = (bits[offsets[i] + (k >> 3)] >> (7 - (k & 7))) & 1
            field[(k // width + 1) * stride + k % width + 1] = bit
            held += bit
        stack = np.empty(len(field) - held + 1, np.int64)
        stack[0], waiting = 0, 1
        field[0] = 2
        reached = 1
        while waiting:
            waiting -= 1
            p = stack[waiting]
            column = p % stride
            for side in range(4):
                if (side == 0 and column == 0) or (side == 1 and column == stride - 1):
                    continue
                q = p - 1 if side == 0 else p + 1 if side == 1 else p - stride if side == 2 else p + stride
                if 0 <= q < len(field) and field[q] == 0:
                    field[q] = 2
                    stack[waiting] = q
                    waiting += 1
                    reached += 1
        if reached + held == len(field):
            continue
        for k in range(height * width):
            if field[(k // width + 1) * stride + k % width + 1] == 0:
                filled[offsets[i] + (k >> 3)] |= np.uint8(1 << (7 - (k & 7)))
    return filled


def containment(instances: Instances, scale: Scale | None = None, *, share: float = SHARE) -> pd.DataFrame:
    """Find the objects of other classes that every object lies in.

    Holes of an object are part of it where no other object of its class holds the child by its own pixels: in a label
    image of cells and their organelles, the organelles are holes of the cells. An object can be held by one that is
    larger; of objects as large as each other, by one of a class of larger objects. Of several objects of a class that
    hold it, the one with the largest share is the parent, and of equal shares the smallest.

    Parameters
    ----------
    instances
        The objects, of two classes or more; they may overlap.
    scale
        Pixel size and unit; None for pixels.
    share
        Part of an object's area, above 0, that must lie inside of another for that one to hold it.

    Returns
    -------
    pandas.DataFrame
        One row per object and class that holds it, in order of the objects:

        - ``id``, ``class``; ``parent_id``, ``parent_class``
        - ``share_inside``: part of its area that lies in the parent
        - ``edge_distance_UNIT``: from its outline to that of the parent, 0 where it touches or crosses it. The image's
          rim is no outline: NaN where the parent has no other.
        - ``inside_px``: pixels inside; ``area_px`` of the object
        - ``parent_area_px``: of the parent without holes
        - ``ambiguous``: ``"several"`` where other objects of the parent's class hold it, too; ``"straddles"`` where
          none holds it but several together do (then there is no parent: id 0); else empty

    Raises
    ------
    ConfigError
        If the share is not above 0 and up to 1.

    Examples
    --------
    >>> labels = np.ones((7, 9), int)
    >>> labels[3, 2:4] = 2
    >>> cells = Instances.from_labels(labels, classes={1: 1, 2: 2}, class_names=("cell", "granule"))
    >>> containment(cells.shifted(2, 2, (12, 12)))[["id", "parent_id", "share_inside", "edge_distance_px"]]
       id  parent_id  share_inside  edge_distance_px
    0   2          1           1.0               2.0
    """
    if not 0 < share <= 1:
        raise ConfigError("the share is not a part of an area", where="share", found=share, expected="above 0, up to 1")
    scale = scale or Scale()
    areas, classes = instances.areas(), instances.classes
    several_classes = len(np.unique(classes)) > 1
    whole = fill_holes(instances) if several_classes else instances
    whole_areas = whole.areas()
    means = _mean_by_class(whole_areas, classes)
    # Filled, an object may hold what was cut out of it; what it is itself stays as it was.
    child, parent, pixels = intersections(instances, whole) if several_classes else (np.zeros(0, np.int64),) * 3
    larger = (whole_areas[parent] > areas[child]) | (
        (whole_areas[parent] == areas[child]) & (means[classes[parent]] > means[classes[child]])
    )
    kept = (classes[child] != classes[parent]) & larger
    child, parent, pixels = child[kept], parent[kept], pixels[kept]
    real_pixels = _of_pairs(intersections(instances, instances), child, parent, len(areas))
    group = np.unique(child * (classes.max(initial=0) + 1) + classes[parent], return_inverse=True)[1]
    n_groups = int(group.max(initial=-1)) + 1
    # Holes count where no object of the class holds the child by its own pixels only: a ring is no cell of all inside.
    truly = np.bincount(group, weights=real_pixels / areas[child] >= share, minlength=n_groups) > 0
    counted = np.where(truly[group], real_pixels, pixels)
    part = counted / areas[child]
    # The largest share of each parent class first; of equal ones the smallest parent, which is the innermost.
    order = np.lexsort((parent, whole_areas[parent], -part, group))
    child, parent, pixels, counted, part, group = (
        values[order] for values in (child, parent, pixels, counted, part, group)
    )
    holding = np.bincount(group, weights=part >= share, minlength=n_groups)
    together = np.bincount(group, weights=part, minlength=n_groups)
    members = np.bincount(group, minlength=n_groups)
    first = np.unique(group, return_index=True)[1]
    child, parent, pixels, counted, part = (values[first] for values in (child, parent, pixels, counted, part))
    held, straddling = holding > 0, (holding == 0) & (together >= share) & (members > 1)
    told = np.flatnonzero(held | straddling)
    told = told[np.lexsort((classes[parent[told]], child[told]))]
    child, parent, pixels, counted, part = (values[told] for values in (child, parent, pixels, counted, part))
    holding, held = holding[told], held[told]

    distance = np.full(len(child), np.nan)
    inner, outer = outlines(instances), outlines(whole, open_rim=True)
    for k in np.flatnonzero(held):
        inside = pixels[k] == areas[child[k]]
        bounded = outer.starts[parent[k]] < outer.starts[parent[k] + 1]
        if bounded:
            distance[k] = gap_between(inner, child[k], outer, parent[k], scale.pixel) if inside else 0.0
    names = class_column(instances)
    columns = {
        "id": instances.ids[child].astype(np.int64), "class": names.iloc[child].array,
        "parent_id": np.where(held, instances.ids[parent], 0).astype(np.int64),
        "parent_class": names.iloc[parent].array, "share_inside": part,
        f"edge_distance_{scale.unit}": distance, "inside_px": counted, "area_px": areas[child],
        "parent_area_px": np.where(held, whole_areas[parent], 0),
        "ambiguous": pd.Series(np.where(~held, STRADDLES, np.where(holding > 1, SEVERAL, "")), dtype="string").array,
    }  # fmt: skip
    return pd.DataFrame(columns)


def _of_pairs(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray], child: np.ndarray, parent: np.ndarray, n: int
) -> np.ndarray:
    """The pixels that pairs share; 0 for those that share none."""
    if not len(pairs[0]):
        return np.zeros(len(child), np.int64)
    keys, wanted = pairs[0] * n + pairs[1], child * n + parent
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, pairs[2][place], 0)


def _mean_by_class(areas: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Mean area of each class, by its number."""
    size = int(classes.max(initial=0)) + 1
    counts = np.bincount(classes, minlength=size)
    return np.bincount(classes, weights=areas, minlength=size) / np.maximum(counts, 1)


def parents_of(
    children: pd.DataFrame, objects: pd.DataFrame, pairs: Sequence[tuple[str, str]] | None = None
) -> pd.DataFrame:
    """Sum up what every object holds.

    Parameters
    ----------
    children
        As :func:`containment` gives it; of several images with a column ``image``.
    objects
        All objects: ``id``, ``class``, ``area_px``, and ``image`` if there is one.
    pairs
        Parent and child classes to tell of; None for those of which an object holds another one.

    Returns
    -------
    pandas.DataFrame
        One row per object of a parent class, also where it holds nothing: ``image``, ``id``, ``class``, ``area_px``,
        and for each child class CLASS ``CLASS_count``, ``CLASS_area_px`` (pixels inside of the parent, added up),
        ``CLASS_area_fraction`` (of the parent without holes), ``CLASS_mean_area_px`` (of whole children), and
        ``CLASS_mean_edge_distance_UNIT``. Without children the count, the area and the fraction are 0, the means NaN.
        A column is NaN for a parent class that is not paired with the child class.

    Examples
    --------
    >>> cells = Instances.from_class_masks({1: np.ones((4, 4), int), 2: np.eye(4, dtype=int)}, ("cell", "spot"))
    >>> objects = pd.DataFrame({"id": cells.ids, "class": ["cell", "spot"], "area_px": cells.areas()})
    >>> parents_of(containment(cells), objects)[["id", "class", "spot_count", "spot_area_fraction"]]
       id class  spot_count  spot_area_fraction
    0   1  cell           1                0.25
    """
    held = children[children["parent_id"] > 0]
    if pairs is None:
        pairs = sorted(set(zip(held["parent_class"], held["class"])))
    keys = ["image", "id"] if "image" in objects else ["id"]
    kinds = list(dict.fromkeys(parent for parent, _ in pairs))
    table = objects.loc[objects["class"].isin(kinds), [*keys, "class", "area_px"]].reset_index(drop=True)
    distance = next((name for name in children.columns if name.startswith("edge_distance_")), "edge_distance_px")
    inner = list(dict.fromkeys(child for _, child in pairs))
    for kind, name in zip(inner, safe_names(inner, "class")):
        of_kind = held[held["class"] == kind]
        by = [*(key for key in keys if key != "id"), "parent_id"]
        sums = of_kind.groupby(by, observed=True).agg(
            count=("id", "size"), inside=("inside_px", "sum"), mean=("area_px", "mean"), edge=(distance, "mean"),
            whole=("parent_area_px", "first"),
        )  # fmt: skip
        place = pd.MultiIndex.from_frame(table[keys]) if len(keys) > 1 else pd.Index(table["id"])
        found = sums.reindex(place).reset_index(drop=True)
        holder = table["class"].isin([parent for parent, child in pairs if child == kind])
        table[f"{name}_count"] = found["count"].fillna(0).where(holder)
        table[f"{name}_area_px"] = found["inside"].fillna(0).where(holder)
        table[f"{name}_area_fraction"] = (found["inside"] / found["whole"]).astype(float).fillna(0).where(holder)
        table[f"{name}_mean_area_px"] = found["mean"]
        table[f"{name}_mean_{distance}"] = found["edge"]
    return table
