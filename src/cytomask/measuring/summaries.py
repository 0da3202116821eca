"""Summaries: what the objects of an image, and the images of a group, are like; and whether groups differ.

Objects of one image are not independent of each other, so that groups are compared by images: every image gives one
value, the mean of its objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

#: Columns that are numbers but measure nothing: names, places.
_NO_MEASURES = ("image", "id", "class", "group", "score", "touches_border", "ambiguous")
_NO_MEASURE_ENDS = ("_id",)
_NO_MEASURE_STARTS = ("box_", "centroid_", "orientation")
#: Fewer images per group say nothing about a difference.
FEWEST_IMAGES = 3
QUANTILES = (0.05, 0.25, 0.75, 0.95)


def measurements(objects: pd.DataFrame) -> list[str]:
    """Columns of an object table that measure something, in order.

    Examples
    --------
    >>> measurements(pd.DataFrame({"id": [1], "area_px": [5], "nearest_cell_id": [2], "box_y0": [3]}))
    ['area_px']
    """
    return [
        name
        for name in objects.columns
        if pd.api.types.is_numeric_dtype(objects[name])
        and not pd.api.types.is_bool_dtype(objects[name])
        and name not in _NO_MEASURES
        and not name.endswith(_NO_MEASURE_ENDS)
        and not name.startswith(_NO_MEASURE_STARTS)
    ]


def summarise(objects: pd.DataFrame, by: Sequence[str] = ("image", "class")) -> pd.DataFrame:
    """Summarise each measurement of each group of rows.

    Parameters
    ----------
    objects
        An object table.
    by
        Columns whose values make the groups.

    Returns
    -------
    pandas.DataFrame
        One row per group and measurement: the group, ``measurement``, ``n`` (values that are known), ``mean``,
        ``median``, ``sd`` (of the sample), ``sem``, ``min``, ``q05``, ``q25``, ``q75``, ``q95``, ``max``.

    Examples
    --------
    >>> table = pd.DataFrame({"image": ["a", "a", "b"], "class": ["cell"] * 3, "area_px": [1.0, 3.0, 5.0]})
    >>> summarise(table)[["image", "n", "mean", "sd"]].round(3)
      image  n  mean     sd
    0     a  2   2.0  1.414
    1     b  1   5.0    NaN
    """
    names = measurements(objects)
    keys = list(by)
    columns = [*keys, "measurement", "n", "mean", "median", "sd", "sem", "min", "q05", "q25", "q75", "q95", "max"]
    if not names or not len(objects):
        return pd.DataFrame(columns=columns)
    grouped = objects.groupby(keys, sort=False, observed=True)[names]
    parts = {
        "n": grouped.count(), "mean": grouped.mean(), "median": grouped.median(), "sd": grouped.std(),
        "sem": grouped.sem(), "min": grouped.min(), "max": grouped.max(),
        **{f"q{100 * q:02.0f}": grouped.quantile(q) for q in QUANTILES},
    }  # fmt: skip
    long = {name: part.astype(float).stack(future_stack=True) for name, part in parts.items()}  # noqa: PD013
    table = pd.DataFrame(long).rename_axis([*keys, "measurement"]).reset_index()
    table["n"] = table["n"].astype(int)
    return table[columns]


def summarise_groups(per_image: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    """Summarise the images of each group: the image, not the object, is what counts as one.

    Parameters
    ----------
    per_image
        As :func:`summarise` gives it by image and class.
    groups
        The group of each image, by the image's name.

    Returns
    -------
    pandas.DataFrame
        One row per group, class and measurement: ``group``, ``class``, ``measurement``, ``n_images``, ``n_objects``,
        and of the images' means ``mean``, ``median``, ``sd``, ``sem``, ``min``, ``q25``, ``q75``, ``max``.

    Examples
    --------
    >>> table = pd.DataFrame({"image": ["a", "a", "b"], "class": ["cell"] * 3, "area_px": [1.0, 3.0, 5.0]})
    >>> found = summarise_groups(summarise(table), pd.Series({"a": "x", "b": "x"}))
    >>> found[["group", "n_images", "n_objects", "mean"]]
      group  n_images  n_objects  mean
    0     x         2          3   3.5
    """
    keys = ["group", "class", "measurement"]
    known = per_image[per_image["n"] > 0]
    # The table of no objects has columns of no kind.
    table = known.assign(group=known["image"].map(groups).astype("string"), mean=known["mean"].astype(float))
    grouped = table.groupby(keys, sort=False, observed=True)
    means = grouped["mean"]
    return pd.DataFrame({
        "n_images": grouped.size(), "n_objects": grouped["n"].sum(), "mean": means.mean(), "median": means.median(),
        "sd": means.std(), "sem": means.sem(), "min": means.min(), "q25": means.quantile(0.25),
        "q75": means.quantile(0.75), "max": means.max(),
    }).reset_index()  # fmt: skip


def compare_groups(per_image: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    """Test whether groups of images differ, by the mean of each image.

    Two groups are compared by Mann and Whitney's test, more by that of Kruskal and Wallis; each group with at least
    three images. The p values are adjusted for the number of tests by Holm's method.

    Parameters
    ----------
    per_image
        As :func:`summarise` gives it by image and class.
    groups
        The group of each image, by the image's name.

    Returns
    -------
    pandas.DataFrame
        One row per class and measurement that can be compared: ``class``, ``measurement``, ``groups``, ``n_images``
        (of each group, such as ``"control 5, treated 6"``), ``test``, ``statistic``, ``p``, ``p_holm``,
        ``effect``: for two groups the rank-biserial correlation, from -1 (all images of the first below those of the
        second) to 1; for more ε² = H / (n - 1), from 0 to 1; ``effect_name``.

    Examples
    --------
    >>> table = pd.DataFrame({"image": list("abcdef"), "class": ["cell"] * 6, "area_px": [1.0, 2, 3, 7, 8, 9]})
    >>> found = compare_groups(summarise(table), pd.Series(dict(zip("abcdef", "xxxyyy"))))
    >>> found[["groups", "test", "p", "effect"]]
       groups            test    p  effect
    0  x, y    Mann–Whitney U  0.1    -1.0
    """
    from scipy import stats

    columns = [
        "class", "measurement", "groups", "n_images", "test", "statistic", "p", "p_holm", "effect", "effect_name",
    ]  # fmt: skip
    known = per_image[per_image["n"] > 0]
    table = known.assign(group=known["image"].map(groups).astype("string")).dropna(subset=["group"])
    rows = []
    for (kind, measurement), part in table.groupby(["class", "measurement"], sort=False, observed=True):
        values = {str(name): own["mean"].to_numpy() for name, own in part.groupby("group", sort=True, observed=True)}
        values = {name: own for name, own in values.items() if len(own) >= FEWEST_IMAGES}
        if len(values) < 2 or np.ptp(np.concatenate(list(values.values()))) == 0:
            continue
        total = sum(map(len, values.values()))
        if len(values) == 2:
            one, other = values.values()
            found = stats.mannwhitneyu(one, other, alternative="two-sided")
            test, effect, name = "Mann–Whitney U", 2 * found.statistic / (len(one) * len(other)) - 1, "rank-biserial"
        else:
            found = stats.kruskal(*values.values())
            test, effect, name = "Kruskal–Wallis H", found.statistic / (total - 1), "epsilon squared"
        counts = ", ".join(f"{group} {len(own)}" for group, own in values.items())
        rows.append((kind, measurement, ", ".join(values), counts, test, float(found.statistic), float(found.pvalue),
                     np.nan, float(effect), name))  # fmt: skip
    result = pd.DataFrame(rows, columns=columns)
    result["p_holm"] = _holm(result["p"].to_numpy(float))
    return result


def _holm(p: np.ndarray) -> np.ndarray:
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return adjusted
