"""Prediction and evaluation on many processes: what one process gives, whatever dies meanwhile."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

pytest.importorskip("distributed")

from cytomask.errors import ClusterError, ConfigError
from cytomask.workflows.clusters import cluster as cluster_module
from cytomask.workflows.clusters.cluster import Cluster, Killed, open_cluster
from cytomask.workflows.evaluate import evaluate_predictions
from cytomask.workflows.generated import generate_field
from cytomask.workflows.predict import predict_images
from cytomask.workflows.predicting.job import ImageTask
from cytomask.workflows.predicting.progress import PROGRESS_NAME, lock_file, marked, remove_stale_marks

pytestmark = [
    # Dask leaves closing of some sockets to the collection of garbage.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
OPTIONS: dict[str, Any] = {"device": "cpu", "precision": "float32"}
#: Threads of each of two workers of this machine.
THREADS = max(1, len(os.sched_getaffinity(0)) // 2) if hasattr(os, "sched_getaffinity") else 1


@pytest.fixture(scope="module", autouse=True)
def as_many_threads() -> Iterator[None]:
    """A network's rounding hangs on the number of its threads, so this process has as many as a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    """Two workers of this machine, as ``--workers 2`` starts them.

    Dask by itself would give up, at once, one that has died; those that start slowly are not to be lost for that.
    """
    dask = pytest.importorskip("dask")
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}), open_cluster(workers=2) as cluster:
        assert cluster is not None
        yield cluster


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        pixels, labels = generate_field(np.random.default_rng(number), size=96, objects=6)
        tifffile.imwrite(folder / f"cells{number}.tif", pixels)
        (folder / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(folder / "masks" / f"cells{number}.tif", labels.astype(np.uint16))
    return folder


@pytest.fixture(scope="module")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process gives."""
    out = tmp_path_factory.mktemp("alone")
    predict_images("nuclei", sorted(images.glob("*.tif")), out, **OPTIONS)
    return out


