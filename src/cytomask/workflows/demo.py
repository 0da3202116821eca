"""The demo: real micrographs that need no download, the shipped model, and what people get from it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from cytomask.output import output_folder, replacing
from cytomask.progress import say
from cytomask.workflows.predict import predict_images

#: Images that come inside scikit-image, with their source. Both are free to use.
MICROGRAPHS = {
    "ihc": "colon tissue, haematoxylin and DAB (scikit-image's data.immunohistochemistry)",
}


def run_demo(out: str | Path, *, train: bool = False) -> list[str]:
    """Segment a real micrograph with the shipped model; with ``train``, show the whole cycle on generated images.

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
    paths = [_write_micrograph(folder, name) for name in MICROGRAPHS]
    summary = predict_images("nuclei", paths, folder, save=("labels", "overlay", "table", "coco"))
    lines = [*summary.lines(), f"done in {time.monotonic() - started:.0f} s; look at {folder / 'ihc_overlay.png'}"]
    if train:
        lines += _train_cycle(output_folder(folder / "training"))
    else:
        lines.append("next: your own image:  cytomask predict nuclei IMAGE --out RESULTS")
    return lines


def _write_micrograph(folder: Path, name: str) -> Path:
    import skimage
    from PIL import Image as Picture

    source = Path(skimage.__file__).parent / "data" / f"{name}.png"
    target = folder / f"{name}.png"
    if not target.exists():
        with replacing(target) as path:
            Picture.open(source).save(path)
    return target


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
