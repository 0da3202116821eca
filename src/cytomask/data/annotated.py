"""Data sets whose objects are told by annotation files (COCO, CVAT, ImageJ …) in place of label images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cytomask.data.pairs import IMAGE_FOLDERS, LABEL_FOLDERS
from cytomask.data.splits import USUAL_NAMES, usual_name
from cytomask.errors import DataError
from cytomask.formats.annotations.annotation import AnnotationSet
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.open_annotations import open_annotations, recognise_format, usual_places
from cytomask.formats.limits import check_label_image
from cytomask.label_layers import LabelLayers
from cytomask.progress import say

#: Suffixes of the annotation files that are looked for in a data set's folder.
_FILE_SUFFIXES = frozenset(row.suffix for row in ANNOTATION_FORMATS.values() if row.kind == "file")


@dataclass(frozen=True, eq=False)
class AnnotationSource:
    """Where one image's annotation comes from.

    Attributes
    ----------
    annotations
        The set that it is in.
    name
        The image's name in that set.
    class_ids
        Class id in the data set of each class of the annotations, in order.
    """

    annotations: AnnotationSet
    name: str
    class_ids: tuple[int, ...]

    def read(self, class_names: Sequence[str]) -> LabelLayers:
        """Read the annotation, its classes numbered as ``class_names`` are."""
        annotation = self.annotations.read(self.name)
        objects = annotation.instances
        check_label_image(objects.shape, self.name)
        classes = [self.class_ids[c - 1] for c in objects.classes.tolist()]
        objects = replace(objects, classes=classes, class_names=tuple(class_names))  # type: ignore[arg-type]
        return LabelLayers.from_instances(objects, annotation.crowd)


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image and its annotation; ``name`` is unique in the data set."""

    name: str
    image: Path
    file: Path
    source: AnnotationSource
    split: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AnnotatedImages:
    """All images that annotations speak of, the classes, and what is wrong."""

    images: list[AnnotatedImage]
    classes: tuple[str, ...]
    problems: list[str]


def find_annotated(
    sources: Mapping[str | None, Path],
    images: Path | None,
    format: str | None = None,
    classes: tuple[str, ...] | None = None,
) -> AnnotatedImages:
    """Open annotations, and find the images that they speak of.

    Parameters
    ----------
    sources
        A file or folder for each split; under None, one for which the splits are told otherwise.
    images
        The images' folder; None looks in the usual places beside each file.
    format
        Name of the annotations' format; None tells it by their content.
    classes
        Names of the classes; None takes those of the annotations, in the order in which they are met.

    Raises
    ------
    DataError
        If annotations are of no known format, or have a class that ``classes`` does not name.
    """
    opened = {
        split: open_annotations(path, format, [images] if images is not None else (), option="annotation_format")
        for split, path in sources.items()
    }
    for split, path in sources.items():
        for sentence in opened[split].told:
            say(f"{path.name}: {sentence}")
    every = tuple(dict.fromkeys(name for found in opened.values() for name in found.classes))
    names = classes if classes is not None else every
    occurrences = Counter(name for found in opened.values() for name in found.names)
    listed: list[AnnotatedImage] = []
    problems: list[str] = []
    for split, path in sources.items():
        found = opened[split]
        class_ids = _class_ids(found.classes, names, path)
        finder = ImageFinder([images] if images is not None else usual_places(path))
        for name in found.names:
            # An image that two splits annotate is two images, and a leak that the check tells.
            unique = name if occurrences[name] == 1 or split is None else f"{split}/{name}"
            try:
                image = finder.find(name)
            except DataError as error:
                problems.append(f"{unique}: {error.what} ({error.found})")
                continue
            if image is None:
                problems.append(f"{unique}: its image was not found in {', '.join(str(p) for p in finder.places)}")
                continue
            facts = {str(key): str(value) for key, value in found.facts.get(name, {}).items()}
            source = AnnotationSource(found, name, class_ids)
            listed.append(AnnotatedImage(unique, image, path, source, split, facts))
    return AnnotatedImages(sorted(listed, key=lambda one: one.name), names, problems)


def usual_annotations(root: Path) -> dict[str | None, Path]:
    """Find annotations in a data set's folder that no YAML describes; empty if it holds label images.

    Raises
    ------
    DataError
        If there are several annotation files and their names do not tell of which split they are.
    """
    if not root.is_dir():
        return {}
    labelled = _has(root, LABEL_FOLDERS) and _has(root, IMAGE_FOLDERS)
    row = recognise_format(root)
    if (
        row is not None
        and row.name != "labels"
        and not (labelled and row.name in ("cellpose", "imagej-rois", "qupath"))
    ):
        return {None: root}
    if labelled:
        return {}
    candidates = sorted(p for p in root.iterdir() if p.is_file() and p.suffix.lower() in _FILE_SUFFIXES)
    rows = {path: recognise_format(path) for path in candidates}
    # Results of a model lie beside label images that it found: neither is an annotation.
    files = [path for path, row in rows.items() if row is not None and row.name != "coco-results"]
    if len(files) == 1 and split_of(files[0].stem) is None:
        return {None: files[0]}
    splits: dict[str | None, Path] = {split_of(path.stem): path for path in files}
    if None in splits or len(splits) < len(files):
        raise DataError(
            "the data set has several annotation files, and their names do not tell which split each is",
            where=root,
            found=", ".join(path.name for path in files),
            expected="one file, or one for each split, called train.json, val.json … (or instances_train.json …)",
            fix="name one of them, or list them in a dataset.yaml: annotations: {train: …, val: …}",
        )
    return splits


def split_of(stem: str) -> str | None:
    """The split that a file's name tells, if it tells one.

    Examples
    --------
    >>> [split_of(s) for s in ("train", "instances_val2017", "livecell_coco_test", "trainer")]
    ['train', 'val', 'test', None]
    """
    words = [word for word in re.split(r"[^a-z]+", stem.casefold()) if word in USUAL_NAMES]
    return usual_name(words[0]) if len({USUAL_NAMES[word] for word in words}) == 1 else None


def _class_ids(of_file: tuple[str, ...], names: tuple[str, ...], path: Path) -> tuple[int, ...]:
    unknown = [name for name in of_file if name not in names]
    if unknown and len(of_file) == len(names) == 1:
        return (1,)  # one class, by whatever name
    if unknown:
        raise DataError(
            "the annotations have a class that the data set's file does not name",
            where=path,
            found=", ".join(unknown),
            expected=", ".join(names),
            fix="add it to classes, or leave classes out",
        )
    return tuple(names.index(name) + 1 for name in of_file)


def _has(root: Path, names: Sequence[str]) -> bool:
    return any((root / name).is_dir() for name in names)
