"""Colocalisation: how far two channels go together, in every object and in the whole image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numba import njit

from cytomask.errors import ChannelError, ConfigError, LabelError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.column_names import safe_names

Threshold = Literal["otsu", "costes", "none"]
#: Steps in which Costes' threshold is looked for.
_STEPS = 1024
#: Figures of a pair of channels, in the order of the kernel's columns.
FIGURES = ("pearson", "spearman", "m1", "m2", "overlap", "icq")


@dataclass(frozen=True, slots=True, eq=False)
class Colocalisation:
    """Colocalisation in one image.

    Attributes
    ----------
    objects
        One row per object: ``A_B_FIGURE`` for each pair of channels A and B.
    image
        The same of the whole image (``A_B_FIGURE``), and of all pixels in objects (``A_B_in_objects_FIGURE``).
    thresholds
        For each pair ``A_B`` the thresholds of A and of B.
    pairs
        Names of the channels of each pair, as in the columns.
    """

    objects: pd.DataFrame
    image: dict[str, float]
    thresholds: dict[str, tuple[float, float]]
    pairs: tuple[tuple[str, str], ...]


def colocalisation(
    instances: Instances,
    image: Image,
    channels: Sequence[str | int] | None = None,
    *,
    threshold: Threshold = "otsu",
) -> Colocalisation:
    """Measure the colocalisation of every pair of channels.

    Parameters
    ----------
    instances
        The objects; they may overlap.
    image
        An image of the same size with two channels or more; the channels are held in memory.
    channels
        Those to compare, by name or number; None for all.
    threshold
        Which pixels count as signal for M1 and M2: above Otsu's threshold of each channel, above Costes' thresholds of
        the pair, or above 0 (``"none"``). They are those of the whole image, and the same for all of its objects.

    Returns
    -------
    Colocalisation
        For each pair A, B, of the values a and b of the pixels:

        - ``pearson``, ``spearman``: correlation of values, and of their ranks; NaN where a channel is constant
        - ``m1``: part of the sum of a that lies where b is above its threshold; ``m2`` the other way round (Manders)
        - ``overlap``: Σab / √(Σa² Σb²) (Manders' overlap coefficient)
        - ``icq``: the part of pixels in which a and b are both above or both below their means, less ½ (Li): -½ to ½

    Raises
    ------
    LabelError
        If image and objects differ in size.
    ChannelError
        If there are not two channels.
    ConfigError
        If there is no such threshold.

    Examples
    --------
    >>> ramp = np.arange(64, dtype=np.uint16).reshape(8, 8)
    >>> image = Image.from_array(np.stack([ramp, 2 * ramp, 63 - ramp]), channels=["a", "b", "c"])
    >>> found = colocalisation(Instances.from_labels(np.ones((8, 8), int)), image)
    >>> found.objects.round(3)[["a_b_pearson", "a_c_pearson", "a_b_icq", "a_c_icq", "a_c_m1"]]
       a_b_pearson  a_c_pearson  a_b_icq  a_c_icq  a_c_m1
    0          1.0         -1.0      0.5     -0.5   0.246
    """
    if tuple(image.shape) != tuple(instances.shape):
        raise LabelError(
            "image and objects differ in size", where=image.source,
            found=f"objects of an image of {instances.shape[0]} x {instances.shape[1]} px (y by x)",
            expected=f"{image.height} x {image.width} px",
        )  # fmt: skip
    if threshold not in get_args(Threshold):
        raise ConfigError(
            "there is no such threshold", where="threshold", found=threshold, expected=", ".join(get_args(Threshold))
        )
    every = safe_names(image.channels)
    chosen = list(range(image.n_channels)) if channels is None else [image.channel_index(c) for c in channels]
    chosen = list(dict.fromkeys(chosen))
    if len(chosen) < 2:
        raise ChannelError(
            "colocalisation needs two channels", where=image.source,
            found=", ".join(image.channels[c] for c in chosen) or "none", expected="two channels or more",
            fix="leave colocalisation out, or name other channels",
        )  # fmt: skip
    names = [every[c] for c in chosen]
    # Values of up to 16 bits are held as they are, so that the compiled code exists twice at most.
    whole = image.window(0, image.height, 0, image.width)
    small = whole.dtype.kind in "ub" and whole.dtype.itemsize <= 2
    pixels = np.ascontiguousarray(whole[chosen], dtype=np.uint16 if small else np.float64)
    pairs = list(combinations(range(len(chosen)), 2))
    first, second = (np.array([pair[k] for pair in pairs]) for k in range(2))
    limits = _thresholds(pixels, pairs, threshold)
    windows = instances.windows.astype(np.int64)
    of_objects = _of_objects(
        pixels, windows, instances.bits, instances.offsets, first, second, limits[:, 0], limits[:, 1]
    )
    titles = [f"{names[a]}_{names[b]}" for a, b in pairs]
    columns = {
        f"{title}_{figure}": of_objects[:, p, f] for p, title in enumerate(titles) for f, figure in enumerate(FIGURES)
    }
    figures: dict[str, float] = {}
    inside = _any_object(windows, instances.bits, instances.offsets, *instances.shape)
    flat = pixels.reshape(len(pixels), -1)
    for label, values in (("", flat), ("in_objects_", flat[:, inside.reshape(-1)])):
        found = _of_pixels(values.astype(np.float64), _all_ranks(values), first, second, limits[:, 0], limits[:, 1])
        for p, title in enumerate(titles):
            figures |= {f"{title}_{label}{name}": float(found[p, f]) for f, name in enumerate(FIGURES)}
    return Colocalisation(
        pd.DataFrame(columns), figures,
        {title: (float(limits[p, 0]), float(limits[p, 1])) for p, title in enumerate(titles)},
        tuple((names[a], names[b]) for a, b in pairs),
    )  # fmt: skip


def otsu_threshold(values: np.ndarray) -> float:
    """Otsu's threshold of an array; its only value where it is constant."""
    from skimage.filters import threshold_otsu

    values = np.asarray(values)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)
    return float(threshold_otsu(finite)) if len(finite) else math.nan


