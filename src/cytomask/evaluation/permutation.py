"""Could chance alone explain a difference? A permutation test over images, and a correction for several tests.

If two models are alike, it does not matter which of an image's two results is called whose: in each image the names
may be exchanged. The p-value is the part of all exchanges after which the difference is at least as large as it is
(Fisher 1935). With N images there are 2^N exchanges; where these are few, all are tried, else as many are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

#: Up to so many exchanges all are tried.
MOST_EXACT = 2**12
#: So many are drawn where there are more.
DRAWN = 9999
#: Differences that are equal but for rounding count as equal.
_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False)
class Exchanges:
    """Which images exchange their two results.

    Attributes
    ----------
    exchanged
        bool ``(P, N)``: one row per exchange.
    exact
        Whether these are all that there are.
    """

    exchanged: np.ndarray
    exact: bool

    def p_value(self, difference: float, after: np.ndarray) -> float:
        """The two-sided p-value of a difference, given those after each exchange ``(P,)``; NaN where undefined.

        Drawn exchanges count the difference itself as one more, so that p is never 0 (Phipson & Smyth 2010).
        """
        after = np.abs(after[~np.isnan(after)])
        if np.isnan(difference) or not len(after):
            return float("nan")
        as_large = int((after >= abs(difference) - _TOLERANCE).sum())
        return as_large / len(after) if self.exact else (as_large + 1) / (len(after) + 1)


def exchanges(n_images: int, seed: int = 0) -> Exchanges:
    """All exchanges of two results in so many images, or 9999 that are drawn where there are more than 4096.

    Examples
    --------
    >>> few = exchanges(3)
    >>> few.exchanged.shape, few.exact, exchanges(13).exchanged.shape, exchanges(13).exact
    ((8, 3), True, (9999, 13), False)
    """
    if 2**n_images <= MOST_EXACT:
        patterns = np.arange(2**n_images)[:, None] >> np.arange(n_images)[None]
        return Exchanges((patterns & 1).astype(bool), True)
    drawn = np.random.default_rng(seed).integers(0, 2, (DRAWN, n_images), np.int8)
    return Exchanges(drawn.astype(bool), False)


def permutation_test(
    first: np.ndarray,
    second: np.ndarray,
    figure: Callable[[np.ndarray], np.ndarray],
    tried: Exchanges | None = None,
) -> float:
    """Test whether two models differ in a figure of sums over images.

    Parameters
    ----------
    first, second
        Float ``(N, K)``: what each image adds to the sums, for either model.
    figure
        Turns sums ``(..., K)`` into the figure ``(...)``.
    tried
        The exchanges, if they are there already.

    Returns
    -------
    float
        p, above 0 and up to 1; NaN where the figure is not defined.

    Examples
    --------
    The second model is better in each of four images: of 16 exchanges, only none and all give as large a difference.

    >>> one, other = np.array([[0.5], [0.6], [0.7], [0.4]]), np.array([[0.6], [0.9], [0.8], [0.5]])
    >>> permutation_test(one, other, lambda sums: sums[..., 0])
    0.125
    """
    tried = tried or exchanges(len(first))
    swap = tried.exchanged.astype(float)
    together = first.sum(axis=0) + second.sum(axis=0)
    of_first = first.sum(axis=0) + swap @ (second - first)
    after = figure(of_first) - figure(together - of_first)
    difference = figure(first.sum(axis=0)) - figure(second.sum(axis=0))
    return tried.p_value(float(difference), after)


def smallest_p(n_images: int) -> float:
    """The smallest p-value that so many images can give: with few, even the clearest difference proves nothing.

    Examples
    --------
    >>> smallest_p(3), smallest_p(6)
    (0.25, 0.03125)
    """
    if n_images < 1:
        return 1.0
    return 2.0 / 2**n_images if 2**n_images <= MOST_EXACT else 1.0 / (DRAWN + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for being several (Holm 1979): the chance of any false claim stays below the level.

    Parameters
    ----------
    p_values
        One per test; NaN stays and does not count.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, float)
    corrected = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[place]))
        corrected[place] = largest
    return [float(value) for value in corrected]
