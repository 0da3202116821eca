"""Images to cut crops from, the regions of interest of each, and the objects that are known in it."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cytomask.data.annotated import usual_annotations
from cytomask.data.dataset import Dataset, open_dataset
from cytomask.data.dataset_config import CONFIG_NAMES
from cytomask.data.pairs import IMAGE_FOLDERS, LABEL_FOLDERS, stem_of
from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.imagej_files import Region, holds_rois, read_regions
from cytomask.formats.annotations.imagej_shapes import fill_rois, is_area
from cytomask.formats.annotations.object_parts import objects_of_parts
from cytomask.formats.annotations.open_annotations import open_annotations
from cytomask.formats.annotations.region_boxes import NO_CLASS, RegionBox, read_box_table, read_roi_boxes
from cytomask.formats.images import list_images
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances
from cytomask.progress import say
from cytomask.workflows.convert import dataset_annotations
from cytomask.workflows.predicting.result_names import name_results

#: What a file of regions has behind the image's name, in small letters; the first that there is counts.
REGION_ENDINGS = (
    "--labels.txt", "--roi.zip", "_rois.zip", "-rois.zip", "_roiset.zip", "-roiset.zip", "/roiset.zip", ".zip", ".roi",
)  # fmt: skip
#: The name of ImageJ's own; it counts where one image only lies beside it.
LONE_REGIONS = "roiset.zip"
#: Suffixes of label images that are named by what is behind the image's name.
LABEL_IMAGES = (".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Source:
    """An image: its file, the name of what is made of it (with ``/`` between folders), and its split, if it has one."""

    path: Path
    name: str
    split: str | None = None


@dataclass(frozen=True, eq=False)
class KnownObjects:
    """Annotated objects of images, by the images' files.

    Attributes
    ----------
    place
        Where the annotation lies.
    classes
        Names of the classes.
    """

    place: Path
    classes: tuple[str, ...]
    _annotations: AnnotationSet
    _names: Mapping[Path, str] = field(default_factory=dict)

    def has(self, image: Path) -> bool:
        """Whether an image is annotated."""
        return image.resolve() in self._names

    def read(self, image: Path) -> Annotation:
        """Read the annotation of an image."""
        return self._annotations.read(self._names[image.resolve()])


@dataclass(frozen=True, eq=False)
class ImageRegions:
    """The regions of interest of an image, and the objects, where the regions are outlines and not mere boxes."""

    boxes: list[RegionBox]
    objects: Instances | None = None
    crowd: frozenset[int] = frozenset()
    told: tuple[str, ...] = ()


def find_sources(images: Sequence[str | Path], leave_out: Sequence[Path] = (), label_suffix: str = "") -> list[Source]:
    """List images; folders are searched with their subfolders, which names keep.

    Parameters
    ----------
    images
        Files, folders and patterns.
    leave_out
        Folders whose files are no images, but labels.
    label_suffix
        Files whose stem ends so are labels, too.

    Raises
    ------
    ImageError
        If there is none.
    """
    found: dict[Path, str] = {}
    for place in images:
        folder = Path(place) if Path(place).is_dir() and Path(place).suffix.lower() != ".zarr" else None
        for path in list_images([f"{glob.escape(str(folder))}/**/*" if folder else place]):
            labels = bool(label_suffix) and stem_of(path.name).endswith(label_suffix)
            if labels or any(path.resolve().is_relative_to(other.resolve()) for other in leave_out):
                continue
            below = path.relative_to(folder) if folder else Path(path.name)
            found.setdefault(path, (below.parent / stem_of(below.name)).as_posix())
    return _named([Source(path, name) for path, name in found.items()])


def _named(sources: list[Source]) -> list[Source]:
    if len({source.name.casefold() for source in sources}) == len(sources):
        return sources
    names = name_results([source.path for source in sources])
    return [Source(source.path, name, source.split) for source, name in zip(sources, names)]


def data_set_of(images: Sequence[str | Path]) -> Dataset | None:
    """Open a data set that is named in place of images: its YAML file, or a folder with images and labels."""
    if len(images) != 1:
        return None
    place = Path(images[0])
    is_yaml = place.is_file() and place.suffix.lower() in (".yaml", ".yml")
    return open_dataset(place) if is_yaml or _is_data_set(place) else None


def annotated_folder(images: Sequence[str | Path]) -> Dataset | None:
    """Open a folder of images with annotations of any format beside them; None if there are none."""
    place = Path(images[0])
    folder = place if place.is_dir() else place.parent
    return open_dataset(folder) if usual_annotations(folder) else None


def sources_of(dataset: Dataset) -> list[Source]:
    """The images of a data set, with the splits that it was told (not drawn)."""
    told = not dataset.how_split.startswith("drawn with") and len(dataset.split_names) > 1
    return [Source(one.image_path, one.name, one.split if told else None) for one in dataset.samples]


def objects_of(dataset: Dataset) -> KnownObjects:
    """The objects of a data set."""
    annotations = dataset_annotations(dataset)
    names = {sample.image_path.resolve(): sample.name for sample in dataset.samples}
    return KnownObjects(dataset.source, dataset.classes, annotations, names)


def open_objects(path: Path, format: str | None, images: Sequence[str | Path], option: str) -> KnownObjects:
    """Open annotations of any format, or a data set, for images that are known.

    Raises
    ------
    DataError
        If there is nothing, or it is of no known format.
    """
    is_yaml = path.is_file() and path.suffix.lower() in (".yaml", ".yml")
    if format is None and (is_yaml or _is_data_set(path)):
        return objects_of(open_dataset(path))
    places = [Path(place) for place in images if Path(place).exists()]
    opened = open_annotations(path, format, places, option=option)
    for sentence in opened.told:
        say(f"{path.name}: {sentence}")
    finder = ImageFinder(places)
    names = {image.resolve(): name for name in opened.names if (image := finder.find_clear(name)) is not None}
    return KnownObjects(path, opened.classes, opened, names)


def _is_data_set(place: Path) -> bool:
    if not place.is_dir():
        return False
    pair = all(any((place / name).is_dir() for name in names) for names in (IMAGE_FOLDERS, LABEL_FOLDERS))
    return pair or any((place / name).is_file() for name in CONFIG_NAMES)


def find_region_file(source: Source, folder: Path | None, alone: bool) -> Path | None:
    """Find the regions of an image: beside it, or in a folder of regions (with or without subfolders).

    Parameters
    ----------
    source
        The image.
    folder
        The folder of regions; None for the image's own.
    alone
        Whether no other image lies in the image's folder, so that a ``RoiSet.zip`` is of this one.

    Examples
    --------
    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> for name in ("a.ome.tif", "a--ROI.zip", "ab--labels.txt"):
    ...     (place / name).touch()
    >>> find_region_file(Source(place / "a.ome.tif", "a"), None, False).name
    'a--ROI.zip'
    """
    below = Path(source.name).parent
    folders = [source.path.parent] if folder is None else [folder / below, folder]
    stems = dict.fromkeys([stem_of(source.path.name), source.path.stem, source.path.name, Path(source.name).name])
    for place in folders:
        if not place.is_dir():
            continue
        files = {file.name.casefold(): file for file in sorted(place.iterdir()) if not file.name.startswith(".")}
        for ending in REGION_ENDINGS:
            for stem in stems:
                name, _, inside = f"{stem.casefold()}{ending}".partition("/")
                found = files.get(name)
                if inside and found is not None:
                    within = sorted(found.iterdir()) if found.is_dir() else []
                    found = next((file for file in within if file.name.casefold() == inside), None)
                if found is not None and found.is_file() and _is_meant(found):
                    return found
        if alone and LONE_REGIONS in files:
            return files[LONE_REGIONS]
    return None


def _is_meant(file: Path) -> bool:
    # A zip of the image's name may hold anything; broken ones of a clear name are to be told.
    return file.suffix.lower() != ".zip" or "roi" in file.name.casefold() or holds_rois(file)


def read_region_file(path: Path, shape: tuple[int, int]) -> ImageRegions:
    """Read a table of boxes, or ImageJ's regions: their boxes, and their pixels where they are more than rectangles.

    Raises
    ------
    LabelError
        If the file is broken, or a region is empty; the region is named.
    """
    if path.suffix.lower() == ".txt":
        return ImageRegions(read_box_table(path))
    boxes, passed = read_roi_boxes(path)
    told = (f"{path.name}: {passed} regions without area (lines, points, texts) are passed over",) if passed else ()
    regions = [region for region in read_regions(path) if is_area(region.roi)]
    if all(_is_rectangle(region) for region in regions):
        return ImageRegions(boxes, told=told)
    names = tuple(sorted({region.class_name or NO_CLASS for region in regions}))
    parts = fill_rois(shape, [one.roi for one in regions], [one.name for one in regions], str(path))
    objects = objects_of_parts(
        shape, parts,
        classes=[names.index(region.class_name or NO_CLASS) + 1 for region in regions],
        labels=[region.label for region in regions], class_names=names,
    )  # fmt: skip
    return ImageRegions(boxes, objects, told=told)


def _is_rectangle(region: Region) -> bool:
    from roifile import ROI_TYPE

    return region.roi.roitype == ROI_TYPE.RECT and region.roi.multi_coordinates is None


def regions_of_objects(annotation: Annotation) -> ImageRegions:
    """Take each object's box for a region; crowd regions, and objects without pixels, are left out."""
    objects = annotation.instances
    boxes = [
        RegionBox(f"object {i}", objects.class_names[c - 1], (int(y0), int(x0), int(y1), int(x1)))
        for i, c, (y0, x0, y1, x1) in zip(objects.ids.tolist(), objects.classes.tolist(), objects.windows.tolist())
        if i not in annotation.crowd and y1 > y0 and x1 > x0
    ]
    return ImageRegions(boxes, objects, annotation.crowd)


