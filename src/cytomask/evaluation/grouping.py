"""Sort images into groups by what is known of them: modality, stain, day, number of cells."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from cytomask.errors import ConfigError
from cytomask.evaluation.image_scores import ImageScores

#: A property with more values than this does not make groups by itself; numbers are put into ranges.
MAX_GROUPS = 20
_RANGES = 4
UNKNOWN = "(not told)"


def group_images(images: Sequence[ImageScores], columns: Sequence[str] = ()) -> dict[str, dict[str, list[int]]]:
    """Sort images into groups.

    Parameters
    ----------
    images
        Counts of each image, with its properties.
    columns
        The properties to group by. None given, all that sort the images into a few groups: not those with one value,
        with more than 20, with a value for nearly every image, or made of numbers (sizes, counts).

    Returns
    -------
    dict
        For each property the positions of the images by its values, in order. Numbers of more than eight values are
        put into four ranges of equally many images. Images of which nothing is told make a group of their own, where
        the property was asked for.

    Raises
    ------
    ConfigError
        If no image has a property that is asked for; those that there are are listed.
    """
    known = list(dict.fromkeys(key for image in images for key in image.group))
    for column in columns:
        if column not in known:
            near = difflib.get_close_matches(column, known, n=1)
            raise ConfigError(
                f"the images have no property {column!r} to group by",
                where="--group-by",
                found=", ".join(known) or "no table of properties",
                fix=f"did you mean {near[0]!r}?" if near else "name a column of the data set's table",
            )
    if columns:
        return {column: _asked_for([image.group.get(column, "") for image in images]) for column in columns}
    groups = {}
    for column in known:
        values = [image.group.get(column, "") for image in images]
        distinct = set(values) - {""}
        if 2 <= len(distinct) <= min(MAX_GROUPS, len(images) // 2) and not all(map(_is_number, distinct)):
            groups[column] = _by_value(values, sorted(distinct))
    return groups


def _asked_for(values: list[str]) -> dict[str, list[int]]:
    distinct = sorted(set(values) - {""})
    if len(distinct) > 2 * _RANGES and all(map(_is_number, distinct)):
        numbers = np.array([float(v) if v else np.nan for v in values])
        edges = np.unique(np.nanquantile(numbers, np.arange(1, _RANGES) / _RANGES, method="inverted_cdf"))
        place = np.searchsorted(edges, numbers, side="left")
        groups = {}
        for k in range(len(edges) + 1):
            members = np.flatnonzero((place == k) & ~np.isnan(numbers))
            if len(members):
                groups[f"{numbers[members].min():g} to {numbers[members].max():g}"] = members.tolist()
    else:
        groups = _by_value(values, sorted(distinct, key=float) if all(map(_is_number, distinct)) else distinct)
    without = [k for k, value in enumerate(values) if not value]
    return {**groups, UNKNOWN: without} if without else groups


def _by_value(values: list[str], distinct: list[str]) -> dict[str, list[int]]:
    return {one: [k for k, value in enumerate(values) if value == one] for one in distinct}


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
