"""What a training's log tells, whoever wrote it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

#: What the numbers of a series are. ``other`` are counts and rates that few people look at.
Group = Literal["losses", "learning rate", "memory", "time", "validation", "other"]
Detail = Literal["step", "epoch"]


@dataclass
class Series:
    """Numbers over a training.

    Attributes
    ----------
    group
        What they are.
    steps
        ``(N,)``, rising: steps of the optimiser (detectron2's iterations).
    values
        ``(N,)``, all finite.
    detail
        ``step`` if there is a value every few steps, ``epoch`` if there is one for each epoch.
    """

    group: Group
    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    detail: Detail = "step"

    def append(self, step: float, value: float) -> None:
        """Take a value. What was there for this step and later ones is dropped: a run went on from before them.

        Examples
        --------
        >>> series = Series("losses", [20, 40, 60], [3, 2, 1])
        >>> series.append(40, 2.5)
        >>> series.steps, series.values
        ([20, 40], [3, 2.5])
        """
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()
        if math.isfinite(value):
            self.steps.append(step)
            self.values.append(value)


@dataclass(frozen=True)
class ApTable:
    """Average precision as detectron2 prints it after an evaluation.

    Attributes
    ----------
    task
        ``bbox``, ``segm`` …
    step
        The last iteration before it; None if there was none.
    values
        In percent by figure (``AP``, ``AP50``, ``APs`` …); None where detectron2 prints nan.
    per_class
        AP in percent by class, if it was printed.
    """

    task: str
    step: int | None
    values: Mapping[str, float | None]
    per_class: Mapping[str, float | None] = field(default_factory=dict)


@dataclass
class TrainingLog:
    """A training's log.

    Attributes
    ----------
    name
        What it is called: the folder's or the file's name.
    source
        Where it was read.
    kind
        ``cytomask``, ``detectron2 metrics`` or ``detectron2 log``.
    series
        By name. Losses are called as whoever wrote the log calls them; ``total_loss`` (detectron2) and ``train/loss``
        (ours) are their sum, ``val/loss`` is that of validation images. ``learning_rate``, ``memory`` (MB),
        ``seconds_per_step`` and ``seconds_waiting`` (for data) have these names in every kind of log.
    ap_tables
        Evaluations of detectron2, by step.
    epoch_steps
        The step at which each epoch ended, if the log tells: ``epoch_steps[0]`` is that of the first.
    phase_starts
        Steps after which another phase of a training began.
    restarts
        Steps at which a run went on from a checkpoint; what it had done beyond that is left out.
    earlier_runs
        How many whole runs the log holds before the one that is told.
    unread
        How many lines looked as if they held numbers, and could not be read.
    """

    name: str
    source: Path
    kind: str
    series: dict[str, Series] = field(default_factory=dict)
    ap_tables: list[ApTable] = field(default_factory=list)
    epoch_steps: list[float] = field(default_factory=list)
    phase_starts: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    earlier_runs: int = 0
    unread: int = 0

    def of_group(self, group: Group) -> dict[str, Series]:
        """The series of a group that hold anything, by name."""
        return {name: series for name, series in self.series.items() if series.group == group and series.steps}

    def add(
        self, name: str, group: Group, step: float, value: float, detail: Literal["step", "epoch"] = "step"
    ) -> None:
        """Put a value into its series."""
        self.series.setdefault(name, Series(group, detail=detail)).append(step, value)

    @property
    def last_step(self) -> float | None:
        """The last step that anything is known of."""
        return max((series.steps[-1] for series in self.series.values() if series.steps), default=None)

    def go_back(self, step: float) -> None:
        """Drop what is known of a step and later ones, because the run goes on from before them.

        If nothing is left, another run begins.

        Examples
        --------
        >>> log = TrainingLog("a", Path("a"), "detectron2 log")
        >>> for at in (19, 39, 59):
        ...     log.add("total_loss", "losses", at, 1.0)
        >>> log.go_back(39)
        >>> log.series["total_loss"].steps, log.restarts, log.earlier_runs
        ([19], [39], 0)
        """
        for series in self.series.values():
            while series.steps and series.steps[-1] >= step:
                series.steps.pop()
                series.values.pop()
        self.ap_tables[:] = [table for table in self.ap_tables if table.step is None or table.step < step]
        self.restarts[:] = [at for at in self.restarts if at < step]
        if self.last_step is None:
            self.earlier_runs += 1
            self.ap_tables.clear()
        else:
            self.restarts.append(step)

    def add_table(self, table: ApTable) -> None:
        """Take a table; one of the same task and step gives way to it, but for what only that one told."""
        for k, known in enumerate(self.ap_tables):
            if (known.task, known.step) == (table.task, table.step):
                self.ap_tables[k] = ApTable(
                    table.task, table.step, {**known.values, **table.values}, {**known.per_class, **table.per_class}
                )
                return
        self.ap_tables.append(table)
