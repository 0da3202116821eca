"""Training patches as a PyTorch data set: repeatable, balanced over groups, from images kept in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from cytomask.data.channel_mix import ChannelMix, FixedMix, before_mixing
from cytomask.data.channels import ChannelExpectation, program_channels, select_channels
from cytomask.data.normalise import Normalisation, statistics
from cytomask.data.patches import SourceImage
from cytomask.data.sample import Sample
from cytomask.data.steps import apply_steps
from cytomask.errors import DataError
from cytomask.image import Image
from cytomask.label_layers import LabelLayers
from cytomask.progress import say, track

#: Makes a network's training targets from a patch's annotation.
Targets = Callable[[LabelLayers], Mapping[str, npt.NDArray]]
#: Reads a sample: normalised float ``(C, Y, X)``, its annotation, and what the network's channels are made of.
Load = Callable[
    [Sample],
    tuple[npt.NDArray[np.floating], LabelLayers] | tuple[npt.NDArray[np.floating], LabelLayers, ChannelMix | None],
]
#: Changes the pixels of a patch, float32 ``(C, Y, X)``.
Finish = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

#: How far to go to the next image on the unit interval: multiples of it fill the interval most evenly.
_GOLDEN = 0.6180339887498949


class Sampler(Protocol):
    """Draws training items of an image: pixels, float32 ``(C, Y, X)``, and their annotation."""

    def draw(
        self, source: SourceImage, rng: np.random.Generator, note: Callable[[str], None] | None = None
    ) -> tuple[npt.NDArray[np.float32], LabelLayers]:
        """Draw one; ``rng`` decides all that is drawn."""


class PatchDataset(Dataset):
    """Random patches of annotated images.

    Patch ``i`` of epoch ``e`` depends on ``(seed, e, i)`` and the images alone, so it does not matter how many
    workers there are, nor whether a training was interrupted.

    Parameters
    ----------
    samples
        The images to draw from.
    load
        Reads one of them: normalised float ``(C, Y, X)``, and its annotation; and a channel program's mix, if the
        channels are those of its stack, from which the network's are drawn for each patch.
    targets
        Makes a patch's training targets.
    sampler
        Draws a patch of an image, as :class:`~cytomask.data.patches.PatchSampler` does, or the image as a whole.
    length
        Patches per epoch.
    seed
        Decides, with epoch and index, all that is drawn.
    balance
        A column of the samples' table, such as ``"modality"``: each of its groups is drawn in proportion to the square
        root of its number of images, so that a rare group is drawn more often than it occurs. None draws every image
        alike.
    cache_bytes
        Memory for images that have been read (as float16). Those that do not fit are read anew for each patch.
    preload
        Whether images are read into the cache now. Worker processes that are forked later then share it; otherwise
        each fills its own.
    finish
        What is done to the pixels of a patch at the end, when its intensities have been changed.

    Raises
    ------
    DataError
        If there are no samples, or a sample lacks the column to balance by.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        load: Load,
        targets: Targets,
        sampler: Sampler,
        length: int,
        seed: int = 0,
        balance: str | None = None,
        cache_bytes: int = 4 * 2**30,
        preload: bool = True,
        finish: Finish | None = None,
    ) -> None:
        if not samples:
            raise DataError("there are no images to train on")
        self.samples = list(samples)
        self.load, self.targets = load, targets
        self.sampler, self.finish = sampler, finish
        self.length, self.seed, self.epoch = length, seed, 0
        self.cache_bytes = cache_bytes
        self._cache: dict[int, SourceImage] = {}
        self._cached_bytes = 0
        # Groups lie side by side on the unit interval; within a group the images are in random order.
        order = np.random.default_rng([seed, 1]).permutation(len(self.samples))
        groups: list[str] = [_group(sample, balance) for sample in self.samples]
        self._order = order[np.argsort(np.array(groups)[order], kind="stable")]
        self._edges = np.cumsum(group_weights(groups)[self._order])
        if preload:
            self.preload()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"patch {index} of {self.length}")
        source = self.source(self.chosen(index))
        image, layers = self.sampler.draw(source, np.random.default_rng([self.seed, 2, self.epoch, index]))
        if self.finish is not None:
            image = self.finish(image)
        item = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in self.targets(layers).items()}
        return {"image": torch.from_numpy(image), **item}

    def set_epoch(self, epoch: int) -> None:
        """Draw the patches of this epoch from now on. Worker processes must be started after it."""
        self.epoch = epoch

    def chosen(self, index: int) -> int:
        """Which sample patch ``index`` of this epoch is cut from.

        The choices step through the images evenly, from a random start in each epoch: within any run of patches, each
        image comes about as often as its weight says.
        """
        start = np.random.default_rng([self.seed, 3, self.epoch]).random()
        place = (start + index * _GOLDEN) % 1.0
        at = int(np.searchsorted(self._edges, place, side="right"))
        return int(self._order[min(at, len(self.samples) - 1)])

    def preload(self) -> None:
        """Read images until the cache is full."""
        for index in track(range(len(self.samples)), "reading training images"):
            self.source(index)
            if index not in self._cache:
                say(
                    f"{len(self._cache)} of {len(self.samples)} training images fit in the cache of "
                    f"{self.cache_bytes / 2**30:.2g} GB; the others are read anew for each patch"
                )
                return

    def source(self, index: int) -> SourceImage:
        """A sample's image, ready for items to be drawn from it; kept in memory as far as the cache goes."""
        source = self._cache.get(index)
        if source is None:
            source = SourceImage.from_arrays(*self.load(self.samples[index]), half=True)
            if self._cached_bytes + source.nbytes <= self.cache_bytes:
                self._cache[index] = source
                self._cached_bytes += source.nbytes
        return source

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker reads what it needs by itself, rather than being sent all images.
        return {**self.__dict__, "_cache": {}, "_cached_bytes": 0}


