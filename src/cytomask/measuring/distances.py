"""Distances between classes: from every object to the nearest one of each class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cytomask.instances import Instances
from cytomask.measuring.centres import centres
from cytomask.measuring.column_names import safe_names
from cytomask.measuring.gaps import nearest_of_classes
from cytomask.measuring.lengths import Scale


def distances(instances: Instances, scale: Scale | None = None) -> pd.DataFrame:
    """Measure how far every object is from the nearest other object of each class.

    Parameters
    ----------
    instances
        The objects; they may overlap.
    scale
        Pixel size and unit; None for pixels.

    Returns
    -------
    pandas.DataFrame
        One row per object, in order. For each class CLASS of the image's classes:

        - ``nearest_CLASS_UNIT``: from edge to edge, 0 where the two touch or overlap
        - ``nearest_CLASS_id``: the id of that object; 0 where there is none
        - ``nearest_CLASS_centre_UNIT``: from centre of mass to the nearest centre of mass of the class, which may be
          that of another object

        NaN where the image has no (other) object of the class.

    Examples
    --------
    >>> cells = Instances.from_labels(np.array([[1, 0, 2, 2, 0, 0]]), classes={1: 1, 2: 2}, class_names=("a", "b"))
    >>> distances(cells)[["nearest_a_px", "nearest_b_px", "nearest_b_id", "nearest_b_centre_px"]]
       nearest_a_px  nearest_b_px  nearest_b_id  nearest_b_centre_px
    0           NaN           1.0             2                  2.5
    1           1.0           NaN             0                  NaN
    """
    scale = scale or Scale()
    gap, which = nearest_of_classes(instances, scale.pixel)
    middles = _nearest_centres(instances, centres(instances) * scale.pixel)
    columns: dict[str, np.ndarray] = {}
    ids = np.concatenate([instances.ids.astype(np.int64), [0]])
    for c, name in enumerate(safe_names(instances.class_names, "class")):
        columns[f"nearest_{name}_{scale.unit}"] = gap[:, c]
        columns[f"nearest_{name}_id"] = ids[which[:, c]]
        columns[f"nearest_{name}_centre_{scale.unit}"] = middles[:, c]
    return pd.DataFrame(columns)


def _nearest_centres(instances: Instances, points: np.ndarray) -> np.ndarray:
    """Distance of each centre to the nearest other one of each class, float64 ``(N, C)``; NaN where there is none."""
    from scipy.spatial import cKDTree

    found = np.full((len(points), len(instances.class_names)), np.nan)
    known = np.isfinite(points).all(axis=1)
    for c in range(found.shape[1]):
        members = np.flatnonzero(known & (instances.classes == c + 1))
        if not len(members):
            continue
        tree = cKDTree(points[members])
        # Of its own class, an object is its own nearest: the second one is meant.
        others = np.flatnonzero(known & (instances.classes != c + 1))
        if len(others):
            found[others, c] = tree.query(points[others])[0]
        if len(members) > 1:
            found[members, c] = tree.query(points[members], k=2)[0][:, 1]
    return found
