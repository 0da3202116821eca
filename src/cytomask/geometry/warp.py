"""Move images and label images along a map from target pixels to source positions, reading each source pixel once.

Positions are ``(y, x)`` in pixels, with pixel centres at whole numbers. Beyond the image lies its mirror picture,
reflected about the outer edges of the border pixels (numpy's ``symmetric``), or a constant.

A :class:`Warp` is a linear map with, optionally, an elastic displacement. Its coordinates are computed inside the
kernels, so that no arrays of coordinates are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cytomask.geometry.warp_kernels import (
    all_coordinates,
    average_blocks,
    cut_half,
    heaviest_labels,
    linear_image,
    look_up_image,
    look_up_labels,
    smooth,
)

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Warp:
    """Where each pixel of a target of ``shape`` comes from.

    Attributes
    ----------
    shape
        Height and width of the target.
    matrix
        float64 ``(2, 3)``: target ``(row, column, 1)`` to source ``(y, x)``.
    elastic
        Displacements, in target pixels, that are added to the target position before the matrix is applied: float32
        ``(2, rows, columns)``, control points of a uniform cubic B-spline, of which the point ``[:, 1, 1]`` sits on
        the target's first pixel. None for no displacement.
    spacing
        Target pixels between two control points.

    Examples
    --------
    Turning by a quarter gives what :func:`numpy.rot90` gives:

    >>> image = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    >>> turn = Warp((3, 3), np.array([[0.0, 1, 0], [-1, 0, 2]]))
    >>> bool((turn.image(image) == np.rot90(image, axes=(1, 2))).all())
    True
    """

    shape: tuple[int, int]
    matrix: npt.NDArray[np.float64]
    elastic: _Floats | None = None
    spacing: float = 1.0

    @classmethod
    def centred(
        cls,
        shape: tuple[int, int],
        linear: npt.NDArray[np.float64],
        centre: tuple[float, float],
        elastic: _Floats | None = None,
        spacing: float = 1.0,
    ) -> Warp:
        """Make the warp that brings the source position ``centre`` to the middle of the target.

        ``linear`` (2, 2) turns steps in the target into steps in the source. Where it only swaps and flips axes, the
        centre is moved by less than a pixel so that whole pixels are copied.
        """
        middle = np.array([(shape[0] - 1) / 2, (shape[1] - 1) / 2])
        shift = np.asarray(centre, np.float64) - linear @ middle
        if np.array_equal(np.sort(np.abs(linear), axis=None), [0.0, 0.0, 1.0, 1.0]):
            shift = np.floor(shift + 0.5)
        return cls(shape, np.column_stack([linear, shift]), elastic, spacing)

    @property
    def shrinkage(self) -> float:
        """Source pixels per target pixel (geometric mean of the two directions)."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))

    def bounds(self) -> tuple[float, float, float, float]:
        """Lowest and highest source position that is asked for, ``(y0, y1, x0, x1)``; may be a little generous."""
        rows, columns = self.shape
        # A little more than the largest displacement (a B-spline stays within its control points), for rounding.
        margin = 1e-6 if self.elastic is None else 1e-6 + 1.00001 * float(np.abs(self.elastic).max())
        low, high = -margin, margin
        corners = (
            np.array([[r, c, 1.0] for r in (low, rows - 1 + high) for c in (low, columns - 1 + high)]) @ self.matrix.T
        )
        (y0, x0), (y1, x1) = corners.min(axis=0), corners.max(axis=0)
        return float(y0), float(y1), float(x0), float(x1)

    def coordinates(self) -> tuple[_Floats, _Floats]:
        """Source rows and columns of all target pixels, each float32 ``shape``."""
        height, width = self.shape
        return all_coordinates(*self._spline(), self.matrix, height, width)

    def image(self, image: _Floats, fill: float | None = None, *, antialias: bool = True) -> _Floats:
        """Warp an image; each target pixel is interpolated linearly between four source pixels.

        Where the target is coarser than the source, source pixels are averaged first, about as widely as by
        :func:`~cytomask.geometry.resample.resample_window`, so that nothing finer than the target's grid is left to
        alias.

        Parameters
        ----------
        image
            ``(C, Y, X)``, of any float dtype; only the part that is needed is read.
        fill
            Value outside the image; None for its mirror picture.
        antialias
            Whether to average when shrinking.

        Returns
        -------
        numpy.ndarray
            float32 ``(C, *shape)``.
        """
        _, height, width = image.shape
        shrinkage = self.shrinkage if antialias else 1.0
        factor = max(1, int(shrinkage + 1e-9))
        y0, y1, x0, x1 = self.bounds()
        reach = 0 if shrinkage <= 1 else 2 * factor
        top, bottom = _needed(y0 - reach, y1 + reach, height, factor)
        left, right = _needed(x0 - reach, x1 + reach, width, factor)
        part = cut_window(image, top, bottom, left, right)
        if factor > 1:
            part = shrink(part, factor)
        side = _side_weight(shrinkage, factor)
        if side > 0:
            part = smooth(part, np.float32(side))
        inside = y0 >= 0 and x0 >= 0 and y1 <= height - 1 and x1 <= width - 1
        out = np.empty((len(image), *self.shape), np.float32)
        linear_image(
            part, *self._spline(), self.matrix, top, left, height, width, factor,
            inside, fill is None, np.float32(0.0 if fill is None else fill), out,
        )  # fmt: skip
        return out

    def labels(self, labels: npt.NDArray[np.integer]) -> _Ints:
        """Warp label images: each target pixel takes the label that weighs most in linear interpolation.

        That is the nearest pixel's label, but for a smoother outline where pixels are enlarged. Beyond the image is
        background.

        Parameters
        ----------
        labels
            integer ``(K, Y, X)``; only the part that is needed is read.

        Returns
        -------
        numpy.ndarray
            int32 ``(K, *shape)``.
        """
        return self._labels(labels, None, 0)[0]

    def mirrored_labels(self, labels: npt.NDArray[np.integer], shared: npt.NDArray[np.bool_]) -> tuple[_Ints, int]:
        """Warp label images, and give the objects of each mirror picture beyond the border ids of their own.

        Parameters
        ----------
        labels
            integer ``(K, Y, X)`` with ids below ``len(shared)``.
        shared
            bool, by id: whether the mirror pictures of this object keep its id.

        Returns
        -------
        tuple
            int32 ``(K, *shape)``, and the number of pictures ``n``, counted along rows of pictures as
            :meth:`pictures` bounds them. The objects of picture ``t`` have the ids ``id + t * len(shared)``.
        """
        return self._labels(labels, shared, len(shared))

    def pictures(self, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Which mirror pictures of a source of ``shape`` the target may show: ``(y0, y1, x0, x1)``, half-open.

        The picture ``(0, 0)`` is the source itself, ``(1, 0)`` the one below it; ``(0, 1, 0, 1)`` means that nothing
        beyond the border is seen.
        """
        y0, y1, x0, x1 = (math.floor(v + 0.5) for v in self.bounds())
        height, width = shape
        return y0 // height, y1 // height + 1, x0 // width, x1 // width + 1

    def _labels(
        self, labels: npt.NDArray[np.integer], shared: npt.NDArray[np.bool_] | None, stride: int
    ) -> tuple[_Ints, int]:
        _, height, width = labels.shape
        y0, y1, x0, x1 = self.bounds()
        top, bottom = _needed(y0, y1, height, 1)
        left, right = _needed(x0, x1, width, 1)
        part = np.ascontiguousarray(labels[:, top:bottom, left:right], dtype=np.int32)
        out = np.empty((len(labels), *self.shape), np.int32)
        first_y, last_y, first_x, last_x = self.pictures((height, width))
        heaviest_labels(
            part, *self._spline(), self.matrix, top, left, height, width,
            shared is not None, np.zeros(1, np.bool_) if shared is None else shared, stride,
            first_y, first_x, last_x - first_x, out,
        )  # fmt: skip
        return out, (last_y - first_y) * (last_x - first_x)

    def _spline(self) -> tuple[bool, _Floats, _Ints, _Floats, _Ints, _Floats]:
        if self.elastic is None:
            first, weights = np.zeros(1, np.int32), np.zeros((1, 4), np.float32)
            return False, np.zeros((2, 1, 1), np.float32), first, weights, first, weights
        grid = np.ascontiguousarray(self.elastic, np.float32)
        rows, columns = (_spline_weights(n, self.spacing) for n in self.shape)
        needed = (int(rows[0][-1]) + 4, int(columns[0][-1]) + 4)
        if grid.shape[0] != 2 or grid.shape[1] < needed[0] or grid.shape[2] < needed[1]:
            raise ValueError(f"displacements of shape {grid.shape} do not cover the target: {(2, *needed)} are needed")
        return True, grid, *rows, *columns


def control_points(size: int, spacing: float) -> int:
    """How many control points a B-spline needs along a side of ``size`` pixels.

    Examples
    --------
    >>> control_points(256, 32)
    11
    """
    return int((size - 1) / spacing) + 4


def warp_image(image: _Floats, rows: _Floats, cols: _Floats, fill: float | None = None) -> _Floats:
    """Look up an image at given positions, with linear interpolation.

    Parameters
    ----------
    image
        float32 ``(C, Y, X)``.
    rows, cols
        float32 ``(h, w)``: source positions, in pixels.
    fill
        Value for positions outside the image (beyond the outer edges of its border pixels); None for the mirror
        picture.

    Returns
    -------
    numpy.ndarray
        float32 ``(C, h, w)``.

    Examples
    --------
    >>> warp_image(np.array([[[0.0, 2.0]]], np.float32), np.array([[0.0, 0]]), np.array([[0.25, 2.0]]))
    array([[[0.5, 2. ]]], dtype=float32)
    """
    out = np.empty((len(image), *rows.shape), np.float32)
    value = np.float32(0.0 if fill is None else fill)
    image, rows, cols = (np.ascontiguousarray(array, np.float32) for array in (image, rows, cols))
    look_up_image(image, rows, cols, fill is None, value, out)
    return out


def warp_labels(labels: npt.NDArray[np.integer], rows: _Floats, cols: _Floats) -> _Ints:
    """Look up label images at given positions: the nearest pixel's label, 0 outside.

    Parameters
    ----------
    labels
        integer ``(K, Y, X)``.
    rows, cols
        float32 ``(h, w)``: source positions, in pixels.

    Returns
    -------
    numpy.ndarray
        int32 ``(K, h, w)``.

    Examples
    --------
    >>> warp_labels(np.array([[[7, 9]]]), np.array([[0.0, 0, 0]]), np.array([[0.4, 0.6, 1.6]]))
    array([[[7, 9, 0]]], dtype=int32)
    """
    out = np.empty((len(labels), *rows.shape), np.int32)
    look_up_labels(
        np.ascontiguousarray(labels, np.int32),
        np.ascontiguousarray(rows, np.float32),
        np.ascontiguousarray(cols, np.float32),
        out,
    )
    return out


def shrink(image: _Floats, factor: int) -> _Floats:
    """Average blocks of ``factor`` x ``factor`` pixels; the last blocks may be smaller.

    Examples
    --------
    >>> shrink(np.array([[[0, 2, 8], [2, 4, 4]]], np.float32), 2)
    array([[[2., 6.]]], dtype=float32)
    """
    channels, height, width = image.shape
    out = np.empty((channels, -(-height // factor), -(-width // factor)), np.float32)
    average_blocks(np.ascontiguousarray(image, np.float32), factor, out)
    return out


def cut_window(image: npt.NDArray[np.floating], top: int, bottom: int, left: int, right: int) -> _Floats:
    """Copy a window ``[:, top:bottom, left:right]`` as float32.

    Examples
    --------
    >>> cut_window(np.array([[[0.5, -2.0, 7.0]]], np.float16), 0, 1, 0, 2)
    array([[[ 0.5, -2. ]]], dtype=float32)
    """
    if image.dtype == np.float16 and image.flags.c_contiguous:
        out = np.empty((len(image), bottom - top, right - left), np.float32)
        cut_half(image.view(np.uint16), top, left, out)
        return out
    return np.array(image[:, top:bottom, left:right], dtype=np.float32, order="C")


def _side_weight(shrinkage: float, factor: int) -> float:
    """Weight of either neighbour in the smoothing that follows averaging over blocks.

    Averaging over blocks, smoothing and interpolation shall together be as wide (in variance) as a triangle that
    reaches one target pixel to either side.
    """
    residual = shrinkage / factor
    variance = residual**2 / 6 - (1 - 1 / factor**2) / 12 - 1 / 6
    return 0.0 if variance < 0.01 else min(variance / 2, 0.25)


def _needed(low: float, high: float, size: int, factor: int) -> tuple[int, int]:
    """Pixels of the source, in whole blocks of ``factor``, that positions from low to high (mirrored) look at."""
    start, stop = math.floor(low), math.floor(high) + 2
    if start < 0 and stop > size:
        start, stop = 0, size
    elif start < 0:
        start, stop = 0, min(size, max(stop, 1 - start))
    elif stop > size:
        start, stop = max(0, min(start, 2 * size - stop - 1)), size
    return start // factor * factor, min(size, -(-stop // factor) * factor)


def _spline_weights(size: int, spacing: float) -> tuple[_Ints, _Floats]:
    """First control point and the four weights of each pixel along a side (uniform cubic B-spline)."""
    place = np.arange(size) / spacing
    first = place.astype(np.int32)
    t = place - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    return first, weights.astype(np.float32)
