"""Visualise: chosen images beside their objects as predicted and as annotated, and plots of measurements."""

from __future__ import annotations

import difflib
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cytomask.errors import ConfigError, CytomaskError
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.pairs import to_instances
from cytomask.formats.images import read_image
from cytomask.instances import Instances
from cytomask.output import output_folder
from cytomask.progress import track, warn
from cytomask.workflows.evaluate import METRICS_NAME
from cytomask.workflows.evaluating.inputs import Inputs, find_inputs
from cytomask.workflows.evaluating.measured_sides import MEASUREMENTS_NAME
from cytomask.workflows.experiment import Experiment, VisualiseSection
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages.pictures import StagePicture, write_list, write_photo

#: Longer side of each of the pictures that stand side by side.
PANEL_SIDE = 640


def run_stage(run: RunFolder, experiment: Experiment) -> list[str]:
    """Draw chosen test images (``image | prediction | truth``) and plots of measurements into ``pictures/``.

    Images that are not named are drawn by chance, the same ones for the same seed.

    Returns
    -------
    list of str
        What was drawn, for people.

    Raises
    ------
    ConfigError
        If an image that is named was not evaluated.
    """
    shutil.rmtree(run.pictures, ignore_errors=True)
    folder = output_folder(run.pictures)
    split = evaluated_split(run)
    pictures: list[StagePicture] = []
    if split is not None and experiment.data.path is not None:
        limit = experiment.evaluation.max_images
        inputs = find_inputs(run.predictions, experiment.data.path, split, max_images=limit)
        chosen = _choose([name for name, _, _ in inputs.pairs], experiment)
        inputs = Inputs(
            [pair for pair in inputs.pairs if pair[0] in chosen],
            inputs.class_names, inputs.prediction_classes, inputs.truth_classes,
        )  # fmt: skip
        for number, pair in enumerate(track(inputs.read(), "drawing images", total=len(inputs.pairs)), start=1):
            picture = _side_by_side(folder, f"image_{number:02d}", pair, experiment.visualise)
            pictures += [picture] if picture is not None else []
    pictures += _plots(folder, run.evaluation / MEASUREMENTS_NAME)
    write_list(folder, pictures)
    n_plots = sum(picture.group == "plot" for picture in pictures)
    images = len(pictures) - n_plots
    return [f"{images} image{'' if images == 1 else 's'} and {n_plots} plot{'' if n_plots == 1 else 's'} drawn"]


def evaluated_split(run: RunFolder) -> str | None:
    """The split whose images were evaluated; None if none were."""
    try:
        found = json.loads((run.evaluation / METRICS_NAME).read_text(encoding="utf-8"))["split"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def _choose(names: Sequence[str], experiment: Experiment) -> set[str]:
    wanted = experiment.visualise.images
    if isinstance(wanted, int):
        return set(random.Random(experiment.training.seed).sample(sorted(names), min(wanted, len(names))))
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(
                f"there is no image {name!r} among those that were evaluated",
                where="visualise.images",
                found=", ".join(list(names)[:10]) + ("" if len(names) <= 10 else f" and {len(names) - 10} more"),
                fix=f"did you mean {near[0]!r}?" if near else "name images of the test split",
            )
    return set(wanted)


def _side_by_side(folder: Path, stem: str, pair: Pair, settings: VisualiseSection) -> StagePicture | None:
    from cytomask.reporting.overlay import draw_overlay
    from cytomask.reporting.side_by_side import side_by_side

    if pair.image is None:
        warn(f"{pair.name} is not drawn: its image is not known")
        return None
    try:
        image = read_image(pair.image)
    except CytomaskError as error:
        warn(f"{pair.name} is not drawn: {error.what}")
        return None
    truth, found = to_instances(pair.truth), pair.scored or to_instances(pair.prediction)
    text = None if settings.text == "none" else settings.text

    def drawn(objects: Instances, scores: bool = True) -> Any:
        # The truth has no scores: where they are asked for, its classes are told.
        own = {"score": None, "class-score": "class"}.get(text or "", text) if not scores else text
        picture = draw_overlay(
            image, objects, colour_by=settings.colour_by, text=own, boxes=settings.boxes, grey=settings.grey,
            max_side=PANEL_SIDE,
        )  # fmt: skip
        # Small images are enlarged by whole factors: captions need room, and outlines must be seen.
        factor = max(1, PANEL_SIDE // max(picture.shape[:2]))
        return picture.repeat(factor, axis=0).repeat(factor, axis=1)

    picture = side_by_side(
        [
            ("image", drawn(Instances.empty(truth.shape, truth.class_names))),
            (f"prediction: {len(found):,}", drawn(found)),
            (f"truth: {len(truth):,}", drawn(truth, scores=False)),
        ]
    )
    caption = f"image, {len(found):,} predicted objects, {len(truth):,} true objects"
    return StagePicture(
        pair.name, "chosen", write_photo(folder, stem, picture), picture.shape[0], picture.shape[1], caption,
        counts={"true": len(truth), "predicted": len(found)},
    )  # fmt: skip


def _plots(folder: Path, measurements: Path) -> list[StagePicture]:
    from cytomask.reporting.distribution_plot import write_distribution_plot

    try:
        properties = json.loads(measurements.read_text(encoding="utf-8"))["properties"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    pictures = []
    for number, one in enumerate(properties, start=1):
        file = f"plot_{number:02d}.png"
        size = write_distribution_plot(one, folder / file)
        pictures.append(StagePicture(one["name"], "plot", file, *size, f"{one['name']} of predicted and true objects"))
    return pictures
