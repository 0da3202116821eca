"""Tune: find the post-processing that is best on validation data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cytomask.data.dataset import open_dataset
from cytomask.data.sample import Sample, load_sample
from cytomask.errors import BundleError, ConfigError, DataError
from cytomask.evaluation.coco import coco_metrics
from cytomask.evaluation.coco_settings import CocoSettings
from cytomask.evaluation.pixels import pixel_confusion, pixel_figures
from cytomask.evaluation.score import instance_score
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle, save_bundle
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter import Postprocess
from cytomask.prediction.predictor import Predictor
from cytomask.progress import say, track
from cytomask.storage.downloads import cache_folder
from cytomask.workflows.models import find_model, load_model
from cytomask.workflows.tune_search import NMS_THRESHOLDS, SCORE_THRESHOLDS, search

#: By which figure settings are compared; see :func:`tune_bundle`.
Metric = Literal["accuracy", "ap", "iou"]
METRICS: tuple[Metric, ...] = get_args(Metric)
#: What the figures are called in files, and for people.
_NAMES: dict[Metric, tuple[str, str]] = {
    "accuracy": ("mean_accuracy_50_90", "mean accuracy over IoU 0.50–0.90"),
    "ap": ("coco_ap", "COCO AP of masks"),
    "iou": ("mean_per_image_iou", "IoU of foreground pixels, mean over images,"),
}
#: Lowering the score threshold never lowers AP, so it is not searched: as low as rankings usually ask for.
AP_SCORE_THRESHOLD = 0.05


@dataclass(frozen=True)
class TuneResult:
    """The settings before and after, and what each of them scores on the tuning images."""

    before: Postprocess
    after: Postprocess
    score_before: float
    score_after: float
    tried: list[dict[str, Any]]
    n_images: int
    metric: Metric = "accuracy"
    saved_to: Path | None = None

    def lines(self) -> list[str]:
        """The result for people."""
        changes = []
        for name, old in self.before.model_dump().items():
            new = getattr(self.after, name)
            if old == new and self.before.searched and name not in self.before.searched:
                continue
            if name == "nms_sigma" and "gaussian" not in (self.before.nms, self.after.nms):
                continue
            changes.append(f"  {name}: {_say(old)} → {_say(new)}" if old != new else f"  {name}: {_say(old)}")
        saved = f"saved in {self.saved_to}" if self.saved_to else "nothing was saved"
        return [
            f"{_NAMES[self.metric][1]} on {self.n_images} image{'' if self.n_images == 1 else 's'}: "
            f"{self.score_before:.3f} → {self.score_after:.3f}",
            *changes,
            saved,
        ]


def _say(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class _Case:
    proposals: Proposals
    shape: tuple[int, int]
    scale: tuple[float, float]
    truth: Instances


def tune_bundle(
    bundle: Bundle,
    samples: list[Sample],
    *,
    device: str = "auto",
    channels: Sequence[str | int] | None = None,
    metric: Metric = "accuracy",
) -> TuneResult:
    """Search the post-processing on annotated images; the bundle itself is not changed.

    The network runs once per image; only post-processing is repeated, as
    :func:`~cytomask.workflows.tune_search.search` tells.

    Parameters
    ----------
    bundle
        The model.
    samples
        Annotated images.
    device
        Where the network runs.
    channels
        Channels of the images to use, by name or number.
    metric
        ``"accuracy"``: the mean over IoU 0.50 … 0.90 of tp / (tp + fp + fn), for results that people look at.
        ``"ap"``: COCO's average precision of masks, for rankings; the score threshold becomes 0.05, as this figure
        counts doubtful objects in their order and is never better without them (but for families whose objects do not
        compete: there the threshold is searched). ``"iou"``: the IoU of foreground pixels, mean over images, for
        results of which only the pixels count.

    Raises
    ------
    ConfigError
        If there is no such metric.
    DataError
        If there are no images.
    """
    if metric not in METRICS:
        raise ConfigError("there is no such metric", where="--metric", found=metric, expected=", ".join(METRICS))
    if not samples:
        raise DataError("there are no images to tune on")
    segmenter, before = bundle.segmenter, bundle.postprocess
    ranked = metric == "ap" and not before.searched
    start = before.model_copy(update={"score_threshold": AP_SCORE_THRESHOLD}) if ranked else before
    tried_scores = before.searched.get("score_threshold", () if ranked else SCORE_THRESHOLDS)
    lowest = min(before.score_threshold, start.score_threshold, *tried_scores)
    generous = segmenter.generous(before, lowest, max(before.nms_threshold, *NMS_THRESHOLDS))
    predictor = Predictor.from_bundle(bundle, device=device)
    cases = []
    for sample in track(samples, "predicting for tuning"):
        image, layers = load_sample(sample)
        prepared = predictor.prepare(image, channels=channels)
        proposals = predictor.propose(prepared, generous)
        cases.append(_Case(proposals, prepared.native_shape, prepared.scale, layers.to_instances()))
    truths = [case.truth for case in cases]
    names = segmenter.config.classes
    figures: dict[Metric, Callable[[list[Instances], list[Instances]], float]] = {
        "accuracy": instance_score, "ap": partial(_average_precision, names), "iou": _foreground_iou,
    }  # fmt: skip
    figure = figures[metric]
    known: dict[tuple[tuple[str, Any], ...], float] = {}

    def score(postprocess: Postprocess) -> float:
        key = tuple(postprocess.model_dump().items())
        if key not in known:
            found = [segmenter.resolve(case.proposals, postprocess, case.shape, case.scale) for case in cases]
            known[key] = figure(truths, found)
        return known[key]

    best = search(score, start, n_classes=len(names), score_thresholds=not ranked)
    say(f"tuning: {len(known)} settings tried; the best scores {score(best):.4f}, {score(before):.4f} before")
    tried = [{**dict(key), _NAMES[metric][0]: value} for key, value in known.items()]
    return TuneResult(before, best, score(before), score(best), tried, len(samples), metric)


def _average_precision(names: Sequence[str], truths: list[Instances], found: list[Instances]) -> float:
    settings = CocoSettings(max_dets=(2000,), areas={"l": (0.0, 1e10)})
    value = coco_metrics(truths, found, "segm", settings, names)["AP"]
    return 0.0 if value is None else float(value)


def _foreground_iou(truths: list[Instances], found: list[Instances]) -> float:
    confusions = np.stack([pixel_confusion(t, f) for t, f in zip(truths, found)])
    ious = pixel_figures(confusions)["iou"][:, 1]
    known = ious[~np.isnan(ious)]
    return float(known.mean()) if len(known) else 0.0


def tune_model(
    model: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    max_images: int | None = None,
    device: str = "auto",
    channels: Sequence[str | int] | None = None,
    metric: Metric = "accuracy",
    save: bool = True,
) -> TuneResult:
    """Tune a bundle on one split of a data set, and save the settings in it.

    Parameters
    ----------
    model
        A shipped model's name, a bundle, or a run's folder.
    data, split, max_images
        The annotated images.
    device, channels, metric
        As for :func:`tune_bundle`.
    save
        Whether to save.

    Raises
    ------
    BundleError
        If the model is a zip or a shipped one and should be saved.
    ChannelError
        If the images' channels do not fit the model.
    ConfigError
        If there is no such metric.
    DataError
        If the data set or the split is not there.
    """
    path = find_model(model)
    if save and not path.is_dir():
        raise BundleError(
            "a packed bundle cannot be changed",
            where=path,
            fix=f"unpack it first: cytomask models import {path} FOLDER",
        )
    if save and path.resolve().is_relative_to(cache_folder().resolve()):
        raise BundleError(
            "a model that is elsewhere cannot be changed",
            where=model,
            fix="copy it here first: cytomask models pull, or tune with --dry-run",
        )
    bundle = load_model(path)
    dataset = open_dataset(data)
    samples = dataset.split(split)[:max_images]
    dataset.verify(samples)
    result = tune_bundle(bundle, samples, device=device, channels=channels, metric=metric)
    if not save:
        return result
    save_tuned(bundle, result, path, split)
    return replace(result, saved_to=path)


def save_tuned(bundle: Bundle, result: TuneResult, folder: Path, split: str) -> None:
    """Put tuned settings into a bundle, with the score that they reached, and save it."""
    bundle.spec.postprocess = result.after.model_dump()
    bundle.spec.metrics["tuning"] = {
        "split": split,
        "images": result.n_images,
        _NAMES[result.metric][0]: round(result.score_after, 6),
        "before": result.before.model_dump(),
    }
    save_bundle(bundle, folder)
