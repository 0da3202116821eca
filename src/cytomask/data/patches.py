"""Cut augmented training patches out of annotated images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from cytomask.data.augment import draw_warp
from cytomask.data.augment_config import AugmentConfig
from cytomask.data.change_notes import note_change
from cytomask.data.channel_mix import ChannelMix, DrawnChannels, mixed
from cytomask.data.intensity import change_intensity
from cytomask.data.normalise import in_half
from cytomask.geometry.specks import drop_specks
from cytomask.geometry.warp import Warp
from cytomask.label_layers import LabelLayers


@dataclass(frozen=True, eq=False)
class SourceImage:
    """An annotated image, ready for many patches to be cut from it.

    Attributes
    ----------
    pixels
        Normalised, float16 or float32 ``(C, Y, X)``; one channel where all are equal.
    labels
        ``(K, Y, X)`` uint16 or int32, with ids 1 to N.
    classes, crowd
        Class id, and whether the object is a crowd region, by id: ``(N + 1,)``.
    channels
        Channels that patches get: more than ``C`` where a grey picture is shown in several.
    class_names
        Names of the classes.
    centres
        float32 ``(N, 2)``: centres of mass.
    areas
        int64 ``(N,)``, pixels.
    mix
        What the network's channels are made of, where that is drawn for each patch.
    """

    pixels: npt.NDArray[np.floating]
    labels: npt.NDArray[np.integer]
    classes: npt.NDArray[np.int32]
    crowd: npt.NDArray[np.bool_]
    channels: int
    class_names: tuple[str, ...]
    centres: npt.NDArray[np.float32]
    areas: npt.NDArray[np.int64]
    mix: ChannelMix | None = None

    @classmethod
    def from_arrays(
        cls,
        image: npt.NDArray[np.floating],
        layers: LabelLayers,
        mix: ChannelMix | None = None,
        *,
        half: bool = False,
    ) -> SourceImage:
        """Take an image ``(C, Y, X)`` and its annotation; ``half`` keeps float16, which is precise to 1/2000.

        With ``mix`` the channels are those of its stack.

        Raises
        ------
        ValueError
            If the two differ in height or width.
        """
        if image.ndim != 3 or image.shape[1:] != layers.layers.shape[1:]:
            raise ValueError(f"an image of shape {image.shape} does not fit labels of shape {layers.layers.shape}")
        channels = len(image) if mix is None else mix.count
        if mix is None and channels > 1 and all(np.array_equal(image[0], other) for other in image[1:]):
            image = image[:1]
        ids, dense = np.unique(layers.layers, return_inverse=True)
        if not ids.size or ids[0] != 0:
            ids, dense = np.concatenate([[0], ids]), dense + 1
        small = ids.size <= np.iinfo(np.uint16).max
        labels: npt.NDArray[Any] = dense.reshape(layers.layers.shape).astype(np.uint16 if small else np.int32)
        classes = np.array([0] + [layers.classes.get(int(i), 1) for i in ids[1:]], np.int32)
        crowd = np.isin(ids, np.fromiter(layers.crowd, np.int64, len(layers.crowd)))
        areas, centres = _areas_and_centres(labels.astype(np.int32, copy=False), ids.size)
        pixels: npt.NDArray[Any] = in_half(image) if half else np.ascontiguousarray(image, np.float32)
        return cls(pixels, labels, classes, crowd, channels, layers.class_names, centres[1:], areas[1:], mix)

    @cached_property
    def diameter(self) -> float | None:
        """Median diameter of the objects (of the circles with their areas), without crowd regions; None without any."""
        areas = self.areas[~self.crowd[1:]]
        return float(np.median(2 * np.sqrt(areas / math.pi))) if areas.size else None

    def warped(self, warp: Warp, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Warp the pixels, float32 ``(C, Y, X)``; where the channels are made of others, that is drawn now."""
        if self.mix is None:
            return warp.image(self.pixels)
        matrix = self.mix.draw(rng)
        note_change("{}", DrawnChannels(matrix, self.mix.names))
        # Channels that this drawing does not use are not warped.
        return mixed(matrix, lambda channel: warp.image(self.pixels[channel : channel + 1])[0], warp.shape)

    @property
    def nbytes(self) -> int:
        """Memory that the pixels and labels take."""
        return self.pixels.nbytes + self.labels.nbytes

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.labels.shape[1], self.labels.shape[2]


