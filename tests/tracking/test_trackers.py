"""All trackers at once: what each is told, and that none ever stops a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cytomask.errors import ConfigError
from cytomask.tracking import open_trackers
from cytomask.tracking import trackers as module
from cytomask.tracking.config import MlflowConfig, TrackingConfig, WandbConfig
from cytomask.tracking.flat import flat_settings, system_information
from cytomask.tracking.trackers import Trackers


class Heard:
    """A tracker that remembers what it was told, and fails when it is to."""

    def __init__(self, known: Any = None) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.known, self.away, self.refused, self.calls = known, False, "", 0

    def _hear(self, *told: Any) -> None:
        self.calls += 1
        if self.away or (self.refused and self.refused in told):
            raise OSError("no route to host")
        self.heard.append(told)

    def settings(self, values: Mapping[str, Any]) -> None:
        self._hear("settings", dict(values))

    def tags(self, values: Mapping[str, str]) -> None:
        self._hear("tags", dict(values))

    def metrics(self, stage: str, values: Mapping[str, float], step: int | None) -> None:
        self._hear("metrics", stage, dict(values), step)

    def picture(self, name: str, path: Path) -> None:
        self._hear("picture", name)

    def file(self, name: str, path: Path) -> None:
        self._hear("file", name)

    def close(self, status: str) -> None:
        self._hear("close", status)

    def record(self) -> dict[str, Any]:
        return {"run": "r1"}


def trackers_of(folder: Path, *heard: Heard, config: TrackingConfig | None = None) -> Trackers:
    def opener(one: Heard) -> Any:
        def opened(record: Any) -> Heard:
            one.known = record
            return one

        return opened

    return Trackers({f"t{k}": opener(one) for k, one in enumerate(heard)}, config or TrackingConfig(), folder)


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    with open_trackers(TrackingConfig(), tmp_path / "run", "a") as trackers:
        trackers.settings({"a": 1})
        trackers.metrics("train", {"train/loss": 1.0}, 0)
        trackers.file("nowhere", tmp_path / "nowhere")
    assert not trackers
    assert not (tmp_path / "run").exists()


def test_all_are_told_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    first, second = Heard(), Heard()
    with trackers_of(tmp_path, first, second) as trackers:
        trackers.settings({"model": {"rays": 32}})
        trackers.tags({"family": "star", "data": None})
        trackers.metrics("train", {"train/loss": 0.5, "val/score": float("nan"), "x": None}, 3)
        trackers.metrics("train", {"val/score": float("inf")}, 4)  # nothing is left of it
        trackers.picture("a", tmp_path / "a.png")
    assert first.heard == second.heard == [
        ("settings", {"model.rays": 32}),
        ("tags", {"family": "star"}),
        ("metrics", "train", {"train/loss": 0.5}, 3),
        ("picture", "a"),
        ("close", "finished"),
    ]  # fmt: skip


def test_the_next_stage_goes_on_with_the_same_runs(tmp_path: Path) -> None:
    heard = Heard()
    trackers = trackers_of(tmp_path, heard)
    trackers.metrics("train", {"a": 1.0}, 0)
    # At once, not at the end: the process may be killed.
    assert json.loads((tmp_path / "tracking.json").read_text()) == {"t0": {"run": "r1"}}
    trackers.close()
    again = Heard()
    with trackers_of(tmp_path, again) as trackers:
        trackers.metrics("tune", {"a": 1.0})
    assert heard.known is None
    assert again.known == {"run": "r1"}


@pytest.mark.parametrize("content", ["{", "[]", '{"t0": 7}'])
def test_a_broken_record_begins_new_runs(tmp_path: Path, content: str) -> None:
    (tmp_path / "tracking.json").write_text(content)
    heard = Heard("?")
    with trackers_of(tmp_path, heard) as trackers:
        trackers.metrics("tune", {"a": 1.0})
    assert heard.known is None
    assert json.loads((tmp_path / "tracking.json").read_text()) == {"t0": {"run": "r1"}}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_server_that_is_away_is_warned_of_once_and_gets_all_later(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    heard, other = Heard(), Heard()
    trackers = trackers_of(tmp_path, heard, other)
    trackers.metrics("train", {"loss": 0.0}, 0)
    heard.away = True
    for step in range(1, 6):
        trackers.metrics("train", {"loss": 0.0}, step)
        clock.now += 1
    # It was asked once, and is let alone for a while.
    assert heard.calls == 2
    assert len(other.heard) == 6
    heard.away = False
    clock.now += 60
    trackers.metrics("train", {"loss": 0.0}, 6)
    assert [told[3] for told in heard.heard] == list(range(7))
    trackers.close()
    said = capsys.readouterr().err
    assert said.count("warning:") == 1
    assert "no route to host" in said


def test_a_server_that_stays_away_holds_up_nothing(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def away(record: Any) -> Any:
        calls.append(record)
        raise ConnectionError("refused")

    trackers = Trackers({"mlflow": away}, TrackingConfig(), tmp_path)
    for step in range(200):
        trackers.metrics("train", {"loss": 0.0}, step)
        clock.now += 1
    assert len(calls) == 3  # at 0, 30 and 90 seconds
    trackers.close()
    assert len(calls) == 4
    said = capsys.readouterr().err
    assert said.count("MLflow does not take") == 1
    assert "MLflow did not get 200 of the things" in said


def test_one_thing_that_is_refused_does_not_hold_up_the_rest(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).write_text("x")
    heard = Heard()
    heard.refused = "bad"
    trackers = trackers_of(tmp_path, heard)
    trackers.file("bad", tmp_path / "bad")
    trackers.file("good", tmp_path / "good")
    assert heard.heard == []
    for _ in range(4):
        clock.now += 1000
        trackers.metrics("train", {"loss": 0.0}, 0)
    assert heard.heard[0] == ("file", "good")
    trackers.file("bad", tmp_path / "bad")
    trackers.metrics("train", {"loss": 0.0}, 9)
    trackers.close()
    assert heard.heard[-2:] == [("metrics", "train", {"loss": 0.0}, 9), ("close", "finished")]
    assert "did not get 2 of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "killed"), (SystemExit, "killed")]
)
def test_how_a_stage_ended(tmp_path: Path, error: type[BaseException], status: str) -> None:
    heard = Heard()
    trackers = trackers_of(tmp_path, heard)
    trackers.metrics("train", {"loss": 0.0}, 0)
    with pytest.raises(error), trackers:
        raise error
    assert heard.heard[-1] == ("close", status)
    trackers.metrics("train", {"loss": 0.0}, 1)  # after the end, nothing is told
    assert heard.heard[-1] == ("close", status)


def test_so_many_pictures_and_no_model_if_none_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    heard = Heard()
    with trackers_of(tmp_path, heard, config=TrackingConfig(pictures=2, model=False)) as trackers:
        trackers.picture("missing", tmp_path / "missing.png")
        for k in range(4):
            trackers.picture(str(k), tmp_path / "a.png")
        trackers.file("bundle", tmp_path)
        trackers.file("report", tmp_path / "a.png")
    assert heard.heard[:-1] == [("picture", "0"), ("picture", "1"), ("file", "report")]
    assert "missing.png is not there" in capsys.readouterr().err


def test_a_library_that_is_missing_is_said_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = TrackingConfig(mlflow=MlflowConfig(), wandb=WandbConfig())
    with pytest.raises(ConfigError, match=r"MLflow is not installed[\s\S]*cytomask\[track\]"):
        open_trackers(config, tmp_path, "a")


def test_settings_are_flat() -> None:
    nested = {"a": {"b": [1, {"c": 2}], "d": Path("x")}, "e": True, "f": 1.5}
    assert flat_settings(nested) == {"a.b": '[1, {"c": 2}]', "a.d": '"x"', "e": True, "f": 1.5}


def test_the_system_is_told() -> None:
    found = system_information()
    assert {"cytomask", "python", "system", "cpus", "torch"} <= set(found)


def test_a_relative_store_is_meant_from_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cytomask.workflows.experiment import read_experiment

    def uri_of(source: str | Path, *overrides: str) -> str:
        found = read_experiment(source, overrides).tracking.mlflow
        assert found is not None
        return found.uri

    (tmp_path / "sub").mkdir()
    (tmp_path / "base.yaml").write_text("tracking: {mlflow: {uri: 'sqlite:///store.db'}}\n")
    (tmp_path / "sub" / "a.yaml").write_text("extends: ../base.yaml\ntracking: {mlflow: {experiment: x}}\n")
    (tmp_path / "sub" / "b.yaml").write_text("tracking: {mlflow: {experiment: x}}\n")
    assert Path(uri_of(tmp_path / "sub" / "a.yaml").removeprefix("sqlite:///")).resolve() == tmp_path / "store.db"
    assert uri_of(tmp_path / "sub" / "b.yaml") == f"sqlite:///{tmp_path}/sub/mlruns.db"
    monkeypatch.chdir(tmp_path)
    assert uri_of("nuclei", "tracking.mlflow.experiment=x") == f"sqlite:///{tmp_path}/mlruns.db"
    assert uri_of(tmp_path / "base.yaml", "tracking.mlflow.uri=https://here") == "https://here"
