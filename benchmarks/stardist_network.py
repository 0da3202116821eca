"""The same weights in StarDist's Keras network and in ours: for parity and for fair timings.

Needs the `peers` dependency group (stardist, tensorflow-cpu).
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
from torch import nn

from cytomask.models.star.config import StarConfig
from cytomask.models.star.segmenter import StarSegmenter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def keras_stardist(channels: int = 1, grid: int = 2, rays: int = 32) -> Any:
    """Build StarDist's default network with random weights."""
    from stardist.models import Config2D, StarDist2D

    config = Config2D(n_rays=rays, grid=(grid, grid), n_channel_in=channels)
    return StarDist2D(config, name="peer", basedir=tempfile.mkdtemp())


def copy_to_keras(ours: StarSegmenter, theirs: Any) -> None:
    """Put our weights into the Keras network, convolution by convolution in the order of computation."""
    convolutions = [m for m in ours.modules() if isinstance(m, nn.Conv2d)]
    layers = [layer for layer in theirs.keras_model.layers if type(layer).__name__ == "Conv2D"]
    heads = {layer.name: layer for layer in layers if layer.name in ("prob", "dist")}
    body = [layer for layer in layers if layer.name not in heads]
    pairs = [*zip(convolutions[:-2], body), (ours.probability, heads["prob"]), (ours.distances, heads["dist"])]
    assert len(body) == len(convolutions) - 2
    for ours_layer, theirs_layer in pairs:
        kernel = ours_layer.weight.detach().numpy().transpose(2, 3, 1, 0)
        theirs_layer.set_weights([kernel, ours_layer.bias.detach().numpy()])


def default_star(channels: int = 1) -> StarSegmenter:
    """Our network of StarDist's default size."""
    return StarSegmenter(StarConfig(in_channels=channels)).eval()


def outputs_of_keras(theirs: Any, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability ``(Yg, Xg)`` and distances ``(Yg, Xg, R)`` of a ``(Y, X)`` image, without any tiling."""
    probability, distances = theirs.keras_model.predict(image[None, ..., None], verbose=0)[:2]
    return probability[0, ..., 0], distances[0]
