"""The stage tune: the model that a run leads to, with the post-processing that is best on validation images."""

from __future__ import annotations

import json
import shutil

from cytomask.output import new_folder, replacing
from cytomask.workflows.experiment import Experiment
from cytomask.workflows.models import load_model
from cytomask.workflows.run_folder import BUNDLE_IN_RUN, RunFolder
from cytomask.workflows.trainings.preparation import open_data
from cytomask.workflows.tune import TuneResult, save_tuned, tune_bundle


def run_stage(run: RunFolder, experiment: Experiment) -> list[str]:
    """Copy the trained model, tune it on validation images, and write what was tried.

    Parameters
    ----------
    run
        Where the trained model is, and where the tuned one goes.
    experiment
        ``tune``, ``data`` and ``training.device`` are used.

    Returns
    -------
    list of str
        What came of it, for people.
    """
    if run.bundle.is_dir():
        shutil.rmtree(run.bundle)
    run.tuning.unlink(missing_ok=True)
    trained = run.train / BUNDLE_IN_RUN
    dataset = open_data(experiment)
    samples = dataset.split(experiment.data.validation)[: experiment.tune.max_images]
    why = None
    if not experiment.tune.enabled:
        why = "tuning is switched off"
    elif not samples:
        why = "there are no validation images"
    result = None
    if why is None:
        bundle = load_model(trained)
        result = tune_bundle(
            bundle,
            samples,
            device=experiment.training.device,
            channels=experiment.data.chosen_channels,
            metric=experiment.tune.metric,
        )
    with new_folder(run.bundle) as folder:
        shutil.copytree(trained, folder, dirs_exist_ok=True)
        if result is not None:
            save_tuned(bundle, result, folder, experiment.data.validation)
    with replacing(run.tuning) as path:
        content = _record(result, experiment) if result is not None else {"tuned": False, "why": why}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if result is None:
        return [f"{why}: the model is that of the training"]
    return result.lines()[:-1]


def _record(result: TuneResult, experiment: Experiment) -> dict[str, object]:
    return {
        "tuned": True,
        "split": experiment.data.validation,
        "images": result.n_images,
        "metric": result.metric,
        "before": result.before.model_dump(mode="json"),
        "after": result.after.model_dump(mode="json"),
        "score_before": result.score_before,
        "score_after": result.score_after,
        "tried": result.tried,
    }
