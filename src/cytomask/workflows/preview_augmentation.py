"""Show what training will see: items drawn as training draws them, or what each transform does by itself."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytomask.data.augment import draw_warp
from cytomask.data.augment_config import AugmentConfig, IntensityConfig
from cytomask.data.change_notes import changes_noted
from cytomask.data.channel_mix import ChannelMix
from cytomask.data.intensity import change_intensity
from cytomask.data.patch_dataset import PatchDataset
from cytomask.data.patches import PatchSampler, SourceImage, warped_layers
from cytomask.data.sample import Sample
from cytomask.data.whole_images import WholeImageSampler
from cytomask.errors import ConfigError, DataError
from cytomask.geometry.warp import Warp
from cytomask.label_layers import LabelLayers
from cytomask.reporting.preview_grid import PreviewGrid, PreviewRow, PreviewTile
from cytomask.workflows.experiment import Experiment
from cytomask.workflows.predicting.result_names import protect_inputs
from cytomask.workflows.trainings.channels import with_names
from cytomask.workflows.trainings.preparation import experiment_on, open_data, training_images

#: Changes of geometry, then of intensity, in the order in which they are made.
GEOMETRY = ("flips", "quarter_turns", "rotation", "scale", "elastic")
#: Percentiles of an image's values that are shown black and white.
STRETCH = (0.5, 99.8)
#: So many epochs are looked through for items of an image.
_EPOCHS = 1000
_MOST_ROWS, _MOST_COLUMNS = 100, 40


def preview_augmentation(
    experiment: str | Path,
    *,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    images: Sequence[str] = (),
    rows: int = 4,
    columns: int = 6,
    by_transform: bool = False,
    split_channels: bool = False,
    epoch: int = 1,
    seed: int | None = None,
) -> PreviewGrid:
    """Show training items as the network will get them, with the truth outlined.

    Parameters
    ----------
    experiment
        An experiment's YAML file or a recipe's name.
    data
        The data set, instead of the experiment's ``data.path``.
    overrides
        Settings as ``key.path=value``.
    images
        Names of training images, one row each; none takes those that training sees first.
    rows
        How many images, where none are named.
    columns
        Items per row.
    by_transform
        One row for each transform alone, made with certainty, at one place of one image; and rows for none and for all
        together.
    split_channels
        Show the network's channels side by side rather than in colours.
    epoch
        Which epoch's items, counted from 1; where it has too few of an image, those of the next ones follow.
    seed
        Another seed than the experiment's.

    Returns
    -------
    PreviewGrid
        A notebook shows it by itself; ``write`` writes it as PNG.

    Raises
    ------
    ConfigError, DataError
        If the experiment, the data or an option is wrong.
    """
    limits = (("--rows", rows, _MOST_ROWS), ("--columns", columns, _MOST_COLUMNS), ("--epoch", epoch, 10**6))
    for option, value, most in limits:
        if not 1 <= value <= most:
            raise ConfigError("a number is out of its range", where=option, found=value, expected=f"1 to {most}")
    seeded = [] if seed is None else [f"training.seed={seed}"]
    settings = experiment_on(experiment, data, [*overrides, *seeded])
    dataset = open_data(settings)
    train = dataset.split(settings.data.train)
    if not train:
        raise DataError("there are no images to train on", where=settings.data.path, found=dataset.describe())
    section = settings.data
    named = with_names(section.channels, section.chosen_channels, train)
    settings = settings.model_copy(update={"data": section.model_copy(update={"channels": named})})
    truth = _Truth()
    items = training_images(settings, train, truth, preload=False)
    # The last step only moves and scales the values to those of the network: without it they can be shown.
    items.finish = None
    chosen = [_find(name, train) for name in images]
    first = epoch - 1
    if by_transform:
        if len(chosen) > 1:
            raise ConfigError(
                "one row per transform is shown for one image", where="--image", found=", ".join(images),
                fix="name one of them",
            )  # fmt: skip
        which = chosen[0] if chosen else _first(items, first, 1)[0]
        drawn, off = _transform_rows(settings, items, which, columns)
        lines = [_about(settings, len(train)), f"one image: {train[which].name}; each transform is made in every item"]
        lines += [f"switched off, or without effect on these images: {', '.join(off)}"] if off else []
    else:
        drawn = _image_rows(settings, items, truth, chosen or _first(items, first, rows), first, columns)
        lines = [_about(settings, len(train)), f"items as training draws them from epoch {epoch} on"]
    if section.channels.mode == "program":
        lines.append("network channels: " + "; ".join(_program_words(settings)))
    return PreviewGrid(
        f"{settings.name}: what training sees", drawn, tuple(lines), dataset.classes, split_channels,
    )  # fmt: skip


def write_preview(grid: PreviewGrid, path: str | Path, experiment: Experiment | None = None) -> None:
    """Write a preview as PNG.

    Raises
    ------
    ConfigError
        If the file is not called ``.png``.
    OutputError
        If it cannot be written, or would replace an image of the experiment's data.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ConfigError("a preview is a PNG file", where="--out", found=path.name, expected="a name with .png")
    if experiment is not None and experiment.data.path is not None and path.exists():
        protect_inputs([sample.image_path for sample in open_data(experiment).samples], [path])
    grid.write(path)


