"""The picture that people look at first: the image with every object outlined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cytomask.errors import ConfigError, LabelError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.output import replacing
from cytomask.reporting.captions import draw_captions
from cytomask.reporting.colours import PALETTE, class_colours, colour_of_objects
from cytomask.reporting.display import show
from cytomask.reporting.legend import add_legend
from cytomask.reporting.outlines import disc, fill_masks, mark_outlines, paint_marks

#: Part of the light that the rim around an outline takes away.
RIM_DARKNESS = 0.55
#: zlib's level for PNG: higher ones take several times as long for a tenth less.
_COMPRESSION = 3
#: How bright red, green and blue are.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

Text = Literal["id", "score", "class", "class-score"]


@dataclass(frozen=True)
class OverlayStyle:
    """How the overlays of a run look.

    Attributes
    ----------
    by
        A colour for every ``"object"``, or for every ``"class"``, with a legend below the picture.
    text
        ``"id"``, ``"score"``, ``"class"``, ``"class-score"`` (the class and the score in percent), or ``"none"``.
    boxes
        Whether the objects' boxes are drawn.
    grey
        Whether the image is shown in grey, so that the only colours are those of the objects.

    Raises
    ------
    ConfigError
        If there is no such way to colour, or no such text.
    """

    by: str = "object"
    text: str = "none"
    boxes: bool = False
    grey: bool = False

    def __post_init__(self) -> None:
        ways = (
            ("--overlay-by", self.by, ("object", "class")),
            ("--overlay-text", self.text, (*get_args(Text), "none")),
        )
        for where, value, known in ways:
            if value not in known:
                raise ConfigError(
                    "an option of the overlay is not known", where=where, found=value, expected=", ".join(known)
                )

    def draw(
        self,
        image: Image,
        instances: Instances,
        *,
        channels: Sequence[str | int] | None = None,
        max_side: int | None = None,
        counts: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Draw an overlay as :func:`draw_overlay` does, with a legend where colours mean classes.

        Parameters
        ----------
        image, instances, channels, max_side
            As for :func:`draw_overlay`; the legend comes on top of ``max_side``.
        counts
            Objects of each class to tell in the legend, where they are others than those of ``instances``.

        Returns
        -------
        numpy.ndarray
            uint8 ``(Y, X, 3)``, higher than the image by its legend.
        """
        picture = draw_overlay(
            image, instances, channels=channels, colour_by="class" if self.by == "class" else "object",
            text=None if self.text == "none" else self.text,  # type: ignore[arg-type]
            boxes=self.boxes, grey=self.grey, max_side=max_side,
        )  # fmt: skip
        if self.by != "class":
            return picture
        names = instances.class_names
        if counts is None:
            counts = np.bincount(instances.classes, minlength=len(names) + 1)[1:].tolist()
        return add_legend(picture, names, class_colours(len(names)), counts)


