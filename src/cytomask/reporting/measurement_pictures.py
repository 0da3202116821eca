"""Pictures of relations: objects over their image, with lines between neighbours, or to what holds an object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.reporting.overlay import draw_overlay

#: The longer side of a picture at most.
_SIDE = 1000
#: Of images that are wider than so many typical objects, the middle is drawn.
_ACROSS = 30
#: Red, green, blue and opacity of what is nothing, of lines of the first kind, of the second, and of ends of lines.
PALETTE = np.array([(0, 0, 0, 0), (255, 255, 255, 235), (150, 205, 255, 170), (255, 70, 60, 255)], np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class RelationPicture:
    """An image with its objects, and lines as layers.

    Attributes
    ----------
    name
        The image's name.
    picture
        uint8 ``(Y, X, 3)``.
    layers
        Positions in ``PALETTE``, uint8 ``(Y, X)``, by title.
    n_objects
        How many objects there are.
    class_names
        The classes, in the order of their colours; empty where colours tell objects.
    note
        Which part of the image is shown, if not all of it.
    """

    name: str
    picture: np.ndarray
    layers: dict[str, np.ndarray]
    n_objects: int
    class_names: tuple[str, ...] = ()
    note: str = ""


def draw_relations(
    name: str, objects: Instances, image: Image | None, lines: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> RelationPicture:
    """Draw an image, its objects, and lines between them.

    Parameters
    ----------
    name
        The image's name.
    objects
        Its objects, drawn in colours of their classes if there are several.
    image
        The image; None for a black ground.
    lines
        For each layer's title the ends of K lines ``(K, 4)``: y, x, y, x in pixels; and which are of the first kind,
        bool ``(K,)``.

    Examples
    --------
    >>> cells = Instances.from_labels(np.pad(np.ones((4, 4), int), 8))
    >>> found = draw_relations("a", cells, None, {"lines": (np.array([[2.0, 2, 15, 15]]), np.array([True]))})
    >>> found.picture.shape, int(found.layers["lines"].max())
    ((20, 20, 3), 3)
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    if image is None:
        image = Image.from_array(np.zeros(objects.shape, np.uint8))
    window = _window(objects)
    note = "" if window is None else "the middle: y {} to {}, x {} to {}".format(*(window[k] for k in (0, 2, 1, 3)))
    y0, x0, y1, x1 = window or (0, 0, *objects.shape)
    if window is not None:
        image = replace(image, pixels=image.window(y0, y1, x0, x1), source=None)
        objects = objects.cropped(y0, x0, y1, x1)
    several = len(np.unique(objects.classes)) > 1
    picture = draw_overlay(image, objects, colour_by="class" if several else "object", grey=several, max_side=_SIDE)
    shrink = math.ceil(max(y1 - y0, x1 - x0) / _SIDE)
    corner = np.array([y0, x0, y0, x0])
    layers = {}
    for title, (ends, first) in lines.items():
        canvas = Pillow.new("L", (picture.shape[1], picture.shape[0]))
        pen = ImageDraw.Draw(canvas)
        width = max(1, round(max(picture.shape) / 500))
        places = (np.asarray(ends, float).reshape(-1, 4) + 0.5 - corner) / shrink
        for kind in (False, True):  # the first kind lies on top
            for from_y, from_x, to_y, to_x in places[np.asarray(first, bool) == kind]:
                pen.line((from_x, from_y, to_x, to_y), fill=1 if kind else 2, width=width)
        for y, x in places.reshape(-1, 2):
            pen.ellipse((x - width, y - width, x + width, y + width), fill=3)
        layers[title] = np.asarray(canvas)
    return RelationPicture(name, picture, layers, len(objects), objects.class_names if several else (), note)


def _window(objects: Instances) -> tuple[int, int, int, int] | None:
    """The middle of an image of very many small objects, in which they can be told apart; None for all of it."""
    areas = objects.areas()
    if not len(areas):
        return None
    side = int(_ACROSS * math.sqrt(4 / math.pi * float(np.median(areas))))
    height, width = objects.shape
    tall, wide = min(height, max(side * 3 // 4, 64)), min(width, max(side, 64))
    if tall >= 0.8 * height and wide >= 0.8 * width:
        return None
    y0, x0 = (height - tall) // 2, (width - wide) // 2
    return y0, x0, y0 + tall, x0 + wide
