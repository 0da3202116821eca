"""Choose the images on which models disagree most, and prepare them for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cytomask.evaluation.image_scores import ImageScores, Pair
from cytomask.evaluation.paired import PAIRED_FIGURES, single_values
from cytomask.evaluation.worst import WorstImage, WorstImages
from cytomask.reporting.compare_pictures import Disagreement
from cytomask.workflows.evaluating.pictures import make_pictures

if TYPE_CHECKING:
    from cytomask.workflows.compare import Compared

#: So many models are shown side by side, the best ones.
MOST_MODELS = 8


def make_disagreements(compared: Sequence[Compared], figure: str, count: int) -> list[Disagreement]:
    """Read the images on which a figure differs most between the models, with the objects of each.

    Parameters
    ----------
    compared
        The models, the best first.
    figure
        Name of the figure.
    count
        How many images; fewer where there are fewer that several models share.
    """
    chosen = next(one for one in PAIRED_FIGURES if one.name == figure)
    shown = list(compared)[:MOST_MODELS]
    values = [dict(zip((i.name for i in one.images), single_values(chosen, one.images).tolist())) for one in shown]
    spread = spreads(values)
    return [_disagreement(name, shown, values) for name in sorted(spread, key=lambda n: (-spread[n], n))[:count]]


def spreads(values: Sequence[dict[str, float]]) -> dict[str, float]:
    """By how much models differ on each image that is not of one model only.

    Examples
    --------
    >>> spreads([{"a": 0.5, "b": 0.25}, {"a": 0.25, "c": 1.0}])
    {'a': 0.25}
    """
    result = {}
    for name in dict.fromkeys(name for one in values for name in one):
        known = np.array([one[name] for one in values if name in one])
        known = known[~np.isnan(known)]
        if len(known) > 1:
            result[name] = float(known.max() - known.min())
    return result


def _disagreement(name: str, shown: Sequence[Compared], values: Sequence[dict[str, float]]) -> Disagreement:
    views, names, scores = [], [], []
    for one, of_image in zip(shown, values):
        if name not in of_image:
            continue
        place = next(k for k, pair in enumerate(one.inputs.pairs) if pair[0] == name)
        pair = next(iter(type(one.inputs)(
            [one.inputs.pairs[place]], one.inputs.class_names, one.inputs.prediction_classes, one.inputs.truth_classes
        ).read()))  # fmt: skip
        counts = next(image for image in one.images if image.name == name)
        views.append(_worst(pair, counts))
        names.append(one.candidate.name)
        scores.append(of_image[name])
    return Disagreement(name, tuple(names), tuple(scores), tuple(make_pictures(views)))


def _worst(pair: Pair, counts: ImageScores) -> WorstImage:
    kept = WorstImages(1)
    kept.offer(pair, counts)
    if images := kept.images():
        return images[0]
    # No object on either side.
    from cytomask.evaluation.pairs import to_instances

    return WorstImage(pair.name, pair.image, to_instances(pair.truth), to_instances(pair.prediction), counts.kinds, {})
