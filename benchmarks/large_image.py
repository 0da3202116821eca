"""Time and peak memory of `cytomask predict` on one large 16-bit image, 4096² and 8192².

    uv run python benchmarks/large_image.py --data PATH/TO/nuclei

The image is tiled from real fluorescence fields. Each size runs in a process of its own, whose peak memory the
operating system reports.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from cytomask.data.dataset import open_dataset
from cytomask.data.sample import load_sample


def write_field(path: Path, data: str, size: int) -> None:
    """Tile 256 x 256 test fields, each 16 times as bright, to a 16-bit TIFF."""
    tiles = []
    for sample in open_dataset(data).split("test"):
        image, _ = load_sample(sample)
        if image.shape == (256, 256) and image.n_channels == 1:
            tiles.append(np.asarray(image.pixels)[0].astype(np.uint16) * 16)
    field = np.zeros((size, size), np.uint16)
    for index, (y, x) in enumerate((y, x) for y in range(0, size, 256) for x in range(0, size, 256)):
        tile = tiles[(index * 7) % len(tiles)]
        field[y : y + 256, x : x + 256] = tile
    tifffile.imwrite(path, field)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data" / "nuclei"))
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 8192])
    options = parser.parse_args()
    print("| image | time | per megapixel | peak memory | objects |\n|---|---|---|---|---|")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "field.tif"
            write_field(path, options.data, size)
            command = [
                sys.executable,
                "-m",
                "cytomask",
                "--quiet",
                "predict",
                options.model,
                str(path),
                "--out",
                folder,
            ]
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            assert peak > before, "run the sizes in ascending order: the system keeps only the largest peak"
            labels = tifffile.imread(Path(folder) / "field_labels.tif")
            per_megapixel = seconds / (size * size / 1e6)
            row = f"| {size}² | {seconds:.1f} s | {per_megapixel:.2f} s | {peak / 2**20:.2f} GB | {labels.max()} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
