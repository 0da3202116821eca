"""Train: from an experiment file to a run folder with a tuned model bundle."""

from __future__ import annotations

import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cytomask._version import __version__
from cytomask.data.dataset import Dataset, open_dataset
from cytomask.data.normalise import MeanStd
from cytomask.data.object_sizes import object_size_statistics
from cytomask.data.patch_dataset import PatchDataset, prepare_training_image
from cytomask.data.pixel_sizes import common_pixel_size
from cytomask.data.sample import Sample, load_sample
from cytomask.data.short_edge import ShortestEdge
from cytomask.errors import ConfigError, OutputError
from cytomask.evaluation.score import instance_score
from cytomask.geometry.resample import resample_window
from cytomask.label_layers import LabelLayers
from cytomask.models.bundle import Bundle, ModelSpec, TrainingRecord, save_bundle
from cytomask.models.registry import build_segmenter, family_class
from cytomask.models.segmenter import Segmenter
from cytomask.output import output_folder, replacing
from cytomask.progress import say, track, warn
from cytomask.reporting.curves import write_curves
from cytomask.training.fit import CHECKPOINTS, LAST, TABLE, FitResult, Interrupted, fit
from cytomask.training.validation import ValidationImages, resized_layers
from cytomask.workflows.experiment import Experiment, experiment_to_yaml, read_experiment
from cytomask.workflows.initial_weights import begin_with, completed, settings_of
from cytomask.workflows.models import BUNDLE_IN_RUN
from cytomask.workflows.tune import TuneResult, save_tuned, tune_bundle

EXPERIMENT_NAME, RECORD_NAME, CURVES_NAME = "experiment.yaml", "run.yaml", "curves.png"