@dataclass(frozen=True)
class PatchSampler:
    """Draws patches at random, with a preference for places where objects are.

    Attributes
    ----------
    size
        Side of the patches, in pixels.
    foreground
        Share of the patches that are laid on an object (each object as likely as any other); the rest lies anywhere.
    augment
        How patches are varied; by default not at all.

    Notes
    -----
    A patch that reaches beyond its image (after scaling or turning) shows the image's mirror picture there, because a
    blank area would teach nothing. Objects in the mirror picture are objects of their own, with ids of their own. But
    one that touches the border grows together with its mirror picture, and nobody can say where the one ends and the
    other begins: these become crowd regions, which training leaves out.

    Examples
    --------
    >>> labels = np.zeros((40, 40), np.int32)
    >>> labels[10:20, 10:20] = 5
    >>> image = (labels > 0).astype(np.float32)[None]
    >>> sampler = PatchSampler(32, foreground=1.0)
    >>> patch, layers = sampler.sample(image, LabelLayers.from_labels(labels), np.random.default_rng(0))
    >>> patch.shape, bool(((layers.layers[0] > 0) == (patch[0] > 0)).all())
    ((1, 32, 32), True)
    """

    size: int
    foreground: float = 0.9
    augment: AugmentConfig = AugmentConfig.none()  # noqa: RUF009 (frozen)

    def sample(
        self, image: npt.NDArray[np.floating], layers: LabelLayers, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float32], LabelLayers]:
        """Draw one patch of an image; for many of the same image, see :meth:`draw`.

        Parameters
        ----------
        image
            Normalised, float ``(C, Y, X)``.
        layers
            Its annotation.
        rng
            Decides all that is drawn.

        Returns
        -------
        tuple
            float32 ``(C, size, size)``, and its annotation with ids 1 to n.
        """
        return self.draw(SourceImage.from_arrays(image, layers), rng)

    def draw(
        self, source: SourceImage, rng: np.random.Generator, note: Callable[[str], None] | None = None
    ) -> tuple[npt.NDArray[np.float32], LabelLayers]:
        """Draw one patch of a prepared image; ``note`` is told the name of each stage that ends, for timing."""
        note = note or _nothing
        warp, zoom = draw_warp(
            self.augment,
            rng,
            size=self.size,
            source_shape=source.shape,
            focus=self._focus(source, rng),
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

    def _focus(self, source: SourceImage, rng: np.random.Generator) -> tuple[float, float]:
        on_object, which = rng.random() < self.foreground, rng.random()
        anywhere = rng.random(2) * source.shape - 0.5
        if on_object and len(source.centres):
            y, x = source.centres[int(which * len(source.centres))]
            return float(y), float(x)
        return float(anywhere[0]), float(anywhere[1])


def warped_layers(source: SourceImage, warp: Warp, min_pixels: int) -> LabelLayers:
    """Warp the annotation of an image: mirrored beyond its border, without specks, with ids from 1 on.

    Layers in which nothing is left are dropped, but for one.
    """
    first_y, last_y, first_x, last_x = warp.pictures(source.shape)
    if (first_y, last_y, first_x, last_x) == (0, 1, 0, 1):
        moved, pictures = warp.labels(source.labels), 1
        crowd = source.crowd
    else:
        shared = _on_seams(source, first_y, last_y, first_x, last_x)
        moved, pictures = warp.mirrored_labels(source.labels, shared)
        crowd = source.crowd | shared
    if min_pixels > 1:
        moved = np.stack([drop_specks(layer, min_pixels) for layer in moved]) if len(moved) else moved
    count = len(source.classes)
    kept = _renumber(moved, count * pictures)
    filled = moved.reshape(len(moved), -1).any(axis=1)
    if len(moved) > 1 and not filled.all():
        moved = moved[filled] if filled.any() else moved[:1]
    old = kept % count
    return LabelLayers(
        layers=moved,
        classes={new: int(c) for new, c in enumerate(source.classes[old], start=1)},
        crowd=frozenset((np.flatnonzero(crowd[old]) + 1).tolist()),
        class_names=source.class_names,
    )


def _on_seams(source: SourceImage, first_y: int, last_y: int, first_x: int, last_x: int) -> npt.NDArray[np.bool_]:
    """Which objects touch a border at which the patch passes from one mirror picture to the next, by id."""
    touching = np.zeros(len(source.classes), np.bool_)
    # Between pictures 0 and 1 lies the far border, between -1 and 0 the near one, and so on by turns.
    for axis, first, last in ((1, first_y, last_y), (2, first_x, last_x)):
        for seam in range(first, last - 1):
            edge = -1 if seam % 2 == 0 else 0
            touching[np.take(source.labels, edge, axis=axis)] = True
    touching[0] = False
    return touching


def _nothing(stage: str) -> None:
    pass


@njit(cache=True, nogil=True)
def _renumber(labels, limit):  # type: ignore[no-untyped-def]
    """Give ids 1, 2, … in place, by ascending old id; returns the old ids."""
    new = np.zeros(limit, np.int32)
    flat = labels.reshape(-1)
    for i in range(flat.size):
        new[flat[i]] = 1
    new[0] = 0
    kept = np.flatnonzero(new)
    for i in range(kept.size):
        new[kept[i]] = i + 1
    for i in range(flat.size):
        flat[i] = new[flat[i]]
    return kept


@njit(cache=True, nogil=True)
def _areas_and_centres(labels, count):  # type: ignore[no-untyped-def]
    areas = np.zeros(count, np.int64)
    sums = np.zeros((count, 2), np.float64)
    for layer in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = labels[layer, y, x]
                areas[label] += 1
                sums[label, 0] += y
                sums[label, 1] += x
    centres = np.zeros((count, 2), np.float32)
    for i in range(count):
        if areas[i]:
            centres[i, 0] = sums[i, 0] / areas[i]
            centres[i, 1] = sums[i, 1] / areas[i]
    return areas, centres
