"""Draw what became of every object: found, poorly outlined, split, merged, missed, or not real.

True objects that went wrong are drawn dashed, predicted objects solid, both in the colour of what went wrong; objects
that were found show the thin line of their prediction only, so that the eye falls on the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from cytomask.errors import LabelError
from cytomask.geometry.outline import mask_outlines
from cytomask.instances import Instances
from cytomask.reporting.outlines import NOTHING, OUTLINE, RIM, disc, fill_masks, mark_outlines
from cytomask.reporting.overlay import RIM_DARKNESS

#: Colours of the kinds, which the colour-blind tell apart as well.
KIND_COLOURS = {
    "hit": (70, 190, 255),
    "poor": (255, 255, 255),
    "split": (255, 130, 10),
    "merged": (0, 190, 150),
    "missed": (255, 40, 90),
    "spurious": (255, 245, 110),
}
#: What may become of a true object, and of a predicted one, in the order of their codes.
TRUTH_KINDS = ("hit", "poor", "split", "merged", "missed")
PREDICTION_KINDS = ("hit", "poor", "split", "merged", "spurious")
#: Colours of the layers that show one side whatever became of it.
SIDE_COLOURS = {"truth": (255, 222, 40), "prediction": (70, 190, 255)}

_NAMES = (*KIND_COLOURS, *SIDE_COLOURS)
_PLACE = {name: place for place, name in enumerate(_NAMES)}
_FILL = OUTLINE + len(_NAMES)
#: Opacity of the fillings of objects that went wrong.
_FILL_OPACITY = 0.26
#: Length of a dash with the gap behind it, in widths of the line, and the part of it that is drawn.
_DASH, _DRAWN = 7.0, 0.62


def _palette() -> np.ndarray:
    colours = np.array([*KIND_COLOURS.values(), *SIDE_COLOURS.values()])
    palette = np.zeros((_FILL + len(_NAMES), 4), np.uint8)
    palette[RIM, 3] = round(255 * RIM_DARKNESS)
    palette[OUTLINE:_FILL, :3] = palette[_FILL:, :3] = colours
    palette[OUTLINE:_FILL, 3], palette[_FILL:, 3] = 255, round(255 * _FILL_OPACITY)
    return palette


#: Colours of a layer's codes, uint8 ``(K, 4)``: red, green, blue, opacity. Code 0 is nothing.
LAYER_PALETTE = _palette()


@dataclass(frozen=True)
class Grid:
    """The pixels of a picture: those of the image, enlarged or shrunk by a whole factor.

    Examples
    --------
    >>> Grid.fitting((100, 80), 1000), Grid.fitting((3000, 2000), 1000).size((3000, 2000))
    (Grid(enlarge=8, shrink=1), (1000, 667))
    """

    enlarge: int = 1
    shrink: int = 1

    @classmethod
    def fitting(cls, shape: tuple[int, int], side: int, most: int = 8) -> Grid:
        """That in which the longer side of an image is at most ``side``, enlarged at most ``most`` times."""
        longest = max(shape)
        return cls(min(most, side // longest)) if longest <= side else cls(1, math.ceil(longest / side))

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the picture of an image."""
        height, width = (math.ceil(side * self.enlarge / self.shrink) for side in shape)
        return height, width


