"""ClearML for real: what its offline sessions hold."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cytomask.tracking.config import ClearmlConfig, TrackingConfig

from .runs import tell_a_run

pytest.importorskip("clearml")
pytestmark = pytest.mark.filterwarnings("ignore")  # what other people's libraries say of one another


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("clearml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLEARML_CACHE_DIR", str(place / "cache"))
        patch.setenv("CLEARML_CONFIG_FILE", str(place / "clearml.conf"))
        tell_a_run(TrackingConfig(clearml=ClearmlConfig(project="cells", mode="offline")), place / "nuclei")
        yield place / "nuclei"


@pytest.fixture(scope="module")
def sessions(folder: Path) -> list[zipfile.ZipFile]:
    names = json.loads((folder / "tracking.json").read_text())["clearml"]["sessions"]
    return [zipfile.ZipFile(folder / name) for name in names]


def task_of(session: zipfile.ZipFile) -> dict[str, Any]:
    return json.loads(session.read("task.json"))


def events_of(session: zipfile.ZipFile) -> list[dict[str, Any]]:
    lines = session.read("metrics.jsonl").decode().splitlines()
    return [event for line in lines for event in json.loads(line)]


def check_each_stage_is_a_session_of_one_run(sessions: list[zipfile.ZipFile]) -> None:
    assert len(sessions) == 2
    first, second = map(task_of, sessions)
    assert first["id"] != second["id"]
    assert f"run:{first['id']}" in first["tags"]
    assert f"run:{first['id']}" in second["tags"]
    assert first["name"] == second["name"] == "nuclei"
    assert first["project_name"] == "cells"
    assert "status:finished" in first["tags"]
    assert "status:failed" in second["tags"]


def check_settings_and_tags(sessions: list[zipfile.ZipFile]) -> None:
    first = task_of(sessions[0])
    assert first["hyperparams"]["model"]["rays"]["value"] == "32"
    assert first["hyperparams"]["data"]["path"]["value"] == "my data"
    assert first["hyperparams"]["system"]["python"]["value"].startswith("3.")
    assert {"family:star", "data:sha256-abc"} <= set(first["tags"])
    assert task_of(sessions[1])["hyperparams"]["model"]["rays"]["value"] == "64"


def check_metrics_with_their_steps(sessions: list[zipfile.ZipFile]) -> None:
    told = [(e["metric"], e["variant"], e["iter"], e["value"]) for e in events_of(sessions[0]) if "value" in e]
    assert [t for t in told if t[:2] == ("train", "loss")] == [("train", "loss", k, 3.0 - k) for k in range(3)]
    assert ("val", "score", 1, 0.1) in told
    single = [(e["variant"], e["value"]) for e in events_of(sessions[1]) if "value" in e]
    assert ("evaluate/f1_50", 0.9) in single


def check_pictures_and_files(sessions: list[zipfile.ZipFile]) -> None:
    (bundle,) = task_of(sessions[0])["execution"]["artifacts"]
    assert bundle["key"] == "bundle"
    packed = next(name for name in sessions[0].namelist() if "/artifacts/bundle/" in name)
    with sessions[0].open(packed) as file, zipfile.ZipFile(file) as inner:
        assert inner.read("weights.safetensors") == b"weights"
    assert any(e["variant"] == "evaluate/best" for e in events_of(sessions[1]) if e["type"] == "training_debug_image")
    assert any(name.endswith(".png") for name in sessions[1].namelist())
    assert [a["key"] for a in task_of(sessions[1])["execution"]["artifacts"]] == ["report.html"]


def check_nothing_is_left_outside_of_the_run(folder: Path, sessions: list[zipfile.ZipFile]) -> None:
    assert not list((folder.parent / "cache").rglob("task.json"))


def test_what_two_stages_leave(folder: Path, sessions: list[zipfile.ZipFile]) -> None:
    """One test, so that ClearML is started once however many processes share the tests: that takes long."""
    check_each_stage_is_a_session_of_one_run(sessions)
    check_settings_and_tags(sessions)
    check_metrics_with_their_steps(sessions)
    check_pictures_and_files(sessions)
    check_nothing_is_left_outside_of_the_run(folder, sessions)
