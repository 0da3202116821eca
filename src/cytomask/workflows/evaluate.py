"""Evaluate: compare predictions with the truth, and write what was found."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cytomask._version import __version__
from cytomask.errors import ConfigError
from cytomask.evaluation.agreement import Agreement
from cytomask.evaluation.boundary import TOLERANCE
from cytomask.evaluation.coco_settings import CocoSettings
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.matching import THRESHOLDS
from cytomask.evaluation.metrics import Evaluation, evaluate_pairs
from cytomask.evaluation.pairs import image_size
from cytomask.evaluation.summary import plain
from cytomask.evaluation.worst import N_WORST
from cytomask.output import output_folder, replacing
from cytomask.progress import track, warn
from cytomask.workflows.evaluation_inputs import Inputs, check_sizes, find_inputs, told_name

METRICS_NAME, TABLE_NAME, PAGE_NAME = "metrics.json", "per_image.csv", "evaluation.html"
#: What the prediction is called beside the annotators.
PREDICTION = "prediction"


def evaluate_predictions(
    predictions: str | Path,
    truth: str | Path,
    out: str | Path | None = None,
    *,
    split: str | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    bootstrap: Bootstrap | None = None,
    coco: CocoSettings | None = None,
    tolerance: float = TOLERANCE,
    group_by: Sequence[str] = (),
    annotators: Sequence[str | Path] = (),
    n_worst: int = N_WORST,
    n_best: int = 0,
    max_images: int | None = None,
    notices: Sequence[str] = (),
    page: bool = True,
) -> Evaluation:
    """Compare predicted with true objects, image by image.

    Parameters
    ----------
    predictions
        A label image, a folder of them, or annotations of any format that can be read, such as COCO results; images
        are paired with the truth by name, whether a file is called ``a.png`` or ``a_labels.tif``. COCO metrics are
        computed where there are scores, as in a folder that ``predict`` wrote. Classes are compared where both sides
        tell them, by their names.
    truth
        The same, or a data set (its folder or YAML file).
    out
        Folder for ``metrics.json``, ``per_image.csv`` and ``evaluation.html``; None writes nothing.
    split
        Only this split of the data set.
    thresholds
        IoU thresholds of the matching; 0.50, 0.55 … 0.95 are always among them.
    bootstrap
        How confidence intervals are made.
    coco
        Limits and area ranges of the COCO metrics.
    tolerance
        How far apart outlines may lie for boundary F1, in pixels.
    group_by
        Columns of the data set's table by which images are grouped; none given, those with a few values.
    annotators
        Annotations of the same images by other people: their agreement with each other, and with the truth, is what a
        prediction can reach.
    n_worst
        Of so many images, those of the lowest accuracy, the objects are kept for pictures.
    n_best
        The same for those of the highest accuracy, for pictures of the caller's own.
    max_images
        Only so many images, the first by their names.
    notices
        What the reader must know besides what is found here; it comes first among ``notices``.
    page
        Whether to write ``evaluation.html``: all of it to look at, with pictures of what went wrong.

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
        If a split is asked for where there is no data set, or a column or a setting does not exist.
    OutputError
        If the results cannot be written.
    """
    inputs = find_inputs(predictions, truth, split, annotators, max_images)
    folder = None if out is None else output_folder(out)
    bootstrap = bootstrap or Bootstrap()
    pairs: Iterable[Pair] = track(inputs.read(), "evaluating", total=len(inputs.pairs))
    agreement = None
    if inputs.annotators:
        name = _name_of(truth, inputs.annotators)
        agreement = Agreement(PREDICTION, [name, *inputs.annotators], tolerance)
        pairs = _with_annotators(pairs, inputs, agreement, name)
    found = evaluate_pairs(
        pairs, class_names=inputs.class_names, thresholds=thresholds, bootstrap=bootstrap, coco=coco,
        tolerance=tolerance, group_by=group_by, n_worst=n_worst, n_best=n_best,
    )  # fmt: skip
    found.metrics["notices"] = [*notices, *inputs.oddities(), *found.metrics["notices"]]
    for notice in found.metrics["notices"]:
        warn(notice)
    source = {"cytomask": __version__, "predictions": str(predictions), "truth": str(truth), "split": split}
    metrics = {**source, **found.metrics}
    if agreement is not None:
        metrics["annotators"] = plain(agreement.summary(bootstrap))
    found = Evaluation(metrics, found.images, found.worst, found.best)
    if folder is not None:
        _write(folder, found, page)
    return found


def read_thresholds(text: str) -> tuple[float, ...]:
    """Understand IoU thresholds as people write them on the command line.

    Raises
    ------
    ConfigError
        If they are no numbers above 0 and up to 1.

    Examples
    --------
    >>> read_thresholds("0.5, 0.7")
    (0.5, 0.7)
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value <= 1 for value in values):
        raise ConfigError(
            "IoU thresholds cannot be understood", where="--thresholds", found=text,
            expected="numbers above 0 and up to 1, such as 0.3,0.5",
        )  # fmt: skip
    return values


def _name_of(truth: str | Path, others: Iterable[str]) -> str:
    name = Path(truth).stem
    return name if name not in {*others, PREDICTION} else str(truth)


def _with_annotators(pairs: Iterable[Pair], inputs: Inputs, agreement: Agreement, name: str) -> Iterator[Pair]:
    """Compare the annotators of each image on the way, so that no image is read twice."""
    true = {image: entry for image, _, entry in inputs.pairs}
    for pair in pairs:
        sides = {PREDICTION: pair.prediction, name: pair.truth}
        crowds = {name: pair.crowd}
        for annotator, entries in inputs.annotators.items():
            if pair.name in entries:
                entry = entries[pair.name]
                read = entry.read()
                reference = true[pair.name]
                check_sizes(
                    (f"annotator {told_name(entry, pair.name)}", entry.place, image_size(read.objects)),
                    (f"truth {told_name(reference, pair.name)}", reference.place, image_size(pair.truth)),
                )
                sides[annotator], crowds[annotator] = read.objects, read.crowd
        agreement.add(pair.name, sides, crowds)
        yield pair


def _write(folder: Path, found: Evaluation, page: bool) -> None:
    """Write the files; they appear together, when the last is complete, so that none is of another evaluation."""
    with ExitStack() as together:
        _write_table(together.enter_context(replacing(folder / TABLE_NAME)), found.rows())
        text = json.dumps(found.metrics, indent=1, ensure_ascii=False, allow_nan=False)
        together.enter_context(replacing(folder / METRICS_NAME)).write_text(text + "\n", encoding="utf-8")
        if page:
            # Drawing is slow to import, and not needed without the page.
            from cytomask.reporting.evaluation_page import write_evaluation_page
            from cytomask.workflows.evaluation_pictures import make_pictures

            write_evaluation_page(folder / PAGE_NAME, found.metrics, found.rows(), make_pictures(found.worst))


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
