"""Convert annotations from one format to another, and say what the other cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cytomask.data.annotated import usual_annotations
from cytomask.data.dataset import Dataset, open_dataset
from cytomask.data.dataset_config import CONFIG_NAMES
from cytomask.data.remote_data import local_data
from cytomask.data.sample import Sample, read_layers
from cytomask.errors import ConfigError, DataError, OutputError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS, AnnotationFormat
from cytomask.formats.annotations.losses import Losses
from cytomask.formats.annotations.open_annotations import find_format, open_annotations, recognise_format
from cytomask.progress import say, track, warn
from cytomask.workflows.predicting.result_names import COCO_NAME, RECORD_NAME

DATASET = "data set"
#: Formats that have a file for each image, by the suffix of these.
_FOLDERS = {".geojson": "qupath", ".zip": "imagej-rois", ".roi": "imagej-rois", ".npy": "cellpose", ".svg": "s-bsst265"}


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes
    ----------
    source, target
        What was read, and what was written.
    source_title, target_title
        Names of the two formats.
    images, objects
        How many.
    classes
        Names of the classes.
    lost
        One sentence for each thing that the target's format cannot hold and that was there.
    """

    source: Path
    target: Path
    source_title: str
    target_title: str
    images: int
    objects: int
    classes: tuple[str, ...]
    lost: tuple[str, ...]

    def lines(self) -> list[str]:
        """The summary for people."""
        n_images = "1 image" if self.images == 1 else f"{self.images} images"
        n_objects = "1 object" if self.objects == 1 else f"{self.objects} objects"
        classes = f" of {len(self.classes)} classes" if len(self.classes) > 1 else ""
        return [
            f"{n_objects}{classes} in {n_images}: {self.source_title} -> {self.target_title}",
            f"wrote {self.target}",
        ]


def convert_annotations(
    source: str | Path,
    target: str | Path,
    *,
    from_format: str | None = None,
    to_format: str | None = None,
    images: Sequence[str | Path] = (),
    split: str | None = None,
    truth: str | Path | None = None,
    lossless: bool = False,
    overwrite: bool = False,
) -> Conversion:
    """Read annotations of one format, and write them in another.

    Parameters
    ----------
    source
        An annotation file or folder, or a data set (its YAML file or folder).
    target
        The file, or the folder (new or empty), to write.
    from_format
        Format of ``source``; None tells it by its content.
    to_format
        Format of ``target``; None tells it by its suffix: a path without a suffix becomes a folder of label images.
    images
        Folders of the images, for formats that do not tell their sizes; None looks beside the annotations.
    split
        Only this split of a data set.
    truth
        The COCO file that COCO results are of, for the names of their images.
    lossless
        Write nothing if anything would be lost.
    overwrite
        Replace ``target`` if it is a file that exists.

    Returns
    -------
    Conversion
        With what was lost. The target is complete, or not there at all.

    Raises
    ------
    ConfigError
        If there is no such format.
    DataError
        If the annotations cannot be read; or, with ``lossless``, if the target cannot hold them.
    OutputError
        If the target exists, or cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from cytomask.formats.label_images import write_labels
    >>> place = Path(tempfile.mkdtemp())
    >>> (place / "labels").mkdir()
    >>> write_labels(place / "labels/a.png", np.array([[0, 7], [7, 9]]))
    >>> convert_annotations(place / "labels", place / "all.json").objects
    2
    """
    source, target = local_data(source), Path(target)
    to = find_format(to_format, "--to") if to_format is not None else _format_of_target(target)
    _check_target(source, target, to, overwrite)
    annotations, title = _open(source, from_format, images, split, truth)
    for sentence in annotations.told:
        say(f"{source.name}: {sentence}")
    tally = _Tally(annotations, Losses(to.holds), f"{target} ({to.title})" if lossless else None)
    to.load().write_annotations(target, tally, annotations.classes)
    lost = tuple(tally.losses.sentences())
    for sentence in lost:
        warn(f"{to.title} cannot hold {sentence}")
    return Conversion(source, target, title, to.title, tally.images, tally.objects, annotations.classes, lost)