def error_layer(
    truth: Instances,
    prediction: Instances,
    truth_kinds: np.ndarray,
    prediction_kinds: np.ndarray,
    *,
    truth_names: Sequence[str] = TRUTH_KINDS,
    prediction_names: Sequence[str] = PREDICTION_KINDS,
    grid: Grid | None = None,
    line_width: int | None = None,
) -> np.ndarray:
    """Draw every object in the colour of its kind as a transparent layer.

    Parameters
    ----------
    truth, prediction
        N true and M predicted objects of one image.
    truth_kinds, prediction_kinds
        uint8 ``(N,)`` and ``(M,)``: positions in the names.
    truth_names, prediction_names
        Names of the kinds, of :data:`KIND_COLOURS`.
    grid
        The pixels of the layer; None for those of the image.
    line_width
        Pixels of the layer; None for a width that suits the objects.

    Returns
    -------
    numpy.ndarray
        uint8 ``(Y, X)``: positions in :data:`LAYER_PALETTE`.

    Raises
    ------
    LabelError
        If the two sides are of images of different size, or there is not one kind per object.

    Examples
    --------
    >>> labels = np.zeros((20, 30), np.int32)
    >>> labels[4:14, 5:15] = 1
    >>> truth = Instances.from_labels(labels)
    >>> layer = error_layer(truth, Instances.empty((20, 30)), np.array([4]), np.zeros(0, int))
    >>> LAYER_PALETTE[layer[9, 9]].tolist()[:3] == list(KIND_COLOURS["missed"])
    True
    """
    grid = grid or Grid()
    if truth.shape != prediction.shape:
        raise LabelError(
            "truth and prediction differ in size",
            found=f"{prediction.shape[0]} x {prediction.shape[1]} px",
            expected=f"{truth.shape[0]} x {truth.shape[1]} px, as the truth",
        )
    for side, objects, kinds in (("true", truth, truth_kinds), ("predicted", prediction, prediction_kinds)):
        if len(objects) != len(kinds):
            raise LabelError(f"there is not one kind per {side} object", found=len(kinds), expected=len(objects))
    width = line_width or line_width_for([truth, prediction], grid)
    true_names = np.array(truth_names)[np.asarray(truth_kinds, int)]
    found_names = np.array(prediction_names)[np.asarray(prediction_kinds, int)]
    layer = np.zeros(grid.size(truth.shape), np.uint8)
    for objects, names in ((truth, true_names), (prediction, found_names)):
        _fill(layer, _on(grid, objects.take(names != "hit"), names[names != "hit"]), grid)
    hits = _on(grid, prediction.take(found_names == "hit"), found_names[found_names == "hit"])
    _outline(layer, hits, max(1, round(width * 0.6)), grid)
    _outline(
        layer, _on(grid, truth.take(true_names != "hit"), true_names[true_names != "hit"]), width, grid, dashed=True
    )
    _outline(layer, _on(grid, prediction.take(found_names != "hit"), found_names[found_names != "hit"]), width, grid)
    return layer


def side_layer(
    objects: Instances, side: Literal["truth", "prediction"], *, grid: Grid | None = None, line_width: int | None = None
) -> np.ndarray:
    """Draw the outlines of all objects of one side in one colour, as a layer; see :func:`error_layer`."""
    grid = grid or Grid()
    layer = np.zeros(grid.size(objects.shape), np.uint8)
    _outline(
        layer, _on(grid, objects, np.full(len(objects), side)), line_width or line_width_for([objects], grid), grid
    )
    return layer


