"""The demo: real micrographs that need no download, the shipped model, and what people get from it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances
from cytomask.output import output_folder, replacing
from cytomask.progress import say
from cytomask.reporting.overlay import draw_overlay, write_png
from cytomask.workflows.predict import predict_images

#: Below the model's own threshold, because a separated stain is paler than what it was trained on.
SCORE_THRESHOLD = 0.45


def run_demo(out: str | Path, *, train: bool = False) -> list[str]:
    """Segment a real micrograph with the shipped model; with ``train``, show the whole cycle on generated images.

    The micrograph is scikit-image's section of a colon, in which nuclei are blue (haematoxylin) and a protein is brown
    (DAB). The blue stain is separated first (Ruifrok and Johnston 2001), as one would do with such a picture.

    Parameters
    ----------
    out
        Folder for the results.
    train
        Whether to train a small model too (about three minutes on two cores).

    Returns
    -------
    list of str
        A short summary for people.
    """
    folder = output_folder(out)
    started = time.monotonic()
    colour, stain = _write_micrograph(folder)
    thresholds = {"score_threshold": SCORE_THRESHOLD}
    summary = predict_images("nuclei", [stain], folder, save=("labels", "table", "coco"), thresholds=thresholds)
    labels = read_labels(folder / f"{stain.stem}_labels.tif")
    picture = folder / "colon_overlay.png"
    write_png(picture, draw_overlay(read_image(colour), Instances.from_labels(labels)))
    lines = [
        *summary.lines(),
        f"done in {time.monotonic() - started:.0f} s; look at {picture}",
    ]
    if train:
        lines += _train_cycle(output_folder(folder / "training"))
    else:
        lines.append("next: your own image:  cytomask predict nuclei IMAGE --out RESULTS")
    return lines


def _write_micrograph(folder: Path) -> tuple[Path, Path]:
    """Write the colour picture, and its haematoxylin as a grey picture in which nuclei are bright."""
    from PIL import Image as Picture
    from skimage import color, data

    picture = data.immunohistochemistry()
    blue = color.rgb2hed(picture)[..., 0]
    low, high = blue.min(), np.percentile(blue, 99.9)
    grey = (255 * np.clip((blue - low) / (high - low), 0, 1)).astype(np.uint8)
    paths = folder / "colon.png", folder / "colon_haematoxylin.png"
    for pixels, target in zip((picture, grey), paths):
        with replacing(target) as path:
            Picture.fromarray(pixels).save(path)
    return paths


def _train_cycle(folder: Path) -> list[str]:
    """Generate a data set, train, tune, predict its test images, evaluate: every step an analyst would take."""
    from cytomask.workflows.evaluate import evaluate_predictions
    from cytomask.workflows.generated import write_generated_dataset
    from cytomask.workflows.train import train_experiment

    data = folder / "data"
    say("generating 60 annotated images of touching blobs")
    write_generated_dataset(data, np.random.default_rng(0))
    run = folder / "run"
    result = train_experiment("demo", data=data, out=run) if not run.exists() else train_experiment(run, resume=True)
    lines = result.lines()
    if result.interrupted:
        return lines
    test = sorted((data / "test" / "images").glob("*.png"))
    predict_images(run, test, folder / "predictions", save=("labels", "overlay"))
    scores = evaluate_predictions(folder / "predictions", data, folder / "evaluation", split="test")
    pooled = scores.metrics["matching"]["pooled"]["0.50"]
    lines.append(
        f"on {len(test)} test images that it never saw: {pooled['tp']} of {pooled['tp'] + pooled['fn']} objects found, "
        f"{pooled['fp']} false; accuracy at IoU 0.5: {pooled['accuracy']:.2f}"
    )
    lines.append(f"pictures: {folder / 'predictions'}; metrics: {folder / 'evaluation' / 'metrics.json'}")
    return lines
