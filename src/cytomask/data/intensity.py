"""Random changes of brightness, contrast, sharpness and colour: what other microscopes and cameras would have made.

Images are float32 ``(C, Y, X)`` after normalisation, so that dark is about 0 and bright about 1. Each change has a
probability and a range; what is drawn depends on the given random generator alone.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cytomask.data.augment_config import Change, IntensityConfig, Noise, Unevenness
from cytomask.data.change_notes import note_change

_Image = npt.NDArray[np.float32]


def change_intensity(
    image: _Image,
    config: IntensityConfig,
    rng: np.random.Generator,
    *,
    channels: int | None = None,
    diameter: float | None = None,
) -> _Image:
    """Change the pixel values of a patch at random.

    Parameters
    ----------
    image
        float32 ``(C, Y, X)``, about 0 to 1.
    config
        What may be done.
    rng
        Decides all that is drawn.
    channels
        Channels of the result; more than ``C`` only for a grey picture (``C`` = 1), which is then shown in all of
        them. ``C`` if None.
    diameter
        Usual diameter of the objects in the patch, in pixels: limits the loss of sharpness, so that small objects
        stay visible.

    Returns
    -------
    numpy.ndarray
        float32 ``(channels, Y, X)``, a new array.

    Raises
    ------
    ValueError
        If a picture of several channels should get another number of them.

    Examples
    --------
    >>> image = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4)
    >>> config = IntensityConfig(inversion={"probability": 1})
    >>> one, two = (change_intensity(image, config, np.random.default_rng(7)) for _ in range(2))
    >>> bool((one == two).all())
    True
    """
    channels = len(image) if channels is None else channels
    if channels != len(image) and len(image) != 1:
        raise ValueError(f"a picture of {len(image)} channels cannot be shown in {channels}")
    image = _tone(image, config, rng)
    if _happens(config.unevenness, rng):
        _make_uneven(image, config.unevenness, rng)
    image = _colour(image, config, rng, channels)
    if _happens(config.blur, rng):
        sigma = _log_uniform(config.blur.sigma, rng)
        sigma = min(sigma, config.blur.of_diameter * (diameter or math.inf))
        image = blurred(image, sigma)
        note_change("blur {:.1f} px", sigma)
    noise_first = rng.random() < 0.5
    if noise_first:
        image = _noisy(image, config.noise, rng)
    if _happens(config.low_resolution, rng):
        factor = _log_uniform(config.low_resolution.factor, rng)
        factor = min(factor, config.low_resolution.of_diameter * (diameter or math.inf))
        image = coarsened(image, factor)
        note_change("low resolution {:.1f} px", max(factor, 1.0))
    if not noise_first:
        image = _noisy(image, config.noise, rng)
    if len(image) != channels:
        image = np.repeat(image, channels, axis=0)
    return image


def _happens(change: Change, rng: np.random.Generator) -> bool:
    return bool(rng.random() < change.probability)


def _log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return float(math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1]))))


def _tone(image: _Image, config: IntensityConfig, rng: np.random.Generator) -> _Image:
    """Inversion, gamma and brightness in one pass."""
    invert = _happens(config.inversion, rng)
    gamma = _log_uniform(config.gamma.gamma, rng) if _happens(config.gamma, rng) else 1.0
    gain, offset = 1.0, 0.0
    if _happens(config.brightness, rng):
        gain, offset = _log_uniform(config.brightness.gain, rng), rng.uniform(*config.brightness.offset)
    out = np.array(image, np.float32, order="C")
    if invert:
        note_change("inversion")
    if gamma != 1:
        note_change("gamma {:.2f}", gamma)
    if gain != 1 or offset != 0:
        note_change("brightness x{:.2f} {:+.2f}", gain, offset)
    if invert or gamma != 1 or gain != 1 or offset != 0:
        _change_tone(out, invert, np.float32(gamma), np.float32(gain), np.float32(offset))
    return out


def _make_uneven(image: _Image, config: Unevenness, rng: np.random.Generator) -> None:
    """Add, or multiply by one plus, a random quadratic surface that spans ``strength``."""
    strength = rng.uniform(*config.strength)
    note_change("unevenness {:.2f}", strength)
    height, width = image.shape[1:]
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    angle, bulge = rng.uniform(0, 2 * math.pi), rng.uniform(-1, 1)
    middle = rng.uniform(-0.7, 0.7, 2)
    down = math.sin(angle) * y + bulge * (y - middle[0]) ** 2
    across = math.cos(angle) * x + bulge * (x - middle[1]) ** 2
    low, high = float(down.min() + across.min()), float(down.max() + across.max())
    surface = ((down - low)[:, None] + across[None, :]).astype(np.float32)
    surface *= np.float32(strength / max(high - low, 1e-6))
    if rng.random() < 0.5:
        image += surface
    else:
        surface += np.float32(1 - strength / 2)
        image *= surface


def _colour(image: _Image, config: IntensityConfig, rng: np.random.Generator, channels: int) -> _Image:
    """Tint a grey picture, or turn the hue and change the saturation of a coloured one."""
    tint, jitter = _happens(config.tint, rng), _happens(config.colour, rng)
    if channels != 3:
        return image
    if len(image) == 1:
        if not tint:
            return image
        weights = rng.uniform(*config.tint.others, 3)
        weights[rng.integers(3)] = 1.0
        if image.mean() > 0.5:
            weights = 0.5 + 0.5 * weights
        note_change("tint")
        return image * weights.astype(np.float32)[:, None, None]
    if jitter:
        hue = math.radians(rng.uniform(-config.colour.hue, config.colour.hue))
        saturation = rng.uniform(*config.colour.saturation)
        note_change("hue {:.0f}°, saturation {:.2f}", math.degrees(hue), saturation)
        return mixed_channels(image, colour_matrix(hue, saturation))
    return image


def colour_matrix(hue: float, saturation: float) -> npt.NDArray[np.float32]:
    """Matrix ``(3, 3)`` that turns red, green and blue about the grey axis, and scales the distance from it.

    Grey stays grey.

    Examples
    --------
    >>> colour_matrix(0.3, 0.5).sum(axis=1).round(5)
    array([1., 1., 1.], dtype=float32)
    """
    c, s = math.cos(hue), math.sin(hue) / math.sqrt(3)
    third = (1 - c) / 3
    same, less, more = c + third, third - s, third + s
    turn = np.array([[same, less, more], [more, same, less], [less, more, same]])
    grey = np.array([0.299, 0.587, 0.114])
    return (saturation * turn + (1 - saturation) * np.tile(grey, (3, 1))).astype(np.float32)


def mixed_channels(image: _Image, matrix: npt.NDArray[np.float32]) -> _Image:
    """Multiply each pixel's three channels by a matrix ``(3, 3)``."""
    out = np.empty_like(image)
    _mix(image, matrix, out)
    return out