def draw_overlay(
    image: Image,
    instances: Instances,
    *,
    channels: Sequence[str | int] | None = None,
    colour_by: Literal["object", "class"] = "object",
    fill: float = 0.0,
    text: Text | None = None,
    boxes: bool = False,
    grey: bool = False,
    line_width: int | None = None,
    max_side: int | None = None,
) -> np.ndarray:
    """Draw the outlines of objects over their image.

    The image is shown with its contrast stretched (see :func:`~cytomask.reporting.display.show`). An outline lies
    inside its object, with a dark rim outside, so that it stands out from bright and from dark grounds, and touching
    objects show both theirs. Neighbours get different colours, colours that are like the picture are avoided, and the
    same objects get the same colours in any order. Where objects overlap, the higher score lies on top.

    Parameters
    ----------
    image
        The image.
    instances
        Objects of an image of the same size.
    channels
        Channels to show, by name or number; None for all of them, each in a colour of its own.
    colour_by
        A colour for every object, or for every class.
    fill
        Opacity of the objects' fillings, from 0 (none) to 1.
    text
        What to write onto each object, if anything; ``"class-score"`` is the class and the score in percent.
    boxes
        Whether to draw each object's box, too, with a thinner line.
    grey
        Whether to show the image in grey, whatever its colours.
    line_width
        Pixels; None for a width that suits the objects' median diameter and the picture's size.
    max_side
        Shrink the picture by a whole factor until its longer side is at most this; outlines are drawn afterwards, and
        so stay crisp.

    Returns
    -------
    numpy.ndarray
        uint8 ``(Y, X, 3)``. Besides it, one byte per pixel and bands of the image are held.

    Raises
    ------
    LabelError
        If image and objects differ in size.
    ConfigError
        If an option is out of its range.
    ChannelError
        If there is no such channel.

    Examples
    --------
    >>> labels = np.zeros((30, 40), np.int32)
    >>> labels[5:20, 8:30] = 1
    >>> image = Image.from_array(np.zeros((30, 40), np.uint8))
    >>> picture = draw_overlay(image, Instances.from_labels(labels))
    >>> picture.shape, int(picture[10, 12].max()), int(picture[5, 12].max()) > 200
    ((30, 40, 3), 0, True)
    """
    _check(image, instances, fill, line_width, max_side)
    shrink = 1 if max_side is None else math.ceil(max(image.shape) / max_side)
    picture = show(image, channels=channels, shrink=shrink)
    if grey:
        for row in picture:  # row by row: no second picture is held
            row[:] = np.rint(row @ _LUMINANCE).astype(np.uint8)[:, None]
    draw_on(
        picture, instances, shrink=shrink, colour_by=colour_by, fill=fill, text=text, boxes=boxes, line_width=line_width
    )
    return picture