class _Tally:
    """Passes annotations on, one at a time, and counts them and what is lost."""

    def __init__(self, annotations: AnnotationSet, losses: Losses, lossless: str | None) -> None:
        self.annotations, self.losses, self.lossless = annotations, losses, lossless
        self.images = self.objects = 0

    def __iter__(self) -> Iterator[Annotation]:
        for annotation in track(self.annotations, "converting", total=len(self.annotations)):
            self.losses.add(annotation)
            if self.lossless and self.losses.counts:
                raise DataError(
                    "the annotations cannot be written without loss",
                    where=self.lossless,
                    found=f"{'; '.join(self.losses.sentences())} (image {annotation.name})",
                    fix="write another format (coco holds everything), or leave out --lossless",
                )
            self.images += 1
            self.objects += len(annotation.instances)
            yield annotation


def _open(
    source: Path,
    from_format: str | None,
    images: Sequence[str | Path],
    split: str | None,
    truth: str | Path | None = None,
) -> tuple[AnnotationSet, str]:
    is_yaml = source.is_file() and source.suffix.lower() in (".yaml", ".yml")
    configured = source.is_dir() and any((source / name).is_file() for name in CONFIG_NAMES)
    if from_format is None and (is_yaml or configured or split is not None):
        return dataset_annotations(open_dataset(source), split), DATASET
    if split is not None:
        raise ConfigError(
            "only a data set has splits", where="--split", found=f"{split}, with --from {from_format}",
            fix="leave out one of the two",
        )  # fmt: skip
    row = find_format(from_format) if from_format is not None else recognise_format(source)
    if row is None and truth is not None and source.is_file():
        # An empty list, for instance: a model that found nothing.
        row = find_format("coco-results")
    if (
        from_format is None
        and row is not None
        and row.name == "labels"
        and source.is_dir()
        and usual_annotations(source)
    ):
        # Images with annotation files beside them, not label images.
        return dataset_annotations(open_dataset(source)), DATASET
    if from_format is None and (source / RECORD_NAME).is_file() and (source / COCO_NAME).is_file():
        # What predict wrote: the results hold scores and overlap, which the label images beside them do not.
        source, row = source / COCO_NAME, find_format("coco-results")
    opened = open_annotations(source, row.name if row is not None else None, images, truth=truth)
    assert row is not None
    return opened, row.title


def dataset_annotations(dataset: Dataset, split: str | None = None) -> AnnotationSet:
    """See the objects of a data set, or of one of its splits, as annotations; preprocessing steps are left out."""
    samples = dataset.samples if split is None else dataset.split(split)
    by_name = {sample.name: sample for sample in samples}
    facts = {s.name: {**s.group, **({"split": s.split} if s.split else {})} for s in samples}
    return AnnotationSet(dataset.classes, tuple(by_name), partial(_read_sample, by_name), facts=facts)


def _read_sample(samples: dict[str, Sample], name: str) -> Annotation:
    sample = samples[name]
    layers = read_layers(sample)
    facts = {**sample.group, **({"split": sample.split} if sample.split else {})}
    return Annotation(name, layers.to_instances(), layers.crowd, sample.image_path.name, sample.image_path, facts)


def _format_of_target(target: Path) -> AnnotationFormat:
    suffix = target.suffix.lower()
    if not suffix:
        return ANNOTATION_FORMATS["labels"]
    for row in ANNOTATION_FORMATS.values():
        if row.kind == "file" and row.suffix == suffix:
            return row
    of_images = ANNOTATION_FORMATS.get(_FOLDERS.get(suffix, ""))
    of_suffix: dict[str, str] = {}
    for row in ANNOTATION_FORMATS.values():
        of_suffix.setdefault(row.suffix, row.title)
    del of_suffix[""]
    raise ConfigError(
        "the target's name does not tell its format",
        where=target,
        found=suffix,
        expected="no suffix (a folder of label images), "
        + ", ".join(f"{suffix} ({title})" for suffix, title in of_suffix.items()),
        fix=f"name the format with --to: {', '.join(ANNOTATION_FORMATS)}" if of_images is None
        else f"{of_images.title} is a folder with a file for each image: name a folder, and --to {of_images.name}",
    )  # fmt: skip


def _check_target(source: Path, target: Path, to: AnnotationFormat, overwrite: bool) -> None:
    inside = source.is_dir() and target.resolve().is_relative_to(source.resolve()) and to.kind == "folder"
    if target.resolve() == source.resolve() or inside:
        raise OutputError(
            "the result would mix with what is read", where=target, fix="name a place outside the annotations"
        )
    if to.kind == "file" and target.exists() and not (overwrite and target.is_file()):
        raise OutputError(
            "the file exists" if target.is_file() else "there is a folder of this name",
            where=target,
            fix="name another file, or replace it with --overwrite" if target.is_file() else "name a file",
        )
