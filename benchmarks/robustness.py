"""How the shipped model fares on test images that are rescaled, blurred, noisy, dim, or inverted.

    uv run python benchmarks/robustness.py --data PATH/TO/nuclei

Prints a Markdown table: pooled accuracy at IoU 0.5 and its mean over 0.50-0.90 on the fluorescence test images.
Rescaled images are also segmented with `--diameter` set to their objects' median, and with `--diameter auto`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.transform import resize

import cytomask
from cytomask.data.dataset import open_dataset
from cytomask.data.object_sizes import equivalent_diameters
from cytomask.data.sample import load_sample
from cytomask.evaluation.matching import MEAN_THRESHOLDS, match, pooled
from cytomask.image import Image
from cytomask.progress import set_quiet

Degradation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def span(image: np.ndarray) -> float:
    return float(np.ptp(np.percentile(image, [1, 99.8])))


DEGRADATIONS: dict[str, Degradation] = {
    "as it is": lambda image, rng: image,
    "blurred, sigma 1 px": lambda image, rng: ndimage.gaussian_filter(image, 1.0),
    "blurred, sigma 2 px": lambda image, rng: ndimage.gaussian_filter(image, 2.0),
    "noise, 10 % of the range": lambda image, rng: image + rng.normal(0, 0.1 * span(image), image.shape),
    "noise, 25 % of the range": lambda image, rng: image + rng.normal(0, 0.25 * span(image), image.shape),
    "a tenth as bright, 8 bit": lambda image, rng: np.round(image / 10),
    "gamma 0.5": lambda image, rng: 255 * (image / 255) ** 0.5,
    "gamma 2": lambda image, rng: 255 * (image / 255) ** 2,
    "inverted": lambda image, rng: 255 - image,
    "uneven light": lambda image, rng: image + span(image) * 0.5 * np.linspace(0, 1, image.shape[1]),
}
ZOOMS = (0.33, 0.5, 0.75, 1.5, 2.0, 3.0, 4.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data" / "nuclei"))
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", type=int, default=55, help="at most so many test images")
    options = parser.parse_args()
    set_quiet(True)
    model = cytomask.load(options.model)
    samples = [s for s in open_dataset(options.data).split("test") if s.group["modality"] == "fluorescence"]
    pairs = []
    for sample in samples[: options.images]:
        image, layers = load_sample(sample)
        pairs.append((np.asarray(image.pixels)[0].astype(np.float32), layers.layers[0]))

    def score(cases: list[tuple[np.ndarray, np.ndarray, object]]) -> tuple[float, float]:
        results = [
            match(
                truth,
                model.predict(Image.from_array(image.astype(np.float32), axes="YX"), diameter=diameter),
                MEAN_THRESHOLDS,
            )
            for image, truth, diameter in cases
        ]
        accuracy = pooled(results).figures()["accuracy"]
        return float(accuracy[0]), float(accuracy.mean())

    print(f"| {len(pairs)} fluorescence test images | accuracy at IoU 0.5 | mean accuracy 0.50-0.90 |\n|---|---|---|")
    for name, degrade in DEGRADATIONS.items():
        rng = np.random.default_rng(0)
        at_half, mean = score([(degrade(image, rng), truth, None) for image, truth in pairs])
        print(f"| {name} | {at_half:.3f} | {mean:.3f} |", flush=True)
    print(
        "\n| scaled by | median diameter | as it is | with --diameter | with --diameter auto |\n|---|---|---|---|---|"
    )
    for zoom in ZOOMS:
        scaled = []
        for image, truth in pairs:
            shape = tuple(max(16, round(side * zoom)) for side in image.shape)
            labels = resize(truth, shape, order=0, preserve_range=True, anti_aliasing=False).astype(np.int32)
            scaled.append((resize(image, shape, preserve_range=True, anti_aliasing=zoom < 1), labels))
        sizes = [np.median(equivalent_diameters(truth)) if truth.any() else None for _, truth in scaled]
        median = np.median([size for size in sizes if size])
        plain = score([(image, truth, None) for image, truth in scaled])
        known = score([(image, truth, size) for (image, truth), size in zip(scaled, sizes)])
        auto = score([(image, truth, "auto") for image, truth in scaled])
        cells = " | ".join(f"{a:.3f} / {m:.3f}" for a, m in (plain, known, auto))
        print(f"| {zoom:g} | {median:.0f} px | {cells} |", flush=True)


if __name__ == "__main__":
    main()
