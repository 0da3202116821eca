"""Sweep: train one run for each value of a setting, and show what the setting does."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from cytomask.errors import ConfigError
from cytomask.models.registry import family_class
from cytomask.output import output_folder, replacing
from cytomask.workflows.experiment import Experiment, read_experiment
from cytomask.workflows.trainings.once import train_once

TABLE_NAME, PLOT_NAME = "sweep.csv", "sweep.png"
#: More runs than this are a mistake rather than a wish.
MOST_RUNS = 200
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Swept:
    """A setting and its values.

    Attributes
    ----------
    key
        As it was written.
    path
        Its full path in the experiment.
    values
        The values, as YAML understands them.
    """

    key: str
    path: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: its folder, and its values in the order of the settings."""

    folder: Path
    values: tuple[Any, ...]
    overrides: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a sweep found: a row for each run, as ``sweep.csv`` holds them; none where training was interrupted."""

    folder: Path
    swept: tuple[Swept, ...]
    rows: list[dict[str, Any]]
    interrupted: bool = False

    def lines(self) -> list[str]:
        """The result for people."""
        if self.interrupted:
            return ["stopped; the same command goes on"]
        lines = []
        for row in self.rows:
            told = ", ".join(f"{one.key} {row[one.key]}" for one in self.swept)
            score = row["mean_accuracy_50_90"]
            wrong = f"wrong pixels: background {_part(row['wrong_background'])}, objects {_part(row['wrong_objects'])}"
            lines.append(f"  {told}: mean accuracy {score:.3f}; {wrong}")
        return [*lines, f"table: {self.folder / TABLE_NAME}", f"plot: {self.folder / PLOT_NAME}"]


def sweep_experiment(
    source: str | Path,
    sweeps: Sequence[str],
    *,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
) -> Sweep:
    """Train one run for each value of a setting, or for each combination of several, and compare them.

    Parameters
    ----------
    source
        An experiment's YAML file or a recipe's name.
    sweeps
        ``key=[a, b, c]``: a setting and its values. The key's first part may be left out where it is clear:
        ``loss.class_weights`` is ``model.loss.class_weights``.
    data
        The data set, instead of the experiment's own.
    overrides
        Other settings of all runs, as ``key.path=value``.
    out
        Folder for the runs, ``KEY=VALUE`` each, and ``sweep.csv`` and ``sweep.png``; ``runs/NAME-sweep`` if None.
        Runs that are there already with the same settings are taken, broken ones gone on with.

    Raises
    ------
    ConfigError
        If a setting does not exist, or has no list of values, or is given twice.
    OutputError
        If a run's folder holds one with other settings.
    """
    experiment = read_experiment(source, overrides)
    if data is not None:
        experiment.data.path = str(Path(data).resolve())
    swept = tuple(read_sweep(text, experiment) for text in sweeps)
    folder = Path(out) if out is not None else Path("runs") / f"{experiment.name}-sweep"
    runs = plan_runs(swept, folder)
    for run in runs:
        read_experiment(source, [*overrides, *run.overrides])  # a wrong value is told before hours of training
    output_folder(folder)
    for run in runs:
        if not train_once(source, run.folder, data=data, overrides=[*overrides, *run.overrides]):
            return Sweep(folder, swept, [], interrupted=True)
    from cytomask.workflows.sweep_figures import figures_of_run

    rows = []
    for run in runs:
        values = {one.key: value_text(value) for one, value in zip(swept, run.values)}
        rows.append({**values, **figures_of_run(run.folder, experiment), "run": run.folder.name})
    _write(folder, swept, runs, rows)
    return Sweep(folder, swept, rows)


def read_sweep(text: str, experiment: Experiment) -> Swept:
    """Understand ``key=[a, b, c]``.

    Raises
    ------
    ConfigError
        If the key is not known, or there is no list of different values.

    Examples
    --------
    >>> read_sweep("epochs=[10, 1e2]", Experiment())
    Swept(key='epochs', path='training.epochs', values=(10, 100.0))
    """
    key, equals, listed = text.partition("=")
    key = key.strip()
    try:
        values = yaml.safe_load(listed) if equals else None
    except yaml.YAMLError:
        values = None
    # 1e-4 is text for YAML 1.1, and a number for people.
    values = [_number(value) for value in values] if isinstance(values, list) else None
    if not key or not values:
        raise ConfigError(
            "a sweep is not of the form key=[a,b,c]", where="--sweep", found=text,
            expected="loss.class_weights=[0.1,1,10]",
        )  # fmt: skip
    if len({value_text(value) for value in values}) < len(values):
        raise ConfigError("a value is given twice", where="--sweep", found=text)
    return Swept(key, full_path(key, experiment), tuple(values))


def full_path(key: str, experiment: Experiment) -> str:
    """The path of a setting in an experiment, whose first part may have been left out.

    Raises
    ------
    ConfigError
        If there is no such setting, or there are several.

    Examples
    --------
    >>> full_path("rays", Experiment()), full_path("model.rays", Experiment()), full_path("size", Experiment())
    ('model.rays', 'model.rays', 'patches.size')
    """
    first = key.split(".")[0]
    if first in Experiment.model_fields:
        return key
    sections = {
        name: set(field.annotation.model_fields)
        for name, field in Experiment.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    family = str(experiment.model.get("family", "star"))
    sections["model"] = set(family_class(family).config_class.model_fields)
    having = sorted(name for name, fields in sections.items() if first in fields)
    if len(having) == 1:
        return f"{having[0]}.{key}"
    if having:
        options = ", ".join(f"{name}.{key}" for name in having)
        raise ConfigError("several settings have this name", where="--sweep", found=key, expected=f"one of {options}")
    close = difflib.get_close_matches(first, {field for fields in sections.values() for field in fields}, n=1)
    raise ConfigError(
        "there is no such setting to sweep", where="--sweep", found=key,
        expected=f"a setting of the experiment, or of a model of family {family}",
        fix=f"did you mean {close[0]!r}?" if close else None,
    )  # fmt: skip


def plan_runs(swept: Sequence[Swept], folder: Path) -> list[SweepRun]:
    """A run for each combination of the values, with its folder.

    Raises
    ------
    ConfigError
        If a setting is swept twice, or there are too many runs.

    Examples
    --------
    >>> [run.folder.name for run in plan_runs([Swept("a", "model.a", (1, [1, 10]))], Path("out"))]
    ['a=1', 'a=1,10']
    """
    paths = [one.path for one in swept]
    if len(set(paths)) < len(paths):
        raise ConfigError("a setting is swept twice", where="--sweep", found=", ".join(paths))
    combinations = list(itertools.product(*(one.values for one in swept)))
    if len(combinations) > MOST_RUNS:
        raise ConfigError("these are too many runs", where="--sweep", found=f"{len(combinations)}, at most {MOST_RUNS}")
    runs: list[SweepRun] = []
    for values in combinations:
        name = "__".join(f"{one.key}={_plain(value)}" for one, value in zip(swept, values))[:_LONGEST_NAME]
        if name in {run.folder.name for run in runs}:
            name += f"__{len(runs) + 1}"
        # Flow style in one line, without an end mark.
        overrides = tuple(f"{one.path}={_yaml(value)}" for one, value in zip(swept, values))
        runs.append(SweepRun(folder / name, values, overrides))
    return runs


def value_text(value: Any) -> str:
    """A value as it stands in tables.

    Examples
    --------
    >>> value_text(0.1), value_text([1, 10]), value_text(None)
    ('0.1', '1, 10', 'null')
    """
    if isinstance(value, list):
        return ", ".join(value_text(one) for one in value)
    if isinstance(value, float):
        return f"{value:g}" if math.isclose(float(f"{value:g}"), value, rel_tol=1e-12) else repr(value)
    return "null" if value is None else _yaml(value) if isinstance(value, dict | bool) else str(value)


def axis_values(values: Sequence[Any]) -> list[float] | None:
    """Where values stand on an axis: numbers, or lists of which one number changes; None for anything else.

    Examples
    --------
    >>> axis_values([0.1, 10]), axis_values([[1, 0.1], [1, 10]]), axis_values(["a", 1]), axis_values([[1, 2], [3, 4]])
    ([0.1, 10.0], [0.1, 10.0], None, None)
    """
    if all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        varying = [column for column in zip(*values) if any(one != column[0] for one in column)]
        return axis_values(varying[0]) if len(varying) == 1 else None
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return None
    return [float(value) for value in values]


def _write(folder: Path, swept: Sequence[Swept], runs: Sequence[SweepRun], rows: list[dict[str, Any]]) -> None:
    from cytomask.reporting.sweep_plot import write_sweep_plot
    from cytomask.workflows.comparing.outputs import write_table

    with replacing(folder / TABLE_NAME) as path:
        write_table(path, rows)
    # Along the axis runs the first setting; further ones make a line each.
    lines: dict[str, list[int]] = {}
    for k, row in enumerate(rows):
        lines.setdefault(", ".join(f"{one.key} {row[one.key]}" for one in swept[1:]), []).append(k)
    position = axis_values([run.values[0] for run in runs])
    write_sweep_plot(folder / PLOT_NAME, swept[0].key, rows, position, lines)


def _part(value: float | None) -> str:
    """A share as percent, with two digits where it is small.

    Examples
    --------
    >>> _part(1.0), _part(0.175), _part(0.00058)
    ('100 %', '18 %', '0.058 %')
    """
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(one) for one in value]
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        # YAML takes a number with an exponent for text, unless there are a point and a sign.
        text = repr(value)
        mantissa, e, exponent = text.partition("e")
        return text if not e else f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(one) for one in value) + "]"
    return str(yaml.safe_dump(value, default_flow_style=True, width=10_000)).removesuffix("...\n").strip()


def _plain(value: Any) -> str:
    """A value as a part of a folder's name."""
    return re.sub(r"[^\w.,+-]+", "_", value_text(value).replace(", ", ",")).strip("_") or "_"
