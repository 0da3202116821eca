"""Prediction over Dask on this machine: the same files as by one process, whatever is killed meanwhile.

    uv run python benchmarks/cluster.py --data PATH/TO/nuclei
    uv run python benchmarks/cluster.py --data PATH/TO/nuclei --only giant --size 16384

`worker`: 500 small images on two workers, of which one is ended by SIGKILL in the middle. `run`: the whole command is,
and given again. `giant`: one field over two workers, one of which is killed in the middle of the tiles, beside one
process alone. In each, all results must be those of one process, byte for byte, and what was done when something was
killed must not have been written again. It also tells the seconds and the workers' peak memory.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from large_image import patches, write_fields

from cytomask.workflows.predicting.progress import PROGRESS_NAME

SIDE = 96
OPTIONS = ["--device", "cpu", "--precision", "float32"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the data set nuclei")
    parser.add_argument("--only", choices=["worker", "run", "giant"], help="one of the three")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--size", type=int, default=4096, help="side of the giant field")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    # A network's rounding hangs on the number of its threads: one process alone has as many as each worker.
    os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // chosen.workers))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.only in (None, "worker", "run"):
            many_images(folder, chosen)
        if chosen.only in (None, "giant"):
            giant_image(folder, chosen)


def many_images(folder: Path, chosen: argparse.Namespace) -> None:
    images = folder / "images"
    images.mkdir()
    for number, patch in zip(range(chosen.images), patches(chosen.data)):
        tifffile.imwrite(images / f"image{number:04d}.tif", patch[:SIDE, :SIDE])
    one, seconds, _ = predict(images, folder / "one")
    print(f"{chosen.images} images, one process: {seconds:.0f} s")
    half = chosen.images // 2
    then: dict[Path, int] = {}

    def kill_worker(process: subprocess.Popen) -> bool:
        then.update(finished(out) if len(finished(out)) >= half else {})
        if then:
            os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        return bool(then)

    def kill_run(process: subprocess.Popen) -> bool:
        enough = len(finished(out)) >= half
        if enough:
            process.kill()
        return enough

    if chosen.only in (None, "worker"):
        out = folder / "worker"
        code, seconds, peak = predict(images, out, chosen.workers, kill_worker)
        print(f"one of {chosen.workers} workers killed after {len(then)} images: {seconds:.0f} s, code {code}")
        print(f"  {same(out, folder / 'one', chosen.images)}, {written_again(then)} written again, {peak:.2f} GB")
    if chosen.only in (None, "run"):
        out = folder / "run"
        predict(images, out, chosen.workers, kill_run)
        then = finished(out)
        time.sleep(2)
        code, seconds, _ = predict(images, out, chosen.workers)
        print(f"the run killed after {len(then)} images: the next one {seconds:.0f} s, code {code}")
        print(f"  {same(out, folder / 'one', chosen.images)}, {written_again(then)} written again")
    assert one == 0


def giant_image(folder: Path, chosen: argparse.Namespace) -> None:
    field = write_fields(folder, chosen.data, chosen.size, [], "zarr")[chosen.size]
    extra = ["--on-disk", "--tile", str(chosen.tile)]
    _, seconds, peak = predict(field, folder / "giant-one", extra=extra)
    print(f"{chosen.size} x {chosen.size}, one process: {seconds:.0f} s, peak {peak:.2f} GB")
    out = folder / "giant-two"

    def kill_worker(process: subprocess.Popen) -> bool:
        enough = len(list((out / PROGRESS_NAME).glob("*/spool/proposals-*"))) >= 3
        if enough:
            os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        return enough

    code, seconds, peak = predict(field, out, chosen.workers, kill_worker, extra)
    print(f"{chosen.workers} workers, one killed among the tiles: {seconds:.0f} s, code {code}")
    print(f"  {same(out, folder / 'giant-one')}, peak of a worker {peak:.2f} GB")


def predict(
    images: Path,
    out: Path,
    workers: int | None = None,
    disturb: Callable[[subprocess.Popen], bool] | None = None,
    extra: list[str] | None = None,
) -> tuple[int, float, float]:
    """Run the command; returns its exit code, seconds, and the peak memory of one of its processes in GB."""
    command = [sys.executable, "-m", "cytomask", "--quiet", "predict", "nuclei", str(images), "--out", str(out)]
    command += [*OPTIONS, *(extra or []), *(["--workers", str(workers)] if workers else [])]
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, disturbed = [0.0], [False]

    def watch() -> None:
        while process.poll() is None:
            pids = workers_of(process.pid) if workers else [process.pid]
            peak[0] = max([peak[0], *(memory(pid) for pid in pids)])
            if disturb is not None and not disturbed[0]:
                disturbed[0] = disturb(process)
            time.sleep(0.05)

    thread = threading.Thread(target=watch)
    thread.start()
    process.wait()
    thread.join()
    return process.returncode, time.monotonic() - begun, peak[0]


def workers_of(pid: int) -> list[int]:
    """The processes that the command has started to work."""
    found = []
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids = child.read_text().split()
            found += [int(p) for p in pids if b"multiprocessing.spawn" in Path(f"/proc/{p}/cmdline").read_bytes()]
        except OSError:
            continue
    return sorted(found)


def memory(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)


def finished(out: Path) -> dict[Path, int]:
    """Label images of finished images, and when they were written."""
    names = [path.parent.name for path in (out / PROGRESS_NAME).glob("*/result.json")]
    return {path: path.stat().st_mtime_ns for path in (out / f"{name}_labels.tif" for name in names)}


def written_again(then: dict[Path, int]) -> int:
    return sum(path.stat().st_mtime_ns != when for path, when in then.items())


def same(out: Path, other: Path, count: int | None = None) -> str:
    """Whether two folders hold the same files, but for the record; and so many label images."""
    trees = [
        {p.relative_to(place): p.read_bytes() for p in place.rglob("*") if p.is_file() and p.name != "run.json"}
        for place in (out, other)
    ]
    labels = sum(path.name.endswith("_labels.tif") for path in trees[0])
    enough = count is None or labels == count
    if trees[0] == trees[1] and enough:
        return f"{len(trees[0])} files the same"
    differ = sorted(str(name) for name in {*trees[0], *trees[1]} if trees[0].get(name) != trees[1].get(name))
    return f"{len(trees[0])} files, {len(differ)} NOT THE SAME: {', '.join(differ[:6])}"


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
