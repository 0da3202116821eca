"""Validation images: whole, as prediction will see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from cytomask.data.normalise import in_half
from cytomask.label_layers import LabelLayers
from cytomask.models.segmenter import Segmenter
from cytomask.training.module import pad_to_stride


class ValidationImages(Dataset):
    """Whole images with their targets and their truth as instances.

    Parameters
    ----------
    pairs
        Normalised images ``float (C, Y, X)`` with their annotation; kept as float16 to save memory. Where an image
        has been resized for the network, its annotation is still of the native size: what is found is compared there.
    numbers
        The number of each among all validation images, where processes share them; None: these are all.
    segmenter
        Makes the targets and tells the stride.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[np.ndarray, LabelLayers]],
        segmenter: Segmenter,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self.pairs = [(in_half(image), layers) for image, layers in pairs]
        self.segmenter = segmenter
        self.numbers = range(len(self.pairs)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, layers = self.pairs[index]
        stride = self.segmenter.stride
        rows, columns = image.shape[1:]
        padded = pad_to_stride(image.astype(np.float32), stride)
        height, width = padded.shape[1:]
        grown = _grown(resized_layers(layers, (rows, columns)), (height, width))
        targets = {name: torch.from_numpy(value) for name, value in self.segmenter.targets(grown).items()}
        return {
            "number": self.numbers[index],
            "image": torch.from_numpy(padded),
            "targets": targets,
            "truth": layers.to_instances(),
            "size": (rows, columns),
            "scale": (rows / layers.shape[0], columns / layers.shape[1]),
        }


def _grown(layers: LabelLayers, shape: tuple[int, int]) -> LabelLayers:
    """An annotation with room below and right, of which nothing is known: two crowd regions."""
    rows, columns = layers.shape
    room = np.zeros((max(1, len(layers.layers)), *shape), np.int32)
    room[: len(layers.layers), :rows, :columns] = layers.layers
    classes, crowd = dict(layers.classes), set(layers.crowd)
    for part in (room[0, rows:], room[0, :rows, columns:]):
        if part.size:
            number = next(n for n in count(1) if n not in classes)
            part[:], classes[number] = number, 1
            crowd.add(number)
    return replace(layers, layers=room, classes=classes, crowd=frozenset(crowd))


def resized_layers(layers: LabelLayers, shape: tuple[int, int]) -> LabelLayers:
    """An annotation at another size: each pixel has the label at its centre.

    Examples
    --------
    >>> resized_layers(LabelLayers.from_labels(np.array([[0, 3]])), (2, 4)).layers.tolist()
    [[[0, 0, 3, 3], [0, 0, 3, 3]]]
    """
    if layers.shape == shape:
        return layers
    rows, columns = (((np.arange(m) + 0.5) * (n / m)).astype(int) for m, n in zip(shape, layers.shape))
    return replace(layers, layers=layers.layers[:, rows[:, None], columns])
