"""Training curves: which panels, scales and marks a table leads to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.io import imread

from cytomask.errors import DataError, OutputError
from cytomask.reporting.curves import draw_curves, read_curves, write_curves

TABLE = """epoch,step,learning_rate,train/distance,train/loss,seconds,val/distance,val/loss,val/score,val/recall
0,10,0.001,4.0,5.0,1.5,,,,
1,20,0.0005,1.0,1.5,1.5,1.2,1.7,0.40,0.6
2,30,0.00001,0.3,0.4,1.5,,,,
3,40,0.00001,0.2,0.3,1.5,0.5,0.7,0.62,0.7
4,50,0.00001,0.2,0.2,1.5,0.6,0.8,0.55,0.8
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(TABLE)
    return path


def test_panels_hold_losses_terms_metrics_and_rate(table: Path) -> None:
    whole, parts, quality, rate = draw_curves(read_curves(table)).axes
    assert [line.get_label() for line in whole.lines] == ["training", "validation"]
    assert [line.get_label() for line in parts.lines] == ["distance, training", "distance, validation"]
    assert [line.get_label() for line in quality.lines][:2] == ["score", "recall"]
    assert [panel.get_yscale() for panel in (whole, parts, quality, rate)] == ["log", "log", "linear", "log"]
    # Epochs without validation are no gap in its line; people count epochs from 1.
    assert whole.lines[1].get_xdata().tolist() == [2, 4, 5]
    assert whole.lines[1].get_ydata().tolist() == [1.7, 0.7, 0.8]
    assert quality.get_title() == "validation: best score 0.620 after epoch 4"
    assert (quality.lines[-1].get_xdata()[0], quality.lines[-1].get_ydata()[0]) == (4, 0.62)
    assert quality.get_ylim()[0] == 0


@pytest.mark.parametrize(
    ("losses", "scale"),
    [([1.0, 0.9, 0.5], "linear"), ([100, 3, 1], "log"), ([100, 3, -1], "linear"), ([9, 0], "linear")],
)
def test_the_scale_suits_the_values(losses: list[float], scale: str) -> None:
    assert draw_curves(pd.DataFrame({"train/loss": losses})).axes[0].get_yscale() == scale


def test_a_run_that_was_stopped_early_or_diverged_is_drawn_too(tmp_path: Path) -> None:
    for name, text in {
        "empty": "",
        "header": "epoch,train/loss\n",
        "one": "epoch,train/loss,val/score\n0,1.5,\n",
        "diverged": "epoch,train/loss,val/score\n0,1.5,nan\n1,inf,nan\n2,nan,nan\n",
    }.items():
        (tmp_path / "metrics.csv").write_text(text)
        write_curves(tmp_path / "metrics.csv", tmp_path / f"{name}.png")
        assert imread(tmp_path / f"{name}.png").shape[2] == 4
    rows = read_curves(tmp_path / "metrics.csv")
    assert draw_curves(rows).axes[0].lines[0].get_ydata().tolist() == [1.5]


def test_an_epoch_that_was_repeated_counts_once(table: Path) -> None:
    table.write_text(TABLE + "4,50,0.00001,0.1,0.1,1.5,,,,\n")
    assert read_curves(table)["train/loss"].tolist() == [5, 1.5, 0.4, 0.3, 0.1]


def test_a_picture_is_written_whole_or_not_at_all(table: Path) -> None:
    write_curves(table, table.parent / "curves.png")
    picture = imread(table.parent / "curves.png")
    assert min(picture.shape[:2]) > 600
    assert np.unique(picture[..., :3].reshape(-1, 3), axis=0).shape[0] > 20
    with pytest.raises(OutputError):
        write_curves(table, table.parent / "nowhere" / "curves.png")
    assert sorted(path.name for path in table.parent.iterdir()) == ["curves.png", "metrics.csv"]


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xfe\x00binary", b'epoch,"x\n1'])
def test_a_table_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        read_curves(tmp_path / "metrics.csv")


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_curves(tmp_path / "metrics.csv")


def test_matplotlib_is_loaded_when_needed_and_its_global_state_never() -> None:
    code = (
        "import sys, pandas as pd; from cytomask.reporting.curves import draw_curves\n"
        "assert 'matplotlib' not in sys.modules\n"
        "draw_curves(pd.DataFrame({'train/loss': [2.0, 1.0]}))\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pixels_have_panels_of_their_own_and_phases_are_parted(tmp_path: Path) -> None:
    epochs = 12
    rise = np.linspace(0.2, 0.8, epochs)
    rows = pd.DataFrame(
        {
            "train/loss": 2 - rise, "val/loss": 2.2 - rise, "val/score": rise / 2, "val/iou": rise,
            "val/iou_cell": rise / 2, "val/pixel_accuracy": 0.9 * rise, "val/background_accuracy": 0.95 * rise,
            "val/object_accuracy": rise, "learning_rate": [1e-4] * 5 + [5e-5] * 7,
            "learning_rate_first_layers": [1e-4] * 5 + [1e-6] * 7, "phase": [1] * 5 + [2] * 7,
        }
    )  # fmt: skip
    whole, _, rate, quality, overlap, accuracy = draw_curves(rows).axes
    labels = [[text.get_text() for text in p.get_legend().get_texts()] for p in (overlap, accuracy, rate)]
    assert labels == [["all objects", "cell"], ["background", "object", "all pixels"], ["last layers", "first layers"]]
    assert quality.lines[0].get_label() == "score"
    assert quality.get_title() == "validation: best score 0.400 after epoch 12"
    # The second phase begins with the sixth epoch.
    assert list(whole.lines[-1].get_xdata()) == [5.5, 5.5]
    assert whole.get_xlim()[1] > epochs
