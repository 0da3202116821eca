"""Pictures of a comparison: one image with the truth, and what each model made of it, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cytomask.reporting.error_overlay import TRUTH_KINDS, Grid, lay_over, side_layer
from cytomask.reporting.evaluation_pictures import EvaluationPicture
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.page_pictures import PictureBudget, picture_figure

HIT = TRUTH_KINDS.index("hit")
#: Longer side of a picture, in pixels.
_SIDE = 720
#: Of a larger image only a part is shown, so that outlines can be told apart: its rows and columns.
_PART = (270, 360)


@dataclass(frozen=True, eq=False)
class Disagreement:
    """An image on which models disagree.

    Attributes
    ----------
    name
        What the image is called.
    models
        Names of the models, the best of all images first.
    scores
        The figure by which models are ranked, of this image and each model.
    pictures
        The image with the objects of each model.
    """

    name: str
    models: tuple[str, ...]
    scores: tuple[float, ...]
    pictures: tuple[EvaluationPicture, ...]


def side_by_side(one: Disagreement, title: str, place: int, budget: PictureBudget) -> Html | None:
    """The truth and each model's objects in a row; None where the page has no room for it."""
    window = common_window(one.pictures)
    shown = [replace(picture, window=window).cut_to_window() for picture in one.pictures]
    grid = Grid.fitting(shown[0].truth.shape, _SIDE, most=4)
    ground = shown[0].ground(grid)
    group = f"disagree-{place}"
    truth = shown[0].truth
    drawn = [("Image", "", ground)] if shown[0].image is not None else []
    drawn.append(("Truth", f"{len(truth)} objects", lay_over(ground, side_layer(truth, "truth", grid=grid))))
    for name, score, picture in zip(one.models, one.scores, shown):
        drawn.append((name, f"{title} {score:.2f}", lay_over(ground, picture.errors(grid))))
    figures = []
    for name, told, pixels in drawn:
        source = budget.photo(pixels)
        if source is None:
            return None
        caption = join([element("b", element("bdi", name)), f" {told}"])
        size = (pixels.shape[0], pixels.shape[1])
        figures.append(picture_figure(source, size, f"{name} on {one.name}: {told}", caption, group=group))
    where = None
    if window is not None:
        y0, x0, y1, x1 = window
        where = element("p", f"Shown: y {y0:,} to {y1:,}, x {x0:,} to {x1:,}.", class_="muted")
    head = element("h3", element("bdi", one.name))
    return element("article", head, where, element("div", *figures, class_="gallery"), class_="card")


def common_window(pictures: Sequence[EvaluationPicture]) -> tuple[int, int, int, int] | None:
    """The part of a large image that is shown of all models; None for the whole.

    It is the one in which the models' numbers of objects that were found differ most.
    """
    height, width = pictures[0].truth.shape
    rows, columns = min(_PART[0], height), min(_PART[1], width)
    if height * width <= 2 * _PART[0] * _PART[1]:
        return None
    best, most = (0, 0), -1
    for y0 in _steps(height, rows):
        for x0 in _steps(width, columns):
            found = []
            for picture in pictures:
                windows = picture.truth.windows[picture.truth_kinds == HIT]
                middle = (windows[:, :2] + windows[:, 2:]) / 2
                inside = (middle >= (y0, x0)) & (middle < (y0 + rows, x0 + columns))
                found.append(int(inside.all(axis=1).sum()))
            if max(found) - min(found) > most:
                best, most = (y0, x0), max(found) - min(found)
    y0, x0 = best
    return y0, x0, y0 + rows, x0 + columns


def _steps(length: int, part: int) -> list[int]:
    """Where parts begin that overlap by half; the last ends with the image."""
    return [*range(0, length - part, max(1, part // 2)), length - part]
