"""A grid of training items: each as the network gets it, the truth outlined over it, and what chance did below it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from cytomask.instances import Instances
from cytomask.reporting.colours import PALETTE, class_colours, colour_of_objects
from cytomask.reporting.display import CHANNEL_COLOURS
from cytomask.reporting.legend import add_legend
from cytomask.reporting.outlines import disc, fill_masks, mark_outlines, paint_marks
from cytomask.reporting.overlay import RIM_DARKNESS, write_png

#: Tiles are enlarged by whole factors until their longer side is at least the first, or shrunk to the second.
SMALL, LARGE = 190, 300
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_GROUND, _TITLE, _TEXT, _FAINT = (18, 18, 18), (245, 245, 245), (200, 200, 200), (150, 150, 150)
_MARGIN, _GAP, _LABEL = 16, 10, 190
#: Crowd regions, from which nothing is learnt, are veiled in grey.
_VEIL, _VEIL_OPACITY = np.array([[160, 160, 160]], np.uint8), 0.55


@dataclass(frozen=True, eq=False)
class PreviewTile:
    """A training item.

    Attributes
    ----------
    pixels
        float ``(C, Y, X)``.
    objects
        Its annotation.
    crowd
        Ids of regions from which nothing is learnt.
    caption
        What chance did to it.
    """

    pixels: np.ndarray
    objects: Instances
    crowd: frozenset[int] = frozenset()
    caption: str = ""


@dataclass(frozen=True, eq=False)
class PreviewRow:
    """Items side by side: what they are called, more about them, and the pixel values that are black and white."""

    title: str
    tiles: Sequence[PreviewTile]
    lines: Sequence[str] = ()
    limits: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class PreviewGrid:
    """Rows of training items as one picture, which a notebook shows by itself.

    Attributes
    ----------
    heading
        What it shows.
    rows
        The items.
    lines
        More about all of them.
    class_names
        With several, outlines have the classes' colours, and a legend.
    split_channels
        Show the network's channels side by side, in grey, rather than together in colours.

    Examples
    --------
    >>> labels = np.zeros((64, 64), np.int32)
    >>> labels[10:30, 10:30] = 1
    >>> tile = PreviewTile(np.zeros((1, 64, 64), np.float32), Instances.from_labels(labels), caption="zoom 1.20")
    >>> grid = PreviewGrid("nuclei", [PreviewRow("a", [tile, tile])])
    >>> grid.picture.dtype, grid.picture.shape[2], grid.picture.shape[1] > 2 * 192
    (dtype('uint8'), 3, True)
    """

    heading: str
    rows: Sequence[PreviewRow]
    lines: Sequence[str] = ()
    class_names: tuple[str, ...] = field(default=("object",))
    split_channels: bool = False

    @cached_property
    def picture(self) -> np.ndarray:
        """The whole, uint8 ``(Y, X, 3)``."""
        drawn = [[self._draw(tile, row.limits) for tile in row.tiles] for row in self.rows]
        columns = max(len(row) for row in drawn)
        widths = [max(row[i].shape[1] for row in drawn if i < len(row)) for i in range(columns)]
        width = 2 * _MARGIN + _LABEL + sum(widths) + _GAP * columns
        small, large = ImageFont.load_default(size=12), ImageFont.load_default(size=18)
        parts = [_band(width, self.heading, self.lines, large, small)]
        for row, tiles in zip(self.rows, drawn):
            parts.append(_row(width, widths, row, tiles, small))
        whole = np.concatenate(parts)
        if len(self.class_names) > 1:
            present = np.zeros(len(self.class_names), np.int64)
            for row in self.rows:
                for tile in row.tiles:
                    present += np.bincount(tile.objects.classes, minlength=len(present) + 1)[1:]
            whole = add_legend(whole, self.class_names, class_colours(len(present)), present.tolist(), size=14)
        return whole

    def write(self, path: str | Path) -> None:
        """Write it as PNG; the file appears complete or not at all."""
        write_png(path, self.picture)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        Picture.fromarray(self.picture).save(content, "PNG")
        return content.getvalue()

    def _draw(self, tile: PreviewTile, limits: tuple[float, float]) -> np.ndarray:
        views = [channel[None] for channel in tile.pixels] if self.split_channels else [tile.pixels]
        pictures = [self._outlined(tile, _coloured(pixels, limits)) for pixels in views]
        gaps = [np.full((pictures[0].shape[0], 2, 3), _GROUND, np.uint8)] * (len(pictures) - 1)
        return np.concatenate([part for pair in zip(pictures, [*gaps, pictures[0][:, :0]]) for part in pair], axis=1)

    def _outlined(self, tile: PreviewTile, picture: np.ndarray) -> np.ndarray:
        picture = _fitted(picture)
        objects = tile.objects.resized((picture.shape[0], picture.shape[1]))
        if not len(objects):
            return picture
        several = len(self.class_names) > 1
        colours = (objects.classes.astype(np.int64) - 1) % len(PALETTE) if several else colour_of_objects(objects)
        left_out = np.isin(objects.ids, list(tile.crowd))
        areas = objects.areas()
        masks = (objects.windows.astype(np.int64), objects.bits, objects.offsets)
        veiled = np.flatnonzero(left_out & (areas > 0))
        if len(veiled):
            fill_masks(picture, *masks, veiled, np.zeros(len(objects), np.int64), _VEIL, _VEIL_OPACITY, 1)
        # Small ones last, so that what lies inside others is seen.
        order = np.argsort(-areas, kind="stable")
        order = order[(areas[order] > 0) & ~left_out[order]]
        if len(order):
            marks = np.zeros(picture.shape[:2], np.uint8)
            mark_outlines(marks, *masks, order, colours, disc(0), disc(1), 1)
            paint_marks(picture, marks, PALETTE, RIM_DARKNESS)
        return picture


def _coloured(pixels: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """8-bit colours of the channels: one in grey, two in green and magenta, three as red, green and blue."""
    low, high = limits
    light = np.clip((pixels.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    if len(light) == 1:
        light = np.repeat(light, 3, axis=0)
    elif len(light) != 3:
        hues = np.array([CHANNEL_COLOURS[c % len(CHANNEL_COLOURS)] for c in range(len(light))], np.float32) / 255
        light = np.minimum(np.tensordot(hues.T, light, axes=1), 1)
    return np.rint(np.moveaxis(light, 0, -1) * 255).astype(np.uint8)


def _fitted(picture: np.ndarray) -> np.ndarray:
    """Enlarge a small tile by a whole factor, or shrink a large one."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    if longest > LARGE:
        size = (max(1, round(width * LARGE / longest)), max(1, round(height * LARGE / longest)))
        return np.array(Picture.fromarray(picture).resize(size, Picture.Resampling.LANCZOS))
    factor = math.ceil(SMALL / longest)
    return np.ascontiguousarray(picture.repeat(factor, axis=0).repeat(factor, axis=1))


