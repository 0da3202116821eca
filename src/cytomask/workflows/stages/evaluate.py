"""Evaluate: segment the test images, score what was found, and draw the best and the worst of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cytomask.data.dataset import Dataset, open_dataset
from cytomask.errors import DataError
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.metrics import Evaluation
from cytomask.evaluation.worst import N_WORST, WorstImage
from cytomask.output import output_folder
from cytomask.progress import say, track, warn
from cytomask.workflows.ensemble import Combination
from cytomask.workflows.evaluate import evaluate_predictions
from cytomask.workflows.evaluating.inputs import find_inputs
from cytomask.workflows.evaluating.measured_sides import MEASUREMENTS_NAME, measure_sides, write_measurements
from cytomask.workflows.evaluating.pictures import make_pictures
from cytomask.workflows.experiment import Experiment
from cytomask.workflows.predict import predict_images
from cytomask.workflows.predicting.record import PredictionSummary
from cytomask.workflows.predicting.result_names import COCO_NAME, RECORD_NAME
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages.pictures import StagePicture, write_bytes, write_list, write_photo

#: What is written of each test image.
SAVED = ("labels", "table", "coco")
#: Longer side of the pictures of the best and worst images.
PICTURE_SIDE = 800
PICTURES = "pictures"
#: Ends of the names of an image's results.
_RESULTS = ("_labels.tif", "_labels.ome.zarr", "_objects.csv")


def run_stage(run: RunFolder, experiment: Experiment) -> list[str]:
    """Segment the images of the test split into ``predictions/``, and score them into ``evaluation/``.

    Predictions that an earlier call finished with the same model and settings are kept. Without test images those of
    the validation split are taken, which is said in the figures and on the report; without these, too, nothing is done.

    Returns
    -------
    list of str
        What came out, for people.

    Raises
    ------
    DataError
        If the experiment names no data, or an image of the split cannot be segmented.
    """
    if experiment.data.path is None:
        raise DataError("the experiment names no data to evaluate on", where=run.path, fix="set data.path")
    dataset = open_dataset(experiment.data.path)
    split, notices = choose_split(dataset, experiment)
    if split is None:
        for folder in (run.predictions, run.evaluation):
            shutil.rmtree(folder, ignore_errors=True)
            # DVC takes a place that is not there for a stage that failed.
            output_folder(folder)
        told = "there are no test images and none for validation: nothing is evaluated"
        warn(told)
        return [told]
    samples = dataset.split(split)[: experiment.evaluation.max_images]
    summary = _predict(run, experiment, [sample.image_path for sample in samples])
    found = _evaluate(run, experiment, split, notices)
    inputs = find_inputs(run.predictions, experiment.data.path, split, max_images=experiment.evaluation.max_images)
    pairs = track(inputs.read(), "measuring", total=len(inputs.pairs))
    write_measurements(run.evaluation / MEASUREMENTS_NAME, measure_sides(pairs, inputs.class_names))
    _draw(run.evaluation / PICTURES, found, experiment.report.pictures)
    return _lines(found, split, len(summary.images), notices)


def choose_split(dataset: Dataset, experiment: Experiment) -> tuple[str | None, list[str]]:
    """The split that is evaluated, and what must be said of that choice."""
    wanted, instead = experiment.data.test, experiment.data.validation
    counts = {name: len(dataset.split(name)) for name in dataset.split_names}
    if counts.get(wanted):
        same = [name for name in (experiment.data.train, instead) if name == wanted]
        if same:
            used = "trained" if wanted == experiment.data.train else "chosen and tuned"
            return wanted, [f"OPTIMISTIC: the model was {used} on the very images that it is tested on ({wanted})"]
        return wanted, []
    if not counts.get(instead):
        return None, []
    why = f"the data have no images in a split {wanted!r}"
    return instead, [
        f"OPTIMISTIC: {why}, so these figures are of the validation images, on which the model was chosen and its "
        "thresholds were tuned; on images that it has never seen it will do less well"
    ]


def _predict(run: RunFolder, experiment: Experiment, images: Sequence[Path]) -> PredictionSummary:
    settings = experiment.prediction
    combination = Combination(augment=settings.augment, scales=settings.scales)
    summary = predict_images(
        run.bundle,
        images,
        run.predictions,
        save=SAVED,
        channels=experiment.data.chosen_channels,
        diameter=settings.diameter,
        thresholds=settings.postprocess,
        tile=settings.tile,
        overlap=settings.overlap,
        blend=settings.blend,
        device=experiment.training.device,
        resume=True,
        combine=combination if combination.active else None,
    )
    if summary.failed:
        path, error = summary.failed[0]
        raise DataError(
            f"{len(summary.failed)} of {len(images)} images could not be segmented", where=path, found=error.what,
            expected=error.expected, fix=error.fix or "mend these images, or take them out of the split",
        )  # fmt: skip
    _drop_others(run.predictions, summary)
    return summary


def _drop_others(folder: Path, summary: PredictionSummary) -> None:
    """Remove results of images that were in the split once: a score would not be of this split any more."""
    kept = {path.resolve() for result in summary.images for path in result.outputs}
    kept |= {(folder / name).resolve() for name in (RECORD_NAME, COCO_NAME)}
    for path in folder.iterdir():
        if path.resolve() not in kept and path.name.endswith(_RESULTS):
            say(f"{path.name}: removed, since its image is not in the split any more")
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _evaluate(run: RunFolder, experiment: Experiment, split: str, notices: Sequence[str]) -> Evaluation:
    settings = experiment.evaluation
    shutil.rmtree(run.evaluation, ignore_errors=True)
    assert experiment.data.path is not None
    return evaluate_predictions(
        run.predictions,
        experiment.data.path,
        run.evaluation,
        split=split,
        thresholds=settings.thresholds,
        bootstrap=Bootstrap(resamples=settings.bootstrap),
        tolerance=settings.tolerance,
        group_by=settings.group_by,
        n_worst=max(N_WORST, experiment.report.pictures),
        # Of few images the best may be among the worst, and then others take their place.
        n_best=2 * experiment.report.pictures,
        max_images=settings.max_images,
        notices=notices,
    )


def _draw(folder: Path, found: Evaluation, count: int) -> None:
    """Draw the images that went worst and best, each with the truth, the prediction and the errors as layers."""
    output_folder(folder)
    worst = found.worst[:count]
    named = {one.name for one in worst}
    best = [one for one in found.best if one.name not in named][:count]
    pictures = [
        picture for group, images in (("worst", worst), ("best", best)) for picture in _drawn(folder, group, images)
    ]
    write_list(folder, pictures)


def _drawn(folder: Path, group: str, images: Sequence[WorstImage]) -> list[StagePicture]:
    from cytomask.reporting.error_overlay import LAYER_PALETTE
    from cytomask.reporting.evaluation_pictures import layered
    from cytomask.reporting.page_pictures import encode_layer

    pictures = []
    for number, picture in enumerate(make_pictures(images), start=1):
        stem, drawn = f"{group}_{number:02d}", layered(picture, PICTURE_SIDE)
        height, width = drawn.ground.shape[0], drawn.ground.shape[1]
        layers = tuple(
            (key, title, write_bytes(folder, f"{stem}_{key}.png", encode_layer(codes, LAYER_PALETTE)))
            for key, title, codes in drawn.layers
        )
        counts = {"true": len(picture.truth), "predicted": len(picture.prediction), **picture.counts()}
        caption = ""
        if picture.window is not None:
            y0, x0, y1, x1 = picture.window
            caption = f"shown: y {y0:,} to {y1:,}, x {x0:,} to {x1:,}"
        pictures.append(
            StagePicture(
                picture.name, group, write_photo(folder, stem, drawn.flat()), height, width, caption,
                write_photo(folder, f"{stem}_image", drawn.ground), layers, dict(picture.figures), counts,
            )
        )  # fmt: skip
    return pictures


def _lines(found: Evaluation, split: str, n_images: int, notices: Sequence[str]) -> list[str]:
    pooled = found.metrics["matching"]["pooled"]["0.50"]
    images = "1 image" if n_images == 1 else f"{n_images} images"
    return [
        f"{images} of split {split}: F1 {pooled['f1']:.3f}, found {pooled['recall']:.3f}, right "
        f"{pooled['precision']:.3f} (IoU 0.50); mean accuracy 0.50 to 0.90: {found.metrics['mean_accuracy_50_90']:.3f}",
        *notices,
    ]
