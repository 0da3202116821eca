"""Evaluate: compare predictions with the truth, and write what was found."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cytomask._version import __version__
from cytomask.evaluation.coco_settings import CocoSettings
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.matching import THRESHOLDS
from cytomask.evaluation.metrics import Evaluation, evaluate_pairs
from cytomask.output import output_folder, replacing
from cytomask.progress import track, warn
from cytomask.workflows.evaluation_inputs import find_inputs

METRICS_NAME, TABLE_NAME = "metrics.json", "per_image.csv"


def evaluate_predictions(
    predictions: str | Path,
    truth: str | Path,
    out: str | Path | None = None,
    *,
    split: str | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    bootstrap: Bootstrap | None = None,
    coco: CocoSettings | None = None,
) -> Evaluation:
    """Compare predicted with true objects, image by image.

    Parameters
    ----------
    predictions
        A label image, or a folder of them; files are paired with the truth by name, whether they are called ``a.png``
        or ``a_labels.tif``. A folder that ``predict`` wrote holds scores, too, and then COCO metrics are computed.
    truth
        A label image, a folder of them, or a data set (its folder or YAML file).
    out
        Folder for ``metrics.json`` and ``per_image.csv``; None writes nothing.
    split
        Only this split of the data set.
    thresholds
        IoU thresholds of the matching.
    bootstrap
        How confidence intervals are made.
    coco
        Limits and area ranges of the COCO metrics.

    Returns
    -------
    Evaluation
        ``metrics`` is what ``metrics.json`` holds; ``rows()`` what ``per_image.csv`` holds.

    Raises
    ------
    DataError
        If files are missing, or do not belong together.
    LabelError
        If a file is no label image, or a prediction and its truth differ in size; both are named.
    ConfigError
        If a split is asked for where there is no data set.
    OutputError
        If the results cannot be written.
    """
    inputs = find_inputs(predictions, truth, split)
    folder = None if out is None else output_folder(out)
    pairs = track(inputs.read(), "evaluating", total=len(inputs.pairs))
    found = evaluate_pairs(pairs, class_names=inputs.class_names, thresholds=thresholds, bootstrap=bootstrap, coco=coco)
    for notice in found.metrics["notices"]:
        warn(notice)
    source = {"cytomask": __version__, "predictions": str(predictions), "truth": str(truth), "split": split}
    found = Evaluation({**source, **found.metrics}, found.images)
    if folder is not None:
        _write_table(folder / TABLE_NAME, found.rows())
        with replacing(folder / METRICS_NAME) as path:
            text = json.dumps(found.metrics, indent=1, ensure_ascii=False, allow_nan=False)
            path.write_text(text + "\n", encoding="utf-8")
    return found


def _write_table(target: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(target) as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
