"""The stage train: a folder as ``cytomask train`` makes it; a training that was broken off goes on."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from cytomask.workflows.experiment import Experiment
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages.tracking import is_tracked
from cytomask.workflows.train import EXPERIMENT_NAME, train_experiment

if TYPE_CHECKING:
    from cytomask.tracking import Trackers


def run_stage(run: RunFolder, experiment: Experiment) -> list[str]:
    """Train the network, without tuning it.

    Parameters
    ----------
    run
        Where to; what is there of this training is gone on with.
    experiment
        What to train.

    Returns
    -------
    list of str
        What came of it, for people.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C; what is whole of the training is kept.
    """
    begun = (run.train / EXPERIMENT_NAME).is_file()
    if not begun and run.train.is_dir():
        shutil.rmtree(run.train)
    experiment = experiment.model_copy(update={"tune": experiment.tune.model_copy(update={"enabled": False})})
    with ExitStack() as stack:
        watch = None
        if is_tracked(experiment):
            from cytomask.tracking import open_trackers

            trackers = stack.enter_context(open_trackers(experiment.tracking, run.path, experiment.name))
            watch = partial(_watch, trackers)
        result = train_experiment(experiment, out=run.train, resume=begun, watch=watch)
        if result.interrupted:  # within, so that trackers are told
            raise KeyboardInterrupt
    return result.lines()[:1]


def _watch(trackers: Trackers, step: int, values: dict[str, float]) -> None:
    trackers.metrics("train", values, step)
