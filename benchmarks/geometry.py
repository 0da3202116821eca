"""Star distances and polygon suppression against StarDist's C++, parting of masks against scikit-image, taking turns.

    uv run python benchmarks/geometry.py --data PATH/TO/nuclei

The label image is a 1024 x 1024 field tiled from real fluorescence images. Suppression gets what a good network
proposes: every grid point of every object, with its true distances (a little noise added) and its depth as the score.
The same field's mask is what is parted.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from fields import field_of_nuclei
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import h_maxima
from skimage.segmentation import watershed
from stardist.geometry import star_dist
from stardist.nms import non_maximum_suppression_inds
from turns import take_turns

from cytomask.geometry.components import connected_components, fill_object_holes
from cytomask.geometry.object_distance import mask_distance, normalised_edt
from cytomask.geometry.polygon_nms import polygon_nms
from cytomask.geometry.star import star_distances
from cytomask.geometry.watershed import seeded_watershed, shape_seeds


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
    part_mask(labels > 0, options.repeats)


def part_mask(mask: np.ndarray, repeats: int) -> None:
    """Components, depth, seeds and watershed of one mask, against scipy and scikit-image."""
    depth = mask_distance(mask)
    seeds = shape_seeds(mask, 0.8)
    level = np.floor((64 - depth) * 16).astype(np.int32)  # what the watershed makes of its level itself
    found, _ = connected_components(mask)
    rows = {
        "connected components": (lambda: connected_components(mask), lambda: label(mask, connectivity=1)),
        "fill holes (theirs: all objects as one)": (
            lambda: fill_object_holes(found),
            lambda: ndimage.binary_fill_holes(mask),
        ),
        "distances in a mask": (lambda: mask_distance(mask), lambda: ndimage.distance_transform_edt(mask)),
        "seeds at waists (theirs: h-maxima of the distances)": (
            lambda: shape_seeds(mask, 0.8),
            lambda: ndimage.label(h_maxima(ndimage.distance_transform_edt(mask), 0.5)),
        ),
        "seeded watershed": (
            lambda: seeded_watershed(-depth, seeds, mask, low=-64, high=0),
            lambda: watershed(level, seeds, mask=mask, connectivity=1),
        ),
    }
    print("\n| what, 1024² | cytomask | scipy or scikit-image | ratio |\n|---|---|---|---|")
    for what, (ours, theirs) in rows.items():
        seconds = take_turns(repeats, ours=ours, theirs=theirs)
        ratio = seconds["theirs"] / seconds["ours"]
        print(f"| {what} | {seconds['ours'] * 1e3:.1f} ms | {seconds['theirs'] * 1e3:.1f} ms | {ratio:.1f}x |")
    same = seeded_watershed(-depth, seeds, mask, low=-64, high=0) == watershed(level, seeds, mask=mask, connectivity=1)
    print(f"watershed: {same[mask].mean():.2%} of the mask's pixels alike, {seeds.max()} seeds")


if __name__ == "__main__":
    main()