def blurred(image: _Image, sigma: float) -> _Image:
    """Filter each channel with a Gaussian of ``sigma`` pixels, cut at 3 sigma; the border is mirrored.

    Examples
    --------
    >>> blurred(np.ones((1, 3, 5), np.float32), 2.0).round(4).min()
    np.float32(1.0)
    """
    radius = int(3 * sigma + 0.5)
    if radius < 1:
        return image.copy()
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    out = np.empty_like(image)
    _blur(np.ascontiguousarray(image), (kernel / kernel.sum()).astype(np.float32), out)
    return out


def coarsened(image: _Image, factor: float) -> _Image:
    """Show the picture as if its pixels were ``factor`` times as large: averaged, then interpolated linearly."""
    if factor <= 1:
        return image.copy()
    channels, height, width = image.shape
    small = np.empty((channels, max(1, round(height / factor)), max(1, round(width / factor))), np.float32)
    _average_down(np.ascontiguousarray(image), small)
    out = np.empty_like(image)
    _interpolate_up(small, out)
    return out


def _noisy(image: _Image, config: Noise, rng: np.random.Generator) -> _Image:
    if not _happens(config, rng):
        return image
    camera, photons = rng.uniform(*config.camera), rng.uniform(*config.photons)
    if camera > 0 or photons > 0:
        note_change("noise {:.2f}", math.hypot(camera, photons))
        normal = rng.standard_normal(image.shape, dtype=np.float32)
        image = np.ascontiguousarray(image)
        _add_noise(image, normal, np.float32(camera**2), np.float32(photons**2))
    return image


