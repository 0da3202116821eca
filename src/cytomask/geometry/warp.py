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
from numba import njit

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
        corners = np.array(
            [[r, c, 1.0] for r in (low, rows - 1 + high) for c in (low, columns - 1 + high)]
        ) @ self.matrix.T
        (y0, x0), (y1, x1) = corners.min(axis=0), corners.max(axis=0)
        return float(y0), float(y1), float(x0), float(x1)

    def coordinates(self) -> tuple[_Floats, _Floats]:
        """Source rows and columns of all target pixels, each float32 ``shape``."""
        return _coordinates(*self._spline(), self.matrix, *self.shape)

    def image(self, image: _Floats, fill: float | None = None, *, smooth: bool = True) -> _Floats:
        """Warp an image; each target pixel is interpolated linearly between four source pixels.

        Where the target is coarser than the source, source pixels are averaged first, so that nothing finer than the
        target's grid is left to alias.

        Parameters
        ----------
        image
            ``(C, Y, X)``, of any float dtype; only the part that is needed is read.
        fill
            Value outside the image; None for its mirror picture.
        smooth
            Whether to average when shrinking.

        Returns
        -------
        numpy.ndarray
            float32 ``(C, *shape)``.
        """
        _, height, width = image.shape
        shrinkage = self.shrinkage if smooth else 1.0
        factor = max(1, int(shrinkage + 1e-9))
        y0, y1, x0, x1 = self.bounds()
        # Source pixels that half a target pixel reaches, for the subsamples around each position.
        reach = 0.0 if shrinkage <= 1 else shrinkage
        top, bottom = _needed(y0 - reach, y1 + reach, height, factor)
        left, right = _needed(x0 - reach, x1 + reach, width, factor)
        part = np.ascontiguousarray(image[:, top:bottom, left:right], dtype=np.float32)
        if factor > 1:
            part = shrink(part, factor)
        # Averaging leaves a step of 1 to 2 pixels; four samples per target pixel take care of it.
        samples = 2 if shrinkage / factor > 1.25 else 1
        out = np.empty((len(image), *self.shape), np.float32)
        _warp_image(
            part, *self._spline(), self.matrix, top, left, height, width, factor, samples,
            fill is None, np.float32(0.0 if fill is None else fill), out,
        )  # fmt: skip
        return out

    def labels(self, labels: npt.NDArray[np.integer]) -> _Ints:
        """Warp label images; each target pixel takes the nearest source pixel's label, and 0 outside.

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
        _warp_labels(
            part, *self._spline(), self.matrix, top, left, height, width,
            shared is not None, np.zeros(1, np.bool_) if shared is None else shared, stride,
            first_y, first_x, last_x - first_x, out,
        )  # fmt: skip
        return out, (last_y - first_y) * (last_x - first_x)


    def _spline(self) -> tuple[bool, _Floats, _Ints, _Floats, _Ints, _Floats]:
        if self.elastic is None:
            nothing = np.zeros((1, 4), np.float32)
            return False, np.zeros((2, 1, 1), np.float32), np.zeros(1, np.int32), nothing, np.zeros(1, np.int32), nothing
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
    _look_up_image(*_contiguous(image, rows, cols), fill is None, value, out)
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
    _look_up_labels(
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
    _shrink(np.ascontiguousarray(image, np.float32), factor, out)
    return out


def _contiguous(*arrays: npt.NDArray) -> list[_Floats]:
    return [np.ascontiguousarray(array, np.float32) for array in arrays]


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


@njit(cache=True, nogil=True, inline="always")
def _mirror(position, size):  # type: ignore[no-untyped-def]
    """Bring a position into the image, -0.5 to size - 0.5, by reflection about the borders' outer edges."""
    period = 2.0 * size
    shifted = (position + 0.5) % period
    if shifted >= size:
        shifted = period - shifted
    return shifted - 0.5


@njit(cache=True, nogil=True, inline="always")
def _mix_rows(grid, first, weights, row, mixed):  # type: ignore[no-untyped-def]
    """Blend four rows of control points into the two lines of control points that a target row sees."""
    at = first[row]
    for g in range(grid.shape[2]):
        for axis in range(2):
            total = np.float32(0.0)
            for k in range(4):
                total += weights[row, k] * grid[axis, at + k, g]
            mixed[axis, g] = total


@njit(cache=True, nogil=True)
def _coordinates(  # type: ignore[no-untyped-def]
    elastic, grid, row_first, row_weights, col_first, col_weights, matrix, height, width
):
    rows = np.empty((height, width), np.float32)
    cols = np.empty((height, width), np.float32)
    mixed = np.zeros((2, grid.shape[2]), np.float32)
    for r in range(height):
        if elastic:
            _mix_rows(grid, row_first, row_weights, r, mixed)
        for c in range(width):
            at_y, at_x = float(r), float(c)
            if elastic:
                for k in range(4):
                    at_y += col_weights[c, k] * mixed[0, col_first[c] + k]
                    at_x += col_weights[c, k] * mixed[1, col_first[c] + k]
            rows[r, c] = matrix[0, 0] * at_y + matrix[0, 1] * at_x + matrix[0, 2]
            cols[r, c] = matrix[1, 0] * at_y + matrix[1, 1] * at_x + matrix[1, 2]
    return rows, cols


