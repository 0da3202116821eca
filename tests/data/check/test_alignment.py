"""Shifts of annotations are found, and nothing is called a shift that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytomask.data.check.alignment import align
from cytomask.data.check.examine import is_shifted
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances

from .planting import draw_cells


def moved(labels: np.ndarray, dy: int, dx: int) -> np.ndarray:
    out = np.zeros_like(labels)
    height, width = labels.shape
    out[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = (
        labels[max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
    )  # fmt: skip
    return out


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (0, -4), (-6, 5), (8, 8)])
def test_a_shift_is_measured_whatever_the_contrast(shift: tuple[int, int], dark: bool) -> None:
    image, labels = draw_cells(1)
    grey = 255.0 - image if dark else image.astype(float)
    found = align(grey, Instances.from_labels(moved(labels, *shift)))
    assert found is not None
    assert abs(found.dy + shift[0]) <= 1
    assert abs(found.dx + shift[1]) <= 1
    assert is_shifted(found) == (shift != (0, 0))


def test_noise_shows_neither_shift_nor_fit() -> None:
    fits = []
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(size=(128, 168))
        found = align(noise, Instances.from_labels(draw_cells(seed)[1]))
        assert found is not None
        assert not is_shifted(found)
        fits.append(found.fit)
    assert max(fits) < 4
    image, labels = draw_cells(1)
    right = align(image, Instances.from_labels(labels))
    assert right is not None
    assert right.fit > 15


def test_nothing_can_be_told_without_edges_or_objects() -> None:
    labels = draw_cells(1)[1]
    assert align(np.ones(labels.shape), Instances.from_labels(labels)) is None
    assert align(np.random.default_rng(0).random((50, 50)), Instances.empty((50, 50))) is None


@pytest.mark.parametrize("name", ["nuclei", "histology"])
def test_real_annotations_lie_right_until_they_are_moved(name: str, shared_data: Path) -> None:
    found, right = [], 0
    paths = sorted((shared_data / name / "labels").glob("*.png"))
    for path in paths[:: max(1, len(paths) // 10)][:10]:
        image = next((shared_data / name / "images").glob(f"{path.stem}.*"))
        grey = np.asarray(read_image(image).pixels, np.float32).mean(axis=0)
        labels = read_labels(path)
        still = align(grey, Instances.from_labels(labels))
        assert still is None or not is_shifted(still), path.stem
        if still is not None and still.objects >= 10:
            after = align(grey, Instances.from_labels(moved(labels, 6, -5)))
            assert after is not None
            found.append(is_shifted(after))
            right += abs(after.dy + 6) <= 1 and abs(after.dx - 5) <= 1
    assert len(found) >= 5
    assert np.mean(found) >= 0.8
    assert right >= 0.8 * len(found)
