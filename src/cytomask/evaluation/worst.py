"""Keep what is needed to draw the images that went worst, and those that went best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cytomask.evaluation.error_kinds import ErrorKinds
from cytomask.evaluation.image_scores import KIND_THRESHOLD, ImageScores, Pair
from cytomask.evaluation.pairs import to_instances
from cytomask.instances import Instances

#: So many of the worst images are kept.
N_WORST = 12
#: Figures that stand under a picture.
_FIGURES = ("accuracy", "precision", "recall", "f1")


@dataclass(frozen=True, slots=True, eq=False)
class WorstImage:
    """An image that is to be drawn, its objects, and what became of each.

    Attributes
    ----------
    name
        What the image is called.
    image_path
        Its file, if it is known.
    truth, prediction
        All objects; crowd regions, and predictions in them, too, which ``kinds`` does not know.
    kinds
        What became of every object.
    figures
        ``accuracy``, ``precision``, ``recall`` and ``f1`` at an IoU of 0.5, and ``mean_accuracy_50_90``.
    """

    name: str
    image_path: Path | None
    truth: Instances
    prediction: Instances
    kinds: ErrorKinds
    figures: Mapping[str, float]


@dataclass
class WorstImages:
    """The images of the lowest accuracy at an IoU of 0.5 among those that were offered.

    Of equal ones those with the worse outlines are kept (a lower mean accuracy over IoU 0.50 to 0.90).

    Images without any object, true or predicted, cannot go wrong and are not kept.

    Parameters
    ----------
    limit
        How many are kept.
    """

    limit: int = N_WORST
    _kept: list[WorstImage] = field(default_factory=list)

    def offer(self, pair: Pair, scores: ImageScores) -> None:
        """Keep an image if it is among those sought so far; of equal ones the first stays."""
        if self.limit < 1 or scores.matching.n_true + scores.matching.n_pred == 0:
            return
        row, at = scores.row(), scores.matching.at(KIND_THRESHOLD)
        figures = {name: float(at[name]) for name in _FIGURES}
        figures["mean_accuracy_50_90"] = float(row["mean_accuracy_50_90"])
        if len(self._kept) >= self.limit and self._rank(figures) >= self._rank(self._kept[-1].figures):
            return
        image = WorstImage(
            pair.name, pair.image, to_instances(pair.truth), to_instances(pair.prediction), scores.kinds, figures
        )
        self._kept = sorted([*self._kept, image], key=lambda one: self._rank(one.figures))[: self.limit]

    def images(self) -> list[WorstImage]:
        """The one that is sought most comes first."""
        return list(self._kept)

    def _rank(self, figures: Mapping[str, float]) -> tuple[float, ...]:
        return figures["accuracy"], figures["mean_accuracy_50_90"]


class BestImages(WorstImages):
    """The images of the highest accuracy at an IoU of 0.5; of equal ones those with the better outlines."""

    def _rank(self, figures: Mapping[str, float]) -> tuple[float, ...]:
        return -figures["accuracy"], -figures["mean_accuracy_50_90"]
