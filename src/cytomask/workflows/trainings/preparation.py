"""What a training needs before its first step: the whole experiment, the network, and the images as it sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cytomask.data.channel_mix import ChannelMix, before_mixing
from cytomask.data.dataset import Dataset, open_dataset
from cytomask.data.normalise import MeanStd
from cytomask.data.object_sizes import object_size_statistics
from cytomask.data.patch_dataset import PatchDataset, prepare_training_image, training_stack
from cytomask.data.sample import Sample, load_sample
from cytomask.data.short_edge import ShortestEdge
from cytomask.data.working_size import ImageSize
from cytomask.errors import ConfigError
from cytomask.geometry.resample import resample_window
from cytomask.label_layers import LabelLayers
from cytomask.models.registry import build_segmenter, family_class
from cytomask.models.segmenter import Segmenter
from cytomask.progress import say, track, warn
from cytomask.storage.remote import is_remote
from cytomask.training.distributed import ALONE, Place
from cytomask.training.validation import ValidationImages, resized_layers
from cytomask.workflows.experiment import Experiment, read_experiment
from cytomask.workflows.trainings.channels import EmptyChannels, with_names
from cytomask.workflows.trainings.initial_weights import begin_with, completed, settings_of
from cytomask.workflows.trainings.pixel_weights import with_balanced_weights


class MakesTargets(Protocol):
    """What training items need of a network."""

    def targets(self, layers: LabelLayers) -> Mapping[str, npt.NDArray]:
        """Make the targets of an item from its annotation."""


@dataclass(frozen=True)
class Prepared:
    """All that a training of an experiment needs.

    Attributes
    ----------
    experiment
        Complete: what it left open is filled in from the data.
    dataset, train, validation
        The data, and the samples of the two splits.
    family, segmenter
        The network, with its first weights.
    reasons
        What was chosen from the data, and why, for people.
    """

    experiment: Experiment
    dataset: Dataset
    train: list[Sample]
    validation: list[Sample]
    family: str
    segmenter: Segmenter
    reasons: list[str]

    def images(self) -> PatchDataset:
        """The training items, drawn and changed as the experiment says."""
        return training_images(self.experiment, self.train, self.segmenter)

    def held_out(self, place: Place = ALONE) -> ValidationImages | None:
        """The validation images, or a process's share of them, read into memory; None if there are none."""
        numbers = place.share(range(len(self.validation)))
        pairs = [
            load_held_out(self.validation[number], self.experiment)
            for number in track(numbers, "reading validation images")
        ]
        return ValidationImages(pairs, self.segmenter, numbers) if pairs else None