def read_labels_beside(source: Source, suffix: str, folder: Path | None, shape: tuple[int, int]) -> Instances:
    """Read the label image that has the image's name and a suffix, such as ``NAME_seg.png``.

    Raises
    ------
    DataError
        If there is none.
    LabelError
        If it is no label image, or of another size than the image.
    """
    below = Path(source.name).parent
    folders = [source.path.parent] if folder is None else [folder / below, folder]
    files = [
        place / f"{stem}{suffix}{ending}"
        for place in folders
        for stem in dict.fromkeys([stem_of(source.path.name), source.path.stem])
        for ending in LABEL_IMAGES
    ]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise DataError(
            "the image has no label image", where=source.path, expected=f"{files[0].name}, or .tif, beside it",
            fix="add it, or leave out --label-suffix",
        )  # fmt: skip
    return read_label_image(found, shape)


def read_label_image(path: Path, shape: tuple[int, int]) -> Instances:
    """Read the label image of an image of a shape.

    Raises
    ------
    LabelError
        If it is no label image, or of another size than the image.
    """
    labels = read_labels(path)
    if labels.shape != shape:
        raise LabelError(
            "the label image has another size than its image", where=path,
            found="{} x {} pixels (height x width)".format(*labels.shape), expected="{} x {}".format(*shape),
            fix="export the labels again at the image's size",
        )  # fmt: skip
    return Instances.from_labels(labels)