@njit(cache=True, nogil=True)
def _change_tone(image, invert, gamma, gain, offset):  # type: ignore[no-untyped-def]
    flat = image.reshape(-1)
    one = np.float32(1.0)
    for i in range(flat.size):
        value = flat[i]
        if invert:
            value = one - value
        if gamma != one and value > 0:
            value = np.exp(gamma * np.log(value))
        flat[i] = value * gain + offset


@njit(cache=True, nogil=True)
def _add_noise(image, normal, camera, photons):  # type: ignore[no-untyped-def]
    flat, random = image.reshape(-1), normal.reshape(-1)
    for i in range(flat.size):
        flat[i] += random[i] * np.sqrt(camera + photons * max(flat[i], np.float32(0.0)))


@njit(cache=True, nogil=True)
def _mix(image, matrix, out):  # type: ignore[no-untyped-def]
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            a, b, c = image[0, y, x], image[1, y, x], image[2, y, x]
            for channel in range(3):
                out[channel, y, x] = matrix[channel, 0] * a + matrix[channel, 1] * b + matrix[channel, 2] * c


@njit(cache=True, nogil=True)
def _reflected(index, size):  # type: ignore[no-untyped-def]
    index %= 2 * size
    return index if index < size else 2 * size - 1 - index


@njit(cache=True, nogil=True)
def _blur(image, kernel, out):  # type: ignore[no-untyped-def]
    channels, height, width = image.shape
    radius = len(kernel) // 2
    down = np.empty(width, np.float32)
    wide = np.empty(width + 2 * radius, np.float32)
    for channel in range(channels):
        for y in range(height):
            down[:] = 0
            for k in range(len(kernel)):
                row = image[channel, _reflected(y + k - radius, height)]
                weight = kernel[k]
                for x in range(width):
                    down[x] += weight * row[x]
            for x in range(width + 2 * radius):
                inside = radius <= x < width + radius
                wide[x] = down[x - radius] if inside else down[_reflected(x - radius, width)]
            target = out[channel, y]
            target[:] = 0
            for k in range(len(kernel)):
                weight = kernel[k]
                for x in range(width):
                    target[x] += weight * wide[x + k]


@njit(cache=True, nogil=True)
def _average_down(image, out):  # type: ignore[no-untyped-def]
    """Average over boxes that cover the picture, with shares of the pixels that they cut."""
    channels, height, width = image.shape
    _, rows, cols = out.shape
    step_y, step_x = height / rows, width / cols
    line = np.empty(width, np.float32)
    for channel in range(channels):
        for r in range(rows):
            y0, y1 = r * step_y, (r + 1) * step_y
            line[:] = 0
            for y in range(int(y0), min(int(np.ceil(y1 - 1e-9)), height)):
                share = np.float32((min(y + 1.0, y1) - max(float(y), y0)) / step_y)
                for x in range(width):
                    line[x] += share * image[channel, y, x]
            for c in range(cols):
                x0, x1 = c * step_x, (c + 1) * step_x
                total = np.float32(0.0)
                for x in range(int(x0), min(int(np.ceil(x1 - 1e-9)), width)):
                    total += np.float32((min(x + 1.0, x1) - max(float(x), x0)) / step_x) * line[x]
                out[channel, r, c] = total


@njit(cache=True, nogil=True)
def _interpolate_up(image, out):  # type: ignore[no-untyped-def]
    channels, rows, cols = image.shape
    _, height, width = out.shape
    for channel in range(channels):
        for r in range(height):
            y = min(max((r + 0.5) * rows / height - 0.5, 0.0), rows - 1.0)
            y0 = int(y)
            y1, fy = min(y0 + 1, rows - 1), np.float32(y - y0)
            for c in range(width):
                x = min(max((c + 0.5) * cols / width - 0.5, 0.0), cols - 1.0)
                x0 = int(x)
                x1, fx = min(x0 + 1, cols - 1), np.float32(x - x0)
                upper = image[channel, y0, x0] + fx * (image[channel, y0, x1] - image[channel, y0, x0])
                lower = image[channel, y1, x0] + fx * (image[channel, y1, x1] - image[channel, y1, x0])
                out[channel, r, c] = upper + fy * (lower - upper)
