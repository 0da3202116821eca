"""Predict with a model for a comparison, and measure what that costs: time, memory, parameters, size of the file."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cytomask.data.sample import Sample, load_sample
from cytomask.errors import CytomaskError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle, read_spec
from cytomask.models.segmenter import Postprocess
from cytomask.prediction.ensemble import Ensemble, Member
from cytomask.prediction.fusion import common_classes
from cytomask.prediction.predictor import Predictor
from cytomask.progress import say
from cytomask.workflows.comparing.candidates import EPOCHS_NAME, Candidate
from cytomask.workflows.evaluating.sides import Entry, Read, native_sample
from cytomask.workflows.experiment import read_experiment
from cytomask.workflows.models import load_model

#: What a run's folder holds of its experiment.
EXPERIMENT_NAME = "experiment.yaml"
#: Side of the window that a model sees before its time is taken: the first call of a network is slower.
_WARM_UP = 256
#: So long a measurement of memory may take, in seconds.
_LONGEST = 1800


class MeasuredModel:
    """A model that predicts the images of a data set one by one, takes the time, and keeps what it found on disk.

    Parameters
    ----------
    paths
        Its bundle; several are an ensemble, fused by weighted boxes fusion as ``predict --with`` does.
    folder
        Where objects are kept.
    device
        As for :class:`~cytomask.prediction.predictor.Predictor`.
    channels
        Channels of the images to use, by name or number; None for those that the model expects.
    """

    def __init__(
        self, paths: Sequence[Path], folder: Path, device: str = "auto", channels: Sequence[str | int] | None = None
    ) -> None:
        self._paths, self._folder, self._device, self._channels = tuple(paths), folder, device, channels
        self._predictors: list[tuple[Predictor, Postprocess]] = []
        self.seconds, self.megapixels, self.parameters = 0.0, 0.0, 0
        self._kept: dict[str, Path] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; the weights need not be read for them."""
        return common_classes([tuple(read_spec(path).config.get("classes", ("object",))) for path in self._paths])

    def entry(self, sample: Sample) -> Entry:
        """The prediction of an image, made when it is read."""
        return Entry(sample.image_path, lambda: self._read(sample), image=sample.image_path)

    def close(self) -> None:
        """Let go of the networks; what was found can still be read."""
        self._predictors = []
        gc.collect()

    def _read(self, sample: Sample) -> Read:
        if sample.name not in self._kept:
            image = load_sample(native_sample(sample))[0]
            found = self.predict(image)
            target = self._folder / f"{len(self._kept)}.npz"
            _keep(found, target)
            self._kept[sample.name] = target
        else:
            found = _kept(self._kept[sample.name])
        return Read(found, found)

    def predict(self, image: Image) -> Instances:
        """Segment an image, and add its time to the sum."""
        if not self._predictors:
            self._open(image)
        started = time.perf_counter()
        found = self._find(image)
        self.seconds += time.perf_counter() - started
        self.megapixels += image.height * image.width / 1e6
        return found

    def _open(self, image: Image) -> None:
        bundles: list[Bundle] = [load_model(path) for path in self._paths]
        self._predictors = [(Predictor.from_bundle(b, device=self._device), b.postprocess) for b in bundles]
        self.parameters = sum(p.numel() for b in bundles for p in b.segmenter.parameters())
        window = image.window(0, min(_WARM_UP, image.height), 0, min(_WARM_UP, image.width))
        self._find(replace(image, pixels=np.ascontiguousarray(window)))

    def _find(self, image: Image) -> Instances:
        if len(self._predictors) == 1:
            predictor, postprocess = self._predictors[0]
            return predictor.predict(image, channels=self._channels, postprocess=postprocess)
        together = Ensemble([Member(*one) for one in self._predictors])
        return together.find(image, channels=self._channels).instances


@dataclass(frozen=True)
class Cost:
    """What a model costs; None for what is not known."""

    family: str | None = None
    parameters: int | None = None
    file_bytes: int | None = None
    training_minutes: float | None = None
    epochs: int | None = None
    best_validation: float | None = None
    seconds_per_megapixel: float | None = None
    peak_memory_mb: float | None = None


