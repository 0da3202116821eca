"""A legend of classes below a picture: their colours, names, and how many objects there are of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GROUND, _LETTERS = (18, 18, 18), (235, 235, 235)
#: Longer names are cut.
_MOST_LETTERS = 60


def add_legend(
    picture: np.ndarray,
    names: Sequence[str],
    colours: np.ndarray,
    counts: Sequence[int] | None = None,
    size: int | None = None,
) -> np.ndarray:
    """Put a legend below a picture, so that it hides nothing.

    The entries stand side by side, in as many rows as they need. The picture keeps its place, from the first pixel on;
    where it is narrower than an entry, it gets a dark margin at its right.

    Parameters
    ----------
    picture
        uint8 ``(H, W, 3)``.
    names
        Names of the classes; with none there is no legend.
    colours
        uint8 ``(N, 3)``, one for each name.
    counts
        Objects of each class, told in brackets.
    size
        Height of the letters in pixels; None for one that suits the picture.

    Returns
    -------
    numpy.ndarray
        uint8 ``(H + h, max(W, w), 3)``.

    Examples
    --------
    >>> colours = np.array([(255, 0, 0), (0, 255, 0)], np.uint8)
    >>> picture = add_legend(np.zeros((90, 400, 3), np.uint8), ["cell", "debris"], colours, [3, 0])
    >>> picture.shape[1], 90 < picture.shape[0] < 130
    (400, True)
    """
    if not len(names):
        return picture
    height, width = picture.shape[:2]
    if size is None:
        size = int(np.clip(round(max(height, width) / 42), 11, 60))
    font = ImageFont.load_default(size=size)
    gap, row = max(3, size // 2), round(1.6 * size)
    texts = [_entry(name, None if counts is None else counts[i]) for i, name in enumerate(names)]
    wide = [size + gap + int(np.ceil(font.getlength(text))) + 2 * gap for text in texts]
    canvas = max(width, gap + max(wide))
    places, x, y = [], gap, gap // 2
    for entry in wide:
        if x > gap and x + entry > canvas:
            x, y = gap, y + row
        places.append((x, y))
        x += entry
    strip = Image.new("RGB", (canvas, y + row + gap // 2), _GROUND)
    pen = ImageDraw.Draw(strip)
    for (x, y), text, colour in zip(places, texts, colours):
        top = y + (row - size) // 2
        pen.rectangle((x, top, x + size - 1, top + size - 1), fill=tuple(int(v) for v in colour))
        pen.text((x + size + gap, y + row // 2), text, fill=_LETTERS, font=font, anchor="lm")
    whole = np.empty((height + strip.height, canvas, 3), np.uint8)
    whole[:height, :width], whole[:height, width:] = picture, _GROUND
    whole[height:] = np.asarray(strip)
    return whole


def _entry(name: str, count: int | None) -> str:
    """The text of an entry; what would break the line is left out.

    Examples
    --------
    >>> _entry("alpha granule", 31), _entry("x" * 99, None)[-3:]
    ('alpha granule (31)', 'xx…')
    """
    plain = " ".join(name.split())
    short = plain if len(plain) <= _MOST_LETTERS else f"{plain[: _MOST_LETTERS - 1]}…"
    return short if count is None else f"{short} ({count})"