def group_weights(groups: Sequence[str]) -> npt.NDArray[np.float64]:
    """Weight of each member so that its group is drawn in proportion to the root of its size; the sum is 1.

    Examples
    --------
    >>> group_weights(["a"] * 9 + ["b"])[[0, 9]].round(3)
    array([0.083, 0.25 ])
    """
    sizes = Counter(groups)
    if len(sizes) == 1:
        return np.full(len(groups), 1 / len(groups))
    weights = np.array([sizes[group] ** -0.5 for group in groups])
    return weights / weights.sum()


def _group(sample: Sample, column: str | None) -> str:
    if column is None:
        return ""
    if column not in sample.group:
        raise DataError(
            f"the data set has no column {column!r} to balance by",
            where=f"sample {sample.name}",
            found=", ".join(sample.group) or "no columns",
            fix="set data.balance to one of the columns, or leave it out",
        )
    return sample.group[column]


def prepare_training_image(
    image: Image,
    layers: LabelLayers,
    *,
    channels: ChannelExpectation,
    normalisation: Normalisation,
    chosen: Sequence[str | int] | None = None,
    steps: Sequence[Any] = (),
    group: Mapping[str, str] | None = None,
) -> tuple[npt.NDArray[np.float32], LabelLayers]:
    """Turn an annotated image into what a network is trained on.

    Parameters
    ----------
    image, layers
        As read.
    channels, normalisation
        What the model expects.
    chosen
        Channels by name or number, where the image has more than the model needs.
    steps
        Preprocessing steps, done first.
    group
        The image's row of the data set's table, for steps that need it.

    Returns
    -------
    tuple
        float32 ``(C, Y, X)``, about 0 to 1, and the annotation after the steps.

    Raises
    ------
    ChannelError
        If the image's channels do not fit.
    ConfigError, DataError
        If a step does not fit.
    """
    image, layers = apply_steps(image, layers, steps, group)
    if channels.mode != "program":
        selected, _ = select_channels(image, channels, chosen)
        return _normalised(selected, normalisation), layers
    stack, mix = training_stack(image, channels=channels, normalisation=before_mixing(normalisation), chosen=chosen)
    return FixedMix.of(mix, normalisation).apply(stack), layers


def training_stack(
    image: Image,
    *,
    channels: ChannelExpectation,
    normalisation: Normalisation,
    chosen: Sequence[str | int] | None = None,
) -> tuple[npt.NDArray[np.float32], ChannelMix]:
    """Prepare what a channel program draws from.

    Parameters
    ----------
    image, channels, normalisation, chosen
        As for :func:`prepare_training_image`; in the mode ``program``.

    Returns
    -------
    tuple
        The channels that the program may use, normalised, float32 ``(C, Y, X)``; and the program for these.

    Raises
    ------
    ChannelError
        If the image has not what the program names.
    """
    selected, mix, _ = program_channels(image, channels, chosen)
    return _normalised(selected, normalisation), mix


def _normalised(image: Image, normalisation: Normalisation) -> npt.NDArray[np.float32]:
    height, width = image.shape
    return statistics(image, normalisation).apply(image.window(0, height, 0, width))
