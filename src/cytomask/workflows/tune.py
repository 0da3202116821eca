"""Tune: find the post-processing thresholds that are best on validation data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytomask.data.dataset import open_dataset
from cytomask.data.sample import Sample, load_sample
from cytomask.errors import BundleError, DataError
from cytomask.evaluation.score import instance_score
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle, save_bundle
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter import Postprocess
from cytomask.prediction.predictor import Predictor
from cytomask.progress import say, track
from cytomask.workflows.models import find_model, load_model

#: Proposals below the lowest threshold that is tried are never made.
SCORE_THRESHOLDS = tuple(round(float(t), 3) for t in np.arange(0.25, 0.81, 0.05))
NMS_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)
#: A finer search around the best score threshold.
FINE_STEPS = (-0.025, 0.025)


@dataclass(frozen=True)
class TuneResult:
    """The thresholds before and after, and what each of them scores on the tuning images."""

    before: Postprocess
    after: Postprocess
    score_before: float
    score_after: float
    tried: list[dict[str, float]]
    n_images: int
    saved_to: Path | None = None

    def lines(self) -> list[str]:
        """The result for people."""
        changes = [
            f"  {name}: {old:.3g} → {getattr(self.after, name):.3g}" for name, old in self.before.model_dump().items()
        ]
        saved = f"saved in {self.saved_to}" if self.saved_to else "nothing was saved"
        return [
            f"mean accuracy over IoU 0.50–0.90 on {self.n_images} images: "
            f"{self.score_before:.3f} → {self.score_after:.3f}",
            *changes,
            saved,
        ]


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
    channels: list[str | int] | None = None,
) -> TuneResult:
    """Search the thresholds on annotated images; the bundle itself is not changed.

    The network runs once per image; only post-processing is repeated. Score thresholds are searched on a grid and then
    finer, overlap thresholds around the best score threshold, until neither changes.
    """
    if not samples:
        raise DataError("there are no images to tune on")
    predictor = Predictor.from_bundle(bundle, device=device)
    before = bundle.postprocess
    generous = before.model_copy(update={"score_threshold": min(SCORE_THRESHOLDS)})
    cases = []
    for sample in track(samples, "predicting for tuning"):
        image, layers = load_sample(sample)
        prepared = predictor.prepare(image, channels=channels)
        proposals = predictor.propose(prepared, generous)
        cases.append(_Case(proposals, prepared.native_shape, prepared.scale, layers.to_instances()))

    known: dict[tuple[tuple[str, float], ...], float] = {}

    def score(postprocess: Postprocess) -> float:
        key = tuple(sorted(postprocess.model_dump().items()))
        if key not in known:
            found = [bundle.segmenter.resolve(c.proposals, postprocess, c.shape, c.scale) for c in cases]
            known[key] = instance_score([c.truth for c in cases], found)
        return known[key]

    def best_of(current: Postprocess, name: str, values: tuple[float, ...]) -> Postprocess:
        options = [current, *(current.model_copy(update={name: v}) for v in values)]
        return max(options, key=score)

    start = max((before, before.model_copy(update={"score_threshold": 0.5})), key=score)
    best, previous = start, None
    while best != previous:
        previous = best
        best = best_of(best, "score_threshold", SCORE_THRESHOLDS)
        if "nms_threshold" in type(before).model_fields:
            best = best_of(best, "nms_threshold", NMS_THRESHOLDS)
        around = tuple(round(best.score_threshold + step, 4) for step in FINE_STEPS)
        best = best_of(best, "score_threshold", tuple(t for t in around if 0 < t < 1))
        say(f"tuning: score {score(best):.4f} with " + ", ".join(f"{k} {v:g}" for k, v in best.model_dump().items()))
    tried = [{**dict(key), "mean_accuracy_50_90": value} for key, value in known.items()]
    return TuneResult(before, best, score(before), score(best), tried, len(samples))


def tune_model(
    model: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    max_images: int | None = None,
    device: str = "auto",
    save: bool = True,
) -> TuneResult:
    """Tune a bundle on one split of a data set, and save the thresholds in it.

    Raises
    ------
    BundleError
        If the model is a zip or a shipped one and should be saved.
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
    bundle = load_model(path)
    dataset = open_dataset(data)
    samples = dataset.split(split)[:max_images]
    dataset.verify(samples)
    result = tune_bundle(bundle, samples, device=device)
    if not save:
        return result
    save_tuned(bundle, result, path, split)
    return TuneResult(**{**result.__dict__, "saved_to": path})


def save_tuned(bundle: Bundle, result: TuneResult, folder: Path, split: str) -> None:
    """Put tuned thresholds into a bundle, with the score that they reached, and save it."""
    bundle.spec.postprocess = result.after.model_dump()
    bundle.spec.metrics["tuning"] = {
        "split": split,
        "images": result.n_images,
        "mean_accuracy_50_90": round(result.score_after, 6),
        "before": result.before.model_dump(),
    }
    save_bundle(bundle, folder)
