"""Report: gather what a run left in its folder, and write one page of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cytomask.errors import CytomaskError, DataError
from cytomask.formats.training_logs.reading import read_training_log
from cytomask.progress import warn
from cytomask.reporting.log_curves import log_charts
from cytomask.reporting.markup import Html
from cytomask.reporting.run_facts import RunFacts, StagePicture
from cytomask.reporting.run_page import write_run_page
from cytomask.workflows.evaluating.measured_sides import MEASUREMENTS_NAME
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages.pictures import read_list

#: Files that are larger than this are no tables or settings of a run.
_MOST_BYTES = 200_000_000
#: What files and folders of a run are, the most telling first.
_WHAT = {
    "report.html": "this page",
    "bundle": "the model, for every command",
    "experiment.yaml": "the experiment with all its settings",
    "evaluation/evaluation.html": "the evaluation to look at",
    "evaluation/metrics.json": "all figures",
    "evaluation/per_image.csv": "figures of every image",
    "evaluation/measurements.json": "how measurements are distributed",
    "evaluation/pictures": "best and worst images",
    "predictions": "label images and object tables of the test images",
    "predictions/predictions.json": "predicted objects, COCO results",
    "predictions/run.json": "how each image was segmented",
    "pictures": "chosen images and plots",
    "data/data.json": "what the data are",
    "data/examples": "training images with their annotation",
    "tuning.json": "settings that were tried",
    "train/metrics.csv": "the training, epoch by epoch",
    "train/steps.csv": "the training, step by step",
    "train/run.yaml": "the training in short",
    "train/bundle": "the model before tuning",
    "train/checkpoints": "where training can be taken up",
    "train/tensorboard": "the training for TensorBoard",
    "metrics.csv": "the training, epoch by epoch",
    "steps.csv": "the training, step by step",
    "run.yaml": "the training in short",
    "checkpoints": "where training can be taken up",
    "stages.json": "which stages are done",
}


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run: one page that holds all it shows, and works without a network.

    Parameters
    ----------
    run
        The folder of ``cytomask run``, or of ``cytomask train``: of this the page tells what there is, and how to get
        the rest.
    out
        The page; ``report.html`` in the folder if None.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    DataError
        If the folder holds nothing of a run.
    OutputError
        If the page cannot be written.
    """
    run = Path(run)
    folder = RunFolder(run)
    if not run.is_dir():
        raise DataError("there is no such run", where=run, expected="the folder of `cytomask run` or `cytomask train`")
    known = (folder.experiment, folder.bundle, folder.trained() / "metrics.csv", folder.evaluation, folder.data)
    if not any(path.exists() for path in known):
        raise DataError(
            "this folder is not that of a run", where=run,
            expected="the folder of `cytomask run` or `cytomask train`, with experiment.yaml or a bundle",
        )  # fmt: skip
    target = Path(out) if out is not None else folder.report
    write_run_page(target, gather(folder))
    return target


def gather(folder: RunFolder) -> RunFacts:
    """Collect all that is known of a run; files that are missing or cannot be read are left out, which is told."""
    trained = folder.trained()
    experiment_file = next((p for p in (folder.experiment, trained / "experiment.yaml") if p.is_file()), None)
    experiment = _yaml(experiment_file) if experiment_file is not None else {}
    bundle = next((p for p in (folder.bundle, trained / "bundle") if p.is_dir()), folder.bundle)
    metrics = _json(folder.evaluation / "metrics.json")
    report = experiment.get("report") or {}
    data = _json(folder.data / "data.json")
    return RunFacts(
        name=str(experiment.get("name") or folder.path.resolve().name),
        path=folder.path,
        title=report.get("title"),
        description=str(experiment.get("description") or ""),
        data=data if data and isinstance(data.get("splits"), list) else None,
        experiment=experiment,
        experiment_text=_text(experiment_file) if experiment_file is not None else "",
        record=_yaml(trained / "run.yaml"),
        model=_yaml(bundle / "model.yaml"),
        tuning=_json(folder.tuning) or _tuned_at_once(_yaml(trained / "run.yaml")),
        charts=_charts(folder.path),
        metrics=metrics if metrics and metrics.get("matching") else None,
        rows=_rows(folder.evaluation / "per_image.csv"),
        measurements=_json(folder.evaluation / MEASUREMENTS_NAME),
        prediction=_json(folder.predictions / "run.json") or {},
        stages=_stages(_json(folder.state) or {}),
        pictures=[*_examples(folder, data or {}), *_listed(folder)],
        files=sorted(_files(folder), key=lambda one: list(_WHAT).index(one[0])),
        shown=int(report.get("pictures", 4)),
    )


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            warn(f"{path} is left out of the report: it is too large")
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(path: Path) -> dict[str, Any] | None:
    text = _text(path)
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        warn(f"{path} is left out of the report: {error}")
        return None
    return found if isinstance(found, dict) else None


def _yaml(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        found = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        warn(f"{path} is left out of the report: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _tuned_at_once(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was tried, where `cytomask train` tuned its model itself."""
    tried = record.get("tuning")
    return {"tried": tried} if isinstance(tried, list) and tried else None


def _charts(run: Path) -> list[tuple[str, Html]]:
    try:
        return [(chart.name, chart.drawing) for chart in log_charts(read_training_log(run))]
    except CytomaskError:
        return []


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of ``per_image.csv``, numbers as numbers."""
    text = _text(path)
    if not text:
        return []
    rows = list(csv.DictReader(text.splitlines()))
    columns = list(rows[0]) if rows else []
    numeric = [c for c in columns if c != "name" and all(_is_number(row[c]) for row in rows if row[c])]
    for row in rows:
        for column in numeric:
            value = row[column]
            row[column] = (int(value) if value.lstrip("-").isdigit() else float(value)) if value else None
    return rows


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _stages(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """How long each stage that is done took, with which version, and what it said."""
    stages = state.get("stages")
    found = {}
    for name, one in stages.items() if isinstance(stages, Mapping) else ():
        if isinstance(one, Mapping) and one.get("status") == "done":
            found[str(name)] = {key: one.get(key) for key in ("minutes", "version", "said")}
    return found


def _examples(folder: RunFolder, data: Mapping[str, Any]) -> list[tuple[Path, StagePicture]]:
    """The training images that prepare drew."""
    from PIL import Image

    found = []
    for one in data.get("examples") or []:
        # A path that leads out of the folder is not followed.
        path = folder.data / "examples" / Path(str(one.get("file"))).name
        try:
            with Image.open(path) as picture:
                width, height = picture.size
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        found.append((path.parent, StagePicture(str(one.get("name")), "example", path.name, height, width)))
    return found


def _listed(folder: RunFolder) -> list[tuple[Path, StagePicture]]:
    return [
        (place, picture) for place in (folder.evaluation / "pictures", folder.pictures) for picture in read_list(place)
    ]


def _files(folder: RunFolder) -> Iterator[tuple[str, str, int]]:
    for name, what in _WHAT.items():
        path = folder.path / name
        if path.is_dir():
            yield name, what, sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        elif path.is_file():
            yield name, what, path.stat().st_size
