"""Sweeps: one run per value, taken again when they are there, and what they achieve in a table and a picture."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cytomask.workflows.sweep as workflow
from cytomask.errors import ConfigError, OutputError
from cytomask.reporting.sweep_plot import draw_sweep
from cytomask.workflows.experiment import Experiment, read_experiment
from cytomask.workflows.generated import write_generated_dataset
from cytomask.workflows.sweep import Swept, axis_values, full_path, plan_runs, read_sweep, sweep_experiment, value_text
from cytomask.workflows.sweep_figures import pixel_shares

QUICK = [
    "training.epochs=1", "training.steps_per_epoch=2", "training.batch_size=2", "training.workers=0",
    "training.precision=float32", "training.device=cpu", "patches.size=64", "tune.enabled=false",
    "model.backbone={kind: residual, widths: [8, 16], blocks: [1, 1], features: 8}",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import cytomask.workflows.generated as generated

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "SPLITS", {"train": 2, "val": 1})
        return write_generated_dataset(tmp_path_factory.mktemp("generated") / "data", np.random.default_rng(0))


def test_a_sweep_trains_each_value_once(data, tmp_path, monkeypatch):
    out = tmp_path / "sweep"
    found = sweep_experiment("demo", ["rays=[8, 16]"], data=data, overrides=QUICK, out=out)
    assert [row["rays"] for row in found.rows] == ["8", "16"]
    for rays in (8, 16):
        folder = out / f"rays={rays}"
        assert read_experiment(folder / "experiment.yaml").model["rays"] == rays
    with (out / "sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["rays=8", "rays=16"]
    assert 0 <= float(rows[0]["background_accuracy"]) <= 1
    assert float(rows[0]["background_accuracy"]) + float(rows[0]["wrong_background"]) == pytest.approx(1)
    assert (out / "sweep.png").stat().st_size > 10_000
    assert len(found.lines()) == 4

    # What is trained is taken; another setting is not taken for it.
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("cytomask.workflows.train.train_experiment", never)
    again = sweep_experiment("demo", ["rays=[16]"], data=data, overrides=QUICK, out=out)
    assert again.rows == [found.rows[1]]
    with pytest.raises(OutputError, match="other settings"):
        sweep_experiment("demo", ["rays=[8]"], data=data, overrides=[*QUICK, "training.seed=9"], out=out)


def test_a_wrong_value_is_told_before_any_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "train_once", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ConfigError):
        sweep_experiment("demo", ["training.epochs=[1, many]"], data=data, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_an_interrupted_sweep_says_so(data, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "train_once", lambda *_, **__: False)
    found = sweep_experiment("demo", ["epochs=[1, 2]"], data=data, out=tmp_path / "o")
    assert found.interrupted
    assert found.lines() == ["stopped; the same command goes on"]
    assert not (tmp_path / "o" / "sweep.csv").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs", "not of the form"),
        ("epochs=3", "not of the form"),
        ("epochs=[]", "not of the form"),
        ("=[1]", "not of the form"),
        ("epochs=[1", "not of the form"),
        ("epochs=[1, 1]", "twice"),
        ("epoch=[1, 2]", "did you mean 'epochs'"),
    ],
)
def test_what_is_no_sweep_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        read_sweep(text, Experiment())


def test_settings_of_the_family_that_is_trained_are_known():
    dense = read_experiment("nuclei", ["model={family: dense}"])
    assert full_path("loss.class_weights", dense) == "model.loss.class_weights"
    with pytest.raises(ConfigError, match="family star"):
        full_path("boundary_width", Experiment())


def test_every_combination_has_a_folder_and_settings_of_its_own():
    runs = plan_runs([Swept("a", "model.a", (1, [1, 10])), Swept("b", "model.b", ("x/y", "x y"))], Path("out"))
    assert len(runs) == 4
    assert len({run.folder for run in runs}) == 4
    assert all(run.folder.parent == Path("out") for run in runs)
    assert runs[2].overrides == ("model.a=[1, 10]", "model.b=x/y")
    with pytest.raises(ConfigError, match="swept twice"):
        plan_runs([Swept("a", "model.a", (1,)), Swept("model.a", "model.a", (2,))], Path())
    with pytest.raises(ConfigError, match="too many"):
        plan_runs([Swept("a", "a", tuple(range(300)))], Path())


@given(st.floats(1e-12, 1e12) | st.integers(-9, 9) | st.booleans() | st.none() | st.text("ab1 .:-#e", max_size=6))
def test_a_value_arrives_as_it_was_meant(value):
    import yaml

    (run,) = plan_runs([Swept("a", "model.a", (value,))], Path())
    assert yaml.safe_load(run.overrides[0].partition("=")[2]) == value


def test_values_find_their_place_on_the_axis():
    assert axis_values([0.001, 1, 1000]) == [0.001, 1.0, 1000.0]
    assert axis_values([[1, 0.1, 3], [1, 10, 3]]) == [0.1, 10.0]
    assert axis_values([[1, 2], 3]) is None
    assert axis_values([True, False]) is None
    assert value_text(0.1 + 0.2) == "0.3"


def test_shares_of_pixels_with_several_classes_and_none():
    shares = pixel_shares(np.array([[50, 0, 0], [5, 10, 5], [0, 0, 10]]))
    assert shares["object_accuracy"] == pytest.approx(20 / 30)
    assert shares["background_accuracy"] == 1
    assert math.isnan(pixel_shares(np.array([[4, 0], [0, 0]]))["wrong_objects"])


def test_the_picture_shows_the_trade_off_of_every_value():
    names = ("pixel_accuracy", "background_accuracy", "object_accuracy", "f1_50", "mean_accuracy_50_90")
    rows = [
        {"w": f"{w:g}", **dict.fromkeys(names, 0.9), "wrong_background": b, "wrong_objects": o}
        for w, b, o in ((0.01, 0.0, 0.36), (1, 0.017, 0.09), (100, 0.155, 0.003))
    ]
    objects, pixels, trade = draw_sweep("w", rows, [0.01, 1, 100], {"": [0, 1, 2]}).axes
    assert objects.get_xscale() == pixels.get_xscale() == "log"
    np.testing.assert_allclose(trade.lines[0].get_xydata(), [[0, 36], [1.7, 9], [15.5, 0.3]])
    assert [text.get_text() for text in trade.texts] == ["0.01", "1", "100"]
    plain = draw_sweep("w", rows, None, {"": [0, 1, 2]}).axes[0]
    assert [text.get_text() for text in plain.get_xticklabels()] == ["0.01", "1", "100"]
