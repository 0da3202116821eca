"""A run of two stages in two processes' stead, told to a real tracker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytomask.progress import set_quiet
from cytomask.tracking import open_trackers
from cytomask.tracking.config import TrackingConfig


def tell_a_run(config: TrackingConfig, folder: Path) -> None:
    """Prepare and train, then evaluate, which fails at its end; the tracker is content with all of it."""
    set_quiet(True)
    warnings: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytomask.tracking.trackers.warn", warnings.append)
        _tell(config, folder)
    assert warnings == []


def _tell(config: TrackingConfig, folder: Path) -> None:
    folder.mkdir(parents=True)
    bundle = folder / "bundle"
    bundle.mkdir()
    (bundle / "weights.safetensors").write_bytes(b"weights")
    (bundle / "model.json").write_text("{}")
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(folder / "best.png")
    (folder / "report.html").write_text("<p>fine</p>")

    with open_trackers(config, folder, "nuclei", base=folder.parent) as trackers:
        trackers.settings({"model": {"family": "star", "rays": 32}, "data": {"path": "my data"}, "notes": None})
        trackers.tags({"family": "star", "data": "sha256-abc"})
        for epoch in range(3):
            trackers.metrics("train", {"train/loss": 3.0 - epoch, "val/score": 0.1 * epoch, "rate": 0.01}, epoch)
        trackers.file("bundle", bundle)
    trackers = open_trackers(config, folder, "nuclei", base=folder.parent)
    trackers.settings({"model": {"family": "star", "rays": 64}})
    trackers.metrics("evaluate", {"f1_50": 0.9, "class: (a)": 0.5})
    trackers.picture("evaluate/best", folder / "best.png")
    trackers.file("report.html", folder / "report.html")
    with pytest.raises(RuntimeError, match="no more memory"), trackers:
        raise RuntimeError("no more memory")