def lay_over(picture: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Lay a layer over a picture of the same size, uint8 ``(Y, X, 3)``."""
    colours = LAYER_PALETTE[layer]
    opacity = colours[..., 3:].astype(np.float32) / 255
    return np.rint(picture * (1 - opacity) + colours[..., :3] * opacity).astype(np.uint8)


def line_width_for(sides: Sequence[Instances], grid: Grid) -> int:
    """A width of lines that suits the median diameter of the objects and the size of the picture, in its pixels."""
    areas = np.concatenate([side.areas() for side in sides])
    scale = grid.enlarge / grid.shrink
    diameter = 30.0 if not len(areas) else scale * float(np.sqrt(4 / math.pi * np.median(areas)))
    longest = scale * max(sides[0].shape)
    return int(np.clip(round(min(diameter / 8, longest / 220)), 1, 6))


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Objects in the pixels of a picture, as the drawing kernels want them."""

    windows: np.ndarray
    bits: np.ndarray
    offsets: np.ndarray
    order: np.ndarray
    colours: np.ndarray


def _on(grid: Grid, objects: Instances, names: np.ndarray) -> _Drawn:
    """Objects enlarged to the grid (the kernels shrink by themselves), the larger ones drawn first."""
    colours = np.array([_PLACE[name] for name in names.tolist()], np.int64)
    if grid.enlarge > 1:
        ids = objects.ids
        height, width = objects.shape
        objects = objects.resized((height * grid.enlarge, width * grid.enlarge))
        colours = colours[np.isin(ids, objects.ids)]
    areas = objects.areas()
    order = np.argsort(-areas, kind="stable")
    return _Drawn(objects.windows.astype(np.int64), objects.bits, objects.offsets, order[areas[order] > 0], colours)


def _fill(layer: np.ndarray, objects: _Drawn, grid: Grid) -> None:
    if len(objects.order):
        codes = np.arange(_FILL, _FILL + len(_NAMES), dtype=np.uint8)
        owners = _painted(layer.shape, objects, objects.colours, np.repeat(codes[:, None], 3, axis=1), grid)[..., 0]
        layer[owners > 0] = owners[owners > 0]


def _outline(layer: np.ndarray, objects: _Drawn, width: int, grid: Grid, *, dashed: bool = False) -> None:
    if not len(objects.order):
        return
    marks = np.zeros(layer.shape, np.uint8)
    steps = disc(width - 1), disc(max(1.0, width / 2))
    mark_outlines(
        marks, objects.windows, objects.bits, objects.offsets, objects.order, objects.colours, *steps, grid.shrink
    )
    if dashed:
        _cut_gaps(marks, objects, width, grid)
    layer[marks != NOTHING] = marks[marks != NOTHING]


def _cut_gaps(marks: np.ndarray, objects: _Drawn, width: int, grid: Grid) -> None:
    """Make gaps in each outline, evenly along it."""
    numbers = np.arange(1, len(objects.windows) + 1, dtype=np.int64)
    palette = np.zeros((len(numbers) + 1, 3), np.uint8)
    for channel in range(3):
        palette[1:, channel] = numbers >> (8 * channel) & 255
    painted = _painted(marks.shape, objects, numbers, palette, grid).astype(np.int32)
    owners = painted[..., 0] | painted[..., 1] << 8 | painted[..., 2] << 16
    rings = mask_outlines(objects.windows, objects.bits, objects.offsets, holes=False)
    for i in objects.order:
        y0, x0, y1, x1 = objects.windows[i].tolist()
        top, left = y0 // grid.shrink, x0 // grid.shrink
        bottom, right = (y1 - 1) // grid.shrink + 1, (x1 - 1) // grid.shrink + 1
        corner = np.array([top, left])
        places = [(ring + 0.5) / grid.shrink - 0.5 - corner for ring in rings[i]]
        gaps = _gaps(places, (bottom - top, right - left), _DASH * width)
        marks[top:bottom, left:right][gaps & (owners[top:bottom, left:right] == i + 1)] = NOTHING


def _gaps(rings: Sequence[np.ndarray], shape: tuple[int, int], dash: float) -> np.ndarray:
    """Of each pixel of a crop, whether the nearest place of the rings is in a gap between dashes."""
    is_ring, is_gap = np.zeros(shape, bool), np.zeros(shape, bool)
    for ring in rings:
        closed = np.concatenate([ring, ring[:1]])
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
        at = np.arange(0, along[-1], 0.5)
        y, x = (
            np.clip(np.rint(np.interp(at, along, closed[:, axis])), 0, shape[axis] - 1).astype(int) for axis in (0, 1)
        )
        pieces = max(3, round(along[-1] / dash))
        is_ring[y, x] = True
        is_gap[y, x] = at / along[-1] * pieces % 1 > _DRAWN
    nearest = ndimage.distance_transform_edt(~is_ring, return_distances=False, return_indices=True)
    return is_gap[nearest[0], nearest[1]]


def _painted(
    shape: tuple[int, ...], objects: _Drawn, colours: np.ndarray, palette: np.ndarray, grid: Grid
) -> np.ndarray:
    """A picture of the objects in opaque colours on black."""
    picture = np.zeros((*shape, 3), np.uint8)
    fill_masks(
        picture, objects.windows, objects.bits, objects.offsets, objects.order, colours, palette, 1.0, grid.shrink
    )
    return picture