def results_of(folder: Path) -> dict[str, bytes]:
    """All files, of the record what does not hang on the time."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    record = json.loads(found.pop("run.json"))
    for entry in record["images"]:
        entry["seconds"] = 0
    for key in ("seconds", "finished", "command"):
        del record[key]
    return {**found, "run.json": json.dumps(record).encode()}


def test_images_on_two_workers(two, images, alone, tmp_path, capfd):
    summary = predict_images("nuclei", sorted(images.glob("*.tif")), tmp_path, cluster=two, **OPTIONS)
    assert [result.name for result in summary.images] == [f"cells{n}" for n in range(6)]
    assert summary.lines()[-2].startswith("6 images: ")
    assert results_of(tmp_path) == results_of(alone)
    assert "cells3.tif: one channel of 96 x 96 px" in capfd.readouterr().err
    # The same again takes up nothing, and with resume all of it.
    again = predict_images("nuclei", sorted(images.glob("*.tif")), tmp_path, cluster=two, resume=True, **OPTIONS)
    assert all(result.resumed for result in again.images)


def test_an_image_that_cannot_be_read(two, images, tmp_path, capfd):
    (tmp_path / "broken.tif").write_bytes(b"nothing")
    summary = predict_images(
        "nuclei", [tmp_path / "broken.tif", images / "cells0.tif"], tmp_path / "out", cluster=two, **OPTIONS
    )
    assert [path.name for path, _ in summary.failed] == ["broken.tif"]
    assert [result.name for result in summary.images] == ["cells0"]
    assert "broken.tif is left out" in capfd.readouterr().err


def test_a_giant_image_on_two_workers(two, tmp_path):
    pixels, _ = generate_field(np.random.default_rng(5), size=420, objects=120)
    tifffile.imwrite(tmp_path / "field.tif", pixels)
    options = {**OPTIONS, "on_disk": True, "tile": 224, "save": ("labels", "table", "coco", "overlay", "class-masks")}
    found = predict_images("nuclei", [tmp_path / "field.tif"], tmp_path / "one", **options)
    assert found.images[0].n_objects > 50
    predict_images("nuclei", [tmp_path / "field.tif"], tmp_path / "two", cluster=two, **options)
    assert results_of(tmp_path / "two") == results_of(tmp_path / "one")


def test_evaluation_to_the_last_bit(two, images, alone, tmp_path):
    annotator = tmp_path / "ann"
    shutil.copytree(images / "masks", annotator)
    options: dict[str, Any] = {"annotators": [annotator], "n_worst": 2, "n_best": 1, "page": False}
    one = evaluate_predictions(alone, images / "masks", tmp_path / "one", **options)
    many = evaluate_predictions(alone, images / "masks", tmp_path / "two", cluster=two, **options)
    assert one.metrics["coco"]["segm"] is not None
    assert [image.name for image in many.worst] == [image.name for image in one.worst]
    for name in ("metrics.json", "per_image.csv"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_a_folder_that_workers_do_not_see(two, monkeypatch, tmp_path):
    monkeypatch.setattr(Cluster, "_ask", lambda self, function, *arguments: {"tcp://b": "it does not see the files"})
    monkeypatch.setattr(Cluster, "_check_versions", lambda self: None)
    with pytest.raises(ClusterError, match="shared file system"):
        two.check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_versions(two, monkeypatch, tmp_path):
    two.check(tmp_path)
    monkeypatch.setattr(cluster_module, "__version__", "0.0.1")
    with pytest.raises(ClusterError, match=r"expected: cytomask 0\.0\.1"):
        two.check(tmp_path)


def test_a_task_that_ends_every_worker(two, tmp_path):
    def die_over(task: tuple[str, int]) -> int:
        """Travels whole, as workers cannot import a test: one task always ends its process, another one once."""
        import signal
        from pathlib import Path

        folder, number = task
        if number == 0 or (number == 5 and not Path(folder, "died").exists()):
            Path(folder, "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number

    tasks = [(str(tmp_path), number) for number in range(10)]
    found = {task[1]: result for task, result in two.do(die_over, tasks, "test")}
    assert isinstance(found.pop(0), Killed)
    assert found == {number: number**2 for number in range(1, 10)}


def test_an_error_of_a_task(two):
    with pytest.raises(ZeroDivisionError):
        list(two.do(lambda number: 1 / number, [1, 0, 2], "test"))


def test_no_scheduler():
    with pytest.raises(ClusterError, match="there is no Dask scheduler"), open_cluster("tcp://127.0.0.1:9", patience=1):
        pass
    with pytest.raises(ConfigError, match="both"), open_cluster("tcp://127.0.0.1:9", 2):
        pass


def test_dask_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"cytomask\[cluster\]"), open_cluster(workers=2):
        pass


def test_scheduler_and_workers_by_hand(images, alone, tmp_path):
    """``dask scheduler`` and two ``dask worker``; one is killed at once, and the other does all."""
    file = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(file), "--no-dashboard", "--dashboard-address", ":0"]
    started = [subprocess.Popen([*dask, "scheduler", "--port", "0", *common], **quiet)]
    try:
        while not file.exists():
            time.sleep(0.1)
        with pytest.raises(ClusterError, match="no workers"), open_cluster(str(file), patience=1):
            pass
        worker = [*dask, "worker", "--nthreads", str(THREADS), "--no-nanny", *common]
        started += [subprocess.Popen([*worker, "--local-directory", str(tmp_path)], **quiet) for _ in range(2)]
        with open_cluster(str(file)) as cluster:
            assert cluster is not None
            until = time.monotonic() + 60
            while len(cluster.workers()) < 2 and time.monotonic() < until:
                time.sleep(0.1)
            started[1].send_signal(signal.SIGKILL)
            predict_images("nuclei", sorted(images.glob("*.tif")), tmp_path / "out", cluster=cluster, **OPTIONS)
            assert results_of(tmp_path / "out") == results_of(alone)
            # The scheduler only hands out tasks, and stays small.
            assert not cluster.client.run_on_scheduler(lambda: "torch" in sys.modules)
            # The last worker goes, too: that is told.
            started[2].send_signal(signal.SIGKILL)
            cluster.patience = 2
            with pytest.raises(ClusterError, match="all workers are gone"):
                list(cluster.do(abs, [1, 2], "test"))
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_the_whole_run_is_killed(images, alone, tmp_path):
    """SIGKILL of the process that leads, in the middle; the next one does what is missing, and nothing twice."""
    command = [sys.executable, "-m", "cytomask", "predict", "nuclei", *map(str, sorted(images.glob("*.tif")))]
    command += ["--out", str(tmp_path), "--device", "cpu", "--precision", "float32", "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    progress = tmp_path / PROGRESS_NAME
    while process.poll() is None and not list(progress.glob("*/result.json")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = {path.parent.name: path.read_bytes() for path in progress.glob("*/result.json")}
    assert not (tmp_path / "run.json").exists()
    time.sleep(0.5)  # workers end when their parent does
    summary = predict_images("nuclei", sorted(images.glob("*.tif")), tmp_path, **OPTIONS)
    assert {result.name for result in summary.images if result.resumed} >= set(done)
    assert done
    assert results_of(tmp_path).keys() == results_of(alone).keys()
    for name, content in results_of(alone).items():
        if name != "run.json":
            assert (tmp_path / name).read_bytes() == content


def test_the_script_for_slurm():
    """That of the how-to makes a job of which a worker comes."""
    jobqueue = pytest.importorskip("dask_jobqueue")
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "many-machines.md").read_text(encoding="utf-8")
    (script,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "SLURMCluster(" in block]
    calls = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Call)]
    (made,) = [call for call in calls if ast.unparse(call.func) == "dask_jobqueue.SLURMCluster"]
    options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in made.keywords}
    with jobqueue.SLURMCluster(**options, scheduler_options={"dashboard_address": ":0"}) as cluster:
        lines = cluster.job_script().splitlines()
        assert {"#SBATCH -p gpu", "#SBATCH --gres=gpu:1", "source /shared/env/bin/activate"} < set(lines)
        assert f"dask_worker {cluster.scheduler_address}" in lines[-1]
        assert "--nthreads 4" in lines[-1]


def test_locks(tmp_path):
    first = lock_file(tmp_path / "lock", shared=True)
    assert first is not None
    second = lock_file(tmp_path / "lock", shared=True)
    assert second is not None
    assert lock_file(tmp_path / "lock") is None
    first.close()
    second.close()
    # Of a file that has been removed, the lock is nobody's.
    first = lock_file(tmp_path / "lock")
    assert first is not None
    (tmp_path / "lock").unlink()
    third = lock_file(tmp_path / "lock")
    assert third is not None
    first.close()
    third.close()


def test_marks_of_killed_runs_go(tmp_path):
    (tmp_path / PROGRESS_NAME).mkdir()
    stale = tmp_path / PROGRESS_NAME / "run-00.mark"
    stale.touch()
    with marked(tmp_path) as mark:
        remove_stale_marks(tmp_path)
        assert not stale.exists()
        assert mark.exists()


def test_what_a_killed_process_left_beside_a_result_goes(images, tmp_path):
    """Hidden files, of which a run that goes on knows by the progress."""
    folder = tmp_path / PROGRESS_NAME / "cells0"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (tmp_path / ".cells0_labels.77-00ff00ff.part.tif").write_bytes(b"half")
    predict_images("nuclei", [images / "cells0.tif"], tmp_path, **OPTIONS)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "cells0_labels.tif", "cells0_objects.csv", "cells0_overlay.png", "predictions.json", "run.json",
    ]  # fmt: skip


def test_tasks_are_small():
    """What is sent for an image are names and settings."""
    import pickle

    from cytomask.workflows.clusters.worker import Order
    from cytomask.workflows.predicting.job import JobSettings
    from cytomask.workflows.predicting.outputs import Outputs

    order = Order(JobSettings("nuclei", Outputs(Path("out"))), Path("mark"), "0" * 64)
    task = ImageTask(Path("a.tif"), "a", 1, {"model": {"weights": "0" * 64}})
    assert len(pickle.dumps((order, replace(task, number=7)))) < 4000
