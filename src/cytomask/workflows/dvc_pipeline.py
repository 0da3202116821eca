"""A DVC pipeline of a run's stages: `dvc repro` runs them, `dvc push` and `dvc pull` carry models and data about."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cytomask.data.dataset import open_dataset
from cytomask.errors import ConfigError, OutputError
from cytomask.output import replacing
from cytomask.workflows.experiment import Experiment, read_experiment
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages.data_state import data_files
from cytomask.workflows.stages.lock import LOCK_NAME
from cytomask.workflows.stages.table import STAGES, Stage

PIPELINE_NAME = "dvc.yaml"
_COMMAND = "cytomask run"
_EXTENDS = "extends"
_HEAD = "# The stages of `{command}`, for DVC: `dvc repro` runs those whose inputs have changed.\n"
_WATCHED = "\n# What was left to its default, named so that DVC notices when it is set.\n"


def write_pipeline(experiment_file: str | Path, run: str | Path) -> list[Path]:
    """Write a DVC pipeline with the stages of ``cytomask run``.

    The pipeline is written beside the experiment's file, from whose folder all paths are meant. Each stage depends on
    the data, on its sections of the experiment, and on files of the stages before it. Outputs are kept until a stage
    replaces them itself, so that a training that was broken off goes on. Sections that the experiment's file leaves out
    are added to it, empty, since DVC only watches what is there.

    Parameters
    ----------
    experiment_file
        The experiment's YAML file.
    run
        The run's folder, inside the folder of the file.

    Returns
    -------
    list of Path
        What was written or changed.

    Raises
    ------
    ConfigError
        If the experiment is wrong, or names no data.
    OutputError
        If the run's folder lies elsewhere, there is a pipeline of something else, or a file cannot be written.
    """
    file = Path(experiment_file)
    if not file.is_file():
        raise ConfigError("there is no such experiment", where=file, expected="the experiment's own YAML file")
    root = file.parent.resolve()
    place = _relative(Path(run).resolve(), root)
    if place.startswith("../") or place == ".":
        raise OutputError(
            "a pipeline keeps its results below its own folder", where=run, expected=f"a folder in {root}",
            fix="choose another folder for the run",
        )  # fmt: skip
    experiment = read_experiment(file)
    if experiment.data.path is None:
        raise ConfigError("the experiment names no data", where=file, fix="set data.path in the file")
    target = root / PIPELINE_NAME
    command = f"{_COMMAND} {shlex.quote(file.name)} --out {shlex.quote(place)}"
    _check_pipeline(target, command)
    changed = _name_all_sections(file, experiment)
    written = [file] if changed else []
    based_on = _extended_files(file)
    own = [_relative(path.resolve(), root) for path in based_on]
    data = _data_dependencies(experiment.data.path, root)
    pipeline = {
        "stages": {
            stage.name: _stage(stage, command, file, place, data, own, extends=bool(based_on) or _says_extends(file))
            for stage in STAGES.values()
        },
        "metrics": [f"{place}/{RunFolder(Path()).evaluation.as_posix()}/metrics.json"],
    }
    with replacing(target) as path:
        text = yaml.safe_dump(pipeline, sort_keys=False, allow_unicode=True, width=120)
        path.write_text(_HEAD.format(command=command) + text, encoding="utf-8")
    ignored = {
        # Checkpoints are needed until a training has ended, by itself alone.
        root / ".dvcignore": [f"/{place}/{RunFolder(Path()).train.as_posix()}/checkpoints"],
        root / ".gitignore": [f"/{place}/{LOCK_NAME}", f"/{place}/.digests.json", f"/{place}/tracking.json"],
    }
    written.append(target)
    written += [path for path, lines in ignored.items() if _add_lines(path, lines)]
    return written


def _stage(
    stage: Stage, command: str, file: Path, place: str, data: Sequence[str], own: Sequence[str], *, extends: bool
) -> dict[str, Any]:
    depends = [*(data if stage.data else []), *own, *(f"{place}/{path}" for path in stage.reads)]
    watched = [*([_EXTENDS] if extends else []), *stage.sections()]
    return {
        "cmd": f"{command} --stage {stage.name}",
        "deps": depends,
        "params": [{file.name: watched}],
        # A stage clears what is out of date itself, and may go on with the rest.
        "outs": [{f"{place}/{path}": {"persist": True}} for path in stage.places],
    }


def _check_pipeline(target: Path, command: str) -> None:
    """Make sure that no pipeline of something else is replaced."""
    if not target.is_file():
        return
    try:
        content = yaml.safe_load(target.read_text(encoding="utf-8")) or {}
        commands = [stage["cmd"] for stage in content.get("stages", {}).values()]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        commands = ["what is not understood"]
    others = [other for other in commands if not str(other).startswith(f"{command} ")]
    if others:
        raise OutputError(
            "there is a pipeline of something else", where=target, found=str(others[0]), expected=command,
            fix="put the experiment's file into a folder of its own: DVC finds several dvc.yaml in one repository",
        )  # fmt: skip


def _name_all_sections(file: Path, experiment: Experiment) -> bool:
    """Add to the file what it leaves to its defaults, so that it says the same and DVC can watch it."""
    text = file.read_text(encoding="utf-8")
    there = yaml.safe_load(text) or {}
    wanted = dict.fromkeys(section for stage in STAGES.values() for section in stage.sections())
    settings: Mapping[str, Any] = experiment.model_dump(mode="json")
    added = {s: {} if isinstance(settings[s], Mapping) else settings[s] for s in wanted if s not in there}
    if not added:
        return False
    whole = text.rstrip("\n") + "\n" + _WATCHED + yaml.safe_dump(added, sort_keys=False, allow_unicode=True)
    try:
        same = yaml.safe_load(whole) == {**there, **added}
    except yaml.YAMLError:
        same = False
    if not same:
        raise ConfigError(
            "what the experiment leaves out cannot be added at its end", where=file, found=", ".join(added),
            fix="write the file as plain YAML, a setting per line, and add: "
            + ", ".join(f"{name}: {value}" for name, value in added.items()),
        )  # fmt: skip
    with replacing(file) as path:
        path.write_text(whole, encoding="utf-8")
    return True


def _says_extends(file: Path) -> bool:
    return _EXTENDS in (yaml.safe_load(file.read_text(encoding="utf-8")) or {})


def _extended_files(file: Path) -> list[Path]:
    """The files that an experiment builds on, one after the other; not the recipes that come with cytomask."""
    found: list[Path] = []
    while True:
        fields = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        base = fields.get(_EXTENDS) if isinstance(fields, dict) else None
        if not isinstance(base, str) or not (file.parent / base).is_file() or file.parent / base in found:
            return found
        file = file.parent / base
        found.append(file)


def _data_dependencies(path: str, root: Path) -> list[str]:
    """The data as dependencies: their folder; or, where that holds the pipeline itself, too, what of it they are."""
    if "://" in path:
        return [path]
    place = Path(path).resolve()
    folder = place if place.is_dir() else place.parent
    if not root.is_relative_to(folder):
        return [_relative(folder, root)]
    files = data_files(open_dataset(place))
    folders = {file.parent for file in files if not root.is_relative_to(file.parent)}
    highest = [one for one in folders if not any(other in one.parents for other in folders)]
    beside = [file for file in files if file.parent not in folders and _belongs(file, place)]
    return sorted(_relative(one, root) for one in [*highest, *beside])


def _belongs(file: Path, place: Path) -> bool:
    """Whether a file beside the pipeline's is the data set's: its YAML file, a table, an image; not the experiment."""
    return (
        file == place or file.suffix.lower() not in (".yaml", ".yml", ".lock", ".md", ".py") or file.stem == "dataset"
    )


def _relative(path: Path, root: Path) -> str:
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def _add_lines(path: Path, lines: Sequence[str]) -> bool:
    """Add lines that a file lacks."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    missing = [line for line in lines if line not in text.splitlines()]
    if not missing:
        return False
    if text and not text.endswith("\n"):
        text += "\n"
    with replacing(path) as temporary:
        temporary.write_text(text + "".join(f"{line}\n" for line in missing), encoding="utf-8")
    return True
