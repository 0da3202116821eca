"""What trackers are told of each stage when it has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytomask.workflows.experiment import Experiment
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages.table import flattened


def is_tracked(experiment: Experiment) -> bool:
    """Whether an experiment names any tracker.

    Examples
    --------
    >>> is_tracked(Experiment())
    False
    """
    tracking = experiment.tracking
    return not (tracking.mlflow is None and tracking.clearml is None and tracking.wandb is None)


def track_stage(stage: str, run: RunFolder, experiment: Experiment, settings: Mapping[str, Any]) -> None:
    """Tell the trackers what a stage has led to.

    Parameters
    ----------
    stage
        The stage.
    run
        Where its results are.
    experiment
        Names the trackers.
    settings
        All settings of the experiment.
    """
    from cytomask.tracking import open_trackers

    with open_trackers(experiment.tracking, run.path, experiment.name) as trackers:
        if stage == "prepare":
            told = {name: value for name, value in flattened(settings).items() if not name.startswith("tracking.")}
            found = _read(run.data / "data.json")
            trackers.settings({**told, "data.fingerprint": found.get("fingerprint")})
            trackers.tags({"family": experiment.model.get("family"), "data": found.get("fingerprint")})
        elif stage == "tune":
            trackers.metrics("tune", _numbers(_read(run.tuning)), None)
            trackers.file("bundle", run.bundle)
        elif stage == "evaluate":
            trackers.metrics("evaluate", headline(_read(run.evaluation / "metrics.json")), None)
        elif stage == "report" and run.report.is_file():
            trackers.file(run.report.name, run.report)
        for picture in _pictures(stage, run)[: experiment.tracking.pictures]:
            trackers.picture(f"{stage}/{picture.stem}", picture)


def _pictures(stage: str, run: RunFolder) -> list[Path]:
    if stage == "prepare":
        return sorted((run.data / "examples").glob("*.png"))
    from cytomask.workflows.stages.pictures import read_list

    places = {"evaluate": run.evaluation / "pictures", "visualise": run.pictures}
    # Beside what is listed there are layers, which alone show nothing.
    return [places[stage] / picture.file for picture in read_list(places[stage])] if stage in places else []


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an evaluation that sum it up."""
    from cytomask.evaluation.headline import headline as headline_figures

    figures = _numbers(headline_figures(metrics)["figures"])
    return {**figures, **_numbers({"integrated_ap": (metrics.get("integrated_ap") or {}).get("overall")})}


def _numbers(values: Any) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