class _Truth:
    """Takes the place of a network's targets: keeps the annotation of the item that was drawn last."""

    last: LabelLayers

    def targets(self, layers: LabelLayers) -> Mapping[str, npt.NDArray]:
        self.last = layers
        return {}


def _find(name: str, train: Sequence[Sample]) -> int:
    """Position of a training image by its name, or the end or the stem of it."""
    names = [sample.name for sample in train]
    wanted = name.replace("\\", "/")
    for alike in (
        [i for i, one in enumerate(names) if one == wanted],
        [i for i, sample in enumerate(train) if sample.image_path.name == Path(wanted).name],
        [i for i, one in enumerate(names) if one.rsplit("/", 1)[-1] == wanted],
    ):
        if len(alike) == 1:
            return alike[0]
    near = difflib.get_close_matches(wanted, names, n=3)
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    raise DataError(
        "there is no training image of this name", where="--image", found=name, expected=listed,
        fix=f"did you mean {' or '.join(near)}?" if near else "name an image of the split for training",
    )  # fmt: skip


def _first(items: PatchDataset, epoch: int, count: int) -> list[int]:
    """The images that training sees first, each once."""
    found: dict[int, None] = {}
    for later in range(epoch, epoch + _EPOCHS):
        items.set_epoch(later)
        for index in range(len(items)):
            found[items.chosen(index)] = None
            if len(found) == min(count, len(items.samples)):
                return list(found)
    return list(found)


def _image_rows(
    settings: Experiment, items: PatchDataset, truth: _Truth, wanted: Sequence[int], epoch: int, columns: int
) -> list[PreviewRow]:
    """One row per image: the first items of it that training draws."""
    places: dict[int, list[tuple[int, int]]] = {which: [] for which in wanted}
    for later in range(epoch, epoch + _EPOCHS):
        items.set_epoch(later)
        for index in range(len(items)):
            found = places.get(items.chosen(index))
            if found is not None and len(found) < columns:
                found.append((later, index))
        if all(len(found) == columns for found in places.values()):
            break
    rows = []
    for which in dict.fromkeys(wanted):
        tiles = []
        for later, index in places[which]:
            items.set_epoch(later)
            with changes_noted() as notes:
                image = items[index]["image"].numpy()
            tiles.append(_tile(image, truth.last, notes))
        source = items.source(which)
        rows.append(PreviewRow(items.samples[which].name, tiles, _about_image(settings, items, which), _limits(source)))
    return rows


