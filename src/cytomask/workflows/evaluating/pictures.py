"""Turn the images that went worst into pictures for the page of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cytomask.errors import CytomaskError
from cytomask.evaluation.error_kinds import HIT, PREDICTION_KINDS, TRUTH_KINDS
from cytomask.evaluation.worst import WorstImage
from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.progress import say
from cytomask.reporting.evaluation_pictures import EvaluationPicture

#: Larger images are shown in part: so large a window, with the most errors in it.
WINDOW = 1024
_STEP = WINDOW // 4


def make_pictures(worst: Sequence[WorstImage]) -> list[EvaluationPicture]:
    """Read the images, and give every object its kind; crowd regions, which have none, are left out.

    An image that cannot be read, or has another size than its objects, is shown as objects on a plain ground.
    """
    return [_picture(one) for one in worst]


def _picture(one: WorstImage) -> EvaluationPicture:
    truth, truth_kinds = _with_kinds(one.truth, one.kinds.truth_ids, one.kinds.truth_kinds)
    prediction, kinds = _with_kinds(one.prediction, one.kinds.prediction_ids, one.kinds.prediction_kinds)
    return EvaluationPicture(
        one.name,
        _image(one),
        truth,
        prediction,
        truth_kinds,
        kinds,
        one.figures,
        window_of_errors(truth.shape, [truth.windows[truth_kinds != HIT], prediction.windows[kinds != HIT]]),
        TRUTH_KINDS,
        PREDICTION_KINDS,
    )


def _with_kinds(objects: Instances, ids: np.ndarray, kinds: np.ndarray) -> tuple[Instances, np.ndarray]:
    kind_of = dict(zip(ids.tolist(), kinds.tolist()))
    kept = np.array([i in kind_of for i in objects.ids.tolist()], bool)
    chosen = objects.take(kept)
    return chosen, np.array([kind_of[i] for i in chosen.ids.tolist()], np.uint8)


def _image(one: WorstImage) -> Image | None:
    if one.image_path is None:
        return None
    try:
        image = read_image(one.image_path)
    except CytomaskError as error:
        say(f"{one.name} is shown without its image: {error.what}")
        return None
    if image.shape != tuple(one.truth.shape):
        say(f"{one.name} is shown without its image, which has another size than its objects")
        return None
    return image


def window_of_errors(
    shape: tuple[int, int], windows: Sequence[np.ndarray], size: int = WINDOW
) -> tuple[int, int, int, int] | None:
    """The part of a large image with the most errors, ``(y0, x0, y1, x1)``; None to show the whole image.

    Parameters
    ----------
    shape
        Height and width of the image.
    windows
        The windows of the objects that went wrong, ``(N, 4)`` each.
    size
        Side of the part.

    Examples
    --------
    >>> window_of_errors((3000, 900), [np.array([[2500, 50, 2520, 70]])])
    (1536, 0, 2560, 900)
    """
    height, width = shape
    if max(height, width) <= 2 * size:
        return None
    found = np.concatenate([np.zeros((0, 4)), *windows])
    y, x = (found[:, 0] + found[:, 2]) / 2, (found[:, 1] + found[:, 3]) / 2
    best, most = (0, 0), -1
    for y0 in range(0, max(1, height - size + _STEP), _STEP):
        for x0 in range(0, max(1, width - size + _STEP), _STEP):
            inside = int(((y >= y0) & (y < y0 + size) & (x >= x0) & (x < x0 + size)).sum())
            if inside > most:
                best, most = (y0, x0), inside
    y0, x0 = best
    return y0, x0, min(y0 + size, height), min(x0 + size, width)