@dataclass
class TrainResult:
    """What a training led to."""

    folder: Path
    interrupted: bool = False
    fit: FitResult | None = None
    tuning: TuneResult | None = None
    minutes: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The result for people."""
        if self.interrupted:
            return [f"stopped; go on with: cytomask train {self.folder} --resume"]
        assert self.fit is not None
        epochs = "1 epoch" if self.fit.epochs == 1 else f"{self.fit.epochs} epochs"
        lines = [f"trained {epochs} in {self.minutes:.1f} min"]
        if self.fit.best_epoch >= 0:
            lines[0] += f"; best validation score {self.fit.best_score:.3f} after epoch {self.fit.best_epoch + 1}"
        if self.tuning is not None:
            lines += self.tuning.lines()[:-1]
        lines.append(f"model: {self.folder / BUNDLE_IN_RUN}")
        lines.append(f"curves: {self.folder / CURVES_NAME}")
        return lines


def train_experiment(
    source: str | Path,
    *,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
) -> TrainResult:
    """Train as an experiment says.

    Parameters
    ----------
    source
        An experiment's YAML file or a recipe's name; with ``resume``, also a run's folder.
    data
        The data set, instead of the experiment's ``data.path``.
    overrides
        Settings as ``key.path=value``.
    out
        The run's folder; ``runs/<name>`` if None.
    resume
        Go on with an interrupted run: its own settings, as they were resolved, are used.

    Returns
    -------
    TrainResult
        ``interrupted`` is set after Ctrl-C; the run can then be resumed.

    Raises
    ------
    ConfigError, DataError, OutputError, TrainingError
        Before anything is written, where possible.
    """
    started = time.monotonic()
    if resume:
        folder, experiment = _resumed(source, overrides, out)
        if not (folder / CHECKPOINTS / LAST).is_file():
            say("the run was stopped before its first epoch was whole: it begins anew")
    else:
        experiment = read_experiment(source, overrides)
        if data is not None:
            experiment.data.path = str(Path(data).resolve())
        folder = Path(out) if out is not None else Path("runs") / experiment.name
        if folder.is_dir() and any(folder.iterdir()):
            raise OutputError(
                "the run's folder is not empty",
                where=folder,
                fix="choose another with --out, or go on with that run: --resume",
            )
    dataset = _open(experiment)
    train, validation = _splits(dataset, experiment)
    reasons: list[str] = []
    if not resume:
        experiment, reasons = _complete(experiment, dataset, train)
    family, settings = _family(experiment)
    segmenter = _build(family, settings, experiment)
    if experiment.initial is not None and not resume:
        begin_with(segmenter, experiment.initial, experiment.initial_sha256)

    output_folder(folder)
    with replacing(folder / EXPERIMENT_NAME) as path:
        path.write_text(experiment_to_yaml(experiment), encoding="utf-8")
    for reason in reasons:
        say(f"chosen from the data: {reason}")
    parameters = sum(p.numel() for p in segmenter.parameters())
    say(
        f"{family} model with {parameters:,} parameters; {len(train)} training images, {len(validation)} for validation"
    )

    if experiment.initial is None and any(not p.requires_grad for p in segmenter.parameters()):
        warn(
            "a part of the network is frozen though it begins with random weights, so it never learns: "
            "name weights in initial, or set model.backbone.freeze=0"
        )

    result = TrainResult(folder, reasons=reasons)
    normalisation = experiment.data.normalisation
    images = PatchDataset(
        train,
        load=lambda sample: _load(sample, experiment, for_changes=True),
        targets=segmenter.targets,
        sampler=experiment.patches.sampler(experiment.augmentation),
        length=experiment.training.steps_per_epoch * experiment.training.batch_size * experiment.training.accumulate,
        seed=experiment.training.seed,
        balance=experiment.data.balance,
        cache_bytes=int(experiment.patches.cache_gb * 2**30),
        finish=normalisation.from_unit if isinstance(normalisation, MeanStd) else None,
    )
    pairs = [_load_held_out(sample, experiment) for sample in track(validation, "reading validation images")]
    held_out = ValidationImages(pairs, segmenter) if pairs else None
    try:
        result.fit = fit(
            segmenter,
            images,
            held_out,
            experiment.training,
            instance_score,
            segmenter.postprocess_class(),
            folder,
            resume=(folder / CHECKPOINTS / LAST).is_file(),
        )
    except Interrupted:
        result.interrupted = True
        return result
    finally:
        if (folder / TABLE).is_file():
            write_curves(folder / TABLE, folder / CURVES_NAME)

    bundle = Bundle(segmenter, _specification(experiment, dataset, train, family, result.fit))
    save_bundle(bundle, folder / BUNDLE_IN_RUN)
    if experiment.tune.enabled and validation:
        samples = validation[: experiment.tune.max_images]
        result.tuning = tune_bundle(
            bundle, samples, device=experiment.training.device, channels=experiment.data.chosen_channels
        )
        save_tuned(bundle, result.tuning, folder / BUNDLE_IN_RUN, experiment.data.validation)
    result.minutes = (time.monotonic() - started) / 60
    _write_record(folder, result, experiment)
    return result


def _resumed(source: str | Path, overrides: Sequence[str], out: str | Path | None) -> tuple[Path, Experiment]:
    if overrides:
        raise ConfigError("a resumed run keeps its settings", found="--set " + " ".join(overrides), fix="drop --set")
    folder = Path(source) if (Path(source) / EXPERIMENT_NAME).is_file() else None
    if folder is None:
        folder = Path(out) if out is not None else Path("runs") / read_experiment(source).name
    saved = folder / EXPERIMENT_NAME
    if not saved.is_file():
        raise ConfigError("there is no run to resume", where=folder, expected=f"a folder with {EXPERIMENT_NAME}")
    return folder, read_experiment(saved)


def _open(experiment: Experiment) -> Dataset:
    if experiment.data.path is None:
        raise ConfigError("the experiment names no data", fix="give --data PATH, or set data.path in the file")
    return open_dataset(experiment.data.path)


def _splits(dataset: Dataset, experiment: Experiment) -> tuple[list[Sample], list[Sample]]:
    section = experiment.data
    train = dataset.split(section.train)
    validation = dataset.split(section.validation)
    dataset.verify([*train, *validation])
    if not validation:
        say("no validation images: the last weights are kept, and thresholds are not tuned")
    return train, validation


def _complete(experiment: Experiment, dataset: Dataset, train: list[Sample]) -> tuple[Experiment, list[str]]:
    """Fill in what the experiment leaves open: classes, channels, and what the family derives from object sizes."""
    # A family that nobody chose is that of the initial weights.
    model = dict(experiment.model) if "model" in experiment.model_fields_set else {}
    if experiment.initial is not None:
        settings, spec = settings_of(experiment.initial)
        if model.setdefault("family", settings["family"]) != settings["family"]:
            raise ConfigError(
                "the initial weights are of another family",
                where=experiment.initial,
                found=settings["family"],
                expected=str(model["family"]),
            )
        # The network must be the initial one; classes and channels may differ, as their layers are made anew.
        if spec is not None:
            own = {"classes": list(dataset.classes), "in_channels": experiment.data.channels.count}
            model = completed({**own, **model}, settings)
        else:
            model = completed(model, settings)
            if not isinstance(experiment.data.normalisation, MeanStd):
                warn(
                    f"{experiment.initial} was trained on images of which a mean was subtracted in 8-bit units; "
                    "data.normalisation.method: mean_std does that"
                )
    family = model.get("family", "star")
    model["family"] = family
    model.setdefault("classes", list(dataset.classes))
    channels = experiment.data.channels.count
    if model.setdefault("in_channels", channels) != channels:
        raise ConfigError(
            "the network and the data have not the same number of channels",
            where="model.in_channels",
            found=str(model["in_channels"]),
            expected=f"{channels}, as data.channels says",
            fix="leave model.in_channels out, or change data.channels",
        )
    settings, why = family_class(family).propose_from_data(
        object_size_statistics(train, dataset, _training_scale(experiment))
    )
    reasons = []
    for (name, value), reason in zip(settings.items(), why):
        given: Any = model.get(name)
        if name not in model:
            model[name] = value
        elif _leaves_open(given, value):
            model[name] = {**value, **given}
            if value.keys() & given.keys() - {"kind"}:
                # The reason tells of the whole group, of which only a part is taken.
                taken = ", ".join(f"{name}.{key} {value[key]}" for key in value if key not in given)
                reason = f"{taken}: it fits the objects, and the experiment says only the rest of {name}"
        else:
            continue
        reasons.append(reason)
    return experiment.model_copy(update={"model": model}), reasons


def _leaves_open(given: Any, proposed: Any) -> bool:
    """Whether a group of settings of the same kind says less than is proposed."""
    if not isinstance(given, dict) or not isinstance(proposed, dict):
        return False
    same = "kind" not in proposed or given.get("kind", proposed["kind"]) == proposed["kind"]
    return same and bool(proposed.keys() - given.keys())


def _family(experiment: Experiment) -> tuple[str, dict[str, Any]]:
    settings = dict(experiment.model)
    return settings.pop("family"), settings


def _build(family: str, settings: dict[str, Any], experiment: Experiment) -> Segmenter:
    import torch

    # The first weights depend on the seed alone, whatever ran before in this process.
    torch.manual_seed(experiment.training.seed)
    segmenter = build_segmenter(family, settings)
    patches = experiment.patches
    if patches.mode == "image" and not _takes_any_size(segmenter):
        raise ConfigError(
            f"a {family} network learns from patches of one size, not from whole images",
            where="patches.mode",
            found="image",
            fix="set patches.mode: patch, or use the family region",
        )
    if patches.mode == "patch" and patches.size % segmenter.stride:
        raise ConfigError(
            "the patch size does not fit the network",
            found=f"patches.size {experiment.patches.size}",
            expected=f"a multiple of {segmenter.stride}",
        )
    return segmenter


def _takes_any_size(segmenter: Segmenter) -> bool:
    """Whether the family joins images of different sizes: the contract's own way of joining them does not."""
    return type(segmenter).collate.__func__ is not Segmenter.collate.__func__  # type: ignore[attr-defined]


