"""Put pictures side by side, each with a caption above it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cytomask.reporting.captions import draw_captions

_GAP, _BAND, _LETTERS = 8, 30, 17
_GROUND = 20


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
    height = _BAND + max(picture.shape[0] for _, picture in pictures)
    width = sum(picture.shape[1] for _, picture in pictures) + _GAP * (len(pictures) - 1)
    row = np.full((height, width, 3), _GROUND, np.uint8)
    x, middles = 0, []
    for _, picture in pictures:
        h, w = picture.shape[:2]
        row[_BAND : _BAND + h, x : x + w] = picture
        middles.append((_BAND / 2, x + w / 2))
        x += w + _GAP
    letters = np.full((len(pictures), 3), 235, np.uint8)
    draw_captions(row, [caption for caption, _ in pictures], np.array(middles), letters, _LETTERS)
    return row
