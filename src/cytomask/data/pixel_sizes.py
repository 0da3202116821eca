"""Which pixel size a model is trained at: the one that all its images share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cytomask.data.object_sizes import MAX_IMAGES
from cytomask.data.sample import Sample, load_sample

#: Sizes that differ by less than this part are taken for one.
TOLERANCE = 0.05


def common_pixel_size(samples: Sequence[Sample]) -> tuple[float | None, str]:
    """Find the pixel size of the images as a network sees them, after the data set's preprocessing steps.

    Parameters
    ----------
    samples
        Training images; at most ``MAX_IMAGES`` of them, evenly spaced, are read.

    Returns
    -------
    pixel_size, sentence
        µm per pixel, or None where not all images tell it, pixels are not square, or sizes differ; and the reason.
    """
    chosen = samples[:: max(1, -(-len(samples) // MAX_IMAGES))]
    sizes = [load_sample(sample)[0].pixel_size for sample in chosen]
    known = np.array([size for size in sizes if size is not None], float)
    if not len(known):
        return None, "no image tells its pixel size, so images are not rescaled by it when the model predicts"
    if len(known) < len(sizes):
        missing = len(sizes) - len(known)
        return None, f"{missing} of {len(sizes)} images do not tell their pixel size, so the model keeps none"
    low, high = float(known.min()), float(known.max())
    if high > low * (1 + TOLERANCE):
        return None, f"the images' pixel sizes differ ({low:.4g} to {high:.4g} µm), so the model keeps none"
    size = float(np.median(known))
    return size, f"trained at {size:.4g} µm per pixel: images that tell another size are rescaled to it"
