"""Find a learning rate for experiments: sweep, suggestions, plot and table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytomask.errors import ConfigError
from cytomask.output import output_folder, replacing
from cytomask.progress import say
from cytomask.reporting.lr_plot import SweptModel, write_lr_plot
from cytomask.training.rate_suggestions import Suggestion, suggest_rates
from cytomask.training.rate_sweep import Sweep, sweep_rates
from cytomask.workflows.trainings.preparation import experiment_on, prepare, training_images

ENDS = {
    "range": "the highest rate was reached",
    "diverged": "the loss rose to four times its lowest",
    "not finite": "the loss was no longer a finite number",
}
#: Where the loss falls by a smaller share than this, suggestions hang on chance.
SMALL_FALL = 0.1


@dataclass(frozen=True)
class FoundRate:
    """What a sweep over one experiment's learning rates says."""

    name: str
    family: str
    configured: float
    phased: bool
    sweep: Sweep
    suggestions: list[Suggestion]

    @property
    def recommended(self) -> float | None:
        """The recommended learning rate, or None if the loss did not fall."""
        return next((s.rate for s in self.suggestions if s.recommended), None)

    def lines(self) -> list[str]:
        """The result for people."""
        steps, last = len(self.sweep.rates), self.sweep.rates[-1]
        lines = [f"{self.name} ({self.family}): {steps} steps up to {last:.2g}; {ENDS[self.sweep.ended]}"]
        if not self.suggestions:
            lines.append("  the loss did not fall at any rate: try --from, --to and --steps, or look at the data")
            return lines
        fall = 1 - float(np.nanmin(self.sweep.smoothed)) / float(self.sweep.smoothed[0])
        if fall < SMALL_FALL:
            lines.append(
                f"  careful: the loss fell by no more than {fall:.0%}, so that chance decides where it is lowest; more "
                "steps (--steps 300) or larger batches tell more"
            )
        width = max(len(s.rule) for s in self.suggestions)
        for s in self.suggestions:
            mark = "->" if s.recommended else "  "
            lines.append(f"{mark} {s.rule:<{width}}  {s.rate:<8.2g} {s.reason}")
        lines.append(f"   now: {self.configured:.2g}; {_setting(self)}")
        return lines


@dataclass(frozen=True)
class LrFindResult:
    """What was found for each experiment, and where it is shown."""

    found: list[FoundRate]
    plot: Path
    table: Path

    def lines(self) -> list[str]:
        """The result for people."""
        return [*(line for one in self.found for line in one.lines()), f"plot: {self.plot}", f"table: {self.table}"]


def find_learning_rates(
    sources: Sequence[str | Path],
    *,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    out: str | Path = "lr.png",
    first: float = 1e-7,
    last: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
) -> LrFindResult:
    """Try rising learning rates on networks of one or several experiments; nothing is trained for good.

    Parameters
    ----------
    sources
        Experiments' YAML files, or recipes' names. Of several, the losses over their lowest are drawn together.
    data, overrides
        As in :func:`~cytomask.workflows.train.train_experiment`, for all experiments.
    out
        The plot, a PNG; a CSV of the same name is written beside it.
    first, last, steps
        Learning rates from the first to the last, with the same ratio from step to step.
    smoothing
        Weight of the past in the smoothed loss, 0 to below 1.

    Raises
    ------
    ConfigError, DataError, OutputError, TrainingError
        If rates, experiments or data are wrong, or the plot cannot be written.
    """
    _check(sources, first, last, steps, smoothing)
    plot = Path(out)
    if plot.suffix.lower() != ".png":
        raise ConfigError("the plot is a PNG", where="--out", found=str(plot), fix=f"--out {plot.with_suffix('.png')}")
    output_folder(plot.parent)
    experiments = [experiment_on(source, data, overrides) for source in sources]
    found: list[FoundRate] = []
    for name, experiment in zip(_names([e.name for e in experiments]), experiments):
        training = experiment.training.model_copy(update={"steps_per_epoch": steps})
        prepared = prepare(experiment.model_copy(update={"training": training}))
        for reason in prepared.reasons:
            say(f"chosen from the data: {reason}")
        images = training_images(prepared.experiment, prepared.train, prepared.segmenter)
        sweep = sweep_rates(
            prepared.segmenter, images, prepared.experiment.training,
            first=first, last=last, steps=steps, smoothing=smoothing,
        )  # fmt: skip
        phased = bool(training.phases) and training.phases[0].learning_rate is not None
        rate = training.resolved_phases()[0].learning_rate
        assert rate is not None
        configured = rate[-1] if isinstance(rate, tuple) else rate
        found.append(FoundRate(name, prepared.family, configured, phased, sweep, suggest_rates(sweep)))
    result = LrFindResult(found, plot, plot.with_suffix(".csv"))
    _write_table(result)
    write_lr_plot([_drawn(one) for one in found], plot)
    return result


def _check(sources: Sequence[str | Path], first: float, last: float, steps: int, smoothing: float) -> None:
    if not sources:
        raise ConfigError("no experiment is given", expected="one at least")
    if not 0 < first < last:
        raise ConfigError("the learning rates do not rise", found=f"{first:g} to {last:g}", expected="0 < from < to")
    if steps < 5:
        raise ConfigError("too few steps to see anything", where="--steps", found=str(steps), expected="5 at least")
    if not 0 <= smoothing < 1:
        raise ConfigError("no such smoothing", where="--smoothing", found=f"{smoothing:g}", expected="0 to below 1")


def _names(names: list[str]) -> list[str]:
    """Names of the experiments, with numbers where one occurs more than once."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if names.count(name) == 1 else f"{name} {seen[name]}")
    return unique


def _setting(found: FoundRate) -> str:
    assert found.recommended is not None
    place = "optimiser.learning_rate" if not found.phased else "phases (learning_rate of the first)"
    return f"set training.{place} to {found.recommended:.2g}"


def _drawn(found: FoundRate) -> SweptModel:
    marks = [(s.rule, s.rate, s.loss, s.recommended) for s in found.suggestions]
    return SweptModel(found.name, found.sweep.rates, found.sweep.losses, found.sweep.smoothed, marks)


def _write_table(result: LrFindResult) -> None:
    with replacing(result.table) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["experiment", "step", "learning_rate", "loss", "loss_at_start", "smoothed_loss"])
        for one in result.found:
            sweep = one.sweep
            columns = zip(sweep.rates, sweep.losses, sweep.at_start, sweep.smoothed)
            for step, values in enumerate(columns, start=1):
                writer.writerow([one.name, step, *(f"{value:.6g}" for value in values)])
