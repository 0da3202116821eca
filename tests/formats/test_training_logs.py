"""Logs of trainings: all that they tell is read, and what broke off does no harm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytomask.errors import DataError
from cytomask.formats.training_logs import TrainingLog, is_run_folder, read_training_log
from cytomask.formats.training_logs import reading as module

from .training_log_examples import CASCADE, tables, training_line, write_cascade_log, write_metrics_json, write_run


def read_text(folder: Path, *lines: str, name: str = "train.log") -> TrainingLog:
    (folder / name).write_text("\n".join(lines) + "\n")
    return read_training_log(folder / name)


def test_every_number_of_a_line(tmp_path: Path) -> None:
    line = (
        "[05/04 10:11:12] d2.utils.events INFO:  eta: 2 days, 3:04:05  iter: 39  total_loss: 1.234"
        "  loss_cls_stage0: 0.1  loss_mask_point: 2e-05  validation_loss: nan"
        "    time: 0.4500  last_time: 0.41  data_time: 0.0123  last_data_time: 0.0032   lr: 1.25e-05  max_mem: 1962M"
    )
    log = read_text(tmp_path, line)
    assert {name: (s.steps, s.values) for name, s in log.series.items() if s.steps} == {
        "total_loss": ([39], [1.234]),
        "loss_cls_stage0": ([39], [0.1]),
        "loss_mask_point": ([39], [2e-05]),
        "seconds_per_step": ([39], [0.45]),
        "last_time": ([39], [0.41]),
        "seconds_waiting": ([39], [0.0123]),
        "last_data_time": ([39], [0.0032]),
        "learning_rate": ([39], [1.25e-05]),
        "memory": ([39], [1962.0]),
    }
    assert set(log.of_group("losses")) == {"total_loss", "loss_cls_stage0", "loss_mask_point"}


@pytest.mark.parametrize("colour", [False, True])
def test_a_cascade(tmp_path: Path, colour: bool) -> None:
    write_cascade_log(tmp_path / "cascade.log", steps=2000, colour=colour)
    log = read_training_log(tmp_path / "cascade.log")
    assert (log.name, log.kind, log.unread, log.restarts, log.earlier_runs) == ("cascade", "detectron2 log", 0, [], 0)
    assert set(log.of_group("losses")) == {"total_loss", *CASCADE}
    assert log.series["loss_rpn_loc"].steps == list(range(19, 2000, 20))
    assert [(t.task, t.step) for t in log.ap_tables] == [("bbox", 999), ("segm", 999), ("bbox", 1999), ("segm", 1999)]
    last = log.ap_tables[-1]
    assert list(last.values) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert last.values["APl"] is None
    # Five classes, three in a row.
    assert list(last.per_class) == ["class1", "class2", "class3", "class4", "absent"]
    assert last.per_class["absent"] is None
    assert last.per_class["class2"] == pytest.approx(last.values["AP"] + 6, abs=2e-3)


def test_a_run_that_went_on_from_a_checkpoint(tmp_path: Path) -> None:
    losses = {"total_loss": 1.0}
    first = [training_line(step, 100, losses, rate=0.1) for step in (19, 39, 59)]
    table = tables("segm", {"AP": "10.000"}, [("a", "10.000")], columns=1)
    again = [training_line(step, 100, {"total_loss": 2.0}, rate=0.1) for step in (39, 59, 79)]
    log = read_text(tmp_path, *first, *table, *again)
    assert log.series["total_loss"].steps == [19, 39, 59, 79]
    assert log.series["total_loss"].values == [1.0, 2.0, 2.0, 2.0]
    assert log.restarts == [39]
    assert log.earlier_runs == 0
    assert log.ap_tables == []  # of weights that the training did not go on from


def test_two_whole_runs_in_one_file(tmp_path: Path) -> None:
    write_cascade_log(tmp_path / "a", steps=2000)
    write_cascade_log(tmp_path / "b", steps=1000)
    log = read_text(tmp_path, (tmp_path / "a").read_text(), (tmp_path / "b").read_text())
    assert log.earlier_runs == 1
    assert log.restarts == []
    assert log.last_step == 999
    assert {t.step for t in log.ap_tables} == {999}


def test_an_evaluation_alone(tmp_path: Path) -> None:
    log = read_text(tmp_path, *tables("segm", {"AP": "41.0"}, [("a", "41.0")], columns=1))
    assert log.last_step is None
    assert (log.ap_tables[0].step, log.ap_tables[0].values, log.ap_tables[0].per_class) == (
        None, {"AP": 41.0}, {"a": 41.0},
    )  # fmt: skip


def test_a_table_that_broke_off_is_told(tmp_path: Path) -> None:
    whole = [training_line(19, 100, {"total_loss": 1.0}, rate=0.1)]
    log = read_text(tmp_path, *whole, *tables("segm", {"AP": "41.0"}, [])[:2])
    assert log.ap_tables == []
    assert log.unread == 1


def test_line_ends_and_encodings_of_other_systems(tmp_path: Path) -> None:
    text = training_line(19, 100, {"total_loss": 1.5}, rate=0.1) + "\r\n"
    (tmp_path / "a.log").write_bytes(text.encode("utf-16"))  # what PowerShell's > writes
    (tmp_path / "b.log").write_bytes(b"\xff progress 10%\r progress 20%\r" + text.encode())
    for name in ("a.log", "b.log"):
        assert read_training_log(tmp_path / name).series["total_loss"].values == [1.5]


def test_metrics_json(tmp_path: Path) -> None:
    write_metrics_json(tmp_path / "metrics.json")
    with (tmp_path / "metrics.json").open("a") as file:
        file.write('{"iteration": 2019, "total_lo')
    log = read_training_log(tmp_path / "metrics.json")
    assert (log.name, log.kind, log.unread) == ("metrics", "detectron2 metrics", 1)
    assert set(log.of_group("losses")) == {"total_loss", "loss_cls", "loss_box_reg", "loss_mask"}
    assert log.series["learning_rate"].values[0] == 0.001
    assert "eta_seconds" not in log.series
    assert [(t.step, t.values, t.per_class) for t in log.ap_tables] == [
        (999, {"AP": 9.99, "AP50": 19.98, "APl": None}, {"a b/c": 9.99}),
        (1999, {"AP": 19.99, "AP50": 39.98, "APl": None}, {"a b/c": 19.99}),
    ]


def test_metrics_json_of_early_versions(tmp_path: Path) -> None:
    """The last evaluation is repeated in each line; one has no iteration."""
    rows = [
        {"iteration": 19, "total_loss": 2.0},
        {"bbox/AP": 5.0},
        {"iteration": 39, "total_loss": 1.5, "bbox/AP": 5.0},
        {"iteration": 59, "total_loss": 1.0, "bbox/AP": 7.0},
    ]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    log = read_training_log(tmp_path / "metrics.json")
    assert [(t.step, t.values["AP"]) for t in log.ap_tables] == [(19, 5.0), (59, 7.0)]
    assert log.series["total_loss"].values == [2.0, 1.5, 1.0]


def test_several_test_sets(tmp_path: Path) -> None:
    row = {"iteration": 9, "total_loss": 1.0, "mine/segm/AP": 1.0, "other/segm/AP": 2.0}
    (tmp_path / "metrics.json").write_text(json.dumps(row))
    assert [t.task for t in read_training_log(tmp_path / "metrics.json").ap_tables] == ["mine/segm", "other/segm"]


def test_a_folder_of_detectron2_tells_the_memory_too(tmp_path: Path) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    write_metrics_json(folder / "metrics.json", steps=1000)
    (folder / "log.txt").write_text(training_line(19, 1000, {"total_loss": 9.0}, rate=0.1))
    log = read_training_log(folder)
    assert (log.name, log.kind) == ("output", "detectron2 metrics")
    assert log.series["memory"].values == [1901.0]
    assert log.series["total_loss"].values[0] != 9.0


@pytest.mark.parametrize("place", ["", "train"])
def test_a_run_of_ours(tmp_path: Path, place: str) -> None:
    write_run(tmp_path / "nuclei" / place)
    assert is_run_folder(tmp_path / "nuclei")
    for path in (tmp_path / "nuclei", tmp_path / "nuclei" / place):
        log = read_training_log(path)
        assert (log.name, log.kind, log.unread) == ("nuclei", "cytomask", 0)
    assert len(log.series["train/loss"].steps) == 60  # of the steps, not of the epochs
    assert log.series["val/score"].steps == [100, 200, 300, 400, 500, 600]
    assert log.series["val/dist"].group == "losses"
    assert set(log.of_group("validation")) == {"val/score"}
    assert log.phase_starts == [300]
    assert len(log.epoch_steps) == 12
    assert log.series["memory"].values[-1] == 920


def test_a_run_without_steps(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "steps.csv").unlink()
    log = read_training_log(tmp_path)
    assert len(log.series["train/loss"].steps) == 12
    assert log.series["seconds_per_step"].values == [0.25] * 12
    assert read_training_log(tmp_path / "metrics.csv").series["train/loss"].values == log.series["train/loss"].values


@pytest.mark.parametrize(
    "content", ["", "nothing here\n", "{}\n", '{"a": "b"}\n', "[1, 2]\n", "\x00\x01\x02", "{" * 5000]
)
def test_what_is_no_log_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.log").write_text(content)
    with pytest.raises(DataError, match="nothing in it is the record of a training"):
        read_training_log(tmp_path / "a.log")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such log"):
        read_training_log(tmp_path / "a.log")
    with pytest.raises(DataError, match="nothing in it"):
        read_training_log(tmp_path)
    assert not is_run_folder(tmp_path)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="too large"):
        read_text(tmp_path, training_line(19, 100, {"total_loss": 1.0}, rate=0.1))


def test_a_line_without_end(tmp_path: Path) -> None:
    line = "Evaluation results for " + " " * 2_000_000 + "x"
    log = read_text(tmp_path, line, training_line(19, 100, {"total_loss": 1.0}, rate=0.1))
    assert log.series["total_loss"].values == [1.0]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(allow_nan=True, allow_infinity=True)), max_size=30),
)
def test_steps_always_rise_and_values_are_finite(pairs: list[tuple[int, float]]) -> None:
    log = TrainingLog("a", Path("a"), "detectron2 log")
    for step, value in pairs:
        log.add("total_loss", "losses", step, value)
    if pairs:
        series = log.series["total_loss"]
        assert series.steps == sorted(set(series.steps))
        assert all(abs(value) < float("inf") for value in series.values)
        assert len(series.steps) == len(series.values)


@given(st.text(max_size=400))
def test_any_text_is_read_without_a_fault(text: str) -> None:
    from cytomask.formats.training_logs.detectron2_json import read_json_lines
    from cytomask.formats.training_logs.detectron2_text import read_text_lines
    from cytomask.formats.training_logs.run_tables import read_epoch_table, read_step_table

    for read in (read_json_lines, read_text_lines, read_epoch_table, read_step_table):
        read(text.splitlines(keepends=True), TrainingLog("a", Path("a"), "detectron2 log"))
