"""What prediction does with one image: settings that can be sent anywhere, and the models that they open."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cytomask._version import __version__
from cytomask.errors import ChannelError, ConfigError, ImageError
from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle
from cytomask.models.segmenter import Postprocess
from cytomask.output import remove_leftovers
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.probabilities import assembling, probability_maps
from cytomask.progress import say, track
from cytomask.workflows.ensemble import Combination, OpenEnsemble, open_ensemble
from cytomask.workflows.model import override_thresholds
from cytomask.workflows.models import load_model
from cytomask.workflows.predicting.coco_results import coco_lines, write_lines
from cytomask.workflows.predicting.giant import (
    COCO_LINES_NAME,
    GIANT_PIXELS,
    FoundObjects,
    check_told_by_parts,
    predict_giant,
)
from cytomask.workflows.predicting.giant_steps import GiantModel
from cytomask.workflows.predicting.outputs import Outputs
from cytomask.workflows.predicting.progress import ImageProgress
from cytomask.workflows.predicting.record import ImageResult, JobFacts, count_classes


@dataclass(frozen=True)
class JobSettings:
    """All that says how images are segmented, in plain values.

    Attributes
    ----------
    model
        A shipped model's name, a bundle's folder or zip, or a run's folder.
    plan
        What is to be written, and where.
    channels, diameter, pixel_size, thresholds, axes, plane, on_disk, combine
        As for :func:`~cytomask.workflows.predict.predict_images`.
    tiling
        ``tile``, ``overlap``, ``batch_size`` and ``blend`` as far as they are asked for.
    device, precision
        As for :class:`~cytomask.prediction.predictor.Predictor`.
    """

    model: str | Path
    plan: Outputs
    channels: Sequence[str | int] | None = None
    diameter: float | Literal["auto"] | None = None
    pixel_size: float | None = None
    thresholds: Mapping[str, float | str | bool | None] = field(default_factory=dict)
    tiling: Mapping[str, int | None] = field(default_factory=dict)
    device: str = "auto"
    precision: str = "auto"
    axes: str | None = None
    plane: int | None = None
    on_disk: bool | None = None
    combine: Combination | None = None

    def open(self) -> Job:
        """Load the models.

        Raises
        ------
        ConfigError
            If an option is wrong.
        BundleError
            If a model cannot be loaded.
        """
        bundle = load_model(self.model)
        combine = self.combine if self.combine is not None and self.combine.active else None
        of_several = combine is not None and bool(combine.models)
        postprocess = override_thresholds(bundle.postprocess, dict(self.thresholds), of_several=of_several)
        if "probabilities" in self.plan.save:
            assembling(bundle.segmenter)
            if self.on_disk or combine is not None:
                raise ConfigError(
                    "probabilities of pixels are written of one model, in memory", where="--save",
                    found="probabilities",
                    fix="leave probabilities out, or --on-disk, --with, --augment and --scales",
                )  # fmt: skip
        if self.on_disk:
            check_told_by_parts(postprocess)
        tiling: dict[str, Any] = dict(self.tiling)
        predictor = Predictor.from_bundle(bundle, device=self.device, precision=self.precision, **tiling)
        together = None
        if combine is not None:
            if self.on_disk:
                raise ConfigError(
                    "several models or views are fused in memory, not on disk", where="--on-disk",
                    fix="leave --on-disk out, or use one model without --augment and --scales",
                )  # fmt: skip
            together = open_ensemble(
                combine, (self.model, bundle, predictor), dict(self.thresholds), device=self.device,
                precision=self.precision, **tiling,
            )  # fmt: skip
        return Job(self, bundle, predictor, postprocess, together)

    def open_image(self, path: Path) -> Image:
        """Open an image as the settings say."""
        image = read_image(path, axes=self.axes, plane=self.plane)
        if self.pixel_size is None:
            return image
        sentence = f"{image.resolved}; pixel size {self.pixel_size:g} µm as told"
        return replace(image, pixel_size=(self.pixel_size, self.pixel_size), resolved=sentence)

    def plan_of(self, task: ImageTask) -> Outputs:
        """What is written of one image, with the names of its files."""
        return replace(self.plan, class_names={task.name: list(task.class_names)})


@dataclass(frozen=True)
class ImageTask:
    """An image that is to be segmented.

    Attributes
    ----------
    path, name
        The file, and the name that its results bear.
    number
        From 1, in COCO results.
    binding
        What its result follows from, of which its progress is kept.
    class_names
        Names of its files of each class, if there are such.
    """

    path: Path
    name: str
    number: int
    binding: Mapping[str, Any]
    class_names: Sequence[str] = ()

    def progress(self, folder: Path) -> ImageProgress:
        """What is done of it."""
        return ImageProgress(folder, self.name, self.binding)


@dataclass(frozen=True)
class Job:
    """What is to be done with every image, with the models loaded."""

    settings: JobSettings
    bundle: Bundle
    predictor: Predictor
    postprocess: Postprocess
    together: OpenEnsemble | None

    def facts(self) -> JobFacts:
        """What is to be known of the models, as plain values."""
        spec, predictor = self.bundle.spec, self.predictor
        binding = _binding(self.bundle, predictor, self.postprocess)
        classes = self.bundle.segmenter.config.classes
        ensemble: dict[str, Any] | None = None
        if self.together is not None and self.settings.combine is not None:
            classes = self.together.ensemble.classes
            ensemble = self.together.record(self.settings.combine)
            models = zip(self.together.bundles, self.together.ensemble.members)
            bindings = [_binding(other, member.predictor, member.postprocess) for other, member in models]
            weights = self.together.ensemble.weights
            binding["ensemble"] = {**ensemble, "models": bindings, "weights": weights}
        return JobFacts(
            binding, tuple(classes), spec.name, spec.family, spec.weights_sha256, self.postprocess.model_dump(),
            str(predictor.device), str(predictor.precision).removeprefix("torch."), predictor.tile, predictor.overlap,
            ensemble,
        )  # fmt: skip

    def outcomes(
        self, tasks: Sequence[ImageTask], *, anew: bool = False
    ) -> Iterator[tuple[ImageTask, ImageResult | ImageError | ChannelError]]:
        """Segment images one after the other: each with its result, or the error why it is left out."""
        for task in track(tasks, "segmenting images"):
            outcome = self.outcome(task, anew=anew)
            assert outcome is not None
            yield task, outcome

    def outcome(
        self, task: ImageTask, *, anew: bool = False, giants: bool = True, patience: float = 0.0
    ) -> ImageResult | ImageError | ChannelError | None:
        """Segment an image, if it is not done yet.

        Parameters
        ----------
        task
            The image.
        anew
            Take up nothing that was done before.
        giants
            Whether images that are worked through on disk are done, too.
        patience
            How many seconds to wait while another process is at the image.

        Returns
        -------
        ImageResult, error or None
            The error why it cannot be read or does not fit the model; None for a giant image that is not to be done.
        """
        folder = self.settings.plan.folder
        with task.progress(folder).locked(patience) as progress:
            result = None if anew else done_before(progress, task.path, folder)
            if result is not None:
                return result
            try:
                image = self._read(task.path)
                on_disk = self._on_disk(task.path, image)
                return self._segment(task, image, progress, on_disk, anew) if giants or not on_disk else None
            except (ImageError, ChannelError) as error:
                if progress.read("prepared") is None:
                    progress.clear()
                return error

    def giant_model(self) -> GiantModel:
        """What working through an image on disk needs of the model."""
        return GiantModel(
            self.predictor, self.postprocess, self.settings.channels, self.settings.diameter,
        )  # fmt: skip

    def _segment(
        self, task: ImageTask, image: Image, progress: ImageProgress, on_disk: bool, anew: bool
    ) -> ImageResult:
        """Do one image, and keep its result with the progress."""
        plan = self.settings.plan_of(task)

        def in_memory(outputs: Mapping[str, Path], of_classes: Sequence[Path]) -> FoundObjects:  # noqa: ARG001
            instances, scale, told, probabilities = self._find(image)
            plan.write(task.name, instances, image, self.settings.channels, probabilities)
            progress.begin()
            if plan.lines:
                write_lines(progress.folder / COCO_LINES_NAME, coco_lines(instances, task.number, task.path.name))
            return FoundObjects(count_classes(instances), scale, told)

        def by_tiles(outputs: Mapping[str, Path], of_classes: Sequence[Path]) -> FoundObjects:
            if anew:
                progress.clear()
            return predict_giant(
                self.giant_model(), image, progress, outputs, image_id=task.number, file_name=task.path.name,
                coco=plan.lines, class_labels=of_classes, style=plan.style,
            )  # fmt: skip

        return result_of(plan, task, image, progress, by_tiles if on_disk else in_memory, on_disk=on_disk)

    def _on_disk(self, path: Path, image: Image) -> bool:
        """Whether an image is worked through on disk; raises what stands against it."""
        wanted = self.settings.on_disk
        on_disk = wanted if wanted is not None else image.height * image.width >= GIANT_PIXELS
        size = f"{image.height} x {image.width} pixels"
        if on_disk and self.together is not None:
            raise ImageError(
                "several models or views are fused in memory, and this image would be worked through on disk",
                where=path, found=size,
                fix="use --in-memory if there is memory for it, or one model without --augment and --scales",
            )  # fmt: skip
        if on_disk and "probabilities" in self.settings.plan.save:
            raise ImageError(
                "probabilities of pixels are written in memory, and this image would be worked through on disk",
                where=path, found=size,
                fix="use --in-memory if there is memory for it, or leave probabilities out of --save",
            )  # fmt: skip
        if on_disk and "relations" in self.settings.plan.save:
            raise ImageError(
                "relations of objects are measured in memory, and this image would be worked through on disk",
                where=path, found=size,
                fix="use --in-memory if there is memory for it, or leave relations out of --save",
            )  # fmt: skip
        if on_disk:
            try:
                check_told_by_parts(self.postprocess)
            except ConfigError as error:
                raise ImageError(error.what, where=path, found=f"{size}, {error.found}", fix=error.fix) from error
        return on_disk

    def _find(self, image: Image) -> tuple[Instances, tuple[float, float], tuple[str, ...], np.ndarray | None]:
        """Find the objects in memory; also the scale, what was done, and the probabilities of pixels if wanted."""
        diameter, channels = self.settings.diameter, self.settings.channels
        if self.together is not None:
            found = self.together.ensemble.find(image, diameter=diameter, channels=channels)
            return found.instances, found.scale, found.told, None
        predictor = self.predictor
        prepared = predictor.prepare(image, diameter=diameter, channels=channels, postprocess=self.postprocess)
        if "probabilities" not in self.settings.plan.save:
            return predictor.segment(prepared, self.postprocess), prepared.scale, prepared.told, None
        segmenter = assembling(predictor.segmenter)
        pieces = predictor.propose(prepared, self.postprocess.model_copy(update={"score_threshold": 0.0}))
        instances = segmenter.resolve(pieces, self.postprocess, prepared.native_shape, prepared.scale)
        return instances, prepared.scale, prepared.told, probability_maps(segmenter, pieces, prepared)

    def _read(self, path: Path) -> Image:
        image = self.settings.open_image(path)
        say(f"{path.name}: {image.resolved}")
        return image


def result_of(
    plan: Outputs,
    task: ImageTask,
    image: Image,
    progress: ImageProgress,
    work: Callable[[Mapping[str, Path], Sequence[Path]], FoundObjects],
    *,
    on_disk: bool,
) -> ImageResult:
    """Do one image, and keep its result with the progress, which is locked.

    Parameters
    ----------
    plan, task, image, progress
        What is to be written, of which image, and what is done of it.
    work
        Writes the files of each kind and those of each class, and tells what was found.
    on_disk
        Whether it works through the image on disk.
    """
    begun = time.monotonic()
    if progress.other():
        differs = ", ".join(progress.other())
        say(f"{task.path.name}: what an earlier run did is not used, since this differs: {differs}")
    outputs, of_classes = plan.of_image(task.name, on_disk=on_disk), plan.of_classes(task.name, on_disk=on_disk)
    if progress.found_before:
        for target in (*outputs.values(), *of_classes):
            remove_leftovers(target)
    if on_disk:
        progress.begin()
        say(f"{task.path.name}: worked through on disk, in {progress.folder}")
    found = work(outputs, of_classes)
    told = (*found.told, "worked through on disk") if on_disk else found.told
    result = ImageResult(
        task.path, task.name, image.shape, found.counts, found.scale, (image.resolved, *told),
        (*outputs.values(), *of_classes), time.monotonic() - begun, on_disk, progress.fingerprint,
        pixel_size=image.pixel_size,
    )  # fmt: skip
    progress.write("result", result.to_json(task.number, plan.folder))
    return result


def done_before(progress: ImageProgress, path: Path, folder: Path) -> ImageResult | None:
    """What an earlier run, or an earlier attempt, did of an image; None when there is nothing."""
    entry = progress.read("result")
    return ImageResult.from_json(entry, path, folder) if entry is not None else None


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
