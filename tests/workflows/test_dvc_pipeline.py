"""A run under DVC: stages, what is up to date, and models and data that travel through S3."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from cytomask.errors import ConfigError, OutputError
from cytomask.workflows.dvc_pipeline import write_pipeline
from cytomask.workflows.experiment import read_experiment
from cytomask.workflows.generated import write_generated_dataset
from cytomask.workflows.stages.table import STAGES

EXPERIMENT = """\
# How the blobs are segmented.
name: blobs
data: {path: data}
patches: {size: 64}
model: {family: star, rays: 16, backbone: {kind: residual, widths: [8, 16], blocks: [1, 1], features: 8}}
training:
  epochs: 2
  steps_per_epoch: 6
  batch_size: 2
  workers: 0
  precision: float32
  device: cpu
  ema_decay: null
  schedule: {warmup_steps: 2}
evaluation: {bootstrap: 20}
visualise: {images: 1}
"""


#: Runs commands of DVC one after the other, up to the first that fails, in one process.
BETWEEN = "=== next ===\n"
DVC_COMMANDS = f"""
import os, sys
from dvc.cli import main
os.dup2(1, 2)
for command in sys.argv[1:]:
    if code := main(command.split()):
        sys.exit(code)
    sys.stdout.flush()
    os.write(1, {BETWEEN!r}.encode())