def _load(sample: Sample, experiment: Experiment, *, for_changes: bool = False) -> tuple[np.ndarray, LabelLayers]:
    """One image as the network will see it (float32 ``(C, Y, X)``), and its annotation.

    ``for_changes``: as changes of intensity expect it, about 0 to 1.
    """
    image, layers = load_sample(sample)
    section = experiment.data
    normalisation = section.normalisation
    if for_changes and isinstance(normalisation, MeanStd):
        normalisation = normalisation.unit()
    pixels, layers = prepare_training_image(
        image, layers, channels=section.channels, chosen=section.chosen_channels, normalisation=normalisation
    )
    if for_changes and experiment.patches.mode == "patch" and section.resize is not None:
        # Patches are cut from images of the size that prediction will see.
        pixels = _resized(pixels, section.resize)
        layers = resized_layers(layers, (pixels.shape[1], pixels.shape[2]))
    return pixels, layers


def _load_held_out(sample: Sample, experiment: Experiment) -> tuple[np.ndarray, LabelLayers]:
    """One validation image, at the size at which prediction will see it, and its annotation at its own."""
    image, layers = _load(sample, experiment)
    resize = experiment.data.resize
    return (image if resize is None else _resized(image, resize)), layers


def _resized(image: np.ndarray, resize: ShortestEdge) -> np.ndarray:
    shape = (image.shape[1], image.shape[2])
    rows, columns = resize.size(shape)
    if (rows, columns) == shape:
        return image
    scale = (rows / shape[0], columns / shape[1])
    return resample_window(lambda y0, y1, x0, x1: image[:, y0:y1, x0:x1], shape, scale, (0, rows, 0, columns))


