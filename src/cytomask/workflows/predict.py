"""Predict: segment images and write what people need of the result."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cytomask.errors import ConfigError, CytomaskError
from cytomask.formats.images import list_images
from cytomask.output import output_folder, replacing
from cytomask.progress import say, warn
from cytomask.reporting.overlay import OverlayStyle
from cytomask.workflows.ensemble import Combination
from cytomask.workflows.models import find_model
from cytomask.workflows.predicting.coco_results import join_lines, split_lines, write_lines
from cytomask.workflows.predicting.giant import COCO_LINES_NAME
from cytomask.workflows.predicting.job import ImageTask, JobSettings
from cytomask.workflows.predicting.outputs import USUAL, Outputs
from cytomask.workflows.predicting.progress import ImageProgress, file_identity, remove_stale_marks
from cytomask.workflows.predicting.record import ImageResult, PredictionSummary, run_record
from cytomask.workflows.predicting.result_names import COCO_NAME, RECORD_NAME, name_results, protect_inputs
from cytomask.workflows.predicting.run_outputs import DoneImage, write_run_outputs
from cytomask.workflows.predicting.submission import number_images

if TYPE_CHECKING:
    from cytomask.workflows.clusters.cluster import Cluster
    from cytomask.workflows.clusters.predicting import ClusterJob
    from cytomask.workflows.predicting.job import Job


def predict_images(
    model: str | Path,
    images: Sequence[str | Path],
    out: str | Path,
    *,
    save: Sequence[str] = USUAL,
    overlay: OverlayStyle | None = None,
    image_ids: str | Path | None = None,
    channels: Sequence[str | int] | None = None,
    diameter: float | str | None = None,
    pixel_size: float | None = None,
    thresholds: Mapping[str, float | str | bool | None] | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    blend: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    axes: str | None = None,
    plane: int | None = None,
    table_format: str = "csv",
    on_disk: bool | None = None,
    resume: bool | None = None,
    combine: Combination | None = None,
    cluster: Cluster | None = None,
) -> PredictionSummary:
    """Segment images, one after the other or on many processes, and write the results into a folder.

    For each image ``NAME_labels.tif``, ``NAME_overlay.png`` and ``NAME_objects.csv`` (or ``.parquet``), for all
    together ``predictions.json`` (COCO results) and ``run.json`` (what was done, and how each image was read); what
    else can be written is told in :mod:`cytomask.workflows.predicting.outputs`. Every file appears complete or not at
    all. An image that cannot be read or does not fit the model is told and left out, and the others are done; with
    one image only, its error is raised.

    A giant image is worked through on disk: memory is bounded by a tile and its objects, not by the image. Its result
    is the same, but the label image is an OME-Zarr folder, ``NAME_labels.ome.zarr``, and the overlay an overview.

    What is done is kept in a hidden folder beside the results until the run has ended. The same call goes on where an
    earlier one was broken off, if image, model and settings are the same.

    Parameters
    ----------
    model
        A shipped model's name, a bundle's folder or zip, or a run's folder.
    images
        Files, folders of images, or globs.
    out
        Folder for the results; made if it is not there.
    save
        What to write, of ``cytomask.workflows.predicting.outputs.KINDS``.
    overlay
        How overlays look; None for a colour per object, and nothing written.
    image_ids
        JSON that tells each image's number in a submission, as
        :func:`~cytomask.workflows.predicting.submission.number_images` reads it; None for 1, 2, 3 …
    channels
        Channels to use, by name or number.
    diameter
        Typical object diameter in native pixels, ``"auto"``, or None.
    pixel_size
        µm per pixel, instead of what the files say.
    thresholds
        Other thresholds and post-processing than the model's; those that are None stay.
    tile, overlap, blend, batch_size, device, precision
        As for :class:`~cytomask.prediction.predictor.Predictor`.
    axes, plane
        As for :func:`~cytomask.formats.images.read_image`.
    table_format
        ``"csv"`` or ``"parquet"``.
    on_disk
        Whether images are worked through on disk; None: those of at least 16384 x 16384 pixels are.
    resume
        False: begin anew. True: also leave out images that a finished run with the same settings did, as ``run.json``
        says. None: only go on where a run was broken off.
    combine
        Further models, or views of each image, whose objects are fused with those that the model finds. Not for images
        that are worked through on disk.
    cluster
        Processes, here or on many machines, that do the work: several images at a time, and the tiles of a giant image.
        The results are the same. Model, images and ``out`` must lie where all of them see them under the same path.

    Raises
    ------
    ConfigError
        If an option is wrong.
    ImageError, ChannelError
        If nothing is found, or the only image cannot be segmented.
    BundleError
        If the model cannot be loaded.
    OutputError
        If the results cannot be written, or would replace an image.
    ClusterError
        If the processes are not there, do not see the files, or have other versions.
    """
    started = time.monotonic()
    plan = Outputs(Path(out), tuple(save), table_format, overlay or OverlayStyle())
    _check_pixel_size(pixel_size)
    wanted_diameter = _parse_diameter(diameter)
    paths = list_images(images)
    if image_ids is not None and "submission" not in save:
        raise ConfigError("numbers of images are for a submission", where="--image-ids", fix="add --save submission")
    numbered = number_images(paths, image_ids)
    tiling: dict[str, Any] = {"tile": tile, "overlap": overlap, "batch_size": batch_size}
    if blend is not None:
        tiling["blend"] = blend
    job_settings = JobSettings(
        model, plan, channels, wanted_diameter, pixel_size, dict(thresholds or {}), tiling, device, precision, axes,
        plane, on_disk, combine,
    )  # fmt: skip
    if cluster is None:
        job: Job | ClusterJob = job_settings.open()
    else:
        # Dask is an extra.
        from cytomask.workflows.clusters.predicting import ClusterJob

        job = ClusterJob(cluster, job_settings)
    facts = job.facts()
    folder = output_folder(out)
    remove_stale_marks(folder)
    names = name_results(paths)
    plan = plan.of_run(names, facts.classes)
    protect_inputs(paths, plan.targets(names, on_disk))
    coco = folder / COCO_NAME if "coco" in save else None
    options = {"channels": channels, "diameter": diameter, "pixel_size": pixel_size, "axes": axes, "plane": plane}
    wanted = {"save": sorted(save), "table_format": table_format, "on_disk": on_disk, "overlay": asdict(plan.style)}
    settings = {**facts.binding, **options, **tiling, **wanted}
    tasks = [
        ImageTask(path, name, number, {**settings, "image": file_identity(path)}, plan.class_names.get(name, ()))
        for number, (path, name) in enumerate(zip(paths, names), start=1)
    ]
    progresses = [task.progress(folder) for task in tasks]
    if resume:
        if plan.lines and coco is None:
            say("predictions.json is not among what is saved, so that nothing of a finished run can be taken up")
        else:
            _take_up_finished(folder, progresses, coco)

    done: dict[int, ImageResult] = {}
    left_out: dict[int, tuple[Path, CytomaskError]] = {}
    try:
        for task, outcome in job.outcomes(tasks, anew=resume is False):
            if isinstance(outcome, ImageResult):
                done[task.number] = outcome
                continue
            if len(paths) == 1:
                raise outcome
            warn(f"{task.path.name} is left out: {outcome}")
            left_out[task.number] = (task.path, outcome)
        if plan.lines:
            lines = {number: progresses[number - 1].folder / COCO_LINES_NAME for number in sorted(done)}
            if coco:
                join_lines(coco, [(path, number) for number, path in lines.items()])
            done_images = [
                DoneImage(done[n].path, path, done[n].shape, done[n].pixel_size, numbered[n - 1])
                for n, path in lines.items()
            ]
            write_run_outputs(plan, done_images, facts.classes)
    except KeyboardInterrupt:
        if any(progress.begun for progress in progresses):
            say("interrupted; the same command goes on where this stopped (--no-resume: begins anew)")
        raise
    results, failed = [done[n] for n in sorted(done)], [left_out[n] for n in sorted(left_out)]
    summary = PredictionSummary(folder, results, failed, time.monotonic() - started, tuple(plan.shared()))
    # Tiles may have become smaller since.
    record = run_record(summary, job.facts(), find_model(model), options, paths)
    with replacing(folder / RECORD_NAME) as target:
        target.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for number in done:
        progresses[number - 1].remove()
    return summary


def _take_up_finished(folder: Path, progresses: Sequence[ImageProgress], coco: Path | None) -> None:
    """Make progress of what a finished run did with the same images and settings."""
    try:
        entries = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))["images"]
        known = {str(entry["fingerprint"]): {**entry, "image_id": int(entry["image_id"])} for entry in entries}
        if coco is not None and not coco.is_file():
            return
    except (OSError, ValueError, KeyError, TypeError):
        return
    same = {known[p.fingerprint]["image_id"]: p for p in progresses if p.fingerprint in known and not p.begun}
    for progress in same.values():
        progress.begin()
        write_lines(progress.folder / COCO_LINES_NAME, [])
    if coco is not None:
        for image_id, lines in groupby(split_lines(coco), key=lambda found: found[0]):
            if image_id in same:
                write_lines(same[image_id].folder / COCO_LINES_NAME, (line for _, line in lines))
    for progress in same.values():
        progress.write("result", known[progress.fingerprint])


def _check_pixel_size(pixel_size: float | None) -> None:
    if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ConfigError(
            "the pixel size is not a length", where="--pixel-size", found=pixel_size, expected="µm, more than 0"
        )


def _parse_diameter(diameter: float | str | None) -> float | Literal["auto"] | None:
    if diameter is None or diameter == "auto":
        return diameter  # type: ignore[return-value]
    try:
        return float(diameter)
    except ValueError:
        raise ConfigError(
            "the object diameter is not understood", where="--diameter", found=diameter, expected="pixels, or auto"
        ) from None
