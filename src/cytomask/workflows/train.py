"""Train: from an experiment file to a run folder with a tuned model bundle."""

from __future__ import annotations

import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from cytomask._version import __version__
from cytomask.data.object_sizes import object_size_statistics
from cytomask.data.pixel_sizes import common_pixel_size
from cytomask.errors import ConfigError, OutputError
from cytomask.evaluation.pixel_summary import pixel_summary
from cytomask.evaluation.score import instance_score
from cytomask.models.bundle import Bundle, ModelSpec, TrainingRecord, save_bundle
from cytomask.models.registry import family_class
from cytomask.output import output_folder, replacing
from cytomask.progress import say, warn
from cytomask.reporting.curves import write_curves
from cytomask.training.fit import CHECKPOINTS, LAST, TABLE, FitResult, Interrupted, fit
from cytomask.workflows.experiment import Experiment, experiment_to_yaml, read_experiment
from cytomask.workflows.run_folder import BUNDLE_IN_RUN, RunFolder
from cytomask.workflows.trainings.preparation import Prepared, experiment_on, prepare
from cytomask.workflows.trainings.together import team_of
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
    main: bool = True

    def lines(self) -> list[str]:
        """The result for people; of processes that train together, the main one tells it."""
        if not self.main:
            return []
        if self.interrupted:
            begun = (self.folder / CHECKPOINTS / LAST).is_file()
            told = "stopped" if begun else "stopped before the first epoch was whole, so nothing is kept of it"
            return [f"{told}; go on with: cytomask train {self.folder} --resume"]
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
    source: str | Path | Experiment,
    *,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    devices: int | None = None,
    nodes: int | None = None,
    watch: Callable[[int, dict[str, float]], None] | None = None,
) -> TrainResult:
    """Train as an experiment says.

    Parameters
    ----------
    source
        An experiment, its YAML file or a recipe's name; with ``resume``, also a run's folder.
    data
        The data set, instead of the experiment's ``data.path``.
    overrides
        Settings as ``key.path=value``.
    out
        The run's folder; ``runs/<name>`` if None.
    resume
        Go on with an interrupted run: its own settings, as they were resolved, are used.
    devices, nodes
        How many devices of a machine, and how many machines, train together; None: as the experiment says. This is
        the main process, and starts the others; on several machines, torchrun or srun starts all.
    watch
        Called after each epoch with the epoch or step and the figures of the epoch.

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
    begun = False
    if resume:
        folder, experiment = _resumed(source, overrides, out)
        begun = (folder / CHECKPOINTS / LAST).is_file()
        if not begun:
            say("the run was stopped before its first epoch was whole: it begins anew")
    else:
        experiment = source if isinstance(source, Experiment) else experiment_on(source, data, overrides)
        folder = Path(out) if out is not None else Path("runs") / experiment.name
    given = {name: count for name, count in (("devices", devices), ("nodes", nodes)) if count is not None}
    experiment = experiment.model_copy(update={"training": experiment.training.model_copy(update=given)})
    team = team_of(experiment.training)
    main = team.place.main
    if not resume and main and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(
            "the run's folder is not empty",
            where=folder,
            fix="choose another with --out, or go on with that run: --resume",
        )
    prepared = prepare(experiment, complete=not resume, first_weights=not begun)
    experiment, segmenter = prepared.experiment, prepared.segmenter
    train, validation = prepared.train, prepared.validation

    if main:
        output_folder(folder)
        with replacing(folder / EXPERIMENT_NAME) as path:
            path.write_text(experiment_to_yaml(experiment), encoding="utf-8")
    for reason in prepared.reasons:
        say(f"chosen from the data: {reason}")
    parameters = sum(p.numel() for p in segmenter.parameters())
    images = f"{len(train)} training images, {len(validation)} for validation"
    say(f"{prepared.family} model with {parameters:,} parameters; {images}")

    if main and experiment.initial is None and any(not p.requires_grad for p in segmenter.parameters()):
        warn(
            "a part of the network is frozen though it begins with random weights, so it never learns: "
            "name weights in initial, or set model.backbone.freeze=0"
        )

    result = TrainResult(folder, reasons=prepared.reasons, main=main)
    try:
        with team.started(folder, begun):
            held_out = prepared.held_out(team.place)
            patches = prepared.images()
            with team.met() as place:
                result.fit = fit(
                    segmenter,
                    patches,
                    held_out,
                    experiment.training,
                    instance_score,
                    segmenter.postprocess_class(),
                    folder,
                    figures=partial(pixel_summary, classes=segmenter.config.classes),
                    resume=begun,
                    watch=watch,
                    place=place,
                )
    except (Interrupted, KeyboardInterrupt):
        result.interrupted = True
        return result
    finally:
        if main and (folder / TABLE).is_file():
            write_curves(folder / TABLE, folder / CURVES_NAME)

    if not main:
        return result
    bundle = Bundle(segmenter, _specification(prepared, result.fit))
    save_bundle(bundle, folder / BUNDLE_IN_RUN)
    if experiment.tune.enabled and validation:
        samples = validation[: experiment.tune.max_images]
        result.tuning = tune_bundle(
            bundle, samples, device=experiment.training.device, channels=experiment.data.chosen_channels,
            metric=experiment.tune.metric,
        )  # fmt: skip
        save_tuned(bundle, result.tuning, folder / BUNDLE_IN_RUN, experiment.data.validation)
    result.minutes = (time.monotonic() - started) / 60
    _write_record(folder, result, experiment)
    return result


def _resumed(
    source: str | Path | Experiment, overrides: Sequence[str], out: str | Path | None
) -> tuple[Path, Experiment]:
    if overrides:
        raise ConfigError("a resumed run keeps its settings", found="--set " + " ".join(overrides), fix="drop --set")
    if isinstance(source, Experiment):
        folder = Path(out) if out is not None else Path("runs") / source.name
    elif (RunFolder(Path(source)).trained() / EXPERIMENT_NAME).is_file():
        folder = RunFolder(Path(source)).trained()
    else:
        folder = RunFolder(Path(out) if out is not None else Path("runs") / read_experiment(source).name).trained()
    saved = folder / EXPERIMENT_NAME
    if not saved.is_file():
        raise ConfigError("there is no run to resume", where=folder, expected=f"a folder with {EXPERIMENT_NAME}")
    experiment = read_experiment(saved)
    if isinstance(source, Experiment):
        # Where it is computed may change, and where the data lie.
        where = {name: getattr(source.training, name) for name in ("device", "devices", "nodes", "workers")}
        experiment.training = experiment.training.model_copy(update=where)
        experiment.data.path = source.data.path
        # What is only told of the training and its model may have been mended since.
        experiment.name, experiment.description = source.name, source.description
        experiment.data.licence = source.data.licence
    return folder, experiment


def _specification(prepared: Prepared, fitted: FitResult) -> ModelSpec:
    experiment, dataset, train = prepared.experiment, prepared.dataset, prepared.train
    settings = {name: value for name, value in experiment.model.items() if name != "family"}
    config = family_class(prepared.family).config_class.model_validate(settings).model_dump(mode="json")
    resize = experiment.data.resize
    sizes = object_size_statistics(train, dataset, None if resize is None else resize.scale)
    pixel_size, told = common_pixel_size(train)
    say(told)
    return ModelSpec(
        name=experiment.name,
        family=prepared.family,
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
    # Of a training that had ended, and of which only the model was made anew.
    earlier = _earlier_record(folder / RECORD_NAME)
    record = {
        "cytomask": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "minutes": round(result.minutes + float(earlier.get("minutes", 0)), 2),
        **{f"best_{name}": value for name, value in _best(result.fit).items()},
        "epochs": result.fit.epochs,
        "chosen_from_data": result.reasons or earlier.get("chosen_from_data", []),
        "tuning": result.tuning.tried if result.tuning else None,
        "seed": experiment.training.seed,
    }
    with replacing(folder / RECORD_NAME) as path:
        path.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")


def _earlier_record(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        minutes, reasons = float(found["minutes"]), list(found["chosen_from_data"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return {}
    return {"minutes": minutes, "chosen_from_data": reasons}