def _training_scale(experiment: Experiment) -> Callable[[tuple[int, int]], float] | None:
    """How training sees an image of a shape: network pixels per pixel, of the middle one of several sizes."""
    patches = experiment.patches
    if patches.mode == "patch":
        return None if experiment.data.resize is None else experiment.data.resize.scale
    middle = sorted(patches.short_edge)[len(patches.short_edge) // 2]
    return ShortestEdge(shortest=min(middle, patches.long_edge), longest=patches.long_edge).scale


def _specification(
    experiment: Experiment, dataset: Dataset, train: list[Sample], family: str, fitted: FitResult
) -> ModelSpec:
    settings = {name: value for name, value in experiment.model.items() if name != "family"}
    config = family_class(family).config_class.model_validate(settings).model_dump(mode="json")
    resize = experiment.data.resize
    sizes = object_size_statistics(train, dataset, None if resize is None else resize.scale)
    pixel_size, told = common_pixel_size(train)
    say(told)
    return ModelSpec(
        name=experiment.name,
        family=family,
        config=config,
        channels=experiment.data.channels,
        normalisation=experiment.data.normalisation,
        resize=experiment.data.resize,
        pixel_size=pixel_size,
        diameter=round(float(sizes["diameter_p50"]), 2),
        diameter_range=experiment.augmentation.diameter_range(sizes),
        training=TrainingRecord(
            data=experiment.description or str(experiment.data.path),
            data_licence=experiment.data.licence,
            data_fingerprint=dataset.fingerprint(),
            command=shlex.join(["cytomask", *sys.argv[1:]]),
            hardware=f"{platform.machine()}, {platform.system()}",
        ),
        metrics={"validation": best} if (best := _best(fitted)) else {},
    )


def _best(fitted: FitResult) -> dict[str, float]:
    """The best validation score and its epoch, from 1; nothing where there were no validation images."""
    if fitted.best_epoch < 0:
        return {}
    return {"score": round(fitted.best_score, 6), "epoch": fitted.best_epoch + 1}


def _write_record(folder: Path, result: TrainResult, experiment: Experiment) -> None:
    import torch

    assert result.fit is not None
    record = {
        "cytomask": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "minutes": round(result.minutes, 2),
        **{f"best_{name}": value for name, value in _best(result.fit).items()},
        "epochs": result.fit.epochs,
        "chosen_from_data": result.reasons,
        "tuning": result.tuning.tried if result.tuning else None,
        "seed": experiment.training.seed,
    }
    with replacing(folder / RECORD_NAME) as path:
        path.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
