"""Run an experiment: all stages from the data to the report, each only when what it depends on has changed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from cytomask.errors import ConfigError, OutputError
from cytomask.output import output_folder, replacing
from cytomask.progress import say
from cytomask.workflows.experiment import Experiment, read_experiment
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages.data_state import data_identity
from cytomask.workflows.stages.digests import FileDigests
from cytomask.workflows.stages.lock import run_locked
from cytomask.workflows.stages.state import (
    Inputs,
    StageRecord,
    StageStates,
    changes,
    current_inputs,
    damaged_files,
    differ_in_told,
    written_files,
)
from cytomask.workflows.stages.table import STAGES, Stage, is_below
from cytomask.workflows.stages.tracking import is_tracked, track_stage

#: What is known of files' contents; it may be deleted at any time.
CACHE_NAME = ".digests.json"


@dataclass
class RunResult:
    """What a run did.

    Attributes
    ----------
    folder
        The run's folder.
    why
        For each stage that was looked at, why it was run (or would be); empty for one that was done before.
    said
        What the stages that ran said at their end.
    dry
        Whether nothing was run.
    """

    folder: Path
    why: dict[str, list[str]] = field(default_factory=dict)
    said: dict[str, list[str]] = field(default_factory=dict)
    dry: bool = False

    def lines(self) -> list[str]:
        """The result for people."""
        if self.dry:
            return [
                f"{name}: would run: {'; '.join(why)}" if why else f"{name}: done before"
                for name, why in self.why.items()
            ]
        # Where the report is, is said at the end in any case.
        lines = [f"{name}: {line}" for name, said in self.said.items() if name != "report" for line in said]
        if not self.said:
            lines.append("nothing to do")
        run = RunFolder(self.folder)
        lines += [f"{what}: {path}" for what, path in (("model", run.bundle), ("report", run.report)) if path.exists()]
        return lines


def run_experiment(
    source: str | Path = "experiment.yaml",
    *,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    stages: Sequence[str] = (),
    start: str | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> RunResult:
    """Run the stages of an experiment that are not up to date.

    A stage is done again when the data, its part of the experiment, what it reads of earlier stages, or its part of the
    program have changed since it was last done, and when something that it wrote is gone or was changed. One that was
    broken off goes on where it was, if nothing else has changed.

    Parameters
    ----------
    source
        An experiment's YAML file, a recipe's name, or the folder of a run.
    data
        The data set, instead of the experiment's ``data.path``.
    overrides
        Settings as ``key.path=value``.
    out
        The run's folder; ``runs/<name>`` if None.
    stages
        Only these; those before them must be up to date. Empty: all.
    start
        Only this one and all after it.
    force
        Run stages that are up to date, too.
    dry_run
        Only find out what would be run.

    Raises
    ------
    ConfigError
        If the experiment is wrong, there is no such stage, or an earlier stage is not up to date.
    DataError
        If the data cannot be read.
    OutputError
        If another process runs stages in the folder, the folder holds something else, or cannot be written to.
    CytomaskError
        As the stages raise it.
    """
    experiment, folder = _resolved(source, data, overrides, out)
    chosen = _chosen_stages(stages, start)
    _check_folder(folder)
    if dry_run:
        return _Runner(folder, experiment).plan(chosen, force)
    with run_locked(folder):
        return _Runner(folder, experiment).run(chosen, force)


class _Runner:
    """The stages of one experiment in one folder."""

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self.run_folder = RunFolder(folder)
        self.experiment = experiment
        self.settings = experiment_settings(experiment)
        self.states = StageStates(self.run_folder.state)
        self.digests = FileDigests(folder / CACHE_NAME)
        self.data = data_identity(experiment.data.path, self.digests)

    def plan(self, chosen: Sequence[Stage], force: bool) -> RunResult:
        """Find out what would be run."""
        result = RunResult(self.run_folder.path, dry=True)
        for stage in chosen:
            later = [
                path
                for path in stage.reads
                if any(why and is_below(path, STAGES[name].places) for name, why in result.why.items())
            ]
            why = self.why(stage)[0] or (["it is asked for"] if force else [])
            result.why[stage.name] = why or ([f"it reads {', '.join(later)}"] if later else [])
        self.digests.save()
        return result

    def run(self, chosen: Sequence[Stage], force: bool) -> RunResult:
        """Run what is not up to date."""
        result = RunResult(self.run_folder.path)
        self._write_experiment()
        # What was read of the data is kept, whatever comes.
        self.digests.save()
        for stage in chosen:
            self._check_before(stage, chosen)
            why, goes_on = self.why(stage)
            if force and not why:
                why = ["it is asked for"]
            result.why[stage.name] = why
            if not why:
                say(f"{stage.name}: done before")
                continue
            say(f"{stage.name}: {'; '.join(why)}")
            result.said[stage.name] = self._run_stage(stage, goes_on and not force)
        self.digests.save()
        return result

    def why(self, stage: Stage) -> tuple[list[str], bool]:
        """Why a stage must be run, or nothing; and whether it goes on with what is there of it."""
        record = self.states[stage.name]
        if record is None:
            return ["it was never run"], False
        now = self._inputs(stage)
        changed = changes(record.inputs, now, record.version)
        kept = differ_in_told(stage, record.inputs, now)
        if record.status == "running":
            if not record.inputs.code:
                return ["it was broken off"], False
            return changed or ["it was broken off, and goes on"], kept
        if changed and not kept:
            return changed, False
        damaged = damaged_files(record, self.run_folder.path, self.digests)
        goes_on = all(is_below(name, stage.remade) for name in damaged)
        if changed:
            return changed, goes_on
        if not damaged:
            return [], False
        more = f" and {len(damaged) - 1} more files" if len(damaged) > 1 else ""
        return [f"{damaged[0]}{more} gone or changed"], goes_on

    def _inputs(self, stage: Stage) -> Inputs:
        return current_inputs(stage, self.settings, self.data, self.states, self.digests)

    def _check_before(self, stage: Stage, chosen: Sequence[Stage]) -> None:
        """Make sure that what a stage reads is there, when earlier stages were not asked for."""
        for other in stage.before():
            if other in chosen:
                continue
            why, _ = self.why(other)
            if why:
                raise ConfigError(
                    f"{stage.name} needs an earlier stage, which is not up to date",
                    where=self.run_folder.path,
                    found=f"{other.name}: {'; '.join(why)}",
                    fix=f"run it first: --from {other.name}",
                )

    def _run_stage(self, stage: Stage, goes_on: bool) -> list[str]:
        started = time.monotonic()
        record = StageRecord("running", self._inputs(stage))
        if not goes_on:
            # The record first: of what is cleared in part nothing goes on.
            self.states.put(stage.name, StageRecord("running", Inputs({}, None, "")))
            _clear(stage, self.run_folder.path)
        self.states.put(stage.name, record)
        module = import_module(f"cytomask.workflows.stages.{stage.name}")
        try:
            record.said = module.run_stage(self.run_folder, self.experiment)
        except KeyboardInterrupt:
            say(f"stopped in {stage.name}; the same command goes on")
            raise
        record.files = written_files(stage, self.run_folder.path, self.digests)
        record.minutes = round((time.monotonic() - started) / 60, 2)
        record.status = "done"
        self.states.put(stage.name, record)
        self.digests.save()
        if is_tracked(self.experiment):
            track_stage(stage.name, self.run_folder, self.experiment, self.settings)
        return record.said

    def _write_experiment(self) -> None:
        settings = {**self.settings, "data": {**self.settings["data"], "path": self._data_path()}}
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100)
        target = self.run_folder.experiment
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            with replacing(target) as path:
                path.write_text(text, encoding="utf-8")

    def _data_path(self) -> str | None:
        """Where the data are, from the run's folder if both lie below this one: they may move together."""
        path, here = self.experiment.data.path, Path.cwd()
        folder = self.run_folder.path.resolve()
        if path is None or "://" in path or not (Path(path).is_relative_to(here) and folder.is_relative_to(here)):
            return path
        return Path(os.path.relpath(path, folder)).as_posix()