def _tile(pixels: np.ndarray, layers: LabelLayers, notes: Sequence[str]) -> PreviewTile:
    return PreviewTile(pixels, layers.to_instances(), layers.crowd, ", ".join(notes) or "unchanged")


def _limits(source: SourceImage) -> tuple[float, float]:
    step = max(1, int(np.sqrt(source.pixels[0].size / 250_000)))
    low, high = np.percentile(source.pixels[:, ::step, ::step].astype(np.float32), STRETCH)
    return (float(low), float(high)) if high > low else (0.0, 1.0)


def _transform_rows(
    settings: Experiment, items: PatchDataset, which: int, columns: int
) -> tuple[list[PreviewRow], list[str]]:
    """One row per transform that is switched on; and the names of the others."""
    source = items.source(which)
    fixed = source if source.mix is None else replace(source, mix=_WithoutChance(source.mix.nodes, source.mix.names))
    limits, augment = _limits(source), settings.augmentation
    none = AugmentConfig.none().model_copy(update={"min_object_pixels": augment.min_object_pixels})
    rows = [PreviewRow("none", [_draw(items, fixed, none, 0, settings)], _about_image(settings, items, which), limits)]
    if source.mix is not None:
        tiles = [_draw(items, source, none, column, settings) for column in range(columns)]
        rows.append(PreviewRow("channels", tiles, ["the channel program, drawn for each item"], limits))
    off = []
    for name in (*GEOMETRY, *IntensityConfig.model_fields):
        alone = _alone(augment, none, name)
        if alone is None or _without_effect(name, source):
            off.append(name)
            continue
        tiles = [_draw(items, fixed, alone, column, settings) for column in range(columns)]
        rows.append(PreviewRow(name, tiles, _about_transform(augment, name), limits))
    tiles = [_draw(items, source, augment, column, settings) for column in range(columns)]
    rows.append(PreviewRow("all together", tiles, ["each as often as the experiment says"], limits))
    return rows, off


class _WithoutChance(ChannelMix):
    """A channel program that draws nothing, so that other changes are seen alone."""

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:  # noqa: ARG002
        return self.matrix()


def _without_effect(name: str, source: SourceImage) -> bool:
    """Tints are for grey pictures that are shown in three channels, other hues for coloured ones."""
    stack = len(source.pixels) if source.mix is None else source.channels
    if name == "tint":
        return not (source.channels == 3 and stack == 1)
    return name == "colour" and not (source.channels == stack == 3)


def _alone(augment: AugmentConfig, none: AugmentConfig, name: str) -> AugmentConfig | None:
    """The settings of one transform with certainty, and nothing else; None if it is switched off."""
    if name == "flips":
        often = augment.flips if isinstance(augment.flips, tuple) else (augment.flips, augment.flips)
        return none.model_copy(update={"flips": often}) if max(often) > 0 else None
    if name == "quarter_turns":
        return none.model_copy(update={"quarter_turns": 1.0}) if augment.quarter_turns > 0 else None
    if name in GEOMETRY:
        change = getattr(augment, name)
        certain = change.model_copy(update={"probability": 1.0})
        return none.model_copy(update={name: certain}) if change.probability > 0 else None
    change = getattr(augment.intensity, name)
    certain = change.model_copy(update={"probability": 1.0})
    intensity = none.intensity.model_copy(update={name: certain})
    return none.model_copy(update={"intensity": intensity}) if change.probability > 0 else None


