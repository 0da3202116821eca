"""Generated micrographs with exact annotation, for the demo's training and for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture
from scipy import ndimage

from cytomask.formats.label_images import write_labels
from cytomask.output import output_folder

SPLITS = {"train": 48, "val": 6, "test": 6}


def generate_field(
    rng: np.random.Generator, size: int = 160, objects: int = 28, radius: tuple[float, float] = (6.0, 12.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw bright, wobbly, touching blobs on a noisy, uneven background.

    Parameters
    ----------
    rng
        Source of randomness.
    size
        Side of the image in pixels.
    objects
        How many blobs are tried; those that would cover another are left out.
    radius
        Smallest and largest radius in pixels.

    Returns
    -------
    image, labels
        uint8 ``(size, size)`` and int32 ``(size, size)``.

    Examples
    --------
    >>> image, labels = generate_field(np.random.default_rng(0), size=64, objects=5)
    >>> image.shape, image.dtype, bool(labels.max() >= 2)
    ((64, 64), dtype('uint8'), True)
    """
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    labels = np.zeros((size, size), np.int32)
    light = np.zeros((size, size), np.float32)
    for _ in range(objects):
        cy, cx = rng.uniform(0, size, 2)
        r = rng.uniform(*radius)
        angle = np.arctan2(rows - cy, columns - cx)
        edge = r * (1 + sum(rng.normal(0, 0.05) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4)))
        inside = np.hypot(rows - cy, columns - cx) < edge
        if not inside.any() or (labels[inside] > 0).mean() > 0.05:
            continue
        new = inside & (labels == 0)
        labels[new] = labels.max() + 1
        texture = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), 2)
        light[new] = (rng.uniform(60, 160) * (1 + 0.8 * texture[new])).astype(np.float32)
    uneven = 20 + 15 * ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), size / 5) * size / 5
    blurred = ndimage.gaussian_filter(light, 1.0) + uneven
    noisy = rng.poisson(np.clip(blurred, 0, None)) + rng.normal(0, 3, (size, size))
    return np.clip(noisy, 0, 255).astype(np.uint8), labels


def write_generated_dataset(folder: str | Path, rng: np.random.Generator) -> Path:
    """Write a data set of generated fields: ``train/``, ``val/`` and ``test/``, each ``images/`` and ``labels/``."""
    root = output_folder(folder)
    for split, count in SPLITS.items():
        images, labels = output_folder(root / split / "images"), output_folder(root / split / "labels")
        for index in range(count):
            image, truth = generate_field(rng)
            name = f"{split}_{index:03d}.png"
            Picture.fromarray(image).save(images / name)
            write_labels(labels / name, truth)
    return root
