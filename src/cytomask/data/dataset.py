"""A data set: images, their annotated objects, and which are for training, validation and testing.

It is a folder with ``images/`` and ``labels/`` (and perhaps ``manifest.csv``), or annotations of any format of
:mod:`cytomask.formats.annotations.annotation_formats` with their images, or a YAML file that says where things lie; see
:class:`cytomask.data.dataset_config.DatasetConfig`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from cytomask.data.annotated import AnnotatedImage, find_annotated, usual_annotations
from cytomask.data.dataset_config import CONFIG_NAMES, DatasetConfig, PairConfig, inside, read_config
from cytomask.data.object_classes import read_object_classes
from cytomask.data.pairs import Pair, find_pairs, stem_of
from cytomask.data.remote_data import local_data
from cytomask.data.sample import UNNAMED, Reading, Sample, load_sample, read_layers, trouble
from cytomask.data.splits import Assignment, TableSplits, assign_splits, in_order
from cytomask.data.tables import Table, read_table, rows_by_name
from cytomask.errors import DataError
from cytomask.formats.annotations.open_annotations import recognise_format
from cytomask.image import Image
from cytomask.label_layers import LabelLayers
from cytomask.progress import track, warn

MANIFEST = "manifest.csv"
#: So many problems are listed; of the rest, the number.
LISTED = 10


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set; made by :func:`open_dataset`.

    Attributes
    ----------
    name
        What it is called.
    source
        The YAML file or folder that it was opened from.
    samples
        All annotated images, in order of their names.
    classes
        Names of the classes; the id of the first is 1.
    split_names
        The splits that there are, also empty ones.
    how_split
        How the splits came about, in words.
    licence
        Licence of the data, when the YAML file says it.
    problems
        What was found wrong with the files' names and the table when the data set was opened; :meth:`verify` raises
        them.
    """

    name: str
    source: Path
    samples: list[Sample]
    classes: tuple[str, ...]
    split_names: tuple[str, ...]
    how_split: str
    licence: str | None = None
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def split(self, name: str) -> list[Sample]:
        """Samples of one split, in order of their names; a drawn split may be empty.

        Raises
        ------
        DataError
            If the data set has no split of that name.
        """
        if name not in self.split_names:
            raise DataError(
                f"the data set has no split {name!r}",
                where=self.source,
                found=", ".join(self.split_names) or "no splits",
                expected=name,
                fix="name one of these, or say in the data set's file how it is split",
            )
        return [sample for sample in self.samples if sample.split == name]

    def load(self, sample: Sample) -> tuple[Image, LabelLayers]:
        """Read a sample's image and annotation; see :func:`load_sample`."""
        return load_sample(sample)

    def load_layers(self, sample: Sample) -> LabelLayers:
        """Read a sample's annotation as :func:`load_sample` would; the image is read only if a step needs it."""
        return load_sample(sample)[1] if sample.reading.steps else read_layers(sample)

    def verify(self, samples: Sequence[Sample] | None = None) -> None:
        """Read everything once, and raise all problems together.

        Parameters
        ----------
        samples
            The samples to read; all if None. Problems of names and tables are those of the whole data set.

        Raises
        ------
        DataError
            Lists the first ten problems and how many there are: files without a partner, names that occur twice,
            files that cannot be read, labels of another size than their image, empty splits.
        """
        chosen = self.samples if samples is None else list(samples)
        problems = list(self.problems)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for found in track(pool.map(trouble, chosen), "checking the data", total=len(chosen)):
                problems += [found] if found else []
        if problems:
            more = len(problems) - LISTED
            lines = problems[:LISTED] + ([f"and {more} more"] if more > 0 else [])
            raise DataError(
                f"the data set has {_count(problems)}",
                where=self.source,
                found="\n            ".join(lines),
                fix="mend or remove these files, and start again",
            )

    def fingerprint(self) -> str:
        """Hash of the names, splits, sizes and contents of all files: equal for equal data, wherever it lies.

        Returns
        -------
        str
            SHA-256, 64 hexadecimal digits.
        """
        # Many images may share one file of annotations.
        files = list(dict.fromkeys(p for s in self.samples for p in (s.image_path, s.label_path)))
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            contents = dict(zip(files, pool.map(_digest, files)))
        total = hashlib.sha256(repr(self.classes).encode())
        for sample in self.samples:
            image, labels = contents[sample.image_path], contents[sample.label_path]
            total.update(repr((sample.name, sample.split, image, labels)).encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def describe(self) -> str:
        """One line: how many images in which split, and how the splits came about.

        Examples
        --------
        ``nuclei: 664 images (train 532, val 65, test 67; column 'split' of manifest.csv)``
        """
        counts = Counter(sample.split for sample in self.samples)
        parts = [f"{name} {counts[name]}" for name in self.split_names]
        if counts[None]:
            parts.append(f"in no split {counts[None]}")
        return f"{self.name}: {len(self.samples)} images ({', '.join(parts)}; {self.how_split})"


def open_dataset(path: str | Path, split: str | None = None) -> Dataset:
    """Open a data set.

    Parameters
    ----------
    path
        A YAML file, or a folder that holds ``dataset.yaml``, or ``images/`` and ``labels/`` with an optional
        ``manifest.csv``, or a folder for each split with these two in it; or annotations of any format, their images in
        the same folder or in ``images/`` beside them; or a folder of images with such a file (for each split). Or the
        address of one of these, such as ``s3://bucket/data``; see :func:`cytomask.data.remote_data.local_data`.
    split
        Only this split.

    Returns
    -------
    Dataset
        Files have been found and paired by name, but not read; :meth:`Dataset.verify` does that.

    Raises
    ------
    ConfigError
        If the YAML file is wrong.
    DataError
        If there is no data set there.
    """
    path = local_data(path)
    if path.is_dir():
        named = next((path / name for name in CONFIG_NAMES if (path / name).is_file()), None)
        dataset = _from_config(named, read_config(named)) if named else _from_config(path, DatasetConfig())
    elif path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        dataset = _from_config(path, read_config(path))
    elif path.exists() and recognise_format(path) is not None:
        dataset = _from_config(path, DatasetConfig(annotations=path.name))
        if any(sample.image_path == sample.label_path for sample in dataset.samples):
            raise DataError(
                "this is a single image, which would be its own labels", where=path,
                expected="a YAML file, a folder with images/ and labels/, or annotations with their images",
                fix="name the folder that holds images/ and labels/; `cytomask predict` segments single images",
            )  # fmt: skip
    else:
        raise DataError(
            "this is no data set" if path.exists() else "there is no such data set",
            where=path,
            expected="a YAML file, a folder with images/ and labels/, or annotations with their images",
        )
    if dataset.problems:
        warn(f"{path}: {_count(dataset.problems)}; what they are about is left out; the first: {dataset.problems[0]}")
    return dataset if split is None else replace(dataset, samples=dataset.split(split), split_names=(split,))


def _digest(path: Path) -> tuple[int, str]:
    try:
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError("a file of the data set cannot be read", where=path, found=error.strerror) from error


def _count(problems: Sequence[str]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def _from_config(source: Path, config: DatasetConfig) -> Dataset:
    folder = source if source.is_dir() else source.parent
    root = inside(folder, config.root, source, "root")
    images, labels = (
        None if named is None else inside(root, named, source, what)
        for what, named in (("images", config.images), ("labels", config.labels))
    )
    named = _annotations(config, root, source)
    annotated = None
    if named:
        annotated = find_annotated(named, images, config.annotation_format, config.classes)
        pairs, problems = [Pair(one.name, one.image, one.file) for one in annotated.images], annotated.problems
    elif config.pairs is not None:
        pairs, problems = _listed_pairs(config.pairs, root, source)
    else:
        pairs, problems = find_pairs(root, images, labels, config.image_suffix, config.label_suffix)
    names = [pair.name for pair in pairs]
    table = _table(config, root, source, annotated is not None and any(one.facts for one in annotated.images))
    by_table = config.splits if isinstance(config.splits, TableSplits) else TableSplits()
    rows: dict[str, dict[str, str]] = {}
    if table is not None:
        rows, found = rows_by_name(table, by_table.name or config.name_column, names)
        problems += found
    if annotated is not None:
        rows = {one.name: {**one.facts, **rows.get(one.name, {})} for one in annotated.images}
    if annotated is not None and None not in named:
        splits = _splits_by_file(annotated.images, named)
    else:
        splits = assign_splits(config.splits, names, rows, table.path.name if table is not None else "the annotations")
    problems += splits.problems
    members = Counter(splits.splits.values())
    for name in splits.names:
        # Chance may leave a small share empty; but without training images there is nothing to do.
        if not members[name] and (not splits.drawn or name == "train"):
            problems.append(f"split {name!r}: has no images")
    classes, objects = config.classes or UNNAMED, None
    if config.object_classes is not None:
        path = inside(root, config.object_classes.csv, source, "object_classes.csv")
        classes, objects = read_object_classes(path, config.object_classes, config.classes, names)
    elif annotated is not None:
        classes = annotated.classes
    size = config.pixel_size
    reading = Reading(
        classes=classes,
        axes=config.axes,
        plane=config.plane,
        channels=config.channels,
        pixel_size=(size, size) if isinstance(size, float) else size,
    )
    steps = config.steps_by_split(splits.names, source)
    samples = []
    for pair, source_of in zip(pairs, [one.source for one in annotated.images] if annotated else [None] * len(pairs)):
        split = splits.splits.get(pair.name)
        of_objects = None if objects is None else objects.get(pair.name, {})
        samples.append(
            Sample(
                pair.name, pair.image, pair.labels,
                group={k: v for k, v in rows.get(pair.name, {}).items() if k not in ("split", by_table.column)},
                split=split,
                reading=replace(reading, object_classes=of_objects, steps=steps[split]),
                annotation=source_of,
            )
        )  # fmt: skip
    return Dataset(
        name=config.name or (source.resolve().name if source.is_dir() else source.resolve().parent.name),
        source=source,
        samples=samples,
        classes=classes,
        split_names=splits.names,
        how_split=splits.how,
        licence=config.licence,
        problems=tuple(problems),
    )


def _listed_pairs(listed: Sequence[PairConfig], root: Path, source: Path) -> tuple[list[Pair], list[str]]:
    """The pairs that the data set's file lists, and what is wrong: files that are not there, names that occur twice."""
    pairs: dict[str, Pair] = {}
    problems = []
    for one in listed:
        image, labels = (inside(root, text, source, "pairs") for text in (one.image, one.labels))
        name = one.name or stem_of(image.name)
        missing = [path.name for path in (image, labels) if not path.is_file()]
        if missing:
            problems.append(f"{name}: there is no file {' and no file '.join(missing)}")
        elif name in pairs:
            problems.append(f"{name}: several pairs are called so: give each a name")
        else:
            pairs[name] = Pair(name, image, labels)
    return [pairs[name] for name in sorted(pairs)], problems


def _annotations(config: DatasetConfig, root: Path, source: Path) -> dict[str | None, Path]:
    """The annotation files that are named, or lie in the folder; empty if the objects are in label images."""
    if config.annotations is None:
        return {} if config.labels is not None or config.pairs is not None else usual_annotations(root)
    named = config.annotations if isinstance(config.annotations, dict) else {None: config.annotations}
    return {split: inside(root, path, source, "annotations") for split, path in named.items()}


def _splits_by_file(images: Sequence[AnnotatedImage], named: Mapping[str | None, Path]) -> Assignment:
    listed = ", ".join(dict.fromkeys(path.name for path in named.values()))
    splits = {one.name: one.split for one in images if one.split}
    return Assignment(splits, in_order(split for split in named if split), f"by file: {listed}")


def _table(config: DatasetConfig, root: Path, source: Path, told: bool) -> Table | None:
    """The table of the images; there may be none where the annotations tell of them what a table would."""
    splits = config.splits if isinstance(config.splits, TableSplits) else None
    named = splits.csv if splits is not None and splits.csv is not None else config.table
    if named is None and not (root / MANIFEST).is_file():
        if splits is not None and not told:
            raise DataError("the splits come from a table, but none is named", where=source, fix="give splits.csv")
        return None
    path = inside(root, named, source, "table") if named is not None else root / MANIFEST
    return read_table(path, needed=[splits.column] if splits is not None else [])
