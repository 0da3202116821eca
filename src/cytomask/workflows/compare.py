"""Compare: several models, or predictions of them, on the same images."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cytomask._version import __version__
from cytomask.data.dataset import open_dataset
from cytomask.data.sample import Sample
from cytomask.errors import ConfigError, CytomaskError, DataError
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import ImageScores
from cytomask.evaluation.matching import THRESHOLDS
from cytomask.evaluation.metrics import Evaluation, evaluate_pairs
from cytomask.evaluation.paired import PAIRED_FIGURES, compare_pairs, figure_interval, single_values
from cytomask.evaluation.permutation import smallest_p
from cytomask.evaluation.summary import plain
from cytomask.output import output_folder
from cytomask.progress import say, track, warn
from cytomask.workflows.comparing.candidates import EPOCHS_NAME, Candidate, find_candidates
from cytomask.workflows.comparing.model import Cost, MeasuredModel, channels_of, cost_of, peak_memory_mb
from cytomask.workflows.evaluating.inputs import Inputs, annotator_entries, find_inputs, join_classes
from cytomask.workflows.evaluating.sides import Side, open_side, side_of_dataset
from cytomask.workflows.models import BUNDLE_IN_RUN
from cytomask.workflows.trainings.once import train_once

#: By which models are ranked, as training and tuning choose.
RANK_BY = "mean_accuracy_50_90"
#: Figures that need scores: name, title, place in the COCO metrics of masks.
COCO_FIGURES = (("coco_ap", "COCO AP", "AP"), ("coco_ap50", "COCO AP50", "AP50"))
#: The split that is compared on unless another is named, where the data set has it.
USUAL_SPLIT = "val"
#: So many images on which models disagree most become pictures.
N_PICTURES = 6


@dataclass(eq=False)
class Compared:
    """One of the models, and what was found."""

    candidate: Candidate
    inputs: Inputs
    found: Evaluation
    cost: Cost = field(default_factory=Cost)

    @property
    def images(self) -> list[ImageScores]:
        """The counts of each image."""
        return self.found.images


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison found.

    Attributes
    ----------
    table
        The contents of ``comparison.json``: models in the order of their ranks, pairs, notices.
    rows
        What ``per_image.csv`` holds: a dictionary per image and model.
    interrupted
        Whether a training was interrupted, so that there is nothing to compare yet.
    """

    table: dict[str, Any]
    rows: list[dict[str, Any]]
    interrupted: bool = False


def compare_models(
    runs: Sequence[str | Path],
    data: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    named: Sequence[str] = (),
    annotators: Sequence[str | Path] = (),
    thresholds: Sequence[float] = THRESHOLDS,
    rank_by: str = RANK_BY,
    bootstrap: Bootstrap | None = None,
    group_by: Sequence[str] = (),
    device: str = "auto",
    memory: bool = True,
    n_pictures: int = N_PICTURES,
    page: bool = True,
) -> Comparison:
    """Predict with every model on the same images, and tell which is better, by how much, and how sure that is.

    Parameters
    ----------
    runs
        Runs' folders, bundles, shipped models, ensembles of these (``A+B``), experiments or recipes, which are trained
        first into ``OUT/runs/NAME``, or predictions as ``evaluate`` takes them.
    data
        The data set.
    out
        Folder for ``leaderboard.md`` and ``.csv``, ``pairs.csv``, ``per_image.csv``, ``comparison.json``,
        ``compare.html``; results of an earlier comparison are replaced, trained runs are taken.
    split
        The images; None: the split ``val`` if there is one, else all.
    named
        ``NAME=RUN``: what one of the runs is called, or a further one.
    annotators
        Annotations of the same images by other people, compared like predictions; they need not have all images.
    thresholds
        More IoU thresholds of the matching, for groups of figures in ``per_image.csv``.
    rank_by
        Name of the figure by which models are ranked.
    bootstrap
        How intervals are made.
    group_by
        Columns of the data set's table by which images are grouped; none given, those with a few values.
    device
        Where models predict.
    memory
        Whether to measure memory, each model in a process of its own.
    n_pictures
        So many images, those on which the models disagree most, are shown.
    page
        Whether to write the page.

    Raises
    ------
    ConfigError
        If there is nothing to compare, or a figure does not exist.
    DataError
        If data are missing, or predictions do not belong to them.
    BundleError
        If a model is not there.
    OutputError
        If the results cannot be written, or the folder holds runs with other settings.
    """
    known = [figure.name for figure in PAIRED_FIGURES]
    if rank_by not in known:
        raise ConfigError(
            "there is no such figure to rank by", where="--rank-by", found=rank_by, expected=", ".join(known)
        )
    bootstrap = bootstrap or Bootstrap()
    candidates = find_candidates(runs, named, annotators)
    samples, split = _samples(candidates, data, split)
    folder = output_folder(out)
    trained = _train(candidates, data, folder)
    if trained is None:
        return Comparison({}, [], interrupted=True)
    done: list[Compared] = []
    failed: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="cytomask-compare-") as kept:
        for place, candidate in enumerate(trained):
            say(f"{candidate.name}: {place + 1} of {len(trained)}")
            try:
                spool = Path(kept) / str(place)
                spool.mkdir()
                one = _evaluate(candidate, samples, data, split, spool, thresholds, bootstrap, group_by, device, memory)
            except CytomaskError as error:
                if len(trained) == 1:
                    raise
                warn(f"{candidate.name} is left out: {error}")
                failed.append({"name": candidate.name, "why": str(error)})
                continue
            done.append(one)
        if not done:
            raise DataError("none of the models could be compared", where=data, found=failed[0]["why"])
        table = _table(done, failed, str(data), split, rank_by, bootstrap)
        rows = _rows(done, rank_by)
        for notice in table["notices"]:
            warn(notice)
        from cytomask.workflows.comparing.outputs import write_comparison

        by_name = {one.candidate.name: one for one in done}
        ordered = [by_name[model["name"]] for model in table["models"]]
        write_comparison(folder, table, rows, ordered if page else None, n_pictures)
    return Comparison(table, rows)