def _draw(
    items: PatchDataset, source: SourceImage, augment: AugmentConfig, column: int, settings: Experiment
) -> PreviewTile:
    """Draw an item as the sampler does, but always at the same place."""
    rng = np.random.default_rng([settings.training.seed, 4, column])
    sampler: Any = items.sampler
    with changes_noted() as notes:
        if isinstance(sampler, WholeImageSampler):
            edges = sorted(sampler.short_edge)
            middle = replace(sampler, augment=augment, crop=None, short_edge=(edges[len(edges) // 2],))
            pixels, layers = middle.draw(source, rng)
            notes[:1] = []  # the size, which is the same for all
        else:
            pixels, layers = _at_one_place(sampler, source, augment, rng)
    return _tile(pixels, layers, notes)


def _at_one_place(
    sampler: PatchSampler, source: SourceImage, augment: AugmentConfig, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], LabelLayers]:
    """What :meth:`PatchSampler.draw` does, around the object that is nearest to the middle of the image."""
    middle = np.array(source.shape) / 2
    places = source.centres if len(source.centres) else middle[None]
    place = places[np.argmin(((places - middle) ** 2).sum(axis=1))]
    # As far as the image reaches, so that the unchanged patch shows no mirror picture.
    half = np.minimum((sampler.size - 1) / 2, (np.array(source.shape) - 1) / 2)
    centre = np.clip(place, half, np.array(source.shape) - 1 - half)
    drawn, zoom = draw_warp(
        augment, rng, size=sampler.size, source_shape=source.shape, focus=(float(place[0]), float(place[1])),
        diameter=source.diameter,
    )  # fmt: skip
    warp = Warp.centred(
        drawn.shape, drawn.matrix[:, :2], (float(centre[0]), float(centre[1])), drawn.elastic, drawn.spacing
    )
    labels = warped_layers(source, warp, augment.min_object_pixels)
    pixels = source.warped(warp, rng)
    diameter = None if source.diameter is None else source.diameter * zoom
    return change_intensity(pixels, augment.intensity, rng, channels=source.channels, diameter=diameter), labels


def _about(settings: Experiment, count: int) -> str:
    patches = settings.patches
    kind = f"patches of {patches.size} x {patches.size} px" if patches.mode == "patch" else "whole images"
    images = "1 training image" if count == 1 else f"{count} training images"
    return f"{images}, {kind}, seed {settings.training.seed}"


def _about_image(settings: Experiment, items: PatchDataset, which: int) -> list[str]:
    source, sample = items.source(which), items.samples[which]
    height, width = source.shape
    count = len(source.centres)
    lines = [f"{height} x {width} px", "1 object" if count == 1 else f"{count} objects"]
    if source.diameter is not None:
        lines.append(f"median diameter {source.diameter:.0f} px")
    if settings.data.balance is not None:
        lines.append(f"{settings.data.balance}: {sample.group.get(settings.data.balance, '')}")
    if source.mix is not None:
        lines.append(f"in prediction: {source.mix.words()}")
    return lines


def _about_transform(augment: AugmentConfig, name: str) -> list[str]:
    change = getattr(augment, name) if name in GEOMETRY else getattr(augment.intensity, name)
    if not hasattr(change, "probability"):
        often = change if isinstance(change, tuple) else (change,)
        return [f"in {' and '.join(f'{share:.0%}' for share in often)} of items"]
    told = change.model_dump()
    lines = [f"in {told.pop('probability'):.0%} of items"]
    if told.get("diameter") is not None:
        told.pop("zoom")
    elif "diameter" in told:
        told = {key: told[key] for key in ("zoom", "stretch")}
    for key, value in told.items():
        words = f"{value[0]:g} to {value[1]:g}" if isinstance(value, tuple) else f"{value:g}"
        lines.append(f"{key.replace('_', ' ')} {words}")
    return lines


def _program_words(settings: Experiment) -> list[str]:
    program = settings.data.channels.program or ()
    return [f"{i} = {_expression(item)}" for i, item in enumerate(program, start=1)]


def _expression(item: Any) -> str:
    """A channel program's expression in words."""
    if isinstance(item, Mapping):
        return ", ".join(f"{key} {_expression(value)}" for key, value in item.items())
    if isinstance(item, list | tuple):
        return "(" + ", ".join(_expression(one) for one in item) + ")"
    return str(item)
