"""The search for the best post-processing: thresholds in turn, ways of suppression by a few trials each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from cytomask.models.segmenter import Postprocess

P = TypeVar("P", bound=Postprocess)

#: Proposals below the lowest threshold that is tried are never made.
SCORE_THRESHOLDS = tuple(round(float(t), 3) for t in np.arange(0.25, 0.81, 0.05))
NMS_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
#: A finer search around the best score threshold.
FINE_STEPS = (-0.025, 0.025)
SIGMAS = (0.1, 0.25, 0.5)
#: Thresholds with which another way of suppression is tried: overlaps, and steps from the best score threshold.
TRIED_OVERLAPS = (0.3, 0.5)
TRIED_STEPS = (0.0, -0.15, -0.3)
#: What another way of suppression must gain, lest it be chosen by chance. Soft-NMS must gain more, as it cannot be
#: used for images that are worked through on disk.
GAIN, SOFT_GAIN = 0.001, 0.005


def search(score: Callable[[Postprocess], float], before: P, *, n_classes: int = 1, score_thresholds: bool = True) -> P:
    """Search the settings that score best.

    Where the family says what to try (``searched``), its settings are searched in turn until none changes. Else
    thresholds are searched in turn until none changes; then every way of suppression (hard, linear, gaussian; by boxes
    or by masks; with several classes also within or across them) is tried with a few thresholds, and the best one's
    thresholds are searched again if it gains enough.

    Parameters
    ----------
    score
        Larger is better.
    before
        Where to begin; never left for something worse.
    n_classes
        How many classes the model knows.
    score_thresholds
        Whether the score threshold may change.

    Examples
    --------
    >>> best = search(lambda p: -abs(p.score_threshold - 0.61) - abs(p.nms_threshold - 0.3), Postprocess())
    >>> best.score_threshold, best.nms_threshold, best.nms
    (0.6, 0.3, 'hard')
    """
    if before.searched:
        return _in_turn(score, before)
    starts = [before, _with(before, score_threshold=0.5)] if score_thresholds else [before]
    best = _thresholds(score, max(starts, key=score), score_thresholds)
    for gain, trials in ((GAIN, _hard(best)), (SOFT_GAIN, _soft(best, score_thresholds))):
        found = max([best, *trials], key=score)
        if score(found) >= score(best) + gain:
            best = _thresholds(score, found, score_thresholds)
    if n_classes > 1:
        other = _with(best, per_class=not best.per_class)
        if score(other) >= score(best) + GAIN:
            best = _thresholds(score, other, score_thresholds)
    return best


def _in_turn(score: Callable[[Postprocess], float], best: P) -> P:
    """Search the settings that the family names, in turn, until none changes."""
    previous = None
    while best != previous:
        previous = best
        for name, values in best.searched.items():
            best = _best_of(score, best, name, values)
    return best


def _thresholds(score: Callable[[Postprocess], float], best: P, score_thresholds: bool) -> P:
    """Search the thresholds in turn, until none changes."""
    previous = None
    while best != previous:
        previous = best
        if score_thresholds:
            best = _best_of(score, best, "score_threshold", SCORE_THRESHOLDS)
        if best.nms == "gaussian":
            best = _best_of(score, best, "nms_sigma", SIGMAS)
        else:
            best = _best_of(score, best, "nms_threshold", NMS_THRESHOLDS)
        if score_thresholds:
            around = [round(best.score_threshold + step, 4) for step in FINE_STEPS]
            lowest = min(SCORE_THRESHOLDS)
            best = _best_of(score, best, "score_threshold", [t for t in around if lowest <= t < 1])
    return best


def _hard(best: P) -> Iterator[P]:
    """Trials of hard suppression in the ways that ``best`` does not use."""
    for by in ("mask", "box"):
        if (best.nms, best.nms_by) != ("hard", by):
            yield from (_with(best, nms="hard", nms_by=by, nms_threshold=t) for t in TRIED_OVERLAPS)


def _soft(best: P, score_thresholds: bool) -> Iterator[P]:
    """Trials of Soft-NMS in the ways that ``best`` does not use; lowered scores may ask for a lower threshold."""
    lowest = min(best.score_threshold, *SCORE_THRESHOLDS)
    steps = TRIED_STEPS if score_thresholds else (0.0,)
    levels = list(dict.fromkeys(max(lowest, round(best.score_threshold + step, 4)) for step in steps))
    for by in ("mask", "box"):
        for level in levels:
            if (best.nms, best.nms_by) != ("linear", by):
                for overlap in TRIED_OVERLAPS:
                    yield _with(best, nms="linear", nms_by=by, nms_threshold=overlap, score_threshold=level)
            if (best.nms, best.nms_by) != ("gaussian", by):
                for sigma in SIGMAS:
                    yield _with(best, nms="gaussian", nms_by=by, nms_sigma=sigma, score_threshold=level)


def _best_of(score: Callable[[Postprocess], float], current: P, name: str, values: Sequence[float]) -> P:
    return max([current, *(_with(current, **{name: value}) for value in values)], key=score)


def _with(postprocess: P, **changes: Any) -> P:
    return postprocess.model_copy(update=changes)