def experiment_on(source: str | Path, data: str | Path | None = None, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment, with other settings and data if given.

    Parameters
    ----------
    source, overrides
        See :func:`~cytomask.workflows.experiment.read_experiment`.
    data
        The data set, instead of the experiment's ``data.path``.
    """
    experiment = read_experiment(source, overrides)
    if data is not None:
        experiment.data.path = str(data) if is_remote(data) else str(Path(data).resolve())
    return experiment


def prepare(experiment: Experiment, *, complete: bool = True, first_weights: bool = True) -> Prepared:
    """Open the data, complete the experiment, and make the network.

    Parameters
    ----------
    experiment
        As it was read.
    complete
        Fill in what the experiment leaves open; False for that of an earlier run, which is complete already.
    first_weights
        Take the initial weights, if the experiment names any; False where a checkpoint will bring others.

    Raises
    ------
    ConfigError, DataError
        If data, settings and initial weights are missing, wrong, or do not fit each other.
    """
    dataset = open_data(experiment)
    train, validation = splits(dataset, experiment)
    reasons: list[str] = []
    if complete:
        experiment, reasons = complete_experiment(experiment, dataset, train)
    family, settings = family_settings(experiment)
    segmenter = build_network(family, settings, experiment)
    if experiment.initial is not None and first_weights:
        begin_with(segmenter, experiment.initial, experiment.initial_sha256)
    return Prepared(experiment, dataset, train, validation, family, segmenter, reasons)


def training_images(
    experiment: Experiment, train: list[Sample], segmenter: MakesTargets, *, preload: bool = True
) -> PatchDataset:
    """The training items of a complete experiment: patches or whole images, with the network's targets."""
    normalisation, training = experiment.data.normalisation, experiment.training
    empty = EmptyChannels()
    return PatchDataset(
        train,
        load=lambda sample: load_for_training(sample, experiment, empty),
        targets=segmenter.targets,
        sampler=experiment.patches.sampler(experiment.augmentation),
        length=training.steps_per_epoch * training.batch_size * training.accumulate,
        seed=training.seed,
        balance=experiment.data.balance,
        # The cache is for the machine, whose processes each have a part.
        cache_bytes=int(experiment.patches.cache_gb / training.devices * 2**30),
        preload=preload,
        finish=normalisation.from_unit if isinstance(normalisation, MeanStd) else None,
    )


def open_data(experiment: Experiment) -> Dataset:
    if experiment.data.path is None:
        raise ConfigError("the experiment names no data", fix="give --data PATH, or set data.path in the file")
    return open_dataset(experiment.data.path)


def splits(dataset: Dataset, experiment: Experiment) -> tuple[list[Sample], list[Sample]]:
    section = experiment.data
    train = dataset.split(section.train)
    validation = dataset.split(section.validation)
    dataset.verify([*train, *validation])
    if not validation:
        say("no validation images: the last weights are kept, and thresholds are not tuned")
    return train, validation


def complete_experiment(experiment: Experiment, dataset: Dataset, train: list[Sample]) -> tuple[Experiment, list[str]]:
    """Fill in what the experiment leaves open: classes, channels, and what the family derives from object sizes."""
    # A family that nobody chose is that of the initial weights.
    model = dict(experiment.model) if "model" in experiment.model_fields_set else {}
    if experiment.initial is not None:
        settings, spec = settings_of(experiment.initial, model.get("family"))
        if model.setdefault("family", settings["family"]) != settings["family"]:
            raise ConfigError(
                "the initial weights are of another family",
                where=experiment.initial,
                found=settings["family"],
                expected=str(model["family"]),
            )
        # The network must be the initial one; classes and channels may differ, as their layers are made anew.
        if spec is not None:
            own = {"classes": list(dataset.classes), "in_channels": experiment.data.channels.count}
            model = completed({**own, **model}, settings)
        else:
            model = completed(model, settings)
            if not isinstance(experiment.data.normalisation, MeanStd):
                warn(
                    f"{experiment.initial} was trained on images of which a mean was subtracted in 8-bit units; "
                    "data.normalisation.method: mean_std does that"
                )
    family = model.get("family", "star")
    model["family"] = family
    model.setdefault("classes", list(dataset.classes))
    channels = experiment.data.channels.count
    if model.setdefault("in_channels", channels) != channels:
        raise ConfigError(
            "the network and the data have not the same number of channels",
            where="model.in_channels",
            found=str(model["in_channels"]),
            expected=f"{channels}, as data.channels says",
            fix="leave model.in_channels out, or change data.channels",
        )
    settings, why = family_class(family).propose_from_data(
        object_size_statistics(train, dataset, training_scale(experiment))
    )
    reasons = []
    for (name, value), reason in zip(settings.items(), why):
        given: Any = model.get(name)
        if name not in model:
            model[name] = value
        elif _leaves_open(given, value):
            model[name] = {**value, **given}
            if value.keys() & given.keys() - {"kind"}:
                # The reason tells of the whole group, of which only a part is taken.
                taken = ", ".join(f"{name}.{key} {value[key]}" for key in value if key not in given)
                reason = f"{taken}: it fits the objects, and the experiment says only the rest of {name}"
        else:
            continue
        reasons.append(reason)
    model, weighed = with_balanced_weights(model, train, dataset, training_scale(experiment))
    reasons += weighed
    section = experiment.data
    named = with_names(section.channels, section.chosen_channels, train)
    section = section.model_copy(update={"channels": named})
    return experiment.model_copy(update={"model": model, "data": section}), reasons


def _leaves_open(given: Any, proposed: Any) -> bool:
    """Whether a group of settings of the same kind says less than is proposed."""
    if not isinstance(given, dict) or not isinstance(proposed, dict):
        return False
    same = "kind" not in proposed or given.get("kind", proposed["kind"]) == proposed["kind"]
    return same and bool(proposed.keys() - given.keys())


def family_settings(experiment: Experiment) -> tuple[str, dict[str, Any]]:
    settings = dict(experiment.model)
    return settings.pop("family"), settings


def build_network(family: str, settings: dict[str, Any], experiment: Experiment) -> Segmenter:
    import torch

    # The first weights depend on the seed alone, whatever ran before in this process.
    torch.manual_seed(experiment.training.seed)
    segmenter = build_segmenter(family, settings)
    patches = experiment.patches
    if patches.mode == "image" and not _takes_any_size(segmenter):
        raise ConfigError(
            f"a {family} network learns from patches of one size, not from whole images",
            where="patches.mode",
            found="image",
            fix="set patches.mode: patch, or use the family region",
        )
    if patches.mode == "patch" and patches.size % segmenter.stride:
        raise ConfigError(
            "the patch size does not fit the network",
            found=f"patches.size {experiment.patches.size}",
            expected=f"a multiple of {segmenter.stride}",
        )
    return segmenter


def _takes_any_size(segmenter: Segmenter) -> bool:
    """Whether the family joins images of different sizes: the contract's own way of joining them does not."""
    return type(segmenter).collate.__func__ is not Segmenter.collate.__func__  # type: ignore[attr-defined]


def load_image(sample: Sample, experiment: Experiment) -> tuple[np.ndarray, LabelLayers]:
    """One image as the network will see it in prediction (float32 ``(C, Y, X)``), and its annotation."""
    image, layers = load_sample(sample)
    section = experiment.data
    return prepare_training_image(
        image, layers, channels=section.channels, chosen=section.chosen_channels, normalisation=section.normalisation
    )


def load_for_training(
    sample: Sample, experiment: Experiment, empty: EmptyChannels | None = None
) -> tuple[np.ndarray, LabelLayers, ChannelMix | None]:
    """One training image as changes of intensity expect it (float32 ``(C, Y, X)``, about 0 to 1), and its annotation.

    With a channel program the channels are the stack that the network's are drawn from, by the last of the three.
    """
    image, layers = load_sample(sample)
    section = experiment.data
    expected, chosen, normalisation = section.channels, section.chosen_channels, before_mixing(section.normalisation)
    mix: ChannelMix | None = None
    if expected.mode == "program":
        pixels, mix = training_stack(image, channels=expected, chosen=chosen, normalisation=normalisation)
        (empty or EmptyChannels()).look(sample.name, pixels, mix)
    else:
        pixels, layers = prepare_training_image(
            image, layers, channels=expected, chosen=chosen, normalisation=normalisation
        )
    if experiment.patches.mode == "patch" and section.resize is not None:
        # Patches are cut from images of the size that prediction will see.
        pixels = _resized(pixels, section.resize)
        layers = resized_layers(layers, (pixels.shape[1], pixels.shape[2]))
    return pixels, layers, mix


def load_held_out(sample: Sample, experiment: Experiment) -> tuple[np.ndarray, LabelLayers]:
    """One validation image, at the size at which prediction will see it, and its annotation at its own."""
    image, layers = load_image(sample, experiment)
    resize = experiment.data.resize
    return (image if resize is None else _resized(image, resize)), layers


def _resized(image: np.ndarray, resize: ImageSize) -> np.ndarray:
    shape = (image.shape[1], image.shape[2])
    rows, columns = resize.size(shape)
    if (rows, columns) == shape:
        return image
    scale = (rows / shape[0], columns / shape[1])
    return resample_window(lambda y0, y1, x0, x1: image[:, y0:y1, x0:x1], shape, scale, (0, rows, 0, columns))


def training_scale(experiment: Experiment) -> Callable[[tuple[int, int]], float] | None:
    """How training sees an image of a shape: network pixels per pixel, of the middle one of several sizes."""
    patches = experiment.patches
    if patches.mode == "patch":
        return None if experiment.data.resize is None else experiment.data.resize.scale
    middle = sorted(patches.short_edge)[len(patches.short_edge) // 2]
    return ShortestEdge(shortest=min(middle, patches.long_edge), longest=patches.long_edge).scale
