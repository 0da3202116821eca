"""MLflow for real: a store of SQLite, read back with its own client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cytomask.tracking import open_trackers
from cytomask.tracking.config import MlflowConfig, TrackingConfig

from .runs import tell_a_run

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")  # what other people's libraries say of one another
CONFIG = TrackingConfig(mlflow=MlflowConfig(uri="sqlite:///store.db", experiment="cells"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, beside which the store was made."""
    folder = tmp_path_factory.mktemp("mlflow") / "nuclei"
    tell_a_run(CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder.parent / 'store.db'}")


def run_of(client: Any) -> Any:
    experiment = client.get_experiment_by_name("cells")
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def check_both_stages_are_one_run(client: Any, folder: Path) -> None:
    run = run_of(client)
    assert run.info.run_name == "nuclei"
    assert run.info.status == "FAILED"  # the last stage did
    assert json.loads((folder / "tracking.json").read_text())["mlflow"]["run"] == run.info.run_id


def check_settings_and_tags(client: Any) -> None:
    data = run_of(client).data
    assert data.params["model.rays"] == "32"
    assert data.params["data.path"] == "my data"
    assert data.params["notes"] == "None"
    assert data.params["system.python"].startswith("3.")
    assert data.tags["family"] == "star"
    assert data.tags["changed.model.rays"] == "64"
    assert "cytomask" in data.tags


def check_metrics_with_their_steps(client: Any) -> None:
    run = run_of(client)
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/rate")] == [0, 1, 2]
    assert run.data.metrics["evaluate/f1_50"] == 0.9
    assert run.data.metrics["evaluate/class_ _a_"] == 0.5


def check_files_lie_beside_the_store(client: Any, folder: Path) -> None:
    from mlflow.artifacts import download_artifacts

    run = run_of(client)

    def names(place: str | None) -> set[str]:
        return {found.path for found in client.list_artifacts(run.info.run_id, place)}

    assert names(None) == {"bundle", "pictures", "report.html"}
    assert names("bundle") == {"bundle/weights.safetensors", "bundle/model.json"}
    assert names("pictures/evaluate") == {"pictures/evaluate/best.png"}
    uri = f"{run.info.artifact_uri}/bundle/weights.safetensors"
    assert Path(download_artifacts(artifact_uri=uri)).read_bytes() == b"weights"
    assert (folder.parent / "mlartifacts").is_dir()


def check_a_run_that_was_deleted_is_begun_anew(client: Any, folder: Path) -> None:
    run = run_of(client)
    client.delete_run(run.info.run_id)
    try:
        with open_trackers(CONFIG, folder, "nuclei", base=folder.parent) as trackers:
            trackers.metrics("tune", {"score": 0.5})
        again = run_of(client)
        assert again.info.run_id != run.info.run_id
        assert again.info.status == "FINISHED"
        client.delete_run(again.info.run_id)
    finally:
        client.restore_run(run.info.run_id)


def test_what_two_stages_leave(client: Any, folder: Path) -> None:
    """One test, so that a store is made once however many processes share the tests: that takes long."""
    check_both_stages_are_one_run(client, folder)
    check_settings_and_tags(client)
    check_metrics_with_their_steps(client)
    check_files_lie_beside_the_store(client, folder)
    check_a_run_that_was_deleted_is_begun_anew(client, folder)


def test_a_server_that_is_away_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = TrackingConfig(mlflow=MlflowConfig(uri="http://127.0.0.1:9"))
    with open_trackers(config, tmp_path, "a") as trackers:
        trackers.metrics("train", {"train/loss": 1.0}, 0)
    said = capsys.readouterr().err
    assert said.count("MLflow does not take the record") == 1
    assert "MLflow did not get" in said
