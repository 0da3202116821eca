"""Evaluate: compare predictions with the truth, and write what was found."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytomask._version import __version__
from cytomask.errors import ConfigError
from cytomask.evaluation.agreement import Agreement
from cytomask.evaluation.boundary import TOLERANCE
from cytomask.evaluation.coco_settings import CocoSettings
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.matching import THRESHOLDS
from cytomask.evaluation.metrics import Evaluation, ScoredPair, all_thresholds, evaluate_scored
from cytomask.evaluation.summary import plain
from cytomask.evaluation.worst import N_WORST
from cytomask.output import output_folder, replacing
from cytomask.progress import warn
from cytomask.workflows.evaluating.inputs import Inputs, find_inputs
from cytomask.workflows.evaluating.pairs import PREDICTION, Compared, Comparison, Sources, name_of
from cytomask.workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from cytomask.workflows.clusters.cluster import Cluster

METRICS_NAME, TABLE_NAME, PAGE_NAME = "metrics.json", "per_image.csv", "evaluation.html"


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
    cluster: Cluster | None = None,
) -> Evaluation:
    """Compare predicted with true objects, image by image.

    Parameters
    ----------
    predictions
        A label image, a folder of them, annotations of any format that can be read, such as COCO results, or the
        folder of a run, for what it predicted; images are paired with the truth by name, whether a file is called
        ``a.png`` or ``a_labels.tif``. COCO metrics are computed where there are scores, as in a folder that ``predict``
        wrote. Classes are compared where both sides tell them, by their names.
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
    cluster
        Processes, here or on many machines, that compare the images; the figures are the same, to the last bit.

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
    ClusterError
        If the processes are not there, do not see the files, or have other versions.
    """
    run = RunFolder(Path(predictions))
    if run.state.is_file():
        predictions = run.predictions
    inputs = find_inputs(predictions, truth, split, annotators, max_images)
    folder = None if out is None else output_folder(out)
    bootstrap, coco, thresholds = bootstrap or Bootstrap(), coco or CocoSettings(), all_thresholds(thresholds)
    names: tuple[str, ...] = (name_of(truth, inputs.annotators), *inputs.annotators) if inputs.annotators else ()
    agreement = Agreement(PREDICTION, names, tolerance) if names else None
    comparison = Comparison(inputs, thresholds, tolerance, coco, names)
    if cluster is None:
        compared: Iterable[tuple[Pair, Compared]] = comparison.here()
    else:
        # Dask is an extra.
        from cytomask.workflows.clusters.evaluating import compare_on_cluster

        sources = Sources.whole(predictions, truth, split, annotators, max_images)
        compared = compare_on_cluster(cluster, comparison, sources, folder)
    found = evaluate_scored(
        _gather(compared, inputs, agreement), class_names=inputs.class_names, thresholds=thresholds,
        bootstrap=bootstrap, coco=coco, tolerance=tolerance, group_by=group_by, n_worst=n_worst, n_best=n_best,
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


def _gather(
    compared: Iterable[tuple[Pair, Compared]], inputs: Inputs, agreement: Agreement | None
) -> Iterator[tuple[Pair, ScoredPair]]:
    """Hand on what was counted on each image, and keep what else was found."""
    for index, (pair, one) in enumerate(compared):
        inputs.note(index, one.odd)
        if agreement is not None and one.agreement is not None:
            agreement.extend(one.agreement)
        yield pair, one.scored


def _write(folder: Path, found: Evaluation, page: bool) -> None:
    """Write the files; they appear together, when the last is complete, so that none is of another evaluation."""
    with ExitStack() as together:
        _write_table(together.enter_context(replacing(folder / TABLE_NAME)), found.rows())
        text = json.dumps(found.metrics, indent=1, ensure_ascii=False, allow_nan=False)
        together.enter_context(replacing(folder / METRICS_NAME)).write_text(text + "\n", encoding="utf-8")
        if page:
            # Drawing is slow to import, and not needed without the page.
            from cytomask.reporting.evaluation_page import write_evaluation_page
            from cytomask.workflows.evaluating.pictures import make_pictures

            write_evaluation_page(folder / PAGE_NAME, found.metrics, found.rows(), make_pictures(found.worst))


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
