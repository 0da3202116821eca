"""Time and peak memory of `cytomask predict` on large 16-bit images, in memory and on disk, and what a kill costs.

    uv run python benchmarks/large_image.py --data PATH/TO/nuclei

A field is put together from real fluorescence micrographs, turned, flipped and resized at random, so that no part of it
comes twice. Every run is a process of its own, whose peak memory the operating system reports. One run on disk is ended
by SIGKILL when half of its tiles are done, and gone on with; labels, table and COCO results must then be those of the
run that was left alone, byte for byte, and those of a smaller field must be what memory gives.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import zarr
from skimage.transform import resize

from cytomask.data.dataset import load_sample, open_dataset
from cytomask.formats.ome_zarr_labels import LabelZarrWriter
from cytomask.workflows.predicting.progress import PROGRESS_NAME

PATCH, CHUNK = 256, 1024


@dataclass
class Run:
    """One process: seconds, peak memory in GB, and how it ended."""

    seconds: float
    peak: float
    status: int


def patches(data: str, seed: int = 0):
    """Yield squares of micrographs without end, each turned, flipped, resized and brightened in its own way."""
    rng = np.random.default_rng(seed)
    fields = []
    for sample in open_dataset(data).split("test"):
        image, _ = load_sample(sample)
        if image.n_channels == 1 and min(image.shape) >= PATCH and image.dtype == np.uint8:
            fields.append(np.asarray(image.pixels)[0].astype(np.float32))
    while True:
        field = fields[rng.integers(len(fields))]
        side = int(PATCH / rng.uniform(1.0, 1.3))
        y, x = (rng.integers(0, n - side + 1) for n in field.shape)
        patch = resize(field[y : y + side, x : x + side], (PATCH, PATCH), order=1, preserve_range=True)
        patch = np.rot90(patch, rng.integers(4))[:: rng.choice([-1, 1])]
        yield np.clip(patch * rng.uniform(12, 20), 0, 65535).astype(np.uint16)


def write_fields(folder: Path, data: str, size: int, crops: list[int], kind: str) -> dict[int, Path]:
    """Write a field and its upper left corners, band by band: as OME-Zarr, or as uncompressed BigTIFF."""
    paths = {n: folder / (f"field{n}.ome.zarr" if kind == "zarr" else f"field{n}.tif") for n in {size, *crops}}
    targets = {}
    for n, path in paths.items():
        if kind == "zarr":
            group = zarr.open_group(str(path), mode="w", zarr_format=2)
            targets[n] = group.create_array("0", shape=(n, n), chunks=(CHUNK, CHUNK), dtype=np.uint16)
            axes = [{"name": name, "type": "space"} for name in "yx"]
            scale = [{"type": "scale", "scale": [1.0, 1.0]}]
            datasets = [{"path": "0", "coordinateTransformations": scale}]
            group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
        else:
            targets[n] = tifffile.memmap(path, shape=(n, n), dtype=np.uint16, bigtiff=True)
    source = patches(data)
    for top in range(0, size, CHUNK):
        rows = min(CHUNK, size - top)
        band = np.empty((rows, size), np.uint16)
        for y in range(0, rows, PATCH):
            for x in range(0, size, PATCH):
                patch = next(source)
                band[y : y + PATCH, x : x + PATCH] = patch[: rows - y, : size - x]
        for n, target in targets.items():
            if top < n:
                target[top : min(top + rows, n)] = band[: n - top, :n]
    return paths


def predict(model: str, image: Path, out: Path, *options: str, kill_when: float | None = None) -> Run:
    """Run the command in a process; kill it when this part of its tiles is done."""
    command = [sys.executable, "-m", "cytomask", "--quiet", "predict", model, str(image), "--out", str(out), *options]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    ended = 0
    while ended == 0:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG if kill_when is not None else 0)
        if ended == 0 and kill_when is not None:
            time.sleep(0.2)
            done, planned = tiles_done(out)
            if planned and done >= kill_when * planned:
                process.send_signal(signal.SIGKILL)
                kill_when = None
    return Run(time.perf_counter() - start, usage.ru_maxrss / 2**20, os.waitstatus_to_exitcode(status))


def tiles_done(out: Path) -> tuple[int, int]:
    """How many tiles a run on disk has done, and how many it has planned."""
    plans = list(out.glob(f"{PROGRESS_NAME}/*/spool/plan.json"))
    if not plans:
        return 0, 0
    return len(list(plans[0].parent.glob("proposals-*.npy"))), plans[0].read_text().count("(") // 2


def same(a: Path, b: Path, name: str) -> str:
    """Compare the results in two folders: labels pixel by pixel, tables and COCO results byte by byte."""
    for file in (f"{name}_objects.csv", "predictions.json"):
        if (a / file).read_bytes() != (b / file).read_bytes():
            return f"{file} differs"
    first, second = labels_of(a, name), labels_of(b, name)
    height, width = first.shape
    for y in range(0, height, CHUNK):
        if not np.array_equal(
            first.read(y, min(y + CHUNK, height), 0, width), second.read(y, min(y + CHUNK, height), 0, width)
        ):
            return "labels differ"
    return "equal"


class _Tiff:
    """A label TIFF, read as a LabelZarrWriter is."""

    def __init__(self, path: Path) -> None:
        self.pixels = tifffile.imread(path)
        self.shape = self.pixels.shape

    def read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        return self.pixels[y0:y1, x0:x1]


def labels_of(folder: Path, name: str) -> LabelZarrWriter | _Tiff:
    """Open the label image of a run."""
    path = folder / f"{name}_labels.ome.zarr"
    return LabelZarrWriter.open(path) if path.exists() else _Tiff(folder / f"{name}_labels.tif")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data" / "nuclei"))
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--size", type=int, default=16384, help="side of the field that is worked through on disk")
    parser.add_argument("--crops", type=int, nargs="*", default=[4096, 8192], help="sides for both ways")
    parser.add_argument("--format", choices=["zarr", "tiff"], default="zarr")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--kill-at", type=float, default=0.5, help="part of the tiles that is done when it is killed")
    parser.add_argument("--once", action="store_true", help="do not run the large field without a kill")
    options = parser.parse_args()
    tiling = ["--tile", str(options.tile)] if options.tile else []
    print("| image | way | time | per megapixel | peak memory | objects | result |\n|---|---|---|---|---|---|---|")

    def row(size: int, way: str, run: Run, out: Path, name: str, result: str) -> None:
        table = out / f"{name}_objects.csv"
        objects = sum(1 for _ in table.open()) - 1 if table.exists() else "–"
        per = run.seconds / (size * size / 1e6)
        print(
            f"| {size}² | {way} | {run.seconds:.0f} s | {per:.2f} s | {run.peak:.2f} GB | {objects} | {result} |",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = write_fields(folder, options.data, options.size, options.crops, options.format)
        for size in sorted(options.crops):
            name, ways = paths[size].name.split(".")[0], {}
            for way in ("--in-memory", "--on-disk"):
                ways[way] = folder / f"{size}{way}"
                run = predict(options.model, paths[size], ways[way], way, *tiling)
                result = same(*ways.values(), name) if len(ways) == 2 else "–"
                row(size, way[2:].replace("-", " "), run, ways[way], name, f"{result}, exit code {run.status}")
        name = paths[options.size].name.split(".")[0]
        killed, alone = folder / "killed", folder / "alone"
        arguments = (options.model, paths[options.size])
        run = predict(*arguments, killed, "--on-disk", *tiling, kill_when=options.kill_at)
        done, planned = tiles_done(killed)
        row(options.size, "on disk, killed", run, killed, name, f"{done} of {planned} tiles, exit code {run.status}")
        run = predict(*arguments, killed, "--on-disk", *tiling)
        row(options.size, "on disk, gone on with", run, killed, name, f"exit code {run.status}")
        if not options.once:
            run = predict(*arguments, alone, "--on-disk", *tiling)
            row(options.size, "on disk", run, alone, name, f"{same(killed, alone, name)}, exit code {run.status}")


if __name__ == "__main__":
    main()
