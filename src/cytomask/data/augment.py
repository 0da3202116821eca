"""Augmentation: random geometry, composed into one warp so that pixels are interpolated once, and random intensity.

The settings of both are :class:`AugmentConfig`; :func:`draw_warp` draws the geometry of a patch,
:func:`draw_whole_warp` that of a whole image.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cytomask.data.augment_config import AugmentConfig, Elastic, Scale
from cytomask.data.change_notes import note_change
from cytomask.data.short_edge import ShortestEdge
from cytomask.geometry.warp import Warp, control_points

#: Displacements beyond so many standard deviations are cut, lest an elastic warp folds the picture.
CUT = 2.0


def draw_warp(
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    size: int,
    source_shape: tuple[int, int],
    focus: tuple[float, float],
    diameter: float | None = None,
) -> tuple[Warp, float]:
    """Draw the geometry of a patch.

    Parameters
    ----------
    config
        What may be done.
    rng
        Decides all that is drawn.
    size
        Side of the patch.
    source_shape
        Height and width of the image.
    focus
        Source position ``(y, x)`` that shall be in the patch; the patch is moved into the image as far as it fits.
    diameter
        Median diameter of the image's objects, in source pixels; None where it has none.

    Returns
    -------
    tuple
        The warp, and the zoom: patch pixels per source pixel.
    """
    zoom, linear, _ = _draw_linear(config, rng, diameter)
    elastic, spacing = _draw_displacements(config.elastic, rng, (size, size))
    margin = 0.0 if elastic is None else float(np.abs(elastic).max())
    half = np.abs(linear).sum(axis=1) * ((size - 1) / 2 + margin)
    # The focus comes anywhere within the middle half of the patch, not always to its very centre.
    aim = np.asarray(focus) + linear @ rng.uniform(-size / 4, size / 4, 2)
    centre = tuple(
        float(_placed(at, reach, length, rng.random())) for at, reach, length in zip(aim, half, source_shape)
    )
    return Warp.centred((size, size), linear, (centre[0], centre[1]), elastic, spacing), zoom


def draw_whole_warp(
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    edge: ShortestEdge,
    crop: float | None,
    source_shape: tuple[int, int],
    diameter: float | None = None,
) -> tuple[Warp, float]:
    """Draw the geometry of a whole image.

    The image, or a part of it, is sized by its edges; flips and quarter turns keep all of it in view. Other turns and
    bends, and factors of :class:`Scale`, which come on top of the size, are made about a place that is drawn, in a
    picture of the same size: so memory does not depend on them.

    Parameters
    ----------
    config
        What may be done.
    rng
        Decides all that is drawn.
    edge
        Size of the result.
    crop
        Smallest share of rows, and of columns, that is kept; shares from it to 1 are drawn. None keeps all.
    source_shape
        Height and width of the image.
    diameter
        Median diameter of the image's objects, in source pixels; None where it has none.

    Returns
    -------
    tuple
        The warp, and the zoom: target pixels per source pixel.
    """
    kept, corner = source_shape, (0, 0)
    if crop is not None:
        shares = rng.uniform(crop, 1.0, 2)
        height, width = (max(1, int(n * share + 0.5)) for n, share in zip(source_shape, shares))
        kept = (height, width)
        top, left = (int(rng.integers(n - k + 1)) for n, k in zip(source_shape, kept))
        corner = (top, left)
    shape = edge.size(kept)
    step = np.array([kept[0] / shape[0], kept[1] / shape[1]])
    note_change("{} x {} px", *shape)
    base = 1 / math.sqrt(step[0] * step[1])
    zoom, linear, turned = _draw_linear(config, rng, None if diameter is None else diameter * base)
    linear = step[:, None] * linear
    target = (shape[1], shape[0]) if turned else shape
    elastic, spacing = _draw_displacements(config.elastic, rng, target)
    half = np.abs(linear) @ (np.array(target) / 2)
    # Where the picture shows less than the kept part, it may show any of it.
    centre = [
        c + (n - 1) / 2 + chance * max(0.0, n / 2 - reach)
        for c, n, reach, chance in zip(corner, kept, half.tolist(), rng.uniform(-1, 1, 2).tolist())
    ]
    return Warp.centred(target, linear, (centre[0], centre[1]), elastic, spacing), zoom * base


def _placed(at: float, reach: float, length: int, chance: float) -> float:
    """Move a centre so that ``reach`` to either side stays in the image, or else so that all of the image shows."""
    low, high = reach, length - 1 - reach
    return min(max(at, low), high) if low <= high else high + chance * (low - high)


def _draw_linear(
    config: AugmentConfig, rng: np.random.Generator, diameter: float | None
) -> tuple[float, npt.NDArray[np.float64], bool]:
    """Zoom, the matrix from steps in the patch to steps in the source, and whether quarter turns swap its axes."""
    turned = False
    linear = np.eye(2)
    down, across = config.flips if isinstance(config.flips, tuple) else (config.flips, config.flips)
    if rng.random() < down:
        linear = linear @ np.diag([-1.0, 1.0])
        note_change("flip y")
    if rng.random() < across:
        linear = linear @ np.diag([1.0, -1.0])
        note_change("flip x")
    if rng.random() < config.quarter_turns:
        quarters = int(rng.integers(4))
        turned = quarters % 2 == 1
        if quarters:
            note_change("turn {}°", 90 * quarters)
        for _ in range(quarters):
            linear = linear @ np.array([[0.0, -1.0], [1.0, 0.0]])
    if rng.random() < config.rotation.probability:
        degrees = rng.uniform(-config.rotation.degrees, config.rotation.degrees)
        linear = linear @ _turn(math.radians(degrees))
        note_change("rotation {:.0f}°", degrees)
    zoom = 1.0
    if rng.random() < config.scale.probability:
        zoom = _draw_zoom(config.scale, rng, diameter)
        linear = linear / zoom
        note_change("zoom {:.2f}", zoom)
        if config.scale.stretch > 1:
            ratio = math.exp(0.5 * rng.uniform(-1, 1) * math.log(config.scale.stretch))
            turn = _turn(rng.uniform(0, math.pi))
            note_change("stretch {:.2f}", max(ratio, 1 / ratio) ** 2)
            linear = linear @ turn @ np.diag([ratio, 1 / ratio]) @ turn.T
    # Products of swaps and flips leave negative zeros.
    return zoom, linear + 0.0, turned


def _draw_zoom(config: Scale, rng: np.random.Generator, diameter: float | None) -> float:
    chance = rng.random()
    if config.diameter is None or not diameter:
        return math.exp(_between(config.zoom, chance))
    zoom = math.exp(_between(config.diameter, chance)) / diameter
    return min(max(zoom, config.min_zoom), config.max_zoom)


def _between(limits: tuple[float, float], chance: float) -> float:
    low, high = math.log(limits[0]), math.log(limits[1])
    return low + chance * (high - low)


def _turn(angle: float) -> npt.NDArray[np.float64]:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def _draw_displacements(
    config: Elastic, rng: np.random.Generator, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.float32] | None, float]:
    if rng.random() >= config.probability:
        return None, 1.0
    spacing = math.exp(_between(config.spacing, rng.random()))
    strength = rng.uniform(*config.strength) * spacing
    note_change("elastic {:.0f} px", strength)
    points = [control_points(side, spacing) for side in shape]
    normal = np.clip(rng.standard_normal((2, *points)), -CUT, CUT)
    return (normal * strength).astype(np.float32), spacing
