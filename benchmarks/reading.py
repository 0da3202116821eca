"""Time and memory of reading a large 16-bit image by windows, from each format that is not loaded whole.

    uv run python benchmarks/reading.py

The image is made: smooth light and grains of noise, which pack about as micrographs do. Each format is read in a
process of its own: opened; 100 windows of 640 px at random places; every tile of 512 px with 64 px around it, in rows,
as prediction asks for them; the sample that normalisation takes; and an overview of at most 1024 px. Memory is the peak
of the process beyond what it had after its imports. With `--channels FIELD`, a TIFF of several channels, the memory of
reading one of them is told as well.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
import zarr

from cytomask.formats.images import read_image

#: Rows that are made at a time.
BAND = 1024


def bands(side: int) -> Iterator[np.ndarray]:
    """Make the image, some rows at a time."""
    rng = np.random.default_rng(0)
    x = np.arange(side, dtype=np.float32)
    noise = rng.poisson(30, (BAND, side)).astype(np.float32)
    for y0 in range(0, side, BAND):
        y = np.arange(y0, min(side, y0 + BAND), dtype=np.float32)[:, None]
        light = 400 * (1 + np.sin(x / 37) * np.cos(y / 41)) ** 2
        yield (light + np.roll(noise, y0 // BAND * 7919, axis=1)[: len(y)] * (1 + light / 400)).astype(np.uint16)


def pieces(side: int, height: int, width: int, step: int = 1) -> Iterator[np.ndarray]:
    """Make tiles or strips of the image, or of every ``step``-th pixel of it."""
    for band in bands(side):
        band = band[::step, ::step]
        for y in range(0, len(band), height):
            for x in range(0, band.shape[1], width):
                yield np.ascontiguousarray(band[y : y + height, x : x + width])


def write_tiff(path: Path, side: int, tile: int | None, pyramid: bool = False) -> None:
    shape = {"shape": (side, side), "dtype": np.uint16, "compression": "zlib", "photometric": "minisblack"}
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        if tile is None:
            tif.write((zlib.compress(strip.tobytes()) for strip in pieces(side, 16, side)), rowsperstrip=16, **shape)
            return
        steps = [2, 4, 8, 16] if pyramid else []
        options = {**shape, "tile": (tile, tile)}
        tif.write(pieces(side, tile, tile), subifds=len(steps), **options)
        for step in steps:
            whole = np.concatenate([band[::step, ::step] for band in bands(side)])
            tif.write(whole, subfiletype=1, metadata=None, **{**options, "shape": whole.shape})


def write_mapped(path: Path, side: int) -> None:
    mapped = tifffile.memmap(path, shape=(side, side), dtype=np.uint16, bigtiff=True, photometric="minisblack")
    for number, band in enumerate(bands(side)):
        mapped[number * BAND : number * BAND + len(band)] = band


def write_zarr(path: Path, side: int, version: str) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(5):
        step = 2**level
        size = -(-side // step)
        array = group.create_array(
            str(level),
            shape=(size, size),
            chunks=(min(BAND, size),) * 2,
            dtype="u2",
            chunk_key_encoding={"name": "v2" if version == "0.4" else "default", "separator": "/"},
            dimension_names=None if version == "0.4" else ["y", "x"],
        )
        for number, band in enumerate(bands(side)):
            part = band[::step, ::step]
            array[number * BAND // step : number * BAND // step + len(part)] = part
        scale = {"type": "scale", "scale": [0.5 * step] * 2}
        datasets.append({"path": str(level), "coordinateTransformations": [scale]})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    multiscales = [{"version": version, "axes": axes, "datasets": datasets}]
    group.attrs.update(
        {"multiscales": multiscales} if version == "0.4" else {"ome": {"version": version, "multiscales": multiscales}}
    )


FORMATS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "TIFF, not packed (mapped)": ("mapped.btf", write_mapped),
    "TIFF, zlib, tiles of 256": ("tiles.btf", lambda path, side: write_tiff(path, side, 256)),
    "TIFF, zlib, tiles of 256, pyramid": ("pyramid.btf", lambda path, side: write_tiff(path, side, 256, True)),
    "TIFF, zlib, strips of 16 rows": ("strips.btf", lambda path, side: write_tiff(path, side, None)),
    "OME-Zarr 0.4, chunks of 1024": ("v04.ome.zarr", lambda path, side: write_zarr(path, side, "0.4")),
    "OME-Zarr 0.5, chunks of 1024": ("v05.ome.zarr", lambda path, side: write_zarr(path, side, "0.5")),
}


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def memory() -> float:
    """Peak memory of this process in MiB (that of ``getrusage`` includes the parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(path: Path) -> list[str]:
    """Read a file in this process."""
    before = memory()
    images = []
    opened = seconds(lambda: images.append(read_image(path)))
    (image,) = images
    side = image.height
    rng = np.random.default_rng(1)
    places = rng.integers(0, side - 640, (100, 2))
    single = [seconds(lambda y=y, x=x: image.window(y, y + 640, x, x + 640).max()) for y, x in places.tolist()]

    def sweep() -> None:
        for y in range(0, side, 512):
            for x in range(0, side, 512):
                image.window(max(0, y - 64), min(side, y + 576), max(0, x - 64), min(side, x + 576)).max()

    tiles = seconds(sweep)
    sampled = seconds(lambda: image.sampled(max(1, side // 2000)))
    overview = seconds(lambda: image.overview(1024))
    peak = memory() - before
    return [f"{opened:.2f} s", f"{statistics.median(single) * 1000:.1f} ms", f"{tiles:.1f} s", f"{sampled:.1f} s",
            f"{overview:.2f} s", f"{peak:.0f} MiB"]  # fmt: skip


def measure_channel(path: Path) -> str:
    before = memory()
    image = read_image(path)
    name = image.channels[0]
    image.select([0]).window(0, image.height, 0, image.width)
    size = image.n_channels * image.height * image.width * image.dtype.itemsize / 2**20
    used = memory() - before
    return f"{path.name}: {image.n_channels} channels, {size:.1f} MiB; channel {name!r} read with {used:.1f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=16384, help="pixels along each axis, a multiple of 1024")
    parser.add_argument("--folder", type=Path, help="where the images are made (4 GB), and kept")
    parser.add_argument("--channels", type=Path, metavar="FIELD")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(" | ".join(measure(options.one)))
        return
    if options.channels:
        print(measure_channel(options.channels), "\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{options.side} x {options.side} px, uint16, {options.side**2 * 2 / 2**20:.0f} MiB\n")
        print("| format | on disk | opened | a window | all tiles | sample | overview | memory |\n" + "|---" * 8 + "|")
        for name, (file, write) in FORMATS.items():
            path = folder / file
            if not path.exists():
                write(path, options.side)
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            on_disk = sum(p.stat().st_size for p in files) / 2**20
            command = [sys.executable, __file__, "--one", str(path)]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            print(f"| {name} | {on_disk:.0f} MiB | {found} |", flush=True)


if __name__ == "__main__":
    main()
