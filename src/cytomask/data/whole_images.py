"""Whole images as training items: sized by their shorter edge, which is drawn anew each time, and varied at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cytomask.data.augment import draw_whole_warp
from cytomask.data.augment_config import AugmentConfig
from cytomask.data.intensity import change_intensity
from cytomask.data.patches import SourceImage, warped_layers
from cytomask.data.short_edge import ShortestEdge
from cytomask.label_layers import LabelLayers


@dataclass(frozen=True)
class WholeImageSampler:
    """Draws whole images, or large parts of them, at one of several sizes.

    All geometry is one warp, so that pixels are interpolated once. Sizes differ from item to item: only families that
    join images of different sizes can learn from them.

    Attributes
    ----------
    short_edge
        Lengths of the shorter edge, in pixels, of which one is drawn.
    long_edge
        The longer edge becomes no longer than this.
    crop
        Smallest share of the rows and columns that is kept, each by itself; None keeps all.
    augment
        How images are varied; by default not at all.

    Examples
    --------
    >>> labels = np.zeros((40, 60), np.int32)
    >>> labels[10:20, 10:20] = 5
    >>> image = (labels > 0).astype(np.float32)[None]
    >>> sampler = WholeImageSampler(short_edge=(80,), long_edge=100)
    >>> source = SourceImage.from_arrays(image, LabelLayers.from_labels(labels))
    >>> picture, layers = sampler.draw(source, np.random.default_rng(0))
    >>> picture.shape, layers.layers.shape
    ((1, 67, 100), (1, 67, 100))
    """

    short_edge: tuple[int, ...]
    long_edge: int
    crop: float | None = None
    augment: AugmentConfig = AugmentConfig.none()  # noqa: RUF009 (frozen)

    def draw(
        self, source: SourceImage, rng: np.random.Generator, note: Callable[[str], None] | None = None
    ) -> tuple[npt.NDArray[np.float32], LabelLayers]:
        """Draw one image: float32 ``(C, Y, X)``, and its annotation with ids 1 to n.

        ``note`` is told the name of each stage that ends, for timing.
        """
        note = note or _nothing
        shortest = self.short_edge[int(rng.integers(len(self.short_edge)))]
        warp, zoom = draw_whole_warp(
            self.augment,
            rng,
            edge=ShortestEdge(shortest=min(shortest, self.long_edge), longest=self.long_edge),
            crop=self.crop,
            source_shape=source.shape,
            diameter=source.diameter,
        )
        labels = warped_layers(source, warp, self.augment.min_object_pixels)
        note("labels")
        pixels = source.warped(warp, rng)
        note("image")
        diameter = None if source.diameter is None else source.diameter * zoom
        pixels = change_intensity(pixels, self.augment.intensity, rng, channels=source.channels, diameter=diameter)
        note("intensity")
        return pixels, labels


def _nothing(stage: str) -> None:
    pass