@njit(cache=True, nogil=True)
def _warp_image(  # type: ignore[no-untyped-def]
    part, elastic, grid, row_first, row_weights, col_first, col_weights, matrix,
    top, left, height, width, factor, samples, reflect, fill, out,
):  # fmt: skip
    channels, rows, cols = out.shape
    last_y, last_x = part.shape[1] - 1, part.shape[2] - 1
    mixed = np.zeros((2, grid.shape[2]), np.float32)
    share = np.float32(1.0 / (samples * samples))
    for r in range(rows):
        if elastic:
            _mix_rows(grid, row_first, row_weights, r, mixed)
        for c in range(cols):
            at_y, at_x = float(r), float(c)
            if elastic:
                for k in range(4):
                    at_y += col_weights[c, k] * mixed[0, col_first[c] + k]
                    at_x += col_weights[c, k] * mixed[1, col_first[c] + k]
            for channel in range(channels):
                out[channel, r, c] = 0.0
            for sample in range(samples * samples):
                if samples == 1:
                    sy, sx = at_y, at_x
                else:
                    sy = at_y + (sample // samples + 0.5) / samples - 0.5
                    sx = at_x + (sample % samples + 0.5) / samples - 0.5
                y = matrix[0, 0] * sy + matrix[0, 1] * sx + matrix[0, 2]
                x = matrix[1, 0] * sy + matrix[1, 1] * sx + matrix[1, 2]
                if y < -0.5 or x < -0.5 or y > height - 0.5 or x > width - 0.5:
                    if not reflect:
                        for channel in range(channels):
                            out[channel, r, c] += share * fill
                        continue
                    y, x = _mirror(y, height), _mirror(x, width)
                y = min(max((y - top + 0.5) / factor - 0.5, 0.0), float(last_y))
                x = min(max((x - left + 0.5) / factor - 0.5, 0.0), float(last_x))
                y0, x0 = int(y), int(x)
                y1, x1 = min(y0 + 1, last_y), min(x0 + 1, last_x)
                fy, fx = np.float32(y - y0), np.float32(x - x0)
                w00 = (np.float32(1.0) - fy) * (np.float32(1.0) - fx) * share
                w01 = (np.float32(1.0) - fy) * fx * share
                w10 = fy * (np.float32(1.0) - fx) * share
                w11 = fy * fx * share
                for channel in range(channels):
                    out[channel, r, c] += (
                        w00 * part[channel, y0, x0]
                        + w01 * part[channel, y0, x1]
                        + w10 * part[channel, y1, x0]
                        + w11 * part[channel, y1, x1]
                    )


@njit(cache=True, nogil=True)
def _warp_labels(  # type: ignore[no-untyped-def]
    part, elastic, grid, row_first, row_weights, col_first, col_weights, matrix,
    top, left, height, width, mirrored, shared, stride, first_y, first_x, across, out,
):  # fmt: skip
    layers, rows, cols = out.shape
    mixed = np.zeros((2, grid.shape[2]), np.float32)
    for r in range(rows):
        if elastic:
            _mix_rows(grid, row_first, row_weights, r, mixed)
        for c in range(cols):
            at_y, at_x = float(r), float(c)
            if elastic:
                for k in range(4):
                    at_y += col_weights[c, k] * mixed[0, col_first[c] + k]
                    at_x += col_weights[c, k] * mixed[1, col_first[c] + k]
            y = int(np.floor(matrix[0, 0] * at_y + matrix[0, 1] * at_x + matrix[0, 2] + 0.5))
            x = int(np.floor(matrix[1, 0] * at_y + matrix[1, 1] * at_x + matrix[1, 2] + 0.5))
            picture = 0
            if not (0 <= y < height and 0 <= x < width):
                if not mirrored:
                    for layer in range(layers):
                        out[layer, r, c] = 0
                    continue
            if mirrored:
                tile_y, tile_x = y // height, x // width
                y -= tile_y * height
                x -= tile_x * width
                if tile_y % 2 != 0:
                    y = height - 1 - y
                if tile_x % 2 != 0:
                    x = width - 1 - x
                picture = (tile_y - first_y) * across + tile_x - first_x
            for layer in range(layers):
                label = part[layer, y - top, x - left]
                if mirrored and label != 0 and not shared[label]:
                    label += picture * stride
                out[layer, r, c] = label


@njit(cache=True, nogil=True)
def _look_up_image(image, rows, cols, reflect, fill, out):  # type: ignore[no-untyped-def]
    channels, height, width = image.shape
    for r in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            y, x = float(rows[r, c]), float(cols[r, c])
            if y < -0.5 or x < -0.5 or y > height - 0.5 or x > width - 0.5:
                if not reflect:
                    for channel in range(channels):
                        out[channel, r, c] = fill
                    continue
                y, x = _mirror(y, height), _mirror(x, width)
            y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            fy, fx = np.float32(y - y0), np.float32(x - x0)
            for channel in range(channels):
                upper = image[channel, y0, x0] * (np.float32(1.0) - fx) + image[channel, y0, x1] * fx
                lower = image[channel, y1, x0] * (np.float32(1.0) - fx) + image[channel, y1, x1] * fx
                out[channel, r, c] = upper * (np.float32(1.0) - fy) + lower * fy


@njit(cache=True, nogil=True)
def _look_up_labels(labels, rows, cols, out):  # type: ignore[no-untyped-def]
    layers, height, width = labels.shape
    for r in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            y, x = int(np.floor(rows[r, c] + 0.5)), int(np.floor(cols[r, c] + 0.5))
            inside = 0 <= y < height and 0 <= x < width
            for layer in range(layers):
                out[layer, r, c] = labels[layer, y, x] if inside else 0


@njit(cache=True, nogil=True)
def _shrink(image, factor, out):  # type: ignore[no-untyped-def]
    channels, height, width = image.shape
    for channel in range(channels):
        for r in range(out.shape[1]):
            y0, y1 = r * factor, min((r + 1) * factor, height)
            for c in range(out.shape[2]):
                x0, x1 = c * factor, min((c + 1) * factor, width)
                total = np.float32(0.0)
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        total += image[channel, y, x]
                out[channel, r, c] = total / np.float32((y1 - y0) * (x1 - x0))