def experiment_settings(experiment: Experiment) -> dict[str, Any]:
    """An experiment with its defaults, so that it reads back as the same experiment."""
    settings = experiment.model_dump(mode="json")
    if experiment.initial is not None and "model" not in experiment.model_fields_set:
        # A family that nobody chose is that of the initial weights.
        del settings["model"]
    return settings


def _resolved(
    source: str | Path, data: str | Path | None, overrides: Sequence[str], out: str | Path | None
) -> tuple[Experiment, Path]:
    place = Path(source)
    if place.is_dir() and RunFolder(place).state.is_file():
        source, out = RunFolder(place).experiment, place if out is None else out
    experiment = read_experiment(source, overrides)
    if data is not None:
        experiment.data.path = str(data) if "://" in str(data) else str(Path(data).expanduser().resolve())
    mlflow = experiment.tracking.mlflow
    if mlflow is not None and Path(source).is_file():
        from cytomask.tracking.mlflow import store_uri

        # A relative store is meant from the experiment's folder, which stages do not know.
        settled = mlflow.model_copy(update={"uri": store_uri(mlflow.uri, Path(source).resolve().parent)})
        experiment.tracking = experiment.tracking.model_copy(update={"mlflow": settled})
    return experiment, Path(out) if out is not None else Path("runs") / experiment.name


def _chosen_stages(names: Sequence[str], start: str | None) -> list[Stage]:
    for name in [*names, *([start] if start else [])]:
        if name not in STAGES:
            raise ConfigError("there is no such stage", found=name, expected=", ".join(STAGES))
    if names and start:
        raise ConfigError("--stage and --from say different things", fix="give one of them")
    if start:
        order = list(STAGES)
        names = order[order.index(start) :]
    return [stage for stage in STAGES.values() if not names or stage.name in names]


def _check_folder(folder: Path) -> None:
    """Make sure that nothing but a run's own files would be replaced."""
    if not folder.is_dir() or RunFolder(folder).state.is_file():
        return
    taken = [name for stage in STAGES.values() for name in stage.places if (folder / name).exists()]
    taken += [name for name in ("experiment.yaml", "checkpoints") if (folder / name).exists()]
    if taken:
        raise OutputError(
            "the folder holds results that were not made by `cytomask run`",
            where=folder,
            found=", ".join(taken),
            expected=f"a new folder, or one with {RunFolder(folder).state.name}",
            fix="choose another with --out, or move what is there; with DVC, keep stages.json in git",
        )


def _clear(stage: Stage, folder: Path) -> None:
    for name in stage.places:
        place = folder / name
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError("what is out of date cannot be removed", where=place, found=error.strerror) from error
    output_folder(folder)
