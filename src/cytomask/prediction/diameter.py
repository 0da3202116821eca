"""Estimate from an image how large its objects are, with the model that is to segment it.

A model knows objects of about one size; shown others it misses them, joins them or finds texture. So a part of the
image is segmented at several scales, and the scale is taken at which the model both covers much of the image with
confidence and finds objects of the size that it knows. What it finds there is then measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cytomask.geometry.resample import target_shape
from cytomask.instances import Instances
from cytomask.prediction.prepare import PreparedImage

#: Network pixels per native pixel that are tried, far apart first, then around the best.
SCALES = tuple(2.0**k for k in range(-4, 3))
#: Side of the part that is segmented, in network pixels.
SIDE = 512
#: A part smaller than this many of the model's diameters shows too few whole objects.
LEAST_DIAMETERS = 3
#: Octaves by which what is found may differ from what the model knows, one standard deviation.
TOLERANCE = 0.75
#: The estimate is repeated at its own scale until it changes by less than this factor.
SETTLED = 1.1
#: Side of the coarse picture in which the part with the most content is sought.
COARSE = 256


@dataclass(frozen=True)
class _Look:
    """What was found at one scale."""

    scale: float
    diameter: float  # native pixels; nan when nothing was found
    evidence: float


def estimate_diameter(
    prepared: PreparedImage, segment: Callable[[PreparedImage], Instances], model_diameter: float
) -> tuple[float | None, str]:
    """Estimate the median diameter of an image's objects.

    Parameters
    ----------
    prepared
        The image at scale one.
    segment
        Segments a part of it, as :meth:`cytomask.prediction.predictor.Predictor.segment`.
    model_diameter
        Median diameter that the model was trained with, in network pixels.

    Returns
    -------
    diameter, sentence
        In native pixels, None when nothing was found at any scale; and what was done, for people.
    """
    centre = _most_content(prepared)

    def look(scale: float) -> _Look:
        return _look(prepared, segment, model_diameter, scale, centre)

    least = LEAST_DIAMETERS * model_diameter
    scales = [s for s in SCALES if min(prepared.native_shape) * s >= least] or [1.0]
    looks = [look(scale) for scale in scales]
    best = max(looks, key=lambda found: found.evidence)
    if best.evidence == 0:
        return None, "the object diameter could not be estimated: nothing was found at any scale; not rescaled"
    for _ in range(3):
        again = look(float(np.clip(model_diameter / best.diameter, SCALES[0] / 2, SCALES[-1] * 2)))
        if again.evidence == 0:
            break
        settled = abs(math.log(again.diameter / best.diameter)) < math.log(SETTLED)
        best = again
        if settled:
            break
    return best.diameter, (
        f"object diameter estimated from the image: {best.diameter:.3g} px (give another with --diameter)"
    )


def _look(
    prepared: PreparedImage,
    segment: Callable[[PreparedImage], Instances],
    model_diameter: float,
    scale: float,
    centre: tuple[float, float],
) -> _Look:
    """Segment a part at one scale and weigh what is found."""
    height, width = prepared.native_shape
    rows, columns = (_span(c, size, round(SIDE / scale)) for c, size in zip(centre, (height, width)))
    part = prepared.cropped(rows[0], columns[0], rows[1], columns[1]).at_scale((scale, scale))
    found = segment(part)
    areas = found.areas().astype(np.float64)
    touching = (found.windows[:, :2] <= 0).any(1) | (found.windows[:, 2:] >= np.array(part.native_shape)).any(1)
    if (~touching).sum() >= 3:
        found, areas = found.take(~touching), areas[~touching]
    if not len(found):
        return _Look(scale, math.nan, 0.0)
    scores = found.scores.astype(np.float64)
    # By area: what covers the image decides, not specks.
    diameter = _weighted_median(2 * np.sqrt(areas / math.pi), scores)
    coverage = float((scores * areas).sum()) / (part.native_shape[0] * part.native_shape[1])
    octaves = math.log2(diameter * scale / model_diameter)
    return _Look(scale, diameter, coverage * math.exp(-0.5 * (octaves / TOLERANCE) ** 2))


def _span(centre: float, size: int, length: int) -> tuple[int, int]:
    """Range of ``length`` around ``centre`` (a fraction of ``size``), moved into the image."""
    length = min(length, size)
    start = min(max(0, round(centre * size - length / 2)), size - length)
    return start, start + length


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _most_content(prepared: PreparedImage) -> tuple[float, float]:
    """Find where the image shows the most, as fractions of its height and width."""
    height, width = prepared.native_shape
    if max(height, width) <= SIDE:
        return 0.5, 0.5
    scale = COARSE / max(height, width)
    rows, columns = target_shape((height, width), (scale, scale))
    coarse = prepared.at_scale((scale, scale)).window(0, 0, rows, columns)
    steps = np.zeros((rows, columns))
    steps[:-1] += np.abs(np.diff(coarse, axis=1)).sum(0)
    steps[:, :-1] += np.abs(np.diff(coarse, axis=2)).sum(0)
    # Mean over boxes of the part's size, by cumulative sums.
    sums = np.pad(steps, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    h, w = (max(1, min(n, round(SIDE * scale))) for n in (rows, columns))
    boxes = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    y, x = np.unravel_index(int(boxes.argmax()), boxes.shape)
    return (float(y) + h / 2) / rows, (float(x) + w / 2) / columns
