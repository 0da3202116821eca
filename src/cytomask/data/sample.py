"""One annotated image of a data set: where its files are, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cytomask.data.annotated import AnnotationSource
from cytomask.data.steps import Step, apply_steps
from cytomask.errors import CytomaskError, DataError, LabelError
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels
from cytomask.image import Image
from cytomask.label_layers import LabelLayers

#: What objects are called when nothing names their classes.
UNNAMED = ("object",)
#: So many objects are listed; of the rest, the number.
LISTED = 10


@dataclass(frozen=True)
class Reading:
    """What must be known to read a sample's files.

    Attributes
    ----------
    classes
        Names of the classes.
    object_classes
        Class id of each object by its value in the label image; None makes all objects the first class.
    axes, plane, channels, pixel_size
        What the image files do not tell; see :class:`cytomask.data.dataset_config.DatasetConfig`.
    steps
        Preprocessing steps.
    """

    classes: tuple[str, ...] = UNNAMED
    object_classes: Mapping[int, int] | None = None
    axes: str | None = None
    plane: int | None = None
    channels: tuple[str, ...] | None = None
    pixel_size: tuple[float, float] | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, eq=False)
class Sample:
    """One annotated image.

    Attributes
    ----------
    name
        Unique in the data set: the path below the images' folder, without the suffix.
    image_path, label_path
        The files; the second is the label image, or the file or folder of annotations.
    group
        The image's row of the data set's table (its name and its split left out), all as text.
    split
        The split it belongs to, or None.
    reading
        How the files are read.
    annotation
        Where the objects come from, if not from a label image.
    """

    name: str
    image_path: Path
    label_path: Path
    group: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    reading: Reading = Reading()
    annotation: AnnotationSource | None = None


def load_sample(sample: Sample) -> tuple[Image, LabelLayers]:
    """Read an image and its annotation, and do the data set's preprocessing steps.

    Raises
    ------
    ImageError, LabelError
        If a file cannot be read, or the two differ in size.
    DataError
        If an object has no class, or a step does not fit the image.
    """
    reading = sample.reading
    image = read_image(sample.image_path, axes=reading.axes, plane=reading.plane)
    if reading.channels is not None:
        if len(reading.channels) != image.n_channels:
            raise DataError(
                "the image has not the channels that the data set's file names",
                where=sample.image_path,
                found=f"{image.n_channels} ({', '.join(image.channels)})",
                expected=f"{len(reading.channels)} ({', '.join(reading.channels)})",
            )
        image = replace(image, channels=reading.channels)
    if reading.pixel_size is not None and image.pixel_size is None:
        image = replace(image, pixel_size=reading.pixel_size)
    layers = read_layers(sample)
    if layers.shape != image.shape:
        raise LabelError(
            f"the {'label image' if sample.annotation is None else 'annotation'} has another size than its image",
            where=sample.label_path,
            found="{} x {} pixels (height x width)".format(*layers.shape),
            expected="{} x {}".format(*image.shape),
            fix="export the annotation again at the image's size",
        )
    return apply_steps(image, layers, reading.steps, sample.group)


def read_layers(sample: Sample) -> LabelLayers:
    """Read a sample's annotation at its own size, without the data set's preprocessing steps."""
    reading = sample.reading
    if sample.annotation is not None:
        return sample.annotation.read(reading.classes)
    labels = read_labels(sample.label_path)
    if reading.object_classes is None:
        return LabelLayers.from_labels(labels, class_names=reading.classes)
    ids = np.unique(labels)
    classes = {int(i): reading.object_classes[int(i)] for i in ids if int(i) in reading.object_classes}
    missing = [int(i) for i in ids if i and int(i) not in classes]
    if missing:
        raise DataError(
            f"{len(missing)} objects have no class in the table of object classes",
            where=sample.label_path,
            found="values " + ", ".join(map(str, missing[:LISTED])) + (" …" if len(missing) > LISTED else ""),
        )
    return LabelLayers.from_labels(labels, classes=classes, class_names=reading.classes)


def trouble(sample: Sample) -> str | None:
    """What is wrong with a sample's files, in one line."""
    try:
        load_sample(sample)
    except CytomaskError as error:
        file = Path(error.where).name if error.where else sample.name
        details = [f"{word} {text}" for word, text in (("found", error.found), ("expected", error.expected)) if text]
        return f"{file}: {error.what}" + (f" ({'; '.join(details)})" if details else "")
    return None
