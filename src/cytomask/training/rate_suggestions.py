"""Which learning rates the losses of a sweep speak for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cytomask.training.rate_sweep import Sweep

#: A loss that has not fallen by this share over the sweep says nothing of rates.
LEAST_FALL = 0.02
#: The descent begins where so much of the whole fall is made: before, rates are too low to matter.
BEGUN = 0.05


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, the rule that leads to it, and why one would take it."""

    rule: str
    rate: float
    loss: float
    reason: str
    recommended: bool = False


def suggest_rates(sweep: Sweep) -> list[Suggestion]:
    """Suggest learning rates from the smoothed loss, by three rules, and recommend one.

    Returns
    -------
    list of Suggestion
        Empty if the loss did not fall: then a sweep over other rates, or longer, may tell more.

    Examples
    --------
    >>> rates = 10.0 ** np.arange(-6, 1)
    >>> losses = np.array([1.0, 1.0, 0.9, 0.5, 0.4, 0.6, 1.5])
    >>> [(s.rule, float(s.rate)) for s in suggest_rates(Sweep(rates, losses, losses, losses, "range"))]
    [('steepest descent', 0.0001), ('a tenth of the minimum', 0.001), ('valley', 0.001)]
    """
    losses, rates = sweep.smoothed, sweep.rates
    best = int(np.argmin(losses))
    if best < 2 or losses[best] > (1 - LEAST_FALL) * losses[: best + 1].max():
        return []
    steepest = _steepest(losses[: best + 1])
    middle = _middle_of_valley(losses[: best + 1])
    tenth = rates[best] / 10
    told = [
        Suggestion(
            "steepest descent", rates[steepest], losses[steepest], "here the loss falls fastest with the rate"
        ),
        Suggestion(
            "a tenth of the minimum",
            tenth,
            float(np.interp(np.log10(tenth), np.log10(rates), losses)),
            f"the loss is lowest at {rates[best]:.2g}, which is close to where it rises again: a tenth is safe",
        ),
        Suggestion(
            "valley", rates[middle], losses[middle], "the middle of the longest descent, which asks for no one step"
        ),
    ]  # fmt: skip
    # Of two rates that the loss speaks for, the lower costs time at most; the higher may cost the training.
    chosen = min((told[1], told[2]), key=lambda s: s.rate)
    return [
        Suggestion(s.rule, float(s.rate), float(s.loss), s.reason, recommended=s is chosen) for s in told
    ]  # fmt: skip


def _steepest(losses: np.ndarray) -> int:
    """The step about which the loss falls most; over a few steps, as one alone may be chance."""
    reach = max(1, len(losses) // 20)
    steps = np.arange(len(losses))
    after, before = np.minimum(steps + reach, len(losses) - 1), np.maximum(steps - reach, 0)
    return int(np.argmin((losses[after] - losses[before]) / (after - before)))


def _middle_of_valley(losses: np.ndarray) -> int:
    """The middle of the longest falling subsequence, from where the loss has begun to fall in earnest."""
    begun = int(np.argmax(losses < losses.max() - BEGUN * (losses.max() - losses.min())))
    losses = losses[begun:]
    n = len(losses)
    length, before = np.ones(n, int), np.arange(n)
    for k in range(1, n):
        higher = np.flatnonzero(losses[:k] > losses[k])
        if len(higher):
            last = higher[np.argmax(length[higher])]
            length[k], before[k] = length[last] + 1, last
    end = start = int(np.argmax(length))
    while before[start] != start:
        start = int(before[start])
    return begun + (start + end) // 2
