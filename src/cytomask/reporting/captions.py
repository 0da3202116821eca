"""Write short texts into a picture, legible on any ground."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: Part of the light that the dark edge around letters takes away.
_EDGE_DARKNESS = 0.8


def draw_captions(
    picture: np.ndarray, texts: Sequence[str], middles: np.ndarray, colours: np.ndarray, size: int
) -> None:
    """Write texts in their colours, each with a dark edge, moved inside the picture where they would leave it.

    Parameters
    ----------
    picture
        uint8 ``(H, W, 3)``, changed in place.
    texts
        N texts; equal ones are rendered once.
    middles
        ``(N, 2)``: where their middles shall lie, y and x.
    colours
        uint8 ``(N, 3)``.
    size
        Height of the letters in pixels, about.

    Examples
    --------
    >>> picture = np.full((40, 60, 3), 128, np.uint8)
    >>> draw_captions(picture, ["0.93"], np.array([[20, 30]]), np.array([[255, 255, 0]], np.uint8), 14)
    >>> bool((picture == (255, 255, 0)).all(axis=-1).any()), bool((picture < 60).any())
    (True, True)
    """
    font = ImageFont.load_default(size=size)
    edge = max(1, round(size / 9))
    rendered: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for text, middle, colour in zip(texts, middles, colours):
        if text not in rendered:
            rendered[text] = _render(text, font, edge)
        letters, edges = rendered[text]
        height, width = min(letters.shape[0], picture.shape[0]), min(letters.shape[1], picture.shape[1])
        y = int(np.clip(round(middle[0] - height / 2), 0, picture.shape[0] - height))
        x = int(np.clip(round(middle[1] - width / 2), 0, picture.shape[1] - width))
        part = picture[y : y + height, x : x + width]
        light = part * (1 - _EDGE_DARKNESS * edges[:height, :width, None])
        light += letters[:height, :width, None] * (colour.astype(np.float32) - light)
        part[:] = np.rint(light).astype(np.uint8)


def _render(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, edge: int) -> tuple[np.ndarray, np.ndarray]:
    """How much of each pixel the letters, and the letters with their edge, cover: float32 from 0 to 1."""
    ruler = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = ruler.textbbox((0, 0), text, font=font, stroke_width=edge)
    size = max(1, int(np.ceil(right - left))), max(1, int(np.ceil(bottom - top)))
    layers = []
    for stroke in (0, edge):
        layer = Image.new("L", size)
        ImageDraw.Draw(layer).text((-left, -top), text, fill=255, font=font, stroke_width=stroke)
        layers.append(np.asarray(layer, np.float32) / 255)
    return layers[0], layers[1]
