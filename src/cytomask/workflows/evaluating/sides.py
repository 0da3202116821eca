"""Open one side of an evaluation (predictions, truth, another annotator), whatever form it has."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cytomask.data.annotated import usual_annotations
from cytomask.data.dataset import Dataset, Sample, open_dataset
from cytomask.data.dataset_config import CONFIG_NAMES
from cytomask.data.pairs import LABEL_SUFFIXES, stem_of
from cytomask.data.remote_data import local_data
from cytomask.data.steps import Rescale
from cytomask.errors import ConfigError, CytomaskError, DataError
from cytomask.evaluation.pairs import Objects
from cytomask.formats.annotations.annotation import AnnotationSet
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS, AnnotationFormat
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.object_class_table import CLASS_TABLE
from cytomask.formats.annotations.open_annotations import IMAGE_FOLDERS, recognise_format, usual_places
from cytomask.formats.images import IMAGE_SUFFIXES
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances
from cytomask.progress import say, warn
from cytomask.workflows.predicting.result_names import COCO_NAME, RECORD_NAME

What = Literal["prediction", "truth"]
#: What objects are called when nothing names their classes.
UNNAMED = ("object",)
_OVERLAY = "_overlay"
#: So many images at most are looked at to tell whether scores say anything.
_LOOKED_AT = 20


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """The objects of one image on one side.

    Attributes
    ----------
    objects
        The objects; classes are numbered as the side's ``classes``.
    scored
        The same with scores, if there are any.
    crowd
        Ids of regions of many.
    """

    objects: Objects
    scored: Instances | None = None
    crowd: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An image on one side: where it lies, what is known of it, and how its objects are read.

    Attributes
    ----------
    place
        The file to name in errors.
    read
        Reads the objects.
    group
        What is known of the image.
    image
        The image's file, or a function that finds it.
    split
        Its split, on a side that has splits.
    """

    place: Path
    read: Callable[[], Read]
    group: Mapping[str, str] = field(default_factory=dict)
    image: Callable[[], Path | None] | Path | None = None
    split: str | None = None

    def find_image(self) -> Path | None:
        """The image's file, if it is known."""
        try:
            return self.image() if callable(self.image) else self.image
        except DataError:
            return None


@dataclass(frozen=True, eq=False)
class Side:
    """All images of one side; nothing is read before it is asked for.

    Attributes
    ----------
    place
        What was named.
    entries
        The images by name.
    classes
        Names of the classes; ``("object",)`` where none are told.
    splits
        Names of the splits, where there are any.
    """

    place: Path
    entries: dict[str, Entry]
    classes: tuple[str, ...] = UNNAMED
    splits: tuple[str, ...] = ()


def open_side(place: str | Path, what: What, split: str | None = None, truth: Path | None = None) -> Side:
    """Find the images of one side.

    Parameters
    ----------
    place
        A label image, a folder of them, annotations of any format, or (as truth) a data set.
    what
        Which side it is.
    split
        That a split is asked for: only a data set has some.
    truth
        Where the truth lies, for COCO results that know images by their numbers there only.

    Raises
    ------
    DataError
        If there is nothing, or it holds no objects in any form that is known.
    ConfigError
        If a split is asked for where there is no data set.
    """
    place = local_data(place)
    if not place.exists():
        raise DataError(f"the {what} does not exist", where=place, fix="check the name and the folder")
    configured = place.suffix.lower() in (".yaml", ".yml") or any((place / name).is_file() for name in CONFIG_NAMES)
    if what == "truth" and configured:
        return side_of_dataset(open_dataset(place))
    row = recognise_format(place)
    if row is None and what == "prediction":
        found = place / COCO_NAME if place.is_dir() and not _image_files(place) else place
        if _is_empty_list(found):
            # A model that found nothing anywhere.
            place, row = found, ANNOTATION_FORMATS["coco-results"]
    named = row is not None and row.name == "labels" and (place / CLASS_TABLE).is_file() and _image_files(place) != []
    if what == "truth" and row is not None and row.name == "labels" and not named and usual_annotations(place):
        # Images with annotation files beside them, not label images.
        return side_of_dataset(open_dataset(place))
    if row is not None and (row.name != "labels" or named) and split is None:
        return _of_annotations(place, row.name, truth)
    if row is None and place.is_file() and place.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(
            f"the {what} is neither a label image nor annotations in a format that is known",
            where=place,
            found=f"a file {place.suffix} of {place.stat().st_size:,} bytes",
            expected=", ".join(row.title for row in ANNOTATION_FORMATS.values()),
            fix=f"name the folder that it lies in, or its {COCO_NAME}" if place.name == RECORD_NAME
            else "export it in one of these formats",
        )  # fmt: skip
    if not is_one_image(place) and not _image_files(place):
        if what == "truth":
            return side_of_dataset(open_dataset(place))
        if row is not None:
            return _of_annotations(place, row.name, truth)
    if split is not None:
        raise ConfigError(
            "only a data set has splits", where="--split", found=f"{split}, but {place} holds label images",
            fix="leave out --split, or name the data set's folder or YAML file",
        )  # fmt: skip
    return _of_label_files(place)


