"""Compiled loops of :mod:`cytomask.geometry.warp`.

Arguments that recur: ``elastic`` (whether there are displacements), ``grid`` (their control points ``(2, gy, gx)``),
``row_first, row_weights, col_first, col_weights`` (the B-spline: first control point and four weights of each target
row and column), ``matrix`` (target to source), ``part`` (the window of the source that begins at ``top, left``),
``height, width`` (of the whole source).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def mirror(position, size):  # type: ignore[no-untyped-def]
    """Bring a position into the image, -0.5 to size - 0.5, by reflection about the borders' outer edges."""
    period = 2.0 * size
    shifted = (position + 0.5) % period
    if shifted >= size:
        shifted = period - shifted
    return shifted - 0.5


@njit(cache=True, nogil=True)
def source_row(  # type: ignore[no-untyped-def]
    row, elastic, grid, row_first, row_weights, col_first, col_weights, matrix, mixed, ys, xs
):
    """Source positions of one target row, into ``ys`` and ``xs``; ``mixed`` is room for one line of control points."""
    if elastic:
        at = row_first[row]
        for axis in range(2):
            for g in range(grid.shape[2]):
                total = np.float32(0.0)
                for k in range(4):
                    total += row_weights[row, k] * grid[axis, at + k, g]
                mixed[axis, g] = total
    for c in range(ys.size):
        y, x = float(row), float(c)
        if elastic:
            at = col_first[c]
            for k in range(4):
                weight = col_weights[c, k]
                y += weight * mixed[0, at + k]
                x += weight * mixed[1, at + k]
        ys[c] = matrix[0, 0] * y + matrix[0, 1] * x + matrix[0, 2]
        xs[c] = matrix[1, 0] * y + matrix[1, 1] * x + matrix[1, 2]


@njit(cache=True, nogil=True)
def all_coordinates(  # type: ignore[no-untyped-def]
    elastic, grid, row_first, row_weights, col_first, col_weights, matrix, height, width
):
    rows = np.empty((height, width), np.float32)
    cols = np.empty((height, width), np.float32)
    mixed = np.zeros((2, grid.shape[2]), np.float32)
    ys, xs = np.empty(width), np.empty(width)
    for r in range(height):
        source_row(r, elastic, grid, row_first, row_weights, col_first, col_weights, matrix, mixed, ys, xs)
        rows[r] = ys
        cols[r] = xs
    return rows, cols


@njit(cache=True, nogil=True)
def linear_image(  # type: ignore[no-untyped-def]
    part, elastic, grid, row_first, row_weights, col_first, col_weights, matrix,
    top, left, height, width, factor, inside, reflect, fill, out,
):  # fmt: skip
    channels, rows, cols = out.shape
    last_y, last_x = part.shape[1] - 1, part.shape[2] - 1
    one = np.float32(1.0)
    inverse = 1.0 / factor
    mixed = np.zeros((2, grid.shape[2]), np.float32)
    ys, xs = np.empty(cols), np.empty(cols)
    for r in range(rows):
        source_row(r, elastic, grid, row_first, row_weights, col_first, col_weights, matrix, mixed, ys, xs)
        for c in range(cols):
            y, x = ys[c], xs[c]
            if not inside and (y < -0.5 or x < -0.5 or y > height - 0.5 or x > width - 0.5):
                if not reflect:
                    for channel in range(channels):
                        out[channel, r, c] = fill
                    continue
                y, x = mirror(y, height), mirror(x, width)
            y = min(max((y - top + 0.5) * inverse - 0.5, 0.0), float(last_y))
            x = min(max((x - left + 0.5) * inverse - 0.5, 0.0), float(last_x))
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, last_y), min(x0 + 1, last_x)
            fy, fx = np.float32(y - y0), np.float32(x - x0)
            w00, w01 = (one - fy) * (one - fx), (one - fy) * fx
            w10, w11 = fy * (one - fx), fy * fx
            for channel in range(channels):
                upper = w00 * part[channel, y0, x0] + w01 * part[channel, y0, x1]
                out[channel, r, c] = upper + (w10 * part[channel, y1, x0] + w11 * part[channel, y1, x1])


@njit(cache=True, nogil=True)
def heaviest_labels(  # type: ignore[no-untyped-def]
    part, elastic, grid, row_first, row_weights, col_first, col_weights, matrix,
    top, left, height, width, mirrored, shared, stride, first_y, first_x, across, out,
):  # fmt: skip
    layers, rows, cols = out.shape
    mixed = np.zeros((2, grid.shape[2]), np.float32)
    ys, xs = np.empty(cols), np.empty(cols)
    for r in range(rows):
        source_row(r, elastic, grid, row_first, row_weights, col_first, col_weights, matrix, mixed, ys, xs)
        for c in range(cols):
            y, x = int(np.floor(ys[c] + 0.5)), int(np.floor(xs[c] + 0.5))
            if 0 < y < height - 1 and 0 < x < width - 1:
                picture = -first_y * across - first_x
                # The other pixels that interpolation looks at lie to the side where the position is off the pixel.
                fy, fx = ys[c] - y, xs[c] - x
                other_y, other_x = (y - 1 if fy < 0 else y + 1), (x - 1 if fx < 0 else x + 1)
                fy, fx = abs(fy), abs(fx)
                for layer in range(layers):
                    here = part[layer, y - top, x - left]
                    beside, below = part[layer, y - top, other_x - left], part[layer, other_y - top, x - left]
                    corner = part[layer, other_y - top, other_x - left]
                    if beside != here or below != here or corner != here:
                        here = heaviest(here, beside, below, corner, fy, fx)
                    if mirrored and here != 0 and not shared[here]:
                        here += picture * stride
                    out[layer, r, c] = here
            else:
                picture = -1
                if mirrored:
                    tile_y, tile_x = y // height, x // width
                    y -= tile_y * height
                    x -= tile_x * width
                    if tile_y % 2 != 0:
                        y = height - 1 - y
                    if tile_x % 2 != 0:
                        x = width - 1 - x
                    picture = (tile_y - first_y) * across + tile_x - first_x
                elif 0 <= y < height and 0 <= x < width:
                    picture = 0
                for layer in range(layers):
                    here = part[layer, y - top, x - left] if picture >= 0 else 0
                    if mirrored and here != 0 and not shared[here]:
                        here += picture * stride
                    out[layer, r, c] = here


