"""The shipped model for cells in phase contrast does what its card says, on a real image that it has not seen."""

from __future__ import annotations

from pathlib import Path

from cytomask.evaluation.matching import match
from cytomask.formats.label_images import read_labels
from cytomask.models.bundle import read_spec
from cytomask.workflows.model import load
from cytomask.workflows.models import SHIPPED, shipped_models


def test_it_finds_cells(shared_data: Path) -> None:
    model = load("phase", device="cpu", precision="float32")
    found = model.predict(shared_data / "phase/images/val_09.tif")
    truth = read_labels(shared_data / "phase/labels/val_09.png")
    figures = match(truth, found, (0.5, 0.75)).figures()
    assert figures["accuracy"][0] > 0.75
    assert figures["f1"][1] > 0.6


def test_it_is_small_and_says_where_it_comes_from() -> None:
    assert "phase" in shipped_models()
    spec = read_spec(SHIPPED / "phase")
    assert spec.training.data_licence == "MIT"
    assert sum(path.stat().st_size for path in (SHIPPED / "phase").iterdir()) < 12 * 2**20
    assert (SHIPPED / "phase/README.md").is_file()