def draw_on(
    picture: np.ndarray,
    instances: Instances,
    *,
    shrink: int = 1,
    colour_by: Literal["object", "class"] = "object",
    fill: float = 0.0,
    text: Text | None = None,
    boxes: bool = False,
    line_width: int | None = None,
) -> None:
    """Draw the outlines of objects onto a picture, as :func:`draw_overlay` does.

    Parameters
    ----------
    picture
        uint8 ``(Y, X, 3)``, which is changed.
    instances
        Objects of an image that is ``shrink`` times as high and wide, or up to ``shrink - 1`` pixels less.
    shrink
        Pixels of the image along each side of a pixel of the picture.
    colour_by, fill, text, boxes, line_width
        As for :func:`draw_overlay`.
    """
    if not len(instances):
        return
    if colour_by == "class":
        colours = (instances.classes.astype(np.int64) - 1) % len(PALETTE)
    else:
        colours = colour_of_objects(instances, grounds=_grounds(picture, instances, shrink))
    areas = instances.areas()
    diameter = float(np.sqrt(4 / math.pi * np.median(areas))) / shrink
    if line_width is None:
        line_width = int(np.clip(round(min(diameter / 11, max(instances.shape) / shrink / 450)), 1, 8))
    windows = instances.windows.astype(np.int64)
    order = np.argsort(instances.scores, kind="stable")
    order = order[areas[order] > 0]
    masks = (windows, instances.bits, instances.offsets, order, colours)
    if fill > 0:
        fill_masks(picture, *masks, PALETTE, float(fill), shrink)
    marks = np.zeros(picture.shape[:2], np.uint8)
    mark_outlines(marks, *masks, disc(line_width - 1), disc(max(1.0, line_width / 2)), shrink)
    paint_marks(picture, marks, PALETTE, RIM_DARKNESS)
    if boxes:
        _draw_boxes(picture, instances.boxes[order] / shrink, PALETTE[colours[order]], max(1, line_width // 2))
    if text is not None:
        size = int(np.clip(0.42 * diameter, 10, 48))
        texts = [_caption(instances, i, text) for i in order]
        draw_captions(
            picture, texts, _caption_places(windows[order] / shrink, texts, size), PALETTE[colours[order]], size
        )


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture as PNG; it appears complete or not at all.

    Parameters
    ----------
    path
        The file.
    picture
        uint8 ``(Y, X)`` grey, ``(Y, X, 3)`` RGB or ``(Y, X, 4)`` RGBA.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> write_png(path, np.zeros((20, 30, 3), np.uint8))
    >>> path.read_bytes()[1:4]
    b'PNG'
    """
    from imagecodecs import png_encode

    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,), (4,)):
        raise ValueError(f"a picture is uint8 (Y, X), (Y, X, 3) or (Y, X, 4), not {picture.dtype} {picture.shape}")
    with replacing(path) as temporary:
        temporary.write_bytes(png_encode(np.ascontiguousarray(picture), level=_COMPRESSION))


def _check(image: Image, instances: Instances, fill: float, line_width: int | None, max_side: int | None) -> None:
    if tuple(image.shape) != tuple(instances.shape):
        raise LabelError(
            "image and objects differ in size",
            where=image.source,
            found=f"objects of an image of {instances.shape[0]} x {instances.shape[1]} px (y by x)",
            expected=f"{image.height} x {image.width} px",
        )
    ranges = (("fill", fill, 0, 1), ("line_width", line_width, 1, 100), ("max_side", max_side, 16, math.inf))
    for name, value, low, high in ranges:
        if value is not None and not low <= value <= high:
            expected = f"from {low} to {high}" if high < math.inf else f"at least {low}"
            raise ConfigError(
                "an option of the overlay is out of its range", where=name, found=value, expected=expected
            )


def _draw_boxes(picture: np.ndarray, boxes: np.ndarray, colours: np.ndarray, width: int) -> None:
    """Draw boxes ``(y0, x0, y1, x1)``, the later ones on top; lines lie inside the box."""
    limits = np.array([picture.shape[0], picture.shape[1]] * 2)
    outer = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    for (y0, x0, y1, x1), colour in zip(np.clip(outer, 0, limits).astype(np.int64).tolist(), colours):
        picture[y0 : min(y0 + width, y1), x0:x1] = colour
        picture[max(y1 - width, y0) : y1, x0:x1] = colour
        picture[y0:y1, x0 : min(x0 + width, x1)] = colour
        picture[y0:y1, max(x1 - width, x0) : x1] = colour


def _caption(instances: Instances, i: int, text: Text) -> str:
    if text == "score":
        return f"{instances.scores[i]:.2f}"
    if text == "id":
        return str(instances.ids[i])
    name = instances.class_names[instances.classes[i] - 1]
    return name if text == "class" else f"{name} {instances.scores[i]:.0%}"


def _caption_places(boxes: np.ndarray, texts: Sequence[str], size: int) -> np.ndarray:
    """Middles of the captions, y and x: in the middle of an object, or above it if it is narrower than its caption."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    narrow = boxes[:, 3] - boxes[:, 1] < 0.6 * size * np.array([len(text) for text in texts])
    middles[narrow, 0] = boxes[narrow, 0] - 0.45 * size
    return middles


def _grounds(picture: np.ndarray, instances: Instances, shrink: int) -> np.ndarray:
    """Colours of the picture in and around some of the objects: the middle and the corners of their boxes."""
    some = instances.windows[:: max(1, len(instances) // 2000)].astype(np.int64)
    y = np.stack([some[:, 0], some[:, 0], some[:, 2] - 1, some[:, 2] - 1, (some[:, 0] + some[:, 2]) // 2])
    x = np.stack([some[:, 1], some[:, 3] - 1, some[:, 1], some[:, 3] - 1, (some[:, 1] + some[:, 3]) // 2])
    y, x = np.clip(y.ravel(), 0, instances.shape[0] - 1), np.clip(x.ravel(), 0, instances.shape[1] - 1)
    return picture[y // shrink, x // shrink]
