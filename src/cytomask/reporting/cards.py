"""Small cards for notebooks: a picture and a sentence for objects and images, a table for models and metrics."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.reporting.display import show
from cytomask.reporting.evaluation_words import FIGURES, look_up
from cytomask.reporting.markup import Html, element, join
from cytomask.reporting.overlay import draw_on

#: The longer side of pictures in notebooks is at most so many pixels.
SIDE = 900
#: Pictures narrower than two thirds of this are shown two or more times as wide as they are.
SMALL = 400


def backdrop(image: Image) -> np.ndarray:
    """A picture of an image as a notebook shows it, uint8 ``(Y, X, 3)``."""
    return show(image, shrink=math.ceil(max(image.shape) / SIDE))


def instances_card(instances: Instances, behind: np.ndarray | None = None) -> Html:
    """Objects outlined on their image; without it, filled on black.

    Parameters
    ----------
    instances
        The objects.
    behind
        The image as :func:`backdrop` makes it.

    Examples
    --------
    >>> cells = Instances.from_labels(np.array([[0, 1, 1], [0, 1, 1]]))
    >>> str(instances_card(cells)).startswith("<figure"), "1 object in 2 x 3 pixels" in instances_card(cells)
    (True, True)
    """
    shrink = math.ceil(max(instances.shape) / SIDE)
    small = tuple(-(-side // shrink) for side in instances.shape)
    picture = np.zeros((*small, 3), np.uint8) if behind is None else behind.copy()
    several = len(instances.class_names) > 1
    draw_on(
        picture, instances, shrink=shrink, colour_by="class" if several else "object", fill=0.5 if behind is None else 0
    )
    height, width = instances.shape
    words = f"{len(instances)} object{'' if len(instances) == 1 else 's'} in {height} x {width} pixels"
    if several:
        counts = np.bincount(instances.classes, minlength=len(instances.class_names) + 1)[1:]
        words += ": " + ", ".join(f"{count} {name}" for name, count in zip(instances.class_names, counts.tolist()))
    return figure(picture, words)


def image_card(image: Image) -> Html:
    """An image, and how its file was understood."""
    return figure(backdrop(image), image.resolved or f"{image.height} x {image.width} pixels, {image.dtype}")


def figure(picture: np.ndarray, words: str) -> Html:
    """A picture with a sentence below, which is also what is read aloud."""
    from imagecodecs import png_encode

    data = b64encode(png_encode(np.ascontiguousarray(picture), level=3)).decode("ascii")
    # Small pictures are shown enlarged.
    width = picture.shape[1] * max(1, round(SMALL / picture.shape[1]))
    image = element("img", src=f"data:image/png;base64,{data}", alt=words, width=width)
    return element("figure", image, element("figcaption", words))


def model_card(spec: Any, postprocess: Any = None) -> Html:
    """What a model is: family, classes, channels, sizes, data and licence.

    Parameters
    ----------
    spec
        A :class:`~cytomask.models.bundle.ModelSpec`.
    postprocess
        Its thresholds and other settings, or None.
    """
    channels = spec.channels
    rows = [
        ("family", spec.family),
        ("classes", ", ".join(spec.config.get("classes", ()))),
        ("channels", f"{channels.count} ({channels.mode})"),
        ("objects across", f"about {spec.diameter:g} px" if spec.diameter else None),
        ("trained on", spec.training.data),
        ("licence of the data", spec.training.data_licence),
    ]
    if postprocess is not None:
        rows.append(("score threshold", f"{postprocess.score_threshold:.3g}"))
    return join([element("strong", spec.name), _table((row for row in rows if row[1]), ())])


def evaluation_card(metrics: Mapping[str, Any]) -> Html:
    """The figures of ``metrics.json`` that are looked at first, with their intervals.

    Examples
    --------
    >>> "0.700" in evaluation_card({"aji": 0.7, "confidence_intervals": {"aji": [0.6, 0.8]}})
    True
    """
    rows = []
    for figure_ in FIGURES:
        value = look_up(metrics, *figure_.place)
        if isinstance(value, int | float):
            rows.append((figure_.name, f"{value:.3f}", _span(look_up(metrics, "confidence_intervals", *figure_.place))))
    return _table(rows, ("figure", "value", "interval"))


def leaderboard_card(models: Iterable[Mapping[str, Any]], rank_by: str, title: str) -> Html:
    """Models in the order of their ranks, with the figure that ranks them.

    Parameters
    ----------
    models
        The models of ``comparison.json``.
    rank_by
        Name of the figure, and what it is called.
    """
    rows = []
    for place, model in enumerate(models, start=1):
        value = model["figures"].get(rank_by)
        told = "" if value is None else f"{value:.3f}"
        rows.append((place, model["name"], told, _span((model.get("confidence_intervals") or {}).get(rank_by))))
    return _table(rows, ("rank", "model", title, "interval"))


def _span(interval: Sequence[float | None] | None) -> str:
    return "" if not interval or None in interval else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _table(rows: Iterable[Sequence[object]], head: Sequence[str]) -> Html:
    lines = [element("tr", *(element("th", cell) for cell in head))] if head else []
    lines += [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    return element("table", *lines)
