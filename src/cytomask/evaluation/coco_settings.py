"""What COCO metrics depend on: how many predictions count, which sizes are told apart, which IoU is asked for.

COCO's own defaults are for photographs of some ten large objects: the best 100 predictions of an image, and areas cut
at 32² and 96² pixels. On a dense micrograph the first leaves most cells out, and nearly all cells are "small" by the
second. The defaults here are those of LIVECell (Edlund et al., Nature Methods 2021), the largest set of cells that is
scored by COCO's rules: up to 2000 predictions, and areas cut at 18² and 31² pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cytomask.errors import ConfigError
from cytomask.evaluation.matching import THRESHOLDS

#: Larger than any object.
LARGEST_AREA = 1e10
#: Ranges of true areas in square pixels, both ends included, by the name under which they can be asked for.
AREAS: dict[str, dict[str, tuple[float, float]]] = {
    "cells": {"s": (0.0, 18.0**2), "m": (18.0**2, 31.0**2), "l": (31.0**2, LARGEST_AREA)},
    "coco": {"s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, LARGEST_AREA)},
}
#: Asks for three ranges that hold a third of the true objects each.
QUANTILES = "quantiles"
#: Of images that exceed max_dets so many are named in a notice.
_NAMED = 3


@dataclass(frozen=True)
class CocoSettings:
    """What COCO metrics depend on.

    Attributes
    ----------
    max_dets
        How many of an image's best scored predictions count (per class), ascending. Precision is of the last, recall
        of each.
    areas
        Ranges of true areas in square pixels, both ends included, by the letter that is put behind ``AP`` and ``AR``;
        or the name of such ranges: ``"cells"``, ``"coco"``, or ``"quantiles"``, which has a third of the true objects
        in each.
    thresholds
        IoU thresholds, above 0.

    Raises
    ------
    ConfigError
        If the limits do not ascend, a range is empty or has no such name, or a threshold is not above 0 and up to 1.

    Examples
    --------
    >>> CocoSettings(areas="coco").ranges()["m"]
    (1024.0, 9216.0)
    """

    max_dets: tuple[int, ...] = (100, 500, 2000)
    areas: Mapping[str, tuple[float, float]] | str = "cells"
    thresholds: tuple[float, ...] = THRESHOLDS

    def __post_init__(self) -> None:
        if not self.max_dets or min(self.max_dets) < 1 or list(self.max_dets) != sorted(set(self.max_dets)):
            raise ConfigError("max_dets are different positive numbers, ascending", found=self.max_dets)
        if not self.thresholds or not 0 < min(self.thresholds) <= max(self.thresholds) <= 1:
            raise ConfigError("IoU thresholds lie above 0 and up to 1", found=tuple(self.thresholds))
        if isinstance(self.areas, str):
            if self.areas not in (*AREAS, QUANTILES):
                raise ConfigError(
                    "there are no area ranges of that name", found=self.areas,
                    expected=", ".join((*AREAS, QUANTILES)) + ", or areas in square pixels",
                )  # fmt: skip
            return
        for name, (low, high) in self.areas.items():
            if not 0 <= low < high:
                raise ConfigError(f"area range {name!r} is empty", found=(low, high), expected="0 <= low < high")

    def ranges(self, areas: np.ndarray | None = None) -> dict[str, tuple[float, float]]:
        """The ranges as numbers.

        Parameters
        ----------
        areas
            Areas of all true objects, which ``"quantiles"`` needs.

        Examples
        --------
        >>> CocoSettings(areas="quantiles").ranges(np.arange(1, 100))
        {'s': (0.0, 33.0), 'm': (33.0, 66.0), 'l': (66.0, 10000000000.0)}
        """
        if not isinstance(self.areas, str):
            return dict(self.areas)
        if self.areas != QUANTILES:
            return dict(AREAS[self.areas])
        if areas is None or not len(areas):
            return dict(AREAS["cells"])
        first, second = np.quantile(areas, (1 / 3, 2 / 3), method="inverted_cdf").tolist()
        low = max(float(first), 1.0)
        high = max(float(second), low + 1)
        return {"s": (0.0, low), "m": (low, high), "l": (high, LARGEST_AREA)}


def read_areas(text: str) -> Mapping[str, tuple[float, float]] | str:
    """Understand area ranges as people write them on the command line.

    Parameters
    ----------
    text
        A name (``cells``, ``coco``, ``quantiles``), or the areas in square pixels that divide small from medium and
        medium from large, such as ``300,1000``.

    Raises
    ------
    ConfigError
        If it is neither.

    Examples
    --------
    >>> read_areas("300,1000")
    {'s': (0.0, 300.0), 'm': (300.0, 1000.0), 'l': (1000.0, 10000000000.0)}
    """
    word = text.strip().lower()
    if word in (*AREAS, QUANTILES):
        return word
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not 0 < low < high < LARGEST_AREA:
        raise ConfigError(
            "area ranges cannot be understood", where="--areas", found=text,
            expected=f"{', '.join((*AREAS, QUANTILES))}, or two areas in square pixels such as 300,1000",
        )  # fmt: skip
    return {"s": (0.0, low), "m": (low, high), "l": (high, LARGEST_AREA)}


def with_limit(settings: CocoSettings, limit: int) -> CocoSettings:
    """The same settings with another largest number of predictions; smaller numbers stay.

    Examples
    --------
    >>> with_limit(CocoSettings(), 300).max_dets
    (100, 300)
    """
    if limit < 1:
        raise ConfigError("at least one prediction counts", where="--max-dets", found=limit, expected="1 or more")
    return replace(settings, max_dets=(*(n for n in settings.max_dets if n < limit), limit))


def notice_of_crowding(names: Sequence[str], objects: Sequence[int], settings: CocoSettings) -> str | None:
    """One sentence on images that hold more objects than are counted, or None.

    Parameters
    ----------
    names
        Names of the images.
    objects
        The larger number of true or predicted objects of one class in each.

    Examples
    --------
    >>> print(notice_of_crowding(["a", "b"], [40, 3812], CocoSettings()))
    1 image holds more objects than the 2000 predictions that COCO metrics count (b: 3812): AP and AR cannot reach 1
    there; raise max_dets
    """
    limit = settings.max_dets[-1]
    crowded = sorted(((n, name) for n, name in zip(objects, names) if n > limit), reverse=True)
    if not crowded:
        return None
    named = ", ".join(f"{name}: {n}" for n, name in crowded[:_NAMED]) + (" …" if len(crowded) > _NAMED else "")
    hold = "1 image holds" if len(crowded) == 1 else f"{len(crowded)} images hold"
    return (
        f"{hold} more objects than the {limit} predictions that COCO metrics count ({named}): "
        "AP and AR cannot reach 1 there; raise max_dets"
    )
