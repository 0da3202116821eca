"""Star distances and polygon suppression against StarDist's C++, in one run, taking turns.

    uv run python benchmarks/geometry.py --data PATH/TO/nuclei

The label image is a 1024 x 1024 field tiled from real fluorescence images. Suppression gets what a good network
proposes: every grid point of every object, with its true distances (a little noise added) and its depth as the score.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from fields import field_of_nuclei
from stardist.geometry import star_dist
from stardist.nms import non_maximum_suppression_inds
from turns import take_turns

from cytomask.geometry.object_distance import normalised_edt
from cytomask.geometry.polygon_nms import polygon_nms
from cytomask.geometry.star import star_distances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data" / "nuclei"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    _, labels = field_of_nuclei(options.data)
    table = ["| what | cytomask | stardist (C++) | ratio |", "|---|---|---|---|"]

    def row(what: str, seconds: dict[str, float]) -> None:
        ours, theirs = seconds["ours"], seconds["stardist"]
        table.append(f"| {what} | {ours * 1e3:.1f} ms | {theirs * 1e3:.1f} ms | {theirs / ours:.1f}x |")

    for grid in (1, 2):
        ours, theirs = star_distances(labels, 32, grid), star_dist(labels, 32, grid=(grid, grid))
        assert np.allclose(ours, theirs, atol=1e-5)
        seconds = take_turns(
            options.repeats,
            ours=lambda grid=grid: star_distances(labels, 32, grid, threads=os.cpu_count() or 1),
            stardist=lambda grid=grid: star_dist(labels, 32, grid=(grid, grid)),
        )
        row(f"star distances, 1024², 32 rays, grid {grid}", seconds)

    rng = np.random.default_rng(0)
    distances, depth = star_distances(labels, 32, 2), normalised_edt(labels, grid=2)
    rows, columns = np.nonzero(depth > 0.4)
    points = (2 * np.stack([rows, columns], axis=1)).astype(np.float32)
    candidates = distances[rows, columns] * rng.normal(1, 0.05, (len(rows), 32)).astype(np.float32)
    scores = (depth[rows, columns] + rng.normal(0, 0.02, len(rows))).astype(np.float32)
    order = np.argsort(-scores, kind="stable")

    def theirs_nms() -> np.ndarray:
        return non_maximum_suppression_inds(candidates[order], points[order], scores[order], thresh=0.4, verbose=False)

    kept = np.zeros(len(scores), bool)
    kept[order] = theirs_nms()
    ours_kept = polygon_nms(points, candidates, scores, 0.4)
    seconds = take_turns(
        options.repeats, ours=lambda: polygon_nms(points, candidates, scores, 0.4), stardist=theirs_nms
    )
    row(f"polygon suppression, {len(scores):,} candidates", seconds)
    print("\n".join(table))
    print(f"survivors: {ours_kept.sum()} and {kept.sum()}, {np.count_nonzero(ours_kept != kept)} of them different")


if __name__ == "__main__":
    main()