def costes_thresholds(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Costes' thresholds of two channels: below them, what is left of both is not correlated.

    The thresholds go down together along the line of orthogonal regression, in 1024 steps of the first channel's range,
    until the pixels in which either channel is at or below its threshold have no positive correlation any more.

    Returns
    -------
    tuple
        Threshold of each channel; NaN where the channels are not correlated positively.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise, signal = rng.normal(10, 1, (2, 5000)), np.zeros(5000)
    >>> signal[:800] = rng.uniform(20, 100, 800)
    >>> low, high = costes_thresholds(noise[0] + signal, noise[1] + signal)
    >>> 9 < low < 20, 9 < high < 20
    (True, True)
    """
    a, b = (np.asarray(values, np.float64).reshape(-1) for values in (a, b))
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan, math.nan
    (var_a, both), (_, var_b) = np.cov(a, b)
    if both <= 0:
        return math.nan, math.nan
    slope = (var_b - var_a + math.hypot(var_b - var_a, 2 * both)) / (2 * both)
    start = b.mean() - slope * a.mean()
    # A pixel is below as soon as the first threshold reaches this.
    level = np.minimum(a, (b - start) / slope)
    low, high = float(a.min()), float(a.max())
    edges = np.linspace(low, high, _STEPS + 1)
    bin_ = np.clip(np.searchsorted(edges, level, side="left"), 0, _STEPS)
    # Values near 0 keep the sums of squares exact.
    a, b = a - a.mean(), b - b.mean()
    n, sa, sb, saa, sbb, sab = (
        np.cumsum(np.bincount(bin_, weights=w, minlength=_STEPS + 1)) for w in (None, a, b, a * a, b * b, a * b)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (saa - sa * sa / n) * (sbb - sb * sb / n)
        r = np.where(spread > 0, (sab - sa * sb / n) / np.sqrt(spread), 0.0)
    fine = np.flatnonzero((r <= 0) | (n < 3))
    at = edges[fine[-1]] if len(fine) else low
    return float(at), float(start + slope * at)


def _thresholds(pixels: np.ndarray, pairs: Sequence[tuple[int, int]], threshold: Threshold) -> np.ndarray:
    """The thresholds of each pair, float64 ``(P, 2)``."""
    if threshold == "none":
        return np.zeros((len(pairs), 2))
    if threshold == "costes":
        return np.array([costes_thresholds(pixels[a], pixels[b]) for a, b in pairs])
    of_channel = np.array([otsu_threshold(channel) for channel in pixels])
    return of_channel[np.array(pairs)]


def _all_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along each row as :func:`_ranks` gives them; values of 16 bits are counted instead of sorted."""
    ranks = np.empty(values.shape)
    for c, row in enumerate(values):
        if row.dtype == np.uint16:
            counts = np.bincount(row, minlength=1)
            ranks[c] = (np.cumsum(counts) - (counts + 1) / 2)[row]
        else:
            ranks[c] = _ranks(row)
    return ranks


@njit(cache=True, nogil=True)
def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of values, equal ones sharing the mean of theirs."""
    order = np.argsort(values)
    ranks = np.empty(len(values))
    start = 0
    while start < len(values):
        stop = start + 1
        while stop < len(values) and values[order[stop]] == values[order[start]]:
            stop += 1
        for k in range(start, stop):
            ranks[order[k]] = (start + stop - 1) / 2
        start = stop
    return ranks


@njit(cache=True, nogil=True)
def _correlation(a: Any, b: Any, mean_a: float, mean_b: float) -> float:
    aa = bb = ab = 0.0
    for k in range(len(a)):
        da, db = a[k] - mean_a, b[k] - mean_b
        aa += da * da
        bb += db * db
        ab += da * db
    if aa <= 0 or bb <= 0:
        return np.nan
    return min(1.0, max(-1.0, ab / np.sqrt(aa * bb)))


@njit(cache=True, nogil=True)
def _of_pixels(
    values: np.ndarray, ranks: np.ndarray, first: Any, second: Any, limit_a: Any, limit_b: Any
) -> np.ndarray:
    """All figures of all pairs for the same pixels of all channels; values and ranks are float64 ``(C, n)``."""
    channels, n = values.shape
    found = np.full((len(first), 6), np.nan)
    if n == 0:
        return found
    means, squares = np.empty(channels), np.empty(channels)
    for c in range(channels):
        means[c] = values[c].mean()
        # A constant channel's mean may be off by rounding, which would make it vary.
        if values[c].min() == values[c].max():
            means[c] = values[c, 0]
        squares[c] = (values[c] * values[c]).sum()
    for p in range(len(first)):
        a, b = values[first[p]], values[second[p]]
        mean_a, mean_b = means[first[p]], means[second[p]]
        found[p, 0] = _correlation(a, b, mean_a, mean_b)
        found[p, 1] = _correlation(ranks[first[p]], ranks[second[p]], (n - 1) / 2, (n - 1) / 2)
        sum_a = sum_b = with_b = with_a = product = 0.0
        together = 0
        for k in range(n):
            sum_a += a[k]
            sum_b += b[k]
            product += a[k] * b[k]
            if b[k] > limit_b[p]:
                with_b += a[k]
            if a[k] > limit_a[p]:
                with_a += b[k]
            together += (a[k] - mean_a) * (b[k] - mean_b) > 0
        if sum_a > 0 and not np.isnan(limit_b[p]):
            found[p, 2] = with_b / sum_a
        if sum_b > 0 and not np.isnan(limit_a[p]):
            found[p, 3] = with_a / sum_b
        size = np.sqrt(squares[first[p]] * squares[second[p]])
        if size > 0:
            found[p, 4] = product / size
        found[p, 5] = together / n - 0.5
    return found


@njit(cache=True, nogil=True)
def _of_objects(
    pixels: np.ndarray, windows: Any, bits: Any, offsets: Any, first: Any, second: Any, limit_a: Any, limit_b: Any
) -> np.ndarray:
    found = np.full((len(windows), len(first), 6), np.nan)
    for i in range(len(windows)):
        y0, x0, y1, x1 = windows[i]
        values = np.empty((len(pixels), (y1 - y0) * (x1 - x0)))
        n = k = 0
        for y in range(y0, y1):
            for x in range(x0, x1):
                if (bits[offsets[i] + (k >> 3)] >> (7 - (k & 7))) & 1:
                    for c in range(len(pixels)):
                        values[c, n] = pixels[c, y, x]
                    n += 1
                k += 1
        own = np.ascontiguousarray(values[:, :n])
        ranks = np.empty_like(own)
        for c in range(len(own)):
            ranks[c] = _ranks(own[c])
        found[i] = _of_pixels(own, ranks, first, second, limit_a, limit_b)
    return found


@njit(cache=True, nogil=True)
def _any_object(windows: Any, bits: Any, offsets: Any, height: int, width: int) -> np.ndarray:
    inside = np.zeros((height, width), np.bool_)
    for i in range(len(windows)):
        y0, x0, y1, x1 = windows[i]
        k = 0
        for y in range(y0, y1):
            for x in range(x0, x1):
                if (bits[offsets[i] + (k >> 3)] >> (7 - (k & 7))) & 1:
                    inside[y, x] = True
                k += 1
    return inside
