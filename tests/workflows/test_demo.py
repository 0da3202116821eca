"""The demo, with the shipped model."""

from __future__ import annotations

from pathlib import Path

import pytest

from cytomask.formats.label_images import read_labels
from cytomask.models.bundle import read_spec
from cytomask.workflows.demo import run_demo
from cytomask.workflows.models import SHIPPED, describe_models


def test_the_demo_finds_nuclei_and_says_where(tmp_path: Path) -> None:
    lines = run_demo(tmp_path / "demo")
    labels = read_labels(tmp_path / "demo" / "colon_haematoxylin_labels.tif")
    assert 250 < labels.max() < 700
    assert (tmp_path / "demo" / "colon_overlay.png").stat().st_size > 100_000
    assert any("colon_overlay.png" in line for line in lines)


def test_shipped_models_are_small_and_free() -> None:
    assert any(line.startswith("nuclei") for line in describe_models())
    for folder in SHIPPED.iterdir():
        assert sum(p.stat().st_size for p in folder.iterdir()) < 10e6
        assert read_spec(folder).training.data_licence in ("CC0", "MIT")
        assert (folder / "README.md").is_file()


@pytest.mark.parametrize("tile", [256, 512])
def test_the_shipped_model_gives_the_same_in_tiles(shared_data: Path, tile: int) -> None:
    import numpy as np

    import cytomask

    image = cytomask.read_image(sorted((shared_data / "phase" / "images").glob("*.tif"))[0])
    nuclei = cytomask.read_image(shared_data / "nuclei" / "images" / "0ea221716cf1.png")
    for picture in (nuclei, image):
        whole = cytomask.load("nuclei", tile=4096, device="cpu").predict(picture).to_labels()
        for batch in (1, 4):
            tiled = cytomask.load("nuclei", tile=tile, overlap=64, batch_size=batch, device="cpu").predict(picture)
            assert np.array_equal(whole, tiled.to_labels())
    assert whole.shape == image.shape