def _samples(
    candidates: Sequence[Candidate], data: str | Path, split: str | None
) -> tuple[dict[str, Sample], str | None]:
    """The images by name, and their split; none where only predictions are compared with plain label images."""
    needs_images = any(one.kind in ("model", "experiment") for one in candidates)
    try:
        dataset = open_dataset(data)
    except DataError:
        if needs_images:
            raise
        return {}, split
    if split is None and USUAL_SPLIT in dataset.split_names:
        split = USUAL_SPLIT
    chosen = dataset.samples if split is None else dataset.split(split)
    if not chosen:
        raise DataError("there are no images to compare on", where=data, found=f"split {split!r} is empty")
    if needs_images:
        dataset.verify(chosen)
    return {sample.name: sample for sample in chosen}, split


def _train(candidates: Sequence[Candidate], data: str | Path, folder: Path) -> list[Candidate] | None:
    """Train what is not trained yet; None if that was interrupted."""
    result = []
    for candidate in candidates:
        if candidate.kind == "experiment":
            run = folder / "runs" / "".join(c if c.isalnum() or c in "._-" else "_" for c in candidate.name)
            if not train_once(candidate.source, run, data=data):
                return None
            candidate = replace(candidate, kind="model", paths=(run / BUNDLE_IN_RUN,), run=run)
        result.append(candidate)
    return result


def _evaluate(
    candidate: Candidate,
    samples: dict[str, Sample],
    data: str | Path,
    split: str | None,
    spool: Path,
    thresholds: Sequence[float],
    bootstrap: Bootstrap,
    group_by: Sequence[str],
    device: str,
    memory: bool,
) -> Compared:
    model, channels = None, channels_of(candidate)
    if candidate.kind == "model":
        model = MeasuredModel(candidate.paths, spool, device, channels)
        inputs = inputs_of_model(model, side_of_dataset(open_dataset(data)), samples)
    elif candidate.kind == "annotator":
        inputs = _inputs_of_annotator(candidate.paths[0], open_side(data, "truth", split), samples)
    else:
        inputs = find_inputs(candidate.paths[0], data, split if samples else None)
    pairs = track(inputs.read(), candidate.name, total=len(inputs.pairs))
    found = evaluate_pairs(
        pairs, class_names=inputs.class_names, thresholds=thresholds, bootstrap=bootstrap, group_by=group_by
    )
    if model is None:
        return Compared(candidate, inputs, found)
    model.close()
    peak = None
    if memory:
        largest = max(found.images, key=lambda image: image.shape[0] * image.shape[1])
        peak = peak_memory_mb(candidate.paths, Path(data), largest.name, device, channels)
    return Compared(candidate, inputs, found, cost_of(candidate, model, peak))


def inputs_of_model(model: MeasuredModel, truth: Side, samples: dict[str, Sample]) -> Inputs:
    """Pair what a model will predict with the truth of the same images."""
    pairs = [(name, model.entry(sample), truth.entries[name]) for name, sample in samples.items()]
    return Inputs(pairs, *join_classes(model.classes, truth.classes))


def _inputs_of_annotator(place: Path, truth: Side, samples: dict[str, Sample]) -> Inputs:
    side = open_side(place, "truth")
    wanted = list(samples or truth.entries)
    entries = annotator_entries(side, wanted, len(truth.entries))
    pairs = [(name, entries[name], truth.entries[name]) for name in wanted if name in entries]
    return Inputs(pairs, *join_classes(side.classes, truth.classes))


# What is told


