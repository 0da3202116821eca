"""Predict: segment images and write what people need of the result."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cytomask._version import __version__
from cytomask.errors import ChannelError, ConfigError, CytomaskError, ImageError
from cytomask.formats.images import list_images, read_image
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle
from cytomask.models.segmenter import Postprocess
from cytomask.output import output_folder, replacing
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.probabilities import assembling, probability_maps
from cytomask.progress import say, track, warn
from cytomask.reporting.overlay import OverlayStyle
from cytomask.workflows.coco_results import coco_lines, join_lines, split_lines, write_lines
from cytomask.workflows.ensemble import Combination, OpenEnsemble, open_ensemble
from cytomask.workflows.model import override_thresholds
from cytomask.workflows.models import find_model, load_model
from cytomask.workflows.predict_giant import COCO_LINES_NAME, GIANT_PIXELS, check_told_by_parts, predict_giant
from cytomask.workflows.predict_outputs import USUAL, Outputs
from cytomask.workflows.predict_progress import ImageProgress, file_identity
from cytomask.workflows.predict_record import ImageResult, PredictionSummary, count_classes, run_record
from cytomask.workflows.result_names import COCO_NAME, RECORD_NAME, name_results, protect_inputs
from cytomask.workflows.run_outputs import DoneImage, write_run_outputs
from cytomask.workflows.submission import number_images


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
) -> PredictionSummary:
    """Segment images, one after the other, and write the results into a folder.

    For each image ``NAME_labels.tif``, ``NAME_overlay.png`` and ``NAME_objects.csv`` (or ``.parquet``), for all
    together ``predictions.json`` (COCO results) and ``run.json`` (what was done, and how each image was read); what
    else can be written is told in :mod:`cytomask.workflows.predict_outputs`. Every file appears complete or not at all.
    An image that cannot be read or does not fit the model is told and left out, and the others are done; with one image
    only, its error is raised.

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
        What to write, of ``cytomask.workflows.predict_outputs.KINDS``.
    overlay
        How overlays look; None for a colour per object, and nothing written.
    image_ids
        JSON that tells each image's number in a submission, as
        :func:`~cytomask.workflows.submission.number_images` reads it; None for 1, 2, 3 …
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
    """
    started = time.monotonic()
    plan = Outputs(Path(out), tuple(save), table_format, overlay or OverlayStyle())
    _check_pixel_size(pixel_size)
    wanted_diameter = _parse_diameter(diameter)
    paths = list_images(images)
    if image_ids is not None and "submission" not in save:
        raise ConfigError("numbers of images are for a submission", where="--image-ids", fix="add --save submission")
    numbered = number_images(paths, image_ids)
    bundle = load_model(model)
    of_several = combine is not None and bool(combine.models)
    postprocess = override_thresholds(bundle.postprocess, dict(thresholds or {}), of_several=of_several)
    tiling: dict[str, Any] = {"tile": tile, "overlap": overlap, "batch_size": batch_size}
    if blend is not None:
        tiling["blend"] = blend
    if "probabilities" in save:
        assembling(bundle.segmenter)
        if on_disk or (combine is not None and combine.active):
            raise ConfigError(
                "probabilities of pixels are written of one model, in memory", where="--save", found="probabilities",
                fix="leave probabilities out, or --on-disk, --with, --augment and --scales",
            )  # fmt: skip
    if on_disk:
        check_told_by_parts(postprocess)
    predictor = Predictor.from_bundle(bundle, device=device, precision=precision, **tiling)
    together = None
    if combine is not None and combine.active:
        _refuse_on_disk(on_disk)
        together = open_ensemble(
            combine, (model, bundle, predictor), dict(thresholds or {}), device=device, precision=precision, **tiling
        )
    classes = together.ensemble.classes if together is not None else bundle.segmenter.config.classes
    folder = output_folder(out)
    names = name_results(paths)
    plan = plan.of_run(names, classes)
    protect_inputs(paths, plan.targets(names, on_disk))
    coco = folder / COCO_NAME if "coco" in save else None
    options = {"channels": channels, "diameter": diameter, "pixel_size": pixel_size, "axes": axes, "plane": plane}
    wanted = {"save": sorted(save), "table_format": table_format, "on_disk": on_disk, "overlay": asdict(plan.style)}
    settings = {**_binding(bundle, predictor, postprocess), **options, **tiling, **wanted}
    if together is not None and combine is not None:
        models = zip(together.bundles, together.ensemble.members)
        bindings = [_binding(other, member.predictor, member.postprocess) for other, member in models]
        settings["ensemble"] = {**together.record(combine), "models": bindings, "weights": together.ensemble.weights}
    progresses = [
        ImageProgress(folder, name, {**settings, "image": file_identity(path)}) for path, name in zip(paths, names)
    ]
    if resume:
        if plan.lines and coco is None:
            say("predictions.json is not among what is saved, so that nothing of a finished run can be taken up")
        else:
            _take_up_finished(folder, progresses, coco)
    job = _Job(
        predictor, postprocess, plan, channels, wanted_diameter, on_disk, axes, plane, pixel_size, together
    )  # fmt: skip

    results: list[ImageResult] = []
    failed: list[tuple[Path, CytomaskError]] = []
    try:
        for number, path in enumerate(track(paths, "segmenting images"), start=1):
            with progresses[number - 1].locked() as progress:
                result = None if resume is False else _done_before(progress, path, folder)
                if result is None:
                    try:
                        result = job.segment(path, names[number - 1], number, progress, anew=resume is False)
                    except (ImageError, ChannelError) as error:
                        if progress.read("prepared") is None:
                            progress.clear()
                        if len(paths) == 1:
                            raise
                        warn(f"{path.name} is left out: {error}")
                        failed.append((path, error))
                        continue
                results.append(result)
        if plan.lines:
            by_name = {progress.folder.name: (number, progress) for number, progress in enumerate(progresses, start=1)}
            lines = {r.name: by_name[r.name][1].folder / COCO_LINES_NAME for r in results}
            if coco:
                join_lines(coco, [(lines[r.name], by_name[r.name][0]) for r in results])
            done_images = [
                DoneImage(r.path, lines[r.name], r.shape, r.pixel_size, numbered[by_name[r.name][0] - 1])
                for r in results
            ]
            write_run_outputs(plan, done_images, classes)
    except KeyboardInterrupt:
        if any(progress.begun for progress in progresses):
            say("interrupted; the same command goes on where this stopped (--no-resume: begins anew)")
        raise
    summary = PredictionSummary(folder, results, failed, time.monotonic() - started, tuple(plan.shared()))
    record = run_record(summary, predictor, bundle, find_model(model), postprocess.model_dump(), options, paths)
    if together is not None and combine is not None:
        record["categories"] = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
        record["ensemble"] = together.record(combine)
    with replacing(folder / RECORD_NAME) as target:
        target.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    done = {result.name for result in results}
    for progress in progresses:
        if progress.folder.name in done:
            progress.remove()
    return summary


@dataclass(frozen=True)
class _Job:
    """What is to be done with every image."""

    predictor: Predictor
    postprocess: Postprocess
    plan: Outputs
    channels: Sequence[str | int] | None
    diameter: float | Literal["auto"] | None
    on_disk: bool | None
    axes: str | None
    plane: int | None
    pixel_size: float | None
    together: OpenEnsemble | None

    def segment(self, path: Path, name: str, number: int, progress: ImageProgress, *, anew: bool) -> ImageResult:
        """Do one image, and keep its result with the progress."""
        begun = time.monotonic()
        image = _read(path, self.axes, self.plane, self.pixel_size)
        on_disk = self.on_disk if self.on_disk is not None else image.height * image.width >= GIANT_PIXELS
        if on_disk and self.together is not None:
            raise ImageError(
                "several models or views are fused in memory, and this image would be worked through on disk",
                where=path, found=f"{image.height} x {image.width} pixels",
                fix="use --in-memory if there is memory for it, or one model without --augment and --scales",
            )  # fmt: skip
        if on_disk and "probabilities" in self.plan.save:
            raise ImageError(
                "probabilities of pixels are written in memory, and this image would be worked through on disk",
                where=path, found=f"{image.height} x {image.width} pixels",
                fix="use --in-memory if there is memory for it, or leave probabilities out of --save",
            )  # fmt: skip
        if on_disk:
            try:
                check_told_by_parts(self.postprocess)
            except ConfigError as error:
                size = f"{image.height} x {image.width} pixels, {error.found}"
                raise ImageError(error.what, where=path, found=size, fix=error.fix) from error
        if progress.other():
            say(f"{path.name}: what an earlier run did is not used, since this differs: {', '.join(progress.other())}")
        outputs = self.plan.of_image(name, on_disk=on_disk)
        of_classes = self.plan.of_classes(name, on_disk=on_disk)
        if on_disk:
            if anew:
                progress.clear()
            progress.begin()
            say(f"{path.name}: worked through on disk, in {progress.folder}")
            found = predict_giant(
                self.predictor, image, self.postprocess, progress, outputs, channels=self.channels,
                diameter=self.diameter, image_id=number, file_name=path.name, coco=self.plan.lines,
                class_labels=of_classes, style=self.plan.style,
            )  # fmt: skip
            counts, scale, told = found.counts, found.scale, (*found.told, "worked through on disk")
        else:
            instances, scale, told, probabilities = self._find(image)
            counts = count_classes(instances)
            self.plan.write(name, instances, image, self.channels, probabilities)
            progress.begin()
            if self.plan.lines:
                write_lines(progress.folder / COCO_LINES_NAME, coco_lines(instances, number, path.name))
        seconds = time.monotonic() - begun
        result = ImageResult(
            path, name, image.shape, counts, scale, (image.resolved, *told),
            (*outputs.values(), *of_classes), seconds, on_disk, progress.fingerprint,
            pixel_size=image.pixel_size,
        )  # fmt: skip
        progress.write("result", result.to_json(number, self.plan.folder))
        return result

    def _find(self, image: Image) -> tuple[Instances, tuple[float, float], tuple[str, ...], np.ndarray | None]:
        """Find the objects in memory; also the scale, what was done, and the probabilities of pixels if wanted."""
        if self.together is not None:
            found = self.together.ensemble.find(image, diameter=self.diameter, channels=self.channels)
            return found.instances, found.scale, found.told, None
        predictor = self.predictor
        prepared = predictor.prepare(
            image, diameter=self.diameter, channels=self.channels, postprocess=self.postprocess
        )
        if "probabilities" not in self.plan.save:
            return predictor.segment(prepared, self.postprocess), prepared.scale, prepared.told, None
        segmenter = assembling(predictor.segmenter)
        pieces = predictor.propose(prepared, self.postprocess.model_copy(update={"score_threshold": 0.0}))
        instances = segmenter.resolve(pieces, self.postprocess, prepared.native_shape, prepared.scale)
        return instances, prepared.scale, prepared.told, probability_maps(segmenter, pieces, prepared)


def _refuse_on_disk(on_disk: bool | None) -> None:
    if on_disk:
        raise ConfigError(
            "several models or views are fused in memory, not on disk", where="--on-disk",
            fix="leave --on-disk out, or use one model without --augment and --scales",
        )  # fmt: skip


def _binding(bundle: Bundle, predictor: Predictor, postprocess: Postprocess) -> dict[str, Any]:
    """What a result follows from, but for the image and the options."""
    spec = bundle.spec
    weights = spec.weights_sha256
    if weights is None:
        found = hashlib.sha256()
        for name, tensor in sorted(bundle.segmenter.state_dict().items()):
            found.update(name.encode() + tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        weights = found.hexdigest()
    fields = {"family", "config", "channels", "normalisation", "pixel_size", "resize", "diameter"}
    return {
        "cytomask": __version__,
        "torch": torch.__version__,
        "model": {"weights": weights, **spec.model_dump(mode="json", include=fields)},
        "thresholds": postprocess.model_dump(),
        "device": predictor.device.type,
        "precision": str(predictor.precision),
    }


def _done_before(progress: ImageProgress, path: Path, folder: Path) -> ImageResult | None:
    entry = progress.read("result")
    return ImageResult.from_json(entry, path, folder) if entry is not None else None


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


def _read(path: Path, axes: str | None, plane: int | None, pixel_size: float | None) -> Image:
    image = read_image(path, axes=axes, plane=plane)
    say(f"{path.name}: {image.resolved}")
    if pixel_size is not None:
        sentence = f"{image.resolved}; pixel size {pixel_size:g} µm as told"
        image = replace(image, pixel_size=(pixel_size, pixel_size), resolved=sentence)
    return image
