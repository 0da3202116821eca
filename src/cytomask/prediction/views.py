"""Views of an image, turned, mirrored or at another scale, for test-time augmentation.

A network finds slightly different objects when the same image is shown to it turned or scaled. Each view goes through
the one prediction path, its windows read from the image as they are asked for; what is found is turned back, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, get_args

import numpy as np

from cytomask.errors import ConfigError
from cytomask.geometry.turns import Turn
from cytomask.instance_turns import turned
from cytomask.instances import Instances
from cytomask.models.segmenter import Postprocess
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.prepare import PreparedImage

#: Which turned and mirrored views there are; see :func:`plan_views`.
Augment = Literal["none", "flips", "turns", "full"]
AUGMENTS: tuple[Augment, ...] = get_args(Augment)
#: Scales beyond this factor show a network nothing that it knows.
MOST_SCALE = 8.0

#: The image as it is.
AS_IT_IS = Turn()
_TURNS: dict[Augment, tuple[Turn, ...]] = {
    "none": (AS_IT_IS,),
    "flips": (Turn(), Turn(flip_x=True), Turn(flip_y=True), Turn(flip_y=True, flip_x=True)),
    "turns": tuple(Turn.quarter(k) for k in range(4)),
    "full": tuple(Turn(*steps) for steps in product((False, True), repeat=3)),
}


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes
    ----------
    turn
        How it is turned and mirrored.
    scale
        How much larger it is shown than without augmentation.
    """

    turn: Turn = AS_IT_IS
    scale: float = 1.0


def plan_views(augment: Augment = "none", scales: Sequence[float] = (1.0,)) -> tuple[View, ...]:
    """Make the list of views: each turn at each scale.

    Parameters
    ----------
    augment
        ``"none"``; ``"flips"``: as it is, left to right, upside down, both; ``"turns"``: the four quarter turns;
        ``"full"``: all eight.
    scales
        Factors on the scale at which the model would see the image.

    Raises
    ------
    ConfigError
        If there is no such augmentation, or a scale is impossible.

    Examples
    --------
    >>> len(plan_views()), len(plan_views("flips")), len(plan_views("full", (0.8, 1, 1.25)))
    (1, 4, 24)
    """
    if augment not in _TURNS:
        raise ConfigError(
            "there is no such augmentation", where="--augment", found=augment, expected=", ".join(AUGMENTS)
        )
    wanted = list(dict.fromkeys(float(scale) for scale in scales))
    if not wanted or not all(math.isfinite(s) and 1 / MOST_SCALE <= s <= MOST_SCALE for s in wanted):
        raise ConfigError(
            "the scales cannot be used", where="--scales", found=", ".join(f"{s:g}" for s in wanted) or "none",
            expected=f"factors from {1 / MOST_SCALE:g} to {MOST_SCALE:g}, such as 0.8,1,1.25",
        )  # fmt: skip
    return tuple(View(turn, scale) for scale in wanted for turn in _TURNS[augment])


@dataclass(frozen=True, eq=False)
class TurnedImage(PreparedImage):
    """A prepared image, turned; its pixels are read and turned window by window.

    ``scale``, ``shape``, ``native_shape`` and windows are along the axes of the turned image; ``image`` and ``region``
    are those of the image as it is.

    Attributes
    ----------
    turn
        How it is turned.
    """

    turn: Turn = AS_IT_IS

    @property
    def native_shape(self) -> tuple[int, int]:
        """Height and width of the turned region in native pixels."""
        return self.turn.size(super().native_shape)

    def cropped(self, y0: int, x0: int, y1: int, x1: int) -> PreparedImage:
        """Look at a part only (native pixels of the turned image), normalised as the whole."""
        box = self.turn.inverse.boxes(np.array([[y0, x0, y1, x1]]), self.turn.size(self.image.shape))
        top, left, bottom, right = box[0].tolist()
        return replace(self, region=(top, left, bottom, right))

    def _read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        box = self.turn.inverse.boxes(np.array([[y0, x0, y1, x1]]), self.native_shape)
        top, left, bottom, right = box[0].tolist()
        return self.turn.array(super()._read(top, bottom, left, right))


def show(prepared: PreparedImage, view: View) -> PreparedImage:
    """Look at a prepared image in a view; that of a view adds up.

    Returns
    -------
    PreparedImage
        With the same normalisation.
    """
    turn = view.turn
    y, x = turn.size(prepared.scale)
    scale = (y * view.scale, x * view.scale)
    if isinstance(prepared, TurnedImage):
        turn = prepared.turn.then(turn)
    return TurnedImage(prepared.image, prepared.statistics, scale, prepared.region, prepared.told, prepared.mix, turn)


def segment_views(
    predictor: Predictor, prepared: PreparedImage, views: Sequence[View], postprocess: Postprocess | None = None
) -> list[Instances]:
    """Segment each view of a prepared image by itself.

    Returns
    -------
    list of Instances
        For each view the objects in native pixels of the image as it is.

    Raises
    ------
    CytomaskError
        As :meth:`~cytomask.prediction.predictor.Predictor.segment`.
    """
    return [
        turned(predictor.segment(show(prepared, view), postprocess), view.turn.inverse)
        if view != View()
        else predictor.segment(prepared, postprocess)
        for view in views
    ]