def _table(
    done: Sequence[Compared],
    failed: list[dict[str, str]],
    data: str,
    split: str | None,
    rank_by: str,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    models = [_model(one, bootstrap) for one in done]
    models.sort(key=lambda m: -math.inf if m["figures"][rank_by] is None else m["figures"][rank_by], reverse=True)
    pairs = compare_pairs({m["name"]: _images_of(done, m["name"]) for m in models}, bootstrap)
    n_images = max(m["n_images"] for m in models)
    notices = [f"{one['name']} is left out: {one['why'].splitlines()[0]}" for one in failed]
    notices += dict.fromkeys(notice for one in done for notice in one.found.metrics["notices"])
    notices += [f"{one.candidate.name}: {told}" for one in done for told in one.inputs.oddities()]
    if len(done) > 1 and smallest_p(n_images) >= 0.05:
        notices.append(
            f"{n_images} image{'' if n_images == 1 else 's'} cannot show that one model is better: the smallest "
            f"p-value that they can give is {smallest_p(n_images):.3g}; six images or more are needed"
        )
    titles = {figure.name: figure.title for figure in PAIRED_FIGURES} | {name: title for name, title, _ in COCO_FIGURES}
    result: dict[str, Any] = plain(
        {
            "cytomask": __version__,
            "data": data,
            "split": split,
            "n_images": n_images,
            "n_true": max(m["n_true"] for m in models),
            "rank_by": rank_by,
            "figures": titles,
            "smallest_p": smallest_p(n_images),
            "confidence_intervals": asdict(bootstrap),
            "notices": notices,
            "models": models,
            "pairs": [asdict(pair) for pair in pairs],
            "failed": failed,
        }
    )
    return result


def _images_of(done: Sequence[Compared], name: str) -> list[ImageScores]:
    return next(one.images for one in done if one.candidate.name == name)


def _model(one: Compared, bootstrap: Bootstrap) -> dict[str, Any]:
    metrics = one.found.metrics
    figures: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for figure in PAIRED_FIGURES:
        value, bounds = figure_interval(figure, one.images, bootstrap)
        figures[figure.name], intervals[figure.name] = plain(value), bounds
    coco = metrics["coco"]["segm"] or {}
    drawn = (((metrics.get("confidence_intervals") or {}).get("coco") or {}).get("segm")) or {}
    for name, _, key in COCO_FIGURES:
        figures[name], intervals[name] = coco.get(key), drawn.get(key)
    classes = {
        name: {"n_true": c["n_true"], "n_pred": c["n_pred"], "f1_50": c["matching"]["pooled"]["0.50"]["f1"]}
        | {"mean_accuracy_50_90": c["mean_accuracy_50_90"]}
        for name, c in (metrics.get("classes") or {}).items()
    }
    return {
        "name": one.candidate.name,
        "kind": one.candidate.kind,
        "source": one.candidate.source,
        **asdict(one.cost),
        "n_images": metrics["n_images"],
        "n_true": metrics["n_true"],
        "n_pred": metrics["n_pred"],
        "figures": figures,
        "confidence_intervals": intervals,
        "error_kinds": metrics["error_kinds"],
        "by_size": metrics["by_size"],
        "by_class": classes,
        "by_group": metrics["by_group"],
        "training": training_curve(one.candidate.run),
    }


def training_curve(run: Path | None) -> dict[str, list[float]] | None:
    """Validation score and losses over the epochs (counted from 1), of a run's table; None where there is none."""
    if run is None or not (run / EPOCHS_NAME).is_file():
        return None
    from cytomask.reporting.curves import read_curves

    rows = read_curves(run / EPOCHS_NAME)
    chosen = [name for name in ("val/score", "train/loss", "val/loss") if name in rows]
    return plain({"epoch": (rows.index + 1).tolist(), **{name: rows[name].tolist() for name in chosen}})


def _rows(done: Sequence[Compared], rank_by: str) -> list[dict[str, Any]]:
    """A row for each image and model, with the model's rank on this image; equal models share the better rank."""
    ranking = next(figure for figure in PAIRED_FIGURES if figure.name == rank_by)
    values = {
        one.candidate.name: {
            figure.name: dict(zip((i.name for i in one.images), single_values(figure, one.images).tolist()))
            for figure in PAIRED_FIGURES
        }
        for one in done
    }
    whole = {one.candidate.name: {image.name: image for image in one.images} for one in done}
    rows = []
    for name in dict.fromkeys(image.name for one in done for image in one.images):
        here = [one for one in done if name in values[one.candidate.name][rank_by]]
        scores = [values[one.candidate.name][ranking.name][name] for one in here]
        for one, score in zip(here, scores):
            own = values[one.candidate.name]
            row = whole[one.candidate.name][name].row()
            chosen: dict[str, Any] = {"name": name, "model": one.candidate.name}
            chosen["rank"] = 1 + sum(other > score for other in scores)
            chosen |= {figure.name: own[figure.name][name] for figure in PAIRED_FIGURES[:-1]}
            rows.append(chosen | {key: value for key, value in row.items() if key not in chosen})
    return rows
