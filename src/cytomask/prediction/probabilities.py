"""The probabilities of pixels in the native image, of families that make objects of maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cytomask.errors import ConfigError
from cytomask.models.assembling import AssemblingSegmenter
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter import Segmenter
from cytomask.prediction.prepare import PreparedImage


def assembling(segmenter: Segmenter) -> AssemblingSegmenter:
    """Make sure that a segmenter has probabilities of pixels.

    Raises
    ------
    ConfigError
        If its family finds objects one by one.
    """
    if not isinstance(segmenter, AssemblingSegmenter):
        raise ConfigError(
            f"the family {segmenter.family} finds objects one by one and knows no probabilities of pixels",
            where="--save", found="probabilities", expected="a model of the family dense",
        )  # fmt: skip
    return segmenter


def probability_maps(
    segmenter: AssemblingSegmenter, proposals: Proposals, prepared: PreparedImage
) -> npt.NDArray[np.float32]:
    """How likely each pixel of the native image belongs to objects of each class.

    Parameters
    ----------
    segmenter
        Made the proposals.
    proposals
        Of the whole image; where a piece is missing, probabilities are 0.
    prepared
        The image.

    Returns
    -------
    numpy.ndarray
        float32 ``(classes, Y, X)``, interpolated between network pixels.
    """
    maps = segmenter.probabilities(proposals, (0, 0, *prepared.shape))
    for axis in range(2):
        maps = _resampled(maps, axis + 1, prepared.native_shape[axis], prepared.scale[axis])
    return maps


def _resampled(maps: npt.NDArray[np.float32], axis: int, size: int, scale: float) -> npt.NDArray[np.float32]:
    """Interpolate along one axis at the centres of native pixels."""
    if scale == 1.0:
        return maps
    places = ((np.arange(size) + 0.5) * scale - 0.5).clip(0, maps.shape[axis] - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, maps.shape[axis] - 1)
    share = (places - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
    return np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