def _band(width: int, heading: str, lines: Sequence[str], large: _Font, small: _Font) -> np.ndarray:
    below = [part for line in lines for part in _wrapped(line, width - 2 * _MARGIN, small)]
    band = Picture.new("RGB", (width, _MARGIN + 26 + 17 * len(below) + 4), _GROUND)
    pen = ImageDraw.Draw(band)
    pen.text((_MARGIN, _MARGIN), heading, fill=_TITLE, font=large)
    for i, line in enumerate(below):
        pen.text((_MARGIN, _MARGIN + 26 + 17 * i), line, fill=_TEXT, font=small)
    return np.asarray(band)


def _row(width: int, widths: Sequence[int], row: PreviewRow, tiles: Sequence[np.ndarray], font: _Font) -> np.ndarray:
    """One row: its name at the left, the tiles, and their captions below."""
    captions = [_wrapped(tile.caption, wide, font) for tile, wide in zip(row.tiles, widths)]
    title = ImageFont.load_default(size=14)
    names = _wrapped(row.title, _LABEL - _GAP, title)
    lines = [part for line in row.lines for part in _wrapped(line, _LABEL - _GAP, font)]
    text_height = 18 * len(names) + 16 * len(lines)
    below = max((len(caption) for caption in captions), default=0)
    height = max(max(tile.shape[0] for tile in tiles) + 4 + 15 * below, text_height) + 2 * _GAP
    band = Picture.new("RGB", (width, height), _GROUND)
    pen = ImageDraw.Draw(band)
    for i, name in enumerate(names):
        pen.text((_MARGIN, _GAP + 18 * i), name, fill=_TITLE, font=title)
    for i, line in enumerate(lines):
        pen.text((_MARGIN, _GAP + 18 * len(names) + 16 * i), line, fill=_FAINT, font=font)
    x = _MARGIN + _LABEL
    for tile, caption, wide in zip(tiles, captions, widths):
        band.paste(Picture.fromarray(tile), (x, _GAP))
        for i, line in enumerate(caption):
            pen.text((x, _GAP + tile.shape[0] + 4 + 15 * i), line, fill=_TEXT, font=font)
        x += wide + _GAP
    return np.asarray(band)


def _wrapped(text: str, width: int, font: _Font) -> list[str]:
    """Break a text into lines of at most ``width`` pixels; a longer word is cut into pieces."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        lines += [line] if line else []
        while font.getlength(word) > width and len(word) > 1:
            fits = next(n for n in range(len(word), 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line else lines
