from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytomask.data.dataset import open_dataset
from cytomask.data.pixel_shares import balanced_weights, pixel_shares
from cytomask.errors import DataError
from cytomask.formats.label_images import write_labels


def data_set(folder: Path, images: list[np.ndarray]) -> Path:
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for i, labels in enumerate(images):
            write_labels(folder / kind / f"{i}.png", labels)
    return folder


def test_shares_are_of_the_pixels_of_all_images_together(tmp_path: Path) -> None:
    small, large = np.full((2, 2), 5, np.int32), np.zeros((4, 9), np.int32)
    large[0, :6] = 3
    dataset = open_dataset(data_set(tmp_path, [small, large]))
    shares = pixel_shares(dataset.samples, dataset, lambda layers: np.bincount(layers.union().ravel(), minlength=2))
    assert shares.tolist() == [0.75, 0.25]
    with pytest.raises(DataError, match="nothing is known"):
        pixel_shares(dataset.samples, dataset, lambda _: np.zeros(2, np.int64))


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
def test_balanced_kinds_count_the_same_in_all(counts: list[int]) -> None:
    shares = np.array(counts) / sum(counts)
    weights = np.array(balanced_weights(shares))
    np.testing.assert_allclose(weights * shares, (weights * shares)[0], rtol=2e-3)
    assert weights.mean() == pytest.approx(1, rel=1e-3)


def test_what_does_not_occur_weighs_one() -> None:
    assert balanced_weights([1.0, 0.0]) == (1.0, 1.0)
    assert balanced_weights([0.0, 0.0]) == (1.0, 1.0)
    assert balanced_weights([0.9, 0.0, 0.1]) == (0.2, 1.0, 1.8)
