"""Put pictures side by side, each with a caption above it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cytomask.reporting.captions import draw_captions

_GAP, _BAND, _LETTERS = 8, 30, 17
_GROUND = 20
#: Rows up to this width are shown as they are.
_WIDTH = 900


def side_by_side(pictures: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Put pictures in a row.

    Parameters
    ----------
    pictures
        Caption and picture, uint8 ``(H, W, 3)``, of each; lower ones stand at the top.

    Returns
    -------
    numpy.ndarray
        uint8 ``(Y, X, 3)``.

    Examples
    --------
    >>> side_by_side([("image", np.zeros((50, 90, 3), np.uint8))] * 2).shape
    (80, 188, 3)
    """
    width = sum(picture.shape[1] for _, picture in pictures) + _GAP * (len(pictures) - 1)
    # A wide row is shown small: its captions must still be read.
    scale = min(max(1.0, width / _WIDTH), 3.0)
    band, letters_height = round(_BAND * scale), round(_LETTERS * scale)
    height = band + max(picture.shape[0] for _, picture in pictures)
    row = np.full((height, width, 3), _GROUND, np.uint8)
    x, middles = 0, []
    for _, picture in pictures:
        h, w = picture.shape[:2]
        row[band : band + h, x : x + w] = picture
        middles.append((band / 2, x + w / 2))
        x += w + _GAP
    letters = np.full((len(pictures), 3), 235, np.uint8)
    draw_captions(row, [caption for caption, _ in pictures], np.array(middles), letters, letters_height)
    return row
