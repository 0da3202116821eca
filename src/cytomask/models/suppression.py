"""The shapes by which proposals compete, for every family that says their boxes and draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from cytomask.geometry.competition import Shapes, box_shapes, mask_shapes
from cytomask.models.proposals import Proposals

if TYPE_CHECKING:
    from cytomask.models.segmenter import Segmenter

#: A mask larger than this, in network pixels, competes with its first so many rows and columns.
LARGEST_MASK = 8192


def competing_shapes(segmenter: Segmenter, proposals: Proposals, by: Literal["box", "mask"], per_class: bool) -> Shapes:
    """Make the shapes that proposals compete with. Each follows from its proposal alone.

    Parameters
    ----------
    segmenter
        Knows the proposals' boxes, and draws them.
    proposals
        In network pixels, anywhere: also outside of the image.
    by
        ``"box"``: their tight boxes; ``"mask"``: their masks at the network's scale.
    per_class
        Whether only proposals of the same class compete.
    """
    kinds = proposals.classes if per_class else None
    if by == "box":
        return box_shapes(segmenter.boxes(proposals), kinds)
    if not len(proposals):
        return mask_shapes(np.zeros((0, 4)), np.zeros(0), np.zeros(1), np.zeros(0), kinds)
    bounds = segmenter.bounds(proposals)
    # Each is drawn near the origin by itself, so that rounding is the same whichever others are there.
    starts = np.floor(bounds[:, :2]).astype(np.int64)
    height, width = np.minimum(np.ceil(bounds[:, 2:] - starts).max(axis=0).astype(np.int64) + 1, LARGEST_MASK).tolist()
    points = (proposals.points - starts).astype(np.float32)
    drawn = segmenter.render(
        Proposals(points, proposals.scores, proposals.classes, proposals.data), (max(height, 1), max(width, 1))
    )
    windows = drawn.windows.astype(np.int64) + np.tile(starts, 2)
    return mask_shapes(windows, drawn.bits, drawn.offsets, drawn.areas(), kinds)