def _is_empty_list(place: Path) -> bool:
    if place.suffix.lower() != ".json" or not place.is_file():
        return False
    with place.open("rb") as file:
        return file.read(100).split() in ([b"[]"], [b"[", b"]"])


def plain_stem(path: Path) -> str:
    """The name by which label files are paired: without suffix, ``_labels`` and the like."""
    name = stem_of(path.name)
    suffix = next((s for s in LABEL_SUFFIXES if name.endswith(s) and name != s), "")
    return name.removesuffix(suffix).removesuffix(".ome")


# Label images


def _of_label_files(place: Path) -> Side:
    files = _label_files(place)
    single = is_one_image(place)
    classes, scored = _scored(place.parent if single else place)
    if not all(name in scored for name in files):
        classes = UNNAMED
    folders = usual_places(place.parent if single else place)
    finder = ImageFinder(folder for folder in folders if folder.name in IMAGE_FOLDERS)
    return Side(
        place,
        {
            name: Entry(path, partial(_read_labels, path, scored.get(name), classes), image=partial(finder.find, name))
            for name, path in files.items()
        },
        classes,
    )


def _read_labels(path: Path, scored: Instances | None, classes: tuple[str, ...]) -> Read:
    # Where classes are told, they are those of the scored objects.
    return Read(scored if scored is not None and len(classes) > 1 else read_labels(path), scored)


def is_one_image(place: Path) -> bool:
    """Whether a path is one image: a file, or a zarr folder."""
    return place.is_file() or place.suffix.lower() == ".zarr"


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir() or is_one_image(folder):
        return []
    images = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return sorted(p for p in images if is_one_image(p))


def _label_files(place: Path) -> dict[str, Path]:
    single = is_one_image(place)
    files = [place] if single else [p for p in _image_files(place) if not p.stem.endswith(_OVERLAY)]
    if not single:
        ours = [p for p in files if stem_of(p.name).endswith(LABEL_SUFFIXES[0])]
        files = ours or files
    if not files:
        raise DataError(
            "the folder holds no label images",
            where=place,
            expected="files ending in " + ", ".join(IMAGE_SUFFIXES) + "; or annotations, "
            + ", ".join(row.title for row in ANNOTATION_FORMATS.values() if row.name != "labels"),
        )  # fmt: skip
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_name[plain_stem(path)].append(path)
    for several in by_name.values():
        if len(several) > 1:
            raise DataError(
                "several files are of one image", where=place, found=", ".join(p.name for p in several),
                fix="keep one of them",
            )  # fmt: skip
    return {name: paths[0] for name, paths in by_name.items()}


