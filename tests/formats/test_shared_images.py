"""The real micrographs: each read as its description says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from cytomask.errors import ImageError
from cytomask.formats.images import list_images, read_image
from cytomask.formats.label_images import read_labels


def _some(folder: Path, count: int = 12) -> list[Path]:
    images = list_images([folder])
    return images[:: max(1, len(images) // count)]


def test_nuclei(shared_data: Path) -> None:
    assert len(list_images([shared_data / "nuclei" / "images"])) == 664
    for path in _some(shared_data / "nuclei" / "images", 40):
        image = read_image(path)
        expected = np.asarray(PIL.Image.open(path))
        assert image.rgb == (expected.ndim == 3)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image.pixels, expected.transpose(2, 0, 1) if image.rgb else expected[None])
        labels = read_labels(shared_data / "nuclei" / "labels" / path.name)
        assert labels.shape == image.shape
        assert labels.max() > 0


def test_nuclei_as_published(shared_data: Path) -> None:
    for path in (shared_data / "nuclei_kaggle_layout").glob("*/images/*.png"):
        image = read_image(path)
        assert image.rgb
        assert "transparency is dropped" in image.resolved
        for mask in path.parents[1].glob("masks/*.png"):
            assert set(np.unique(read_labels(mask))) == {0, 255}


def test_livecell(shared_data: Path) -> None:
    for path in list_images([shared_data / "livecell" / "images"]):
        image = read_image(path)
        assert image.pixels.shape == (1, 520, 704)
        assert image.dtype == np.uint8


def test_phase(shared_data: Path) -> None:
    for path in _some(shared_data / "phase" / "images"):
        image = read_image(path)
        assert image.pixels.shape == (1, 1022, 1024)
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(image.pixels[0], tifffile.imread(path))
        assert read_labels(shared_data / "phase" / "labels" / f"{path.stem}.png").shape == image.shape


def test_histology(shared_data: Path) -> None:
    for path in _some(shared_data / "histology" / "images"):
        image = read_image(path)
        assert image.rgb
        assert image.pixels.shape == (3, 1000, 1000)
        labels = read_labels(shared_data / "histology" / "labels" / path.name)
        assert 100 < len(np.unique(labels)) < 2000


def test_platelets(shared_data: Path) -> None:
    for path in list_images([shared_data / "platelet_em" / "tiles", shared_data / "platelet_em"]):
        image = read_image(path)
        assert image.n_channels == 1
        assert image.shape in [(400, 400), (800, 800)]
    classes = read_labels(shared_data / "platelet_em" / "50-semantic-index.tif")
    assert set(np.unique(classes)) <= set(range(7))


def test_codex(shared_data: Path) -> None:
    path = shared_data / "codex" / "field.ome.tif"
    image = read_image(path)
    assert image.pixels.shape == (8, 1008, 1344)
    assert image.dtype == np.uint16
    assert image.channels[5:] == ("nucleus", "cytoplasm", "membrane")
    assert image.pixel_size is None
    np.testing.assert_array_equal(image.pixels, tifffile.imread(path))
    for name, cells in [("cells_expert1.tif", 3431), ("cells_expert2.tif", 2094)]:
        labels = read_labels(shared_data / "codex" / name)
        assert labels.shape == image.shape
        assert len(np.unique(labels)) - 1 == cells


def test_volumes_are_not_images(shared_data: Path) -> None:
    with pytest.raises(ImageError, match="not supported"):
        read_image(next((shared_data / "volume").glob("*.h5")))
