"""Examine one annotated image: read its files once, and remember findings and a few numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cytomask.data.check.alignment import Alignment, align
from cytomask.data.check.anatomy import Anatomy, describe_objects
from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding, many
from cytomask.data.check.label_faults import read_label_file, sentence
from cytomask.data.check.object_faults import object_faults
from cytomask.data.check.pixel_faults import PixelFacts, look_at_pixels
from cytomask.data.check.unannotated import forgotten_objects
from cytomask.data.sample import Sample
from cytomask.errors import CytomaskError
from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.instances import Instances

#: An annotation is shifted if, over at least so many objects, the best place is so many pixels away, ...
SHIFT_OBJECTS, SHIFT_PIXELS = 5, 2
#: ... edges there are stronger by this share, by so many standard errors, and for this share of the objects.
SHIFT_GAIN, SHIFT_CERTAINTY, SHIFT_AGREEING = 0.2, 6.0, 0.75
#: Label files of these kinds hold no objects.
NO_LABELS = frozenset(("smeared-labels", "binary-labels", "constant-labels", "labels-are-image"))


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """What is remembered of one image.

    Attributes
    ----------
    sample
        Where it lies.
    findings
        What was found.
    pixels
        Facts about the image; None if it cannot be read.
    anatomy
        Measures of the objects; None if they cannot be read.
    classes
        int32 ``(N,)``: class ids of the objects.
    single
        bool ``(N,)``: objects that are not crowd regions.
    alignment
        How outlines lie on edges; None where that cannot be told.
    annotation_digest
        Equal for equal masks, whatever their ids.
    """

    sample: Sample
    findings: tuple[Finding, ...]
    pixels: PixelFacts | None = None
    anatomy: Anatomy | None = None
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    single: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    alignment: Alignment | None = None
    annotation_digest: str = ""

    @property
    def n_objects(self) -> int:
        """How many objects there are, crowd regions left out."""
        return int(self.single.sum())


def examine(sample: Sample) -> Examined:
    """Read an image and its annotation, and find what is wrong with them.

    Parameters
    ----------
    sample
        The image; its preprocessing steps are not done.

    Returns
    -------
    Examined
        Nothing is raised for what files hold.
    """
    about: dict[str, Any] = {"image": sample.name, "split": sample.split}
    of_image, of_labels = {**about, "file": sample.image_path}, {**about, "file": sample.label_path}
    image, found = _read_image(sample, of_image)
    objects, crowd, told = read_objects(sample, of_labels)
    found += told
    if image is not None and objects is not None and image.shape != objects.shape:
        found.append(_mismatch(image.shape, objects.shape, of_labels))
        image_objects = None
    else:
        image_objects = objects
    pixels = grey = None
    if image is not None:
        union = None if image_objects is None else _union(image_objects)
        pixels, grey, odd = look_at_pixels(image, union, **of_image)
        found += odd
    if grey is not None and image_objects is not None and _is_copy(grey, image_objects):
        found.append(finding("labels-are-image", "the labels' numbers are the image's pixels", **of_labels))
    if objects is None or any(one.kind in NO_LABELS for one in found):
        # What such a file would tell of objects is not worth saying.
        return Examined(sample, tuple(found), pixels)
    anatomy = describe_objects(objects)
    found += object_faults(objects, anatomy, crowd, **of_labels)
    if not len(objects):
        found.append(finding("no-objects", "nothing is annotated in this image", **of_labels))
    alignment = None
    if grey is not None and image_objects is not None and pixels is not None and pixels.low < pixels.high:
        alignment = align(grey, objects)
        found += _against_image(alignment, grey, objects, bool(crowd), of_labels)
    return Examined(
        sample, tuple(found), pixels, anatomy, objects.classes, ~np.isin(objects.ids, list(crowd)), alignment,
        _digest(objects),
    )  # fmt: skip


def read_objects(sample: Sample, about: Mapping[str, Any]) -> tuple[Instances | None, frozenset[int], list[Finding]]:
    """Read the objects of an image, the ids of crowd regions among them, and what is wrong with their file."""
    names = sample.reading.classes
    if sample.annotation is None:
        labels, found = read_label_file(sample.label_path, **about)
        if labels is None:
            return None, frozenset(), found
        classes = sample.reading.object_classes
        objects = Instances.from_labels(labels, class_names=names)
        if classes is not None:
            missing = [i for i in objects.ids.tolist() if i not in classes]
            if missing:
                found.append(finding(
                    "unknown-category", f"{many(len(missing), 'object')} without a class in the table",
                    objects=missing, **about,
                ))  # fmt: skip
            objects = replace(objects, classes=np.array([classes.get(i, 1) for i in objects.ids.tolist()], np.int32))
        return objects, frozenset(), found
    source = sample.annotation
    try:
        annotation = source.annotations.read(source.name)
    except (CytomaskError, OSError) as error:
        return None, frozenset(), [finding("unreadable-labels", sentence(error), **about)]
    objects = annotation.instances
    ids = np.array([source.class_ids[c - 1] for c in objects.classes.tolist()], np.int32)
    return replace(objects, classes=ids, class_names=names), annotation.crowd, []


def _read_image(sample: Sample, about: Mapping[str, Any]) -> tuple[Image | None, list[Finding]]:
    reading = sample.reading
    try:
        if sample.image_path.stat().st_size == 0:
            return None, [finding("empty-file", "the image file has 0 bytes", **about)]
        image = read_image(sample.image_path, axes=reading.axes, plane=reading.plane)
    except (CytomaskError, OSError) as error:
        return None, [finding("unreadable-image", sentence(error), **about)]
    if reading.channels is not None and len(reading.channels) == image.n_channels:
        image = replace(image, channels=reading.channels)
    if reading.pixel_size is not None and image.pixel_size is None:
        image = replace(image, pixel_size=reading.pixel_size)
    return image, []


def _mismatch(image: tuple[int, int], labels: tuple[int, int], about: Mapping[str, Any]) -> Finding:
    scale = labels[0] / image[0], labels[1] / image[1]
    hint = ""
    if image == labels[::-1]:
        hint = "; height and width are swapped"
    elif abs(scale[0] - scale[1]) < 0.02 * scale[0]:
        hint = f"; the labels are {scale[0]:.3g} times as large"
    return finding(
        "size-mismatch",
        "the labels are {} x {} px (y by x), the image {} x {} px".format(*labels, *image) + hint,
        value=abs(float(np.log(scale[0] * scale[1]))), **about,
    )  # fmt: skip


def _union(objects: Instances) -> np.ndarray:
    there = np.zeros(objects.shape, bool)
    for i, (y0, x0, y1, x1) in enumerate(objects.windows.tolist()):
        there[y0:y1, x0:x1] |= objects.mask(i)
    return there


def _is_copy(grey: np.ndarray, objects: Instances) -> bool:
    if len(objects) < 2:
        return False
    return bool(np.array_equal(objects.to_labels(np.int32), grey))


def _against_image(
    alignment: Alignment | None, grey: np.ndarray, objects: Instances, has_crowd: bool, about: Mapping[str, Any]
) -> list[Finding]:
    if alignment is not None and is_shifted(alignment):
        a = alignment
        return [finding(
            "shifted-labels",
            f"outlines lie better on the image's edges if moved by {a.dy:+d} px along y and {a.dx:+d} px along x: "
            f"{a.agreeing:.0%} of {many(a.objects, 'object')} agree, edges there are {a.gain:.0%} stronger",
            value=float(np.hypot(a.dy, a.dx)), **about,
        )]  # fmt: skip
    if has_crowd:
        return []
    # Ids may be as large as they like; a table of areas by number may not.
    blobs = forgotten_objects(grey, objects.renumbered().to_labels(np.int32))
    if not blobs:
        return []
    y0, x0, y1, x1 = blobs[0].window
    window = max(y0 - 24, 0), max(x0 - 24, 0), min(y1 + 24, grey.shape[0]), min(x1 + 24, grey.shape[1])
    return [finding(
        "missing-objects",
        f"{many(len(blobs), 'blob looks', 'blobs look')} like the {many(len(objects), 'annotated object')} "
        f"(up to {blobs[0].contrast:.1f} times their usual contrast)",
        window=window, value=len(blobs), **about,
    )]  # fmt: skip


def is_shifted(a: Alignment) -> bool:
    """Whether an annotation is surely shifted."""
    return (
        a.objects >= SHIFT_OBJECTS
        and float(np.hypot(a.dy, a.dx)) >= SHIFT_PIXELS
        and a.gain > SHIFT_GAIN
        and a.certainty > SHIFT_CERTAINTY
        and a.agreeing > SHIFT_AGREEING
    )


def _digest(objects: Instances) -> str:
    table = np.column_stack([objects.windows.astype(np.int64), objects.areas()])
    table = table[np.lexsort(table.T)]
    return hashlib.blake2b(table.tobytes() + repr(objects.shape).encode(), digest_size=16).hexdigest()
