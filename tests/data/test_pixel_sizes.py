"""The pixel size that a model is trained at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytomask.data.dataset import open_dataset
from cytomask.data.pixel_sizes import common_pixel_size
from cytomask.formats.label_images import write_labels


def dataset(folder: Path, sizes: list[float | tuple[float, float] | None], extra: str = "") -> Path:
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for i, size in enumerate(sizes):
        y, x = size if isinstance(size, tuple) else (size, size)
        scale = {} if y is None or x is None else {"resolution": (1 / x, 1 / y), "metadata": {"unit": "um"}}
        tifffile.imwrite(folder / f"images/{i}.tif", np.zeros((8, 8), np.uint8), imagej=bool(scale), **scale)
        write_labels(folder / f"labels/{i}.tif", np.ones((8, 8), np.int32))
    (folder / "dataset.yaml").write_text("splits: {train: ['*']}\n" + extra)
    return folder


@pytest.mark.parametrize(
    ("sizes", "expected", "said"),
    [
        ([0.5, 0.51, 0.5], 0.5, "trained at 0.5 µm"),
        ([None, None], None, "no image tells"),
        ([0.5, None], None, "1 of 2 images do not"),
        ([0.5, 0.65], None, "differ (0.5 to 0.65 µm)"),
        ([(0.5, 0.65)], None, "differ"),
    ],
)
def test_a_size_is_kept_only_where_all_images_share_it(sizes, expected, said, tmp_path):
    size, sentence = common_pixel_size(open_dataset(dataset(tmp_path, sizes)).samples)
    assert size == (None if expected is None else pytest.approx(expected, rel=1e-3))
    assert said in sentence


def test_it_is_the_size_after_the_steps(tmp_path):
    folder = dataset(tmp_path, [0.25, 0.25], "steps: [{rescale: {factor: 0.5}}]\n")
    assert common_pixel_size(open_dataset(folder).samples)[0] == pytest.approx(0.5, rel=1e-3)
