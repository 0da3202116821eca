"""Weights & Biases for real: what its offline folders hold, read back record by record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cytomask.tracking.config import TrackingConfig, WandbConfig

from .runs import tell_a_run

pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("ignore")  # what other people's libraries say of one another


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(place / name))
        tell_a_run(TrackingConfig(wandb=WandbConfig(project="cells", mode="offline")), place / "nuclei")
        yield place / "nuclei"


@pytest.fixture(scope="module")
def sessions(folder: Path) -> list[list[Any]]:
    """The records of each session, in the order of the stages."""
    found = [records_of(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]
    return sorted(found, key=lambda records: "bundle" not in str(records))


def records_of(path: Path) -> list[Any]:
    """The records of a ``.wandb`` file, which is a log in the form of LevelDB's: pieces in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data, at, piece, records = path.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 2**15 - at % 2**15
        if left < 7:  # the end of a block, in which no piece begins
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if kind == 0:
            break
        piece += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last of its pieces
            record = wandb_internal_pb2.Record()
            record.ParseFromString(piece)
            records.append(record)
            piece = b""
    return records


def history_of(records: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            rows.append(row)
    return rows


def test_each_stage_is_a_session_and_all_are_one_group(sessions: list[list[Any]], folder: Path) -> None:
    runs = [next(r.run for r in records if r.WhichOneof("record_type") == "run") for records in sessions]
    assert len(runs) == 2
    first, second = runs
    assert first.run_id != second.run_id
    assert first.display_name == second.display_name == "nuclei"
    assert first.project == "cells"
    group = json.loads((folder / "tracking.json").read_text())["wandb"]["group"]
    assert second.run_group == group
    assert f'runs_of_one": "{group}' in config_of(sessions[0])


def config_of(records: list[Any]) -> str:
    told = {}
    for record in records:
        kind = record.WhichOneof("record_type")
        for update in record.config.update if kind == "config" else record.run.config.update if kind == "run" else ():
            told["/".join(update.nested_key) or update.key] = json.loads(update.value_json)
    return json.dumps(told)


def test_settings_and_tags(sessions: list[list[Any]]) -> None:
    told = json.loads(config_of(sessions[0]))
    assert told["model.rays"] == 32
    assert told["data.path"] == "my data"
    assert json.loads(config_of(sessions[1]))["model.rays"] == 64
    tags = [tag for r in sessions[0] if r.WhichOneof("record_type") == "run" for tag in r.run.tags]
    assert "family:star" in tags
    assert "data:sha256-abc" in tags


def test_metrics_with_their_steps(sessions: list[list[Any]]) -> None:
    rows = [row for row in history_of(sessions[0]) if "train/loss" in row]
    assert [(row["train/step"], row["train/loss"]) for row in rows] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert rows[2]["val/score"] == pytest.approx(0.2)
    assert rows[0]["train/rate"] == 0.01
    defined = {r.metric.name: r.metric.step_metric for r in sessions[0] if r.WhichOneof("record_type") == "metric"}
    assert defined["val/score"] == "train/step"
    summaries = [
        ("/".join(u.nested_key) or u.key, json.loads(u.value_json))
        for r in sessions[1] if r.WhichOneof("record_type") == "summary" for u in r.summary.update
    ]  # fmt: skip
    assert ("evaluate/f1_50", 0.9) in summaries


def test_pictures_files_and_how_it_ended(sessions: list[list[Any]], folder: Path) -> None:
    assert len(list(folder.glob("wandb/offline-run-*/files/media/images/pictures/evaluate/best*.png"))) == 1

    def artifacts(records: list[Any]) -> list[Any]:
        requests = [r.request for r in records if r.WhichOneof("record_type") == "request"]
        return [r.artifact for r in records if r.WhichOneof("record_type") == "artifact"] or [
            q.log_artifact.artifact for q in requests if q.WhichOneof("request_type") == "log_artifact"
        ]

    (bundle,) = artifacts(sessions[0])
    assert (bundle.type, bundle.name) == ("model", "nuclei-bundle")
    assert {entry.path for entry in bundle.manifest.contents} == {"weights.safetensors", "model.json"}
    (report,) = artifacts(sessions[1])
    assert report.name == "nuclei-report.html"
    exits = [r.exit.exit_code for records in sessions for r in records if r.WhichOneof("record_type") == "exit"]
    assert exits == [0, 1]