"""


def make_place(folder: Path) -> Path:
    import cytomask.workflows.generated as generated

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "SPLITS", {"train": 4, "val": 2, "test": 2})
        write_generated_dataset(folder / "data", np.random.default_rng(0))
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    return folder


def read_pipeline(folder: Path) -> dict:
    return yaml.safe_load((folder / "dvc.yaml").read_text())


def test_stages_are_those_of_the_run(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    written = write_pipeline(place / "experiment.yaml", place / "runs" / "blobs")
    assert {path.name for path in written} == {"experiment.yaml", "dvc.yaml", ".dvcignore", ".gitignore"}
    stages = read_pipeline(place)["stages"]
    assert list(stages) == list(STAGES)
    outs = [path for stage in stages.values() for out in stage["outs"] for path in out]
    assert len(outs) == len(set(outs))
    assert stages["tune"]["cmd"] == "cytomask run experiment.yaml --out runs/blobs --stage tune"
    assert stages["tune"]["deps"] == ["data", "runs/blobs/train/bundle"]
    assert stages["report"]["params"] == [{"experiment.yaml": ["name", "description", "report"]}]
    assert "data" not in stages["report"]["deps"]


def test_sections_left_out_are_named_without_changing_the_experiment(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    before = read_experiment(place / "experiment.yaml")
    write_pipeline(place / "experiment.yaml", place / "runs" / "blobs")
    text = (place / "experiment.yaml").read_text()
    assert text.startswith(EXPERIMENT)
    there = yaml.safe_load(text)
    for stage in read_pipeline(place)["stages"].values():
        for params in stage["params"]:
            assert set(params["experiment.yaml"]) <= set(there)
    assert read_experiment(place / "experiment.yaml") == before
    # Written again, nothing changes.
    files = {p: p.read_text() for p in place.iterdir() if p.is_file()}
    assert [p.name for p in write_pipeline(place / "experiment.yaml", place / "runs" / "blobs")] == ["dvc.yaml"]
    assert files == {p: p.read_text() for p in files}


def test_what_an_experiment_builds_on_is_a_dependency(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    (place / "experiment.yaml").rename(place / "base.yaml")
    (place / "experiment.yaml").write_text("extends: base.yaml\nname: more\ntraining: {epochs: 3}\n")
    before = read_experiment(place / "experiment.yaml")
    write_pipeline(place / "experiment.yaml", place / "runs" / "more")
    assert read_experiment(place / "experiment.yaml") == before
    assert before.training.steps_per_epoch == 6
    for stage in read_pipeline(place)["stages"].values():
        assert "base.yaml" in stage["deps"]
        assert stage["params"][0]["experiment.yaml"][0] == "extends"


def test_data_around_the_pipeline_are_named_one_by_one(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    for entry in (place / "data").iterdir():
        entry.rename(place / entry.name)
    experiment = place / "experiment.yaml"
    experiment.write_text(EXPERIMENT.replace("path: data", "path: ."))
    write_pipeline(experiment, place / "runs" / "blobs")
    folders = [f"{split}/{what}" for split in ("test", "train", "val") for what in ("images", "labels")]
    assert read_pipeline(place)["stages"]["prepare"]["deps"] == folders


def test_pipelines_of_others_are_not_replaced(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    (place / "dvc.yaml").write_text("stages:\n  plot:\n    cmd: python plot.py\n")
    with pytest.raises(OutputError, match=r"python plot\.py"):
        write_pipeline(place / "experiment.yaml", place / "runs" / "blobs")
    assert read_pipeline(place) == {"stages": {"plot": {"cmd": "python plot.py"}}}
    assert (place / "experiment.yaml").read_text() == EXPERIMENT


def test_wrong_places_are_told(tmp_path: Path) -> None:
    place = make_place(tmp_path / "a")
    with pytest.raises(OutputError, match="below its own folder"):
        write_pipeline(place / "experiment.yaml", tmp_path / "runs")
    with pytest.raises(ConfigError, match="no such experiment"):
        write_pipeline(place / "other.yaml", place / "runs")
    (place / "experiment.yaml").write_text("name: blobs\n")
    with pytest.raises(ConfigError, match="names no data"):
        write_pipeline(place / "experiment.yaml", place / "runs")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of an S3 server on this machine with the bucket ``models``."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("moto.server")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until
                assert server.poll() is None
                time.sleep(0.1)
        address = f"http://127.0.0.1:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="models")
        yield address
    finally:
        server.kill()
        server.wait()


@pytest.mark.skipif(importlib.util.find_spec("dvc") is None, reason="DVC is not installed (extra `pipeline`)")
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_repro_push_clone_and_pull(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / "bin"
    scripts.mkdir()
    # The stages' commands call it by its name.
    (scripts / "cytomask").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cytomask "$@"\n')
    (scripts / "cytomask").chmod(0o755)
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home), "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_NOSYSTEM": "1", "DVC_SITE_CACHE_DIR": str(home / "site"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for key, value in (("user.name", "A"), ("user.email", "a@example.org"), ("init.defaultBranch", "main")):
        subprocess.run(["git", "config", "--global", key, value], check=True)

    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        # Each stage is a process: it shall not compile all libraries anew.
        monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))

    def do(*command: str, where: Path) -> str:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def dvc(*commands: str, where: Path) -> list[str]:
        """What each of some commands of DVC says: one process, since DVC takes seconds to import."""
        told = do(sys.executable, "-c", DVC_COMMANDS, *commands, where=where).split(BETWEEN)
        assert len(told) == len(commands) + 1
        return told[:-1]

    place = make_place(tmp_path / "place")
    do("git", "init", where=place)
    write_pipeline(place / "experiment.yaml", place / "runs" / "blobs")
    # Files in the work tree are links to the cache, which nothing may write through.
    *_, told, again = dvc("init", "config cache.type hardlink", "add data", "repro", "repro", where=place)
    for stage in STAGES:
        assert f"Running stage '{stage}'" in told
    assert "Running" not in again
    assert "up to date" in again
    # What was done under DVC is known to the runner, too.
    assert "nothing to do" in do("cytomask", "run", where=place)

    report = place / "runs" / "blobs" / "report.html"
    experiment = place / "experiment.yaml"
    experiment.write_text(experiment.read_text().replace("report: {}", "report: {title: All my blobs}"))
    told, *_ = dvc(
        "repro", "remote add -d s3 s3://models/blobs", f"remote modify s3 endpointurl {bucket}", "push", where=place
    )
    # The stage that evaluates reads this section, too, but not the title: nothing of it is done again.
    assert "evaluate: done before" in told
    assert "report: report.title changed" in told
    assert "Running stage 'train'" not in told
    assert "All my blobs" in report.read_text()

    do("git", "add", "-A", where=place)
    do("git", "commit", "-m", "Segment blobs", where=place)
    followed = do("git", "ls-files", where=place).split()
    assert {"dvc.yaml", "dvc.lock", "data.dvc", "runs/blobs/stages.json"} <= set(followed)
    assert not any("weights" in name or name.startswith("data/") or "digests" in name for name in followed)

    clone = tmp_path / "clone"
    do("git", "clone", str(place), str(clone), where=tmp_path)
    assert not (clone / "runs" / "blobs" / "bundle").exists()
    _, told = dvc("pull", "repro", where=clone)
    assert "Running" not in told
    for name in ("bundle/weights.safetensors", "bundle/model.yaml", "report.html", "evaluation/metrics.json"):
        assert (clone / "runs" / "blobs" / name).read_bytes() == (place / "runs" / "blobs" / name).read_bytes()
    assert "nothing to do" in do("cytomask", "run", where=clone)
