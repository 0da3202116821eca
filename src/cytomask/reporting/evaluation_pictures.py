"""Pictures of an evaluation: the images that went worst in layers, and close views of single errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image as Pillow

from cytomask.errors import LabelError
from cytomask.image import Image
from cytomask.instances import Instances, mask_ious
from cytomask.reporting.display import show
from cytomask.reporting.error_overlay import (
    LAYER_PALETTE,
    PREDICTION_KINDS,
    TRUTH_KINDS,
    Grid,
    error_layer,
    lay_over,
    side_layer,
)
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page_pictures import PictureBudget, layered_figure, picture_figure

#: Longer side of the large pictures, and the side of close views and of thumbnails, in pixels.
LARGE, CLOSE, THUMBNAIL = 1024, 288, 96
#: So many close views of a kind, of which so many may be from one image where there are enough others.
VIEWS, VIEWS_PER_IMAGE = 6, 2
#: Width of lines in close views, in their pixels.
_CLOSE_LINE = 3
#: Ground of objects whose image is not known.
_GROUND = 24


@dataclass(frozen=True, eq=False)
class EvaluationPicture:
    """An image of an evaluation with its objects, and what became of each.

    Attributes
    ----------
    name
        What the image is called.
    image
        Its pixels; None where they are not known: objects are then drawn on a dark ground.
    truth, prediction
        N true and M predicted objects of the whole image.
    truth_kinds, prediction_kinds
        uint8 ``(N,)`` and ``(M,)``: positions in ``truth_names`` and ``prediction_names``.
    figures
        What stands beside the picture, by name: ``accuracy``, ``recall`` …
    window
        Show only this part, ``(y0, x0, y1, x1)`` in pixels.
    truth_names, prediction_names
        Names of the kinds.
    """

    name: str
    image: Image | None
    truth: Instances
    prediction: Instances
    truth_kinds: np.ndarray
    prediction_kinds: np.ndarray
    figures: Mapping[str, float] = field(default_factory=dict)
    window: tuple[int, int, int, int] | None = None
    truth_names: Sequence[str] = TRUTH_KINDS
    prediction_names: Sequence[str] = PREDICTION_KINDS

    def __post_init__(self) -> None:
        if self.image is not None and self.image.shape != self.truth.shape:
            raise LabelError(
                "image and objects differ in size",
                where=self.name,
                found=f"objects of an image of {self.truth.shape[0]} x {self.truth.shape[1]} px (y by x)",
                expected=f"{self.image.height} x {self.image.width} px",
            )

    def part(self, y0: int, x0: int, y1: int, x1: int) -> EvaluationPicture:
        """A part of the image with the objects in it, cut at its border."""
        sides = []
        for objects, kinds in ((self.truth, self.truth_kinds), (self.prediction, self.prediction_kinds)):
            cut = objects.cropped(y0, x0, y1, x1)
            sides.append((cut, np.asarray(kinds)[np.isin(objects.ids, cut.ids)]))
        image = self.image
        if image is not None:
            image = replace(image, pixels=np.ascontiguousarray(image.window(y0, y1, x0, x1)))
        (truth, truth_kinds), (prediction, prediction_kinds) = sides
        return replace(
            self,
            image=image,
            truth=truth,
            prediction=prediction,
            truth_kinds=truth_kinds,
            prediction_kinds=prediction_kinds,
            window=None,
        )

    def counts(self) -> dict[str, int]:
        """How many objects there are of each kind; of what both sides have, the true ones."""
        of_sides = (
            dict(zip(names, np.bincount(np.asarray(kinds, int), minlength=len(names)).tolist()))
            for names, kinds in (
                (self.prediction_names, self.prediction_kinds),
                (self.truth_names, self.truth_kinds),
            )
        )
        found: dict[str, int] = {}
        for one in of_sides:
            found |= one
        return found

    def cut_to_window(self) -> EvaluationPicture:
        """The part that is to be shown."""
        return self if self.window is None else self.part(*self.window)

    def ground(self, grid: Grid) -> np.ndarray:
        """The image in the pixels of a grid, uint8 ``(Y, X, 3)``."""
        size = grid.size(self.truth.shape)
        if self.image is None:
            return np.full((*size, 3), _GROUND, np.uint8)
        picture = show(self.image, shrink=grid.shrink)
        if grid.enlarge > 1:
            picture = np.asarray(Pillow.fromarray(picture).resize(size[::-1], Pillow.Resampling.BICUBIC))
        return picture

    def errors(self, grid: Grid, line_width: int | None = None) -> np.ndarray:
        """The layer of errors; see :func:`~cytomask.reporting.error_overlay.error_layer`."""
        return error_layer(
            self.truth,
            self.prediction,
            self.truth_kinds,
            self.prediction_kinds,
            truth_names=self.truth_names,
            prediction_names=self.prediction_names,
            grid=grid,
            line_width=line_width,
        )


@dataclass(frozen=True, eq=False)
class LayeredPicture:
    """A picture and the transparent layers over it, all of one size.

    Attributes
    ----------
    ground
        The image, uint8 ``(Y, X, 3)``.
    layers
        Key, title and colour codes (uint8 ``(Y, X)``, positions in ``LAYER_PALETTE``) of each layer; the last one tells
        most.
    """

    ground: np.ndarray
    layers: tuple[tuple[str, str, np.ndarray], ...]

    def flat(self) -> np.ndarray:
        """The picture with its last layer, uint8 ``(Y, X, 3)``."""
        return lay_over(self.ground, self.layers[-1][2])


def layered(picture: EvaluationPicture, side: int = LARGE) -> LayeredPicture:
    """Draw the part of an image that is to be shown, its longer side being about ``side`` pixels."""
    shown = picture.cut_to_window()
    grid = Grid.fitting(shown.truth.shape, side, most=4)
    layers = (
        ("truth", "Truth", side_layer(shown.truth, "truth", grid=grid)),
        ("prediction", "Prediction", side_layer(shown.prediction, "prediction", grid=grid)),
        ("errors", "Errors", shown.errors(grid)),
    )
    return LayeredPicture(shown.ground(grid), layers)


def large_figure(picture: EvaluationPicture, name: str, budget: PictureBudget) -> Html | None:
    """The picture with its layers; None where the page has no room for it."""
    drawn = layered(picture)
    base = budget.photo(drawn.ground)
    sources = [
        (key, title, source)
        for key, title, codes in drawn.layers
        if (source := budget.layer(codes, LAYER_PALETTE)) is not None
    ]
    if base is None or len(sources) < len(drawn.layers):
        return None
    return layered_figure(
        base,
        sources,
        (drawn.ground.shape[0], drawn.ground.shape[1]),
        f"{picture.name} with outlines of found, missed and false objects",
        name=name,
        shown="errors",
        group="worst",
    )


def thumbnail(picture: EvaluationPicture, budget: PictureBudget) -> Html | None:
    """The picture with its errors, very small."""
    shown = picture.cut_to_window()
    grid = Grid.fitting(shown.truth.shape, 4 * THUMBNAIL, most=1)
    source = budget.photo(lay_over(shown.ground(grid), shown.errors(grid)), THUMBNAIL)
    return None if source is None else element("img", src=source, alt="", class_="thumb", width=THUMBNAIL, height=72)


def close_views(
    pictures: Sequence[EvaluationPicture], kind: str, budget: PictureBudget, most: int = VIEWS
) -> list[Html]:
    """Close views of the worst examples of a kind of error: the gravest first, from several images."""
    figures: list[Html] = []
    for picture, window, told in _examples(pictures, kind, most):
        part = picture.part(*window)
        grid = Grid.fitting(part.truth.shape, CLOSE, most=10)
        drawn = lay_over(part.ground(grid), part.errors(grid, _CLOSE_LINE))
        source = budget.photo(drawn)
        if source is None:
            break
        caption = join([element("bdi", picture.name, class_="name"), f": {told}"])
        size = drawn.shape[0], drawn.shape[1]
        figures.append(picture_figure(source, size, f"{told} in {picture.name}", caption, group=f"kind-{kind}"))
    return figures


@dataclass(frozen=True, order=True)
class _Example:
    """An object of a kind: how bad, in which picture, which object."""

    badness: float
    picture: int
    box: tuple[int, int, int, int]
    told: str


def _examples(
    pictures: Sequence[EvaluationPicture], kind: str, most: int
) -> Iterator[tuple[EvaluationPicture, tuple[int, int, int, int], str]]:
    """Pictures, windows and words of the worst examples, few from each picture, none shown twice."""
    candidates = [e for place, picture in enumerate(pictures) for e in _of_kind(place, picture, kind)]
    of_one = max(VIEWS_PER_IMAGE, math.ceil(most / max(1, len(pictures))))
    taken: list[_Example] = []
    for example in sorted(candidates, key=lambda e: (-e.badness, e.picture, e.box)):
        same = [other for other in taken if other.picture == example.picture]
        if len(same) >= of_one or any(_overlap(example.box, other.box) for other in same):
            continue
        taken.append(example)
        if len(taken) == most:
            break
    for example in taken:
        picture = pictures[example.picture]
        yield picture, _around(example.box, picture.truth.shape), example.told


def _of_kind(place: int, picture: EvaluationPicture, kind: str) -> list[_Example]:
    """All objects of a kind; where both sides have it, those of the side that tells it best."""
    on_truth = kind in picture.truth_names
    if kind == "merged" and kind in picture.prediction_names:
        # What swallowed several shows them all; it may be a hit of one of them, though.
        on_truth = list(picture.prediction_names).index(kind) not in picture.prediction_kinds
    objects, codes, names = (
        (picture.truth, picture.truth_kinds, picture.truth_names)
        if on_truth
        else (picture.prediction, picture.prediction_kinds, picture.prediction_names)
    )
    if kind not in names:
        return []
    where = np.flatnonzero(np.asarray(codes) == list(names).index(kind))
    if not len(where):
        return []
    some, areas = objects.take(where), objects.areas()[where]
    other = picture.prediction if on_truth else picture.truth
    i, _, iou = mask_ious(some, other)
    best = np.zeros(len(some))
    np.maximum.at(best, i, iou)
    partners = np.bincount(i[iou > 0.05], minlength=len(some))
    # Relative to the image's own objects, so that an image of large objects does not win always.
    usual = max(1.0, float(np.median(np.concatenate([picture.truth.areas(), picture.prediction.areas()]))))
    examples = []
    for k, box in enumerate(some.windows.tolist()):
        size = f"{int(areas[k]):,} px"
        if kind in ("missed", "spurious"):
            badness = min(float(areas[k]) / usual, 2.0) * (1 - float(best[k]))
            told = f"{'missed' if kind == 'missed' else 'not real'}, {size}"
        elif kind == "poor":
            badness, told = 1 - float(best[k]), f"overlap {best[k]:.2f}, {size}"
        else:
            badness = float(partners[k]) + min(float(areas[k]) / usual, 10.0) / 10
            told = f"cut into {partners[k]}" if kind == "split" else f"{partners[k]} taken for one"
            if partners[k] < 2 or (kind == "merged" and on_truth):
                told = f"{kind}, {size}"
        examples.append(_Example(badness, place, (box[0], box[1], box[2], box[3]), told))
    return examples


def _around(box: tuple[int, int, int, int], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square window around a box, with as much again on each side, inside the image where that is large enough."""
    y0, x0, y1, x1 = box
    side = max(32, math.ceil(2.2 * max(y1 - y0, x1 - x0)))
    out = []
    for middle, limit in (((y0 + y1) // 2, shape[0]), ((x0 + x1) // 2, shape[1])):
        low = min(max(0, middle - side // 2), max(0, limit - side))
        out.append((low, min(limit, low + side)))
    return out[0][0], out[1][0], out[0][1], out[1][1]


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
