"""Anchors, stride and context that fit the objects of a data set."""

from __future__ import annotations

import math
from typing import Any

#: Levels of the pyramid that have anchors.
_LEVELS = 5

#: With objects smaller than this, in pixels, the network keeps twice the resolution.
_SMALL = 16

#: An anchor serves objects up to this factor larger or smaller: aligned with one, its IoU is a half.
_REACH = math.sqrt(2)


def propose_region(statistics: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Derive settings from object sizes, each with its reason.

    Parameters
    ----------
    statistics
        As from :func:`cytomask.data.object_sizes.object_size_statistics`, in pixels of the images that the network is
        trained on: ``box_side_p5``, ``box_side_p50``, ``box_side_p95`` and ``elongation_p90``.

    Returns
    -------
    settings, reasons
        Fields of :class:`~cytomask.models.region.config.RegionConfig`, and one sentence for each.

    Examples
    --------
    >>> settings, reasons = propose_region(
    ...     {"box_side_p5": 12.0, "box_side_p50": 20.0, "box_side_p95": 60.0, "elongation_p90": 1.9})
    >>> settings["anchors"]["sizes"]
    [[12.0], [24.0], [48.0], [96.0], [192.0]]
    >>> settings["anchors"]["ratios"], settings["backbone"], settings["context"]
    ([0.53, 1.0, 1.9], {'stem_stride': 2}, 64)
    """
    small, median, large = (float(statistics[f"box_side_p{p}"]) for p in (5, 50, 95))
    stride = 2 if small < _SMALL else 4
    # Anchors lie a stride apart; where they are hardly larger than that, many objects fall between them.
    first = max(small, 2.0 * stride)
    # Strides double from level to level, and so do the anchors, unless the objects differ by more than that covers.
    growth = max(2.0, (large / first) ** (1 / (_LEVELS - 1)) if large > first * 2 ** (_LEVELS - 1) * _REACH else 2.0)
    between = [1.0] if growth <= 2 else [1.0, math.sqrt(growth)]
    sizes = [[_rounded(first * growth**level * step) for step in between] for level in range(_LEVELS)]
    # As many ratios as the published checkpoints have: with one size per level, their proposal heads fit too.
    longest = round(min(max(float(statistics["elongation_p90"]), 1.4), 4.0), 1)
    ratios = [round(1 / longest, 2), 1.0, longest]
    context = min(max(32 * math.ceil(large / 32), 32), 256)
    listed = ", ".join(f"{size:g}" for level in sizes for size in level)
    reasons = [
        f"anchors of {listed} px, up to {longest:g} times longer than wide: the objects' boxes measure {small:.0f} to "
        f"{large:.0f} px (5th to 95th percentile, median {median:.0f} px), and nine of ten are less elongated",
        f"first stride {stride}: the small objects ({small:.0f} px) "
        + ("need the resolution" if stride == 2 else "are seen well enough, in a quarter of the memory"),
        f"context {context} px: large objects ({large:.0f} px) at a tile's border are seen whole"
        if context >= large
        else f"context {context} px: more would cost too much, though the large objects measure {large:.0f} px",
    ]
    return {
        "anchors": {"sizes": sizes, "ratios": ratios},
        "backbone": {"stem_stride": stride},
        "context": context,
    }, reasons


def _rounded(size: float) -> float:
    """To whole pixels, or halves below 10."""
    return round(size * 2) / 2 if size < 10 else float(round(size))
