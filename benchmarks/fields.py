"""What the benchmarks share: a field of real nuclei, and timing by turns."""

from __future__ import annotations

import numpy as np

from cytomask.data.dataset import open_dataset
from cytomask.data.sample import load_sample


def field_of_nuclei(data: str, size: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Tile fluorescence test images of 256 x 256 to one field, uint8, with its labels, int32."""
    usable = []
    for sample in open_dataset(data).split("test"):
        picture, layers = load_sample(sample)
        if picture.shape == (256, 256) and picture.n_channels == 1:
            usable.append((np.asarray(picture.pixels)[0], layers.layers[0]))
    image, labels = np.zeros((size, size), np.uint8), np.zeros((size, size), np.int32)
    for index, (y, x) in enumerate((y, x) for y in range(0, size, 256) for x in range(0, size, 256)):
        pixels, truth = usable[index % len(usable)]
        image[y : y + 256, x : x + 256] = pixels
        labels[y : y + 256, x : x + 256] = np.where(truth > 0, truth + labels.max(), 0)
    return image, labels
