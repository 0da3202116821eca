"""What a run of a sweep achieves on the validation images: objects, and pixels of background and of objects."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cytomask.data.dataset import open_dataset
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.metrics import evaluate_pairs
from cytomask.progress import track
from cytomask.workflows.compare import inputs_of_model
from cytomask.workflows.comparing.model import MeasuredModel
from cytomask.workflows.evaluating.sides import side_of_dataset
from cytomask.workflows.experiment import Experiment
from cytomask.workflows.models import BUNDLE_IN_RUN


def figures_of_run(run: Path, experiment: Experiment) -> dict[str, Any]:
    """Predict the validation images with a run's model, and tell how well.

    Parameters
    ----------
    run
        The run's folder.
    experiment
        Says where the data are, and which split validates.

    Returns
    -------
    dict
        ``validation_score``, ``epochs`` and ``minutes`` of the training; ``accuracy_50``, ``mean_accuracy_50_90`` and
        ``f1_50`` of objects; and of pixels ``pixel_accuracy``, ``background_accuracy`` and ``object_accuracy`` (the
        part of the true background, and of the true objects, that has the right class), with ``wrong_background`` and
        ``wrong_objects``, the rest of each; NaN where there are no such pixels, or no validation images.
    """
    record = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))
    told: dict[str, Any] = {"validation_score": record.get("best_score", math.nan), "epochs": record["epochs"]}
    told["minutes"] = record["minutes"]
    assert experiment.data.path is not None
    dataset = open_dataset(experiment.data.path)
    samples = {sample.name: sample for sample in dataset.split(experiment.data.validation)}
    if not samples:
        names = ("accuracy_50", "mean_accuracy_50_90", "f1_50")
        return {**told, **dict.fromkeys(names, math.nan), **pixel_shares(np.zeros((2, 2)))}
    with tempfile.TemporaryDirectory(prefix="cytomask-sweep-") as kept:
        model = MeasuredModel(
            [run / BUNDLE_IN_RUN], Path(kept), experiment.training.device, experiment.data.chosen_channels
        )
        inputs = inputs_of_model(model, side_of_dataset(dataset), samples)
        pairs = track(inputs.read(), run.name, total=len(samples))
        found = evaluate_pairs(pairs, class_names=inputs.class_names, bootstrap=Bootstrap(resamples=0))
    at = found.metrics["matching"]["pooled"]["0.50"]
    told |= {"accuracy_50": at["accuracy"], "mean_accuracy_50_90": found.metrics["mean_accuracy_50_90"]}
    told["f1_50"] = at["f1"]
    return told | pixel_shares(np.sum([image.confusion for image in found.images], axis=0))


def pixel_shares(confusion: np.ndarray) -> dict[str, float]:
    """Right and wrong parts of all pixels, of the background's and of the objects', from counts by class.

    Examples
    --------
    >>> shares = pixel_shares(np.array([[90, 10], [5, 15]]))
    >>> shares["background_accuracy"], shares["wrong_objects"], shares["pixel_accuracy"]
    (0.9, 0.25, 0.875)
    """
    right = np.diagonal(confusion)

    def part(of: float, whole: float) -> float:
        return float(of / whole) if whole else math.nan

    background = part(right[0], confusion[0].sum())
    objects = part(right[1:].sum(), confusion[1:].sum())
    return {
        "pixel_accuracy": part(right.sum(), confusion.sum()),
        "background_accuracy": background,
        "object_accuracy": objects,
        "wrong_background": 1 - background,
        "wrong_objects": 1 - objects,
    }
