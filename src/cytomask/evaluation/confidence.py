"""Bootstrap confidence intervals over images.

The images are what was sampled, so they are what is drawn again (Efron & Tibshirani 1993, percentile method). A
resample is a weight per image: every figure is a function of weighted sums of per-image counts, so that all resamples
are computed at once, and no image is looked at twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bootstrap:
    """How confidence intervals are made.

    Attributes
    ----------
    resamples
        How often the images are drawn again; 0 leaves intervals out.
    level
        Fraction of the resamples inside the interval.
    seed
        Seed of the draws: the same images give the same interval.
    """

    resamples: int = 1000
    level: float = 0.95
    seed: int = 0

    def weights(self, n_images: int) -> np.ndarray:
        """How often each image is drawn in each resample, float64 ``(resamples, n_images)``; rows sum to ``n_images``.

        Examples
        --------
        >>> Bootstrap(resamples=2).weights(4).sum(axis=1)
        array([4., 4.])
        """
        rng = np.random.default_rng(self.seed)
        return rng.multinomial(n_images, np.full(n_images, 1 / n_images), self.resamples).astype(float)

    def interval(self, values: np.ndarray) -> np.ndarray:
        """Lower and upper bound over the first axis, ``(2, ...)``; NaN where no resample has a value.

        Resamples in which a figure is not defined (a class did not occur) are left out.
        """
        tail = 50 * (1 - self.level)
        flat = np.reshape(values, (len(values), -1))
        bounds = np.full((2, flat.shape[1]), np.nan)
        for column in range(flat.shape[1]):
            known = flat[~np.isnan(flat[:, column]), column]
            if len(known):
                bounds[:, column] = np.percentile(known, (tail, 100 - tail))
        return bounds.reshape(2, *np.shape(values)[1:])