@njit(cache=True, nogil=True)
def heaviest(here, beside, below, corner, fy, fx):  # type: ignore[no-untyped-def]
    """The label with the largest weight in linear interpolation; the nearest pixel's, ``here``, when equal."""
    w_beside, w_below, w_corner = (1 - fy) * fx, fy * (1 - fx), fy * fx
    best, most = here, (1 - fy) * (1 - fx) + 1e-9  # rounding must not decide between equals
    if beside == here:
        most += w_beside
    if below == here:
        most += w_below
    if corner == here:
        most += w_corner
    weight = w_beside + (w_below if below == beside else 0.0) + (w_corner if corner == beside else 0.0)
    if weight > most:
        best, most = beside, weight
    weight = w_below + (w_corner if corner == below else 0.0)
    if weight > most:
        best, most = below, weight
    return best


@njit(cache=True, nogil=True)
def cut_half(bits, top, left, out):  # type: ignore[no-untyped-def]
    """Half precision to single, by moving the exponent: faster than the conversion that numpy has."""
    channels, height, width = out.shape
    scale = np.float32(2.0**112)
    line = np.empty(width, np.uint32)
    values = line.view(np.float32)
    for channel in range(channels):
        for y in range(height):
            source = bits[channel, top + y]
            target = out[channel, y]
            for x in range(width):
                half = np.uint32(source[left + x])
                line[x] = ((half & np.uint32(0x8000)) << np.uint32(16)) | ((half & np.uint32(0x7FFF)) << np.uint32(13))
            for x in range(width):
                target[x] = values[x] * scale


@njit(cache=True, nogil=True)
def smooth(image, side):  # type: ignore[no-untyped-def]
    """Filter by (side, 1 - 2 side, side) along both axes; the border is mirrored."""
    channels, height, width = image.shape
    out = np.empty_like(image)
    middle = np.float32(1.0) - np.float32(2.0) * side
    line = np.empty(width + 2, np.float32)
    for channel in range(channels):
        for y in range(height):
            above, here = image[channel, max(y - 1, 0)], image[channel, y]
            below, target = image[channel, min(y + 1, height - 1)], out[channel, y]
            for x in range(width):
                line[x + 1] = side * (above[x] + below[x]) + middle * here[x]
            line[0], line[width + 1] = line[1], line[width]
            for x in range(width):
                target[x] = side * (line[x] + line[x + 2]) + middle * line[x + 1]
    return out


@njit(cache=True, nogil=True)
def look_up_image(image, rows, cols, reflect, fill, out):  # type: ignore[no-untyped-def]
    channels, height, width = image.shape
    for r in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            y, x = float(rows[r, c]), float(cols[r, c])
            if y < -0.5 or x < -0.5 or y > height - 0.5 or x > width - 0.5:
                if not reflect:
                    for channel in range(channels):
                        out[channel, r, c] = fill
                    continue
                y, x = mirror(y, height), mirror(x, width)
            y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            fy, fx = np.float32(y - y0), np.float32(x - x0)
            for channel in range(channels):
                upper = image[channel, y0, x0] * (np.float32(1.0) - fx) + image[channel, y0, x1] * fx
                lower = image[channel, y1, x0] * (np.float32(1.0) - fx) + image[channel, y1, x1] * fx
                out[channel, r, c] = upper * (np.float32(1.0) - fy) + lower * fy


@njit(cache=True, nogil=True)
def look_up_labels(labels, rows, cols, out):  # type: ignore[no-untyped-def]
    layers, height, width = labels.shape
    for r in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            y, x = int(np.floor(rows[r, c] + 0.5)), int(np.floor(cols[r, c] + 0.5))
            inside = 0 <= y < height and 0 <= x < width
            for layer in range(layers):
                out[layer, r, c] = labels[layer, y, x] if inside else 0


@njit(cache=True, nogil=True)
def average_blocks(image, factor, out):  # type: ignore[no-untyped-def]
    channels, height, width = image.shape
    line = np.empty(width, np.float32)
    for channel in range(channels):
        for r in range(out.shape[1]):
            y0, y1 = r * factor, min((r + 1) * factor, height)
            line[:] = image[channel, y0]
            for y in range(y0 + 1, y1):
                row = image[channel, y]
                for x in range(width):
                    line[x] += row[x]
            for c in range(out.shape[2]):
                x0, x1 = c * factor, min((c + 1) * factor, width)
                total = np.float32(0.0)
                for x in range(x0, x1):
                    total += line[x]
                out[channel, r, c] = total / np.float32((y1 - y0) * (x1 - x0))