def cost_of(candidate: Candidate, model: MeasuredModel, peak_memory_mb: float | None) -> Cost:
    """Gather what a model costs."""
    specs = [read_spec(path) for path in candidate.paths]
    record = _run_record(candidate.run)
    minutes = record.get("minutes", specs[0].training.minutes if len(specs) == 1 else None)
    return Cost(
        " + ".join(dict.fromkeys(spec.family for spec in specs)),
        model.parameters,
        sum(_size(path) for path in candidate.paths),
        float(minutes) if isinstance(minutes, int | float) else _minutes_of_epochs(candidate.run),
        record.get("epochs"),
        record.get("best_score"),
        model.seconds / model.megapixels if model.megapixels else None,
        peak_memory_mb,
    )


def channels_of(candidate: Candidate) -> list[str | int] | None:
    """The channels that a run was trained with, where its experiment chose some."""
    saved = None if candidate.run is None else candidate.run / EXPERIMENT_NAME
    return read_experiment(saved).data.chosen_channels if saved is not None and saved.is_file() else None


def _run_record(run: Path | None) -> dict[str, Any]:
    try:
        record = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8")) if run is not None else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return record if isinstance(record, dict) else {}


def _minutes_of_epochs(run: Path | None) -> float | None:
    """The time of all epochs, for a run that was broken off before its record was written."""
    if run is None:
        return None
    from cytomask.reporting.curves import read_curves

    try:
        rows = read_curves(run / EPOCHS_NAME)
    except CytomaskError:
        return None
    return float(rows["seconds"].sum()) / 60 if "seconds" in rows else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.iterdir() if p.is_file())


def _keep(found: Instances, target: Path) -> None:
    np.savez(
        target, shape=np.array(found.shape), windows=found.windows, bits=found.bits, offsets=found.offsets,
        boxes=found.boxes, classes=found.classes, scores=found.scores, ids=found.ids,
        class_names=np.array(found.class_names),
    )  # fmt: skip


def _kept(path: Path) -> Instances:
    with np.load(path, allow_pickle=False) as file:
        shape = file["shape"].tolist()
        return Instances(
            (shape[0], shape[1]), file["windows"], file["bits"], file["offsets"], file["boxes"], file["classes"],
            file["scores"], file["ids"], tuple(file["class_names"].tolist()),
        )  # fmt: skip


# Memory


def peak_memory_mb(
    paths: Sequence[Path],
    data: Path,
    sample: str,
    device: str = "auto",
    channels: Sequence[str | int] | None = None,
) -> float | None:
    """The most memory of a process of its own that loads a model and predicts one image, in MB (2^20 bytes).

    Python and PyTorch themselves are in it (a few hundred MB), memory of a GPU is not. None where it cannot be told.
    """
    told = {"paths": [str(p.resolve()) for p in paths], "data": str(data), "sample": sample, "device": device}
    job = json.dumps({**told, "channels": None if channels is None else list(channels)})
    try:
        command = [sys.executable, "-m", "cytomask.workflows.comparing.model"]
        done = subprocess.run(command, input=job, capture_output=True, text=True, timeout=_LONGEST, check=True)
        return float(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        say(f"the memory of {paths[0].name} could not be measured: {type(error).__name__}")
        return None


def _measure() -> None:
    """In a process of its own: predict one image, and print the most memory that this process had."""
    from cytomask.data.dataset import open_dataset
    from cytomask.progress import set_quiet

    set_quiet(True)
    job = json.load(sys.stdin)
    sample = next(one for one in open_dataset(job["data"]).samples if one.name == job["sample"])
    model = MeasuredModel([Path(path) for path in job["paths"]], Path(), job["device"], job["channels"])
    model.predict(load_sample(native_sample(sample))[0])
    print(_peak_mb())


def _peak_mb() -> float:
    # The usual count of a child begins with what its parent had; this one is of this process alone.
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    import resource

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 2**20  # bytes on macOS


if __name__ == "__main__":
    _measure()
