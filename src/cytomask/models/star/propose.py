"""Rays, grid and depth that fit the objects of a data set."""

from __future__ import annotations

from typing import Any


def propose_star(statistics: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Derive settings from object sizes, each with its reason.

    Parameters
    ----------
    statistics
        ``diameter_p5``, ``diameter_p50``, ``diameter_p95``: percentiles of the objects' equivalent diameters, in
        pixels; ``n_objects``.

    Returns
    -------
    settings, reasons
        Fields of :class:`~cytomask.models.star.config.StarConfig`, and one sentence for each.

    Examples
    --------
    >>> settings, reasons = propose_star(
    ...     {"diameter_p5": 12.0, "diameter_p50": 20.0, "diameter_p95": 38.0, "n_objects": 900})
    >>> settings["grid"], settings["rays"], settings["backbone"]["depth"]
    (2, 32, 3)
    """
    small, median, large = (float(statistics[f"diameter_p{p}"]) for p in (5, 50, 95))
    # A candidate every third of the small objects' diameter still hits each of them several times.
    grid = 1 if small < 6 else 2 if small < 24 else 4
    # About one ray every two pixels of the large objects' outline, in steps that people expect.
    rays = 32 if large < 80 else 64 if large < 160 else 96
    depth = 2
    while _radius(grid, depth) < 0.75 * large and depth < 5:
        depth += 1
    depth = max(depth, 3)
    reasons = [
        f"grid {grid}: the small objects are {small:.0f} px across (5th percentile), so several grid points"
        " fall in each",
        f"{rays} rays: the outline of the large objects ({large:.0f} px across, 95th percentile) is about "
        f"{3.14 * large:.0f} px long, one ray every {3.14 * large / rays:.1f} px",
        f"depth {depth}: the network sees {_radius(grid, depth)} px around a point, enough for objects of "
        f"{large:.0f} px (median {median:.0f} px)",
    ]
    return {"grid": grid, "rays": rays, "backbone": {"kind": "unet", "depth": depth}}, reasons


def _radius(grid: int, depth: int) -> int:
    from cytomask.models.receptive_field import ReceptiveField

    field = ReceptiveField(jump=float(grid))
    for _ in range(depth):
        field.convolve(3, times=2).convolve(2, stride=2)
    field.convolve(3, times=2)
    for _ in range(depth):
        field.upsample().convolve(3, times=2)
    return int(field.radius)
