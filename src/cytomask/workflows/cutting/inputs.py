"""What crops are cut from: each image with its regions of interest and the objects that are known in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytomask.errors import DataError, LabelError
from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.progress import say, warn
from cytomask.workflows.cutting.sources import (
    LABEL_IMAGES,
    ImageRegions,
    KnownObjects,
    Source,
    annotated_folder,
    data_set_of,
    find_region_file,
    find_sources,
    objects_of,
    open_objects,
    read_label_image,
    read_labels_beside,
    read_region_file,
    regions_of_objects,
    sources_of,
)


@dataclass(frozen=True, eq=False)
class CropInput:
    """What is cut: an image, its regions, its objects (None where they are not known), and where the regions lie."""

    image: Image
    regions: ImageRegions
    objects: Instances | None
    place: Path


@dataclass(frozen=True, eq=False)
class SubimageInputs:
    """The images to cut from, and where their regions and labels come from; made by :func:`open_inputs`.

    Attributes
    ----------
    sources
        The images.
    files
        The file of regions of each image that has one.
    known
        Annotations whose objects are the regions, where there are no such files.
    labels
        Annotations from which labels are cut; None takes the regions, where they are outlines.
    label_suffix, label_folder
        What label images have behind the images' names, and where they lie, if not beside the images.
    """

    sources: list[Source]
    files: dict[Path, Path]
    known: KnownObjects | None
    labels: KnownObjects | None
    label_suffix: str
    label_folder: Path | None

    def read(self, source: Source, axes: str | None, plane: int | None) -> CropInput | None:
        """Read an image, its regions and its objects; None if it has no regions."""
        file = self.files.get(source.path)
        if file is None and (self.known is None or not self.known.has(source.path)):
            return None
        image = read_image(source.path, axes=axes, plane=plane)
        if file is not None:
            regions = read_region_file(file, image.shape)
        else:
            assert self.known is not None
            regions = regions_of_objects(self.known.read(source.path))
            _check_size(regions.objects, image, source.path)
        for sentence in regions.told:
            say(sentence)
        if not regions.boxes:
            return None
        return CropInput(image, regions, self._labels(source, image, regions), file or source.path)

    def _labels(self, source: Source, image: Image, regions: ImageRegions) -> Instances | None:
        crowd = regions.crowd
        if self.label_suffix:
            return read_labels_beside(source, self.label_suffix, self.label_folder, image.shape)
        objects = regions.objects
        if self.labels is not None and self.labels is not self.known:
            if not self.labels.has(source.path):
                if len(self.sources) == 1 and Path(self.labels.place).suffix.casefold() in LABEL_IMAGES:
                    # One label image for one image needs no name that tells.
                    return read_label_image(Path(self.labels.place), image.shape)
                raise DataError(
                    "the image has no labels", where=source.path,
                    expected=f"an annotation of it in {self.labels.place}",
                    fix="add it, or leave out --labels",
                )  # fmt: skip
            annotation = self.labels.read(source.path)
            objects, crowd = annotation.instances, annotation.crowd
            _check_size(objects, image, source.path)
        if objects is not None and crowd:
            warn(f"{source.path.name}: {len(crowd)} crowd regions are no objects, so no label tells of them")
            objects = objects.take(~np.isin(objects.ids, list(crowd)))
        return objects


def open_inputs(
    images: Sequence[str | Path],
    regions: str | Path | None,
    format: str | None,
    labels: str | Path | None,
    label_suffix: str,
) -> SubimageInputs:
    """Find the images, their regions and their labels; parameters as of ``cut_subimages``.

    Raises
    ------
    DataError, ImageError
        If there is nothing where something is named.
    """
    for place, option in ((regions, "--regions"), (labels, "--labels")):
        if place is not None and not Path(place).exists():
            raise DataError("there is nothing of this name", where=place, found=option, fix="check the name")
    dataset = data_set_of(images)
    label_folder = Path(labels) if labels is not None and Path(labels).is_dir() else None
    leave_out = [label_folder] if label_folder is not None and not label_suffix else []
    sources = sources_of(dataset) if dataset is not None else find_sources(images, leave_out, label_suffix)
    files, known = _find_regions(sources, None if regions is None else Path(regions), format, images)
    if not files and known is None and regions is None:
        dataset = dataset or annotated_folder(images)
        if dataset is not None:
            sources, known = sources_of(dataset), objects_of(dataset)
    truth = None
    if labels is not None and not label_suffix:
        truth = open_objects(Path(labels), None, images if dataset is None else _folders(sources), "--labels")
    elif labels is None and not label_suffix and dataset is not None:
        truth = known or objects_of(dataset)
    return SubimageInputs(sources, files, known, truth, label_suffix, label_folder)


def _find_regions(
    sources: list[Source], regions: Path | None, format: str | None, images: Sequence[str | Path]
) -> tuple[dict[Path, Path], KnownObjects | None]:
    """A file of regions for each image that has one; or annotations."""
    if regions is not None and regions.is_file() and regions.suffix.lower() in (".txt", ".roi", ".zip"):
        own = [source for source in sources if find_region_file(source, regions.parent, True) == regions]
        if len(sources) == 1 or own:
            return {(own or sources)[0].path: regions}, None
    if format is None and (regions is None or regions.is_dir()):
        alone = Counter(source.path.parent for source in sources)
        found = {one.path: find_region_file(one, regions, alone[one.path.parent] == 1) for one in sources}
        files = {path: file for path, file in found.items() if file is not None}
        if files:
            return files, None
    if regions is None:
        return {}, None
    return {}, open_objects(regions, format, images, "--from")


def _folders(sources: list[Source]) -> list[Path]:
    return list(dict.fromkeys(source.path.parent for source in sources))


def _check_size(objects: Instances | None, image: Image, path: Path) -> None:
    if objects is not None and objects.shape != image.shape:
        raise LabelError(
            "the annotation has another size than its image", where=path,
            found="{} x {} pixels (height x width)".format(*objects.shape), expected="{} x {}".format(*image.shape),
            fix="export the annotation again at the image's size",
        )  # fmt: skip