def _scored(folder: Path) -> tuple[tuple[str, ...], dict[str, Instances]]:
    """Read the classes and the scored masks that predict wrote beside the label images, by the image's name there."""
    results, record = folder / COCO_NAME, folder / RECORD_NAME
    if not results.is_file() or not record.is_file():
        return UNNAMED, {}
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        categories = told.get("categories") or []
        numbers = {category["id"]: k for k, category in enumerate(categories, start=1)}
        names = tuple(str(category["name"]) for category in categories) or UNNAMED
        entries: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for entry in json.loads(results.read_text(encoding="utf-8")):
            entries[entry["image_id"]].append(entry)
        scored = {}
        for image in told["images"]:
            objects = entries[image["image_id"]]
            if len(objects) != sum(image["objects"].values()):
                raise DataError("it is of another prediction than run.json")
            scored[plain_stem(Path(f"{image['name']}_labels.tif"))] = Instances.from_rle(
                (image["height"], image["width"]),
                [entry["segmentation"] for entry in objects],
                classes=[numbers[entry["category_id"]] for entry in objects] if categories else None,
                scores=[entry["score"] for entry in objects],
                class_names=names,
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CytomaskError) as error:
        why = error.what if isinstance(error, CytomaskError) else f"{type(error).__name__}: {error}"
        warn(f"{results} is left out, so that there are no COCO metrics: {why}")
        return UNNAMED, {}
    return names, scored


# Annotations


def _of_annotations(place: Path, format: str, truth: Path | None) -> Side:
    annotations = _open(place, ANNOTATION_FORMATS[format], truth)
    for sentence in annotations.told:
        say(f"{place.name}: {sentence}")
    scored = format == "coco-results" or (
        "scores" in ANNOTATION_FORMATS[format].holds and _scores_say_something(annotations)
    )
    finder = ImageFinder(usual_places(place))
    entries = {}
    for name in annotations.names:
        facts = {str(key): str(value) for key, value in annotations.facts.get(name, {}).items()}
        read = partial(_read_annotation, annotations, name, scored)
        entries[name] = Entry(place, read, facts, partial(finder.find, name))
    return Side(place, entries, annotations.classes)


def _open(place: Path, row: AnnotationFormat, truth: Path | None) -> AnnotationSet:
    """Open annotations; images are looked at only where these do not tell the images' sizes."""
    finder = ImageFinder()
    if not row.told_size:
        own = usual_places(place)
        beside = own[0].name in IMAGE_FOLDERS
        finder = ImageFinder(own if beside or truth is None else usual_places(truth))
    if row.name == "coco-results" and truth is not None and ANNOTATION_FORMATS["coco"].load().recognise(truth):
        # Images and categories are called as in the truth, which the results know by number only.
        annotations: AnnotationSet = row.load().open_annotations(place, finder, truth)
    else:
        annotations = row.load().open_annotations(place, finder)
    if not annotations.names:
        raise DataError(
            "the annotations speak of no image", where=place, found=f"{row.title} without images",
            fix="export them again, or name the right file",
        )  # fmt: skip
    return annotations


def _read_annotation(annotations: AnnotationSet, name: str, scored: bool) -> Read:
    annotation = annotations.read(name)
    return Read(annotation.instances, annotation.instances if scored else None, annotation.crowd)


def _scores_say_something(annotations: AnnotationSet) -> bool:
    """Whether the first objects have a score other than 1, which is what objects without scores have."""
    for name in annotations.names[:_LOOKED_AT]:
        objects = annotations.read(name).instances
        if len(objects):
            return bool((objects.scores != 1).any())
    return False


# Data sets


def side_of_dataset(dataset: Dataset) -> Side:
    """A data set as one side: its annotations, at the images' own sizes."""
    entries = {
        sample.name: Entry(
            sample.label_path, partial(_read_sample, dataset, sample), sample.group, sample.image_path, sample.split
        )
        for sample in dataset.samples
    }
    return Side(dataset.source, entries, dataset.classes, dataset.split_names)


def _read_sample(dataset: Dataset, sample: Sample) -> Read:
    return Read(dataset.load_layers(native_sample(sample)))


def native_sample(sample: Sample) -> Sample:
    """The sample at its image's own size, in which predictions are written, whatever size training takes it to."""
    steps = tuple(step for step in sample.reading.steps if not isinstance(step, Rescale))
    return replace(sample, reading=replace(sample.reading, steps=steps))
