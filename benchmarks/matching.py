"""Matching at ten IoU thresholds against stardist.matching, over a whole set of label images.

    uv run python benchmarks/matching.py --data PATH/TO/nuclei

Both get the same int32 arrays, as label images are read, and all ten thresholds at once. As a prediction stands the
truth moved by up to three pixels, with every tenth object missing; or, with `--predictions`, a folder that predict
wrote. The two take turns on the set, one warm-up each; medians are printed as a Markdown table, and the largest
difference between their figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from stardist.matching import matching, matching_dataset
from turns import take_turns

from cytomask.evaluation.matching import THRESHOLDS, Matching, match, mean_per_image, pooled
from cytomask.formats.label_images import read_labels

#: Our names of stardist's figures.
FIGURES = {
    "precision": "precision", "recall": "recall", "f1": "f1", "accuracy": "accuracy", "pq": "panoptic_quality",
    "mean_matched_iou": "mean_matched_score",
}  # fmt: skip


def perturbed(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move all objects by up to three pixels and take every tenth away."""
    moved = np.roll(labels, tuple(rng.integers(-3, 4, 2)), (0, 1))
    gone = [i for i in np.unique(moved) if i and rng.random() < 0.1]
    return np.where(np.isin(moved, gone), 0, moved)


def largest_difference(truths: list[np.ndarray], predictions: list[np.ndarray], found: list[Matching]) -> float:
    """Over all figures and thresholds, pooled and per image; infinite if a count differs."""
    together = pooled(found)
    worst = 0.0
    for by_image, figures in ((False, together.figures()), (True, mean_per_image(found))):
        expected = matching_dataset(truths, predictions, THRESHOLDS, by_image=by_image, show_progress=False)
        for k, one in enumerate(expected):
            if (together.tp[k], together.fp[k], together.fn[k]) != (one.tp, one.fp, one.fn):
                return float("inf")
            worst = max(worst, *(abs(figures[ours][k] - getattr(one, theirs)) for ours, theirs in FIGURES.items()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "nuclei")
    parser.add_argument("--predictions", type=Path, help="folder of label images, named like the truths")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    files = sorted((options.data / "labels").glob("*.png"))
    truths = [read_labels(file) for file in files]
    if options.predictions:
        predictions = [read_labels(options.predictions / f"{file.stem}_labels.tif") for file in files]
    else:
        rng = np.random.default_rng(0)
        predictions = [perturbed(truth, rng) for truth in truths]
    found = [match(t, p) for t, p in zip(truths, predictions)]

    seconds = take_turns(
        options.repeats,
        cytomask=lambda: [match(t, p) for t, p in zip(truths, predictions)],
        stardist=lambda: [matching(t, p, THRESHOLDS) for t, p in zip(truths, predictions)],
    )
    objects = sum(m.n_true for m in found)
    pixels = sum(t.size for t in truths) / 1e6
    print(f"{len(files)} images, {pixels:.0f} megapixels, {objects} objects; medians of {options.repeats}\n")
    print("| | whole set | per image |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.3f} s | {value / len(files) * 1e3:.3f} ms |")
    print(f"\nstardist takes {seconds['stardist'] / seconds['cytomask']:.1f} times as long")
    print(f"largest difference of any figure: {largest_difference(truths, predictions, found):.1e}")


if __name__ == "__main__":
    main()
