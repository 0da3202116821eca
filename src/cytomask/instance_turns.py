"""Turn and mirror the objects of an image, exactly."""

from __future__ import annotations

from dataclasses import replace

from cytomask.geometry.turns import Turn, turn_masks
from cytomask.instances import Instances


def turned(instances: Instances, turn: Turn) -> Instances:
    """Turn the objects with their image.

    Parameters
    ----------
    instances
        The objects.
    turn
        How; with ``turn.inverse`` all pixels are back where they were.

    Returns
    -------
    Instances
        The same objects in the same order. Masks are exact, and so are boxes of whole numbers; others are rounded to
        float32, to 1/100 pixel in any image of up to 100 000 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> cells = Instances.from_labels(np.array([[1, 2, 2], [0, 0, 2]]))
    >>> turned(cells, Turn.quarter(1)).to_labels()
    array([[2, 2],
           [2, 0],
           [1, 0]], dtype=int32)
    """
    masks = turn_masks(instances.windows, instances.bits, instances.offsets, instances.shape, turn)
    return replace(
        instances,
        shape=turn.size(instances.shape),
        windows=masks[0],
        bits=masks[1],
        offsets=masks[2],
        boxes=turn.boxes(instances.boxes, instances.shape),
    )
