"""The pixels of ImageJ's regions of interest, as ImageJ itself fills them.

Coordinates are told from the upper left corner of the image's first pixel. A pixel belongs to a region if its centre
lies inside; a centre exactly on an outline belongs to the region on its left or below it. This was compared with
ImageJ 1.53t pixel for pixel. Curves through points ("fit spline") may differ by a pixel along the outline.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cytomask.errors import LabelError
from cytomask.formats.annotations.object_parts import NOTHING, Part, fill_parts
from cytomask.geometry.bit_mask_checks import check_room

#: ImageJ gives a centre exactly on an outline to the region on its left, :meth:`Instances.from_polygons` to the other.
_LEFT = 1e-6
#: Pieces of a curve of a composite region, and of a curve through points between two of these.
_STEPS = 32
#: An oval is reckoned in bands of so many pixels.
_BAND = 2**20
#: Values that follow each command of a path: move to, line to, quadratic and cubic curve, close.
_PATH_VALUES = {0: 2, 1: 2, 2: 4, 3: 6, 4: 0}


def is_area(roi: Any) -> bool:
    """Whether a ``roifile.ImagejRoi`` covers pixels; lines, points, texts and pictures do not."""
    from roifile import ROI_SUBTYPE, ROI_TYPE

    kinds = (ROI_TYPE.RECT, ROI_TYPE.OVAL, ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
    return roi.roitype in kinds and roi.subtype not in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.ARROW, ROI_SUBTYPE.IMAGE)


def is_spline(roi: Any) -> bool:
    """Whether the outline is a curve through its points."""
    from roifile import ROI_OPTIONS

    return bool(roi.options & ROI_OPTIONS.SPLINE_FIT) and roi.multi_coordinates is None


def fill_rois(shape: tuple[int, int], rois: list[Any], names: list[str], where: str) -> list[Part]:
    """Find the pixels of regions that cover some.

    Parameters
    ----------
    shape
        Height and width of the image; what lies outside is cut off.
    rois
        ``roifile.ImagejRoi``, each one for which :func:`is_area` holds.
    names
        Their names, for errors.
    where
        The file, for errors.

    Returns
    -------
    list
        For each region its mask's crop and the crop's origin ``(y, x)``; an empty crop where no pixel is inside.

    Raises
    ------
    LabelError
        If a region's outline is broken.
    """
    from roifile import ROI_TYPE

    parts: list[Part] = [NOTHING] * len(rois)
    outlines: dict[int, list[np.ndarray]] = {}
    pixels = 0
    for i, (roi, name) in enumerate(zip(rois, names)):
        if roi.multi_coordinates is None and roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
            parts[i] = _fill_frame(shape, roi, roi.roitype == ROI_TYPE.OVAL, f"{where}, {name}")
            pixels += parts[i][0].size
            check_room(pixels, 4 * (i + 1), where)
            continue
        rings = _rings(roi, f"{where}, {name}")
        rings = [ring[:, ::-1] - (0.5, 0.5 - _LEFT) for ring in rings if len(ring) >= 3]
        if not all(np.isfinite(ring).all() for ring in rings):
            raise LabelError(
                "a region's outline is broken", where=f"{where}, {name}", found="points that are no finite numbers",
                fix="draw the region again, or delete it in ImageJ's ROI Manager",
            )  # fmt: skip
        if rings:
            outlines[i] = rings
    for i, part in zip(outlines, fill_parts(shape, list(outlines.values()), where)):
        parts[i] = part
    return parts


def _fill_frame(shape: tuple[int, int], roi: Any, oval: bool, where: str) -> Part:
    """Rectangles, with rounded corners or without, and ovals: what lies in a frame of whole pixels."""
    y0, x0, y1, x1 = max(roi.top, 0), max(roi.left, 0), min(roi.bottom, shape[0]), min(roi.right, shape[1])
    if y0 >= y1 or x0 >= x1:
        return NOTHING
    check_room((y1 - y0) * (x1 - x0), 4, where)
    height, width = roi.bottom - roi.top, roi.right - roi.left
    arc = (height, width) if oval else (min(roi.rounded_rect_arc_size, height), min(roi.rounded_rect_arc_size, width))
    if min(arc) <= 0:
        return np.ones((y1 - y0, x1 - x0), bool), (y0, x0)
    # How far each centre lies in the quarter ellipse of its corner, as a part of the radius; 0 between the corners.
    ry, rx = arc[0] / 2, arc[1] / 2
    y, x = np.arange(y0, y1) + 0.5 - roi.top, np.arange(x0, x1) + 0.5 - roi.left
    dy = np.maximum(np.maximum(ry - y, y - (height - ry)), 0) / ry
    dx = np.maximum(np.maximum(rx - x, x - (width - rx)), 0) / rx
    mask = np.empty((y1 - y0, x1 - x0), bool)
    step = max(1, _BAND // (x1 - x0))
    for begin in range(0, len(mask), step):
        mask[begin : begin + step] = dy[begin : begin + step, None] ** 2 + dx[None, :] ** 2 <= 1
    return mask, (y0, x0)


def _rings(roi: Any, where: str) -> list[np.ndarray]:
    """The outlines as points ``(x, y)`` from the corner of the first pixel."""
    if roi.multi_coordinates is not None:
        return _path(roi.multi_coordinates.astype(float), where)
    points = np.asarray(roi.coordinates(), float)
    if is_spline(roi) and len(points) >= 3 and np.isfinite(points).all():
        from scipy.interpolate import CubicSpline

        curve = CubicSpline(np.arange(len(points) + 1), np.concatenate([points, points[:1]]), bc_type="periodic")
        points = curve(np.arange(len(points) * _STEPS) / _STEPS)
    return [points]


def _path(values: np.ndarray, where: str) -> list[np.ndarray]:
    rings: list[list[np.ndarray]] = []
    n = 0
    while n < len(values):
        count = _PATH_VALUES.get(int(values[n]) if np.isfinite(values[n]) else -1)
        if count is None or n + 1 + count > len(values) or (count and int(values[n]) > 0 and not rings):
            raise LabelError(
                "a composite region's outline is broken", where=where, found=f"{values[n]:g} at place {n}",
                expected="a command from 0 to 4 and its points",
            )  # fmt: skip
        points = values[n + 1 : n + 1 + count].reshape(-1, 2)
        if int(values[n]) == 0:
            rings.append([points])
        elif count == 2:
            rings[-1].append(points)
        elif count:
            rings[-1].append(_curve(np.concatenate([rings[-1][-1][-1:], points])))
        n += 1 + count
    return [np.concatenate(ring) for ring in rings]


def _curve(points: np.ndarray) -> np.ndarray:
    """Points along a Bézier curve, without its first."""
    t = (np.arange(1, _STEPS + 1) / _STEPS)[:, None]
    while len(points) > 1 and points.ndim == 2:
        points = points[:, None, :]
    while len(points) > 1:
        points = points[:-1] * (1 - t) + points[1:] * t
    return points[0]
