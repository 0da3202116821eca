"""One binary mask per object, as Kaggle's Data Science Bowl 2018 publishes them.

``NAME/images/NAME.png`` is the image, and each file of ``NAME/masks/`` one object, as large as the image. A folder of
masks that is empty is an image without objects; an image without a folder of masks is not annotated.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import PIL.Image

from cytomask.errors import DataError, ImageError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.images import IMAGE_SUFFIXES, check_file, file_kind, read_file
from cytomask.formats.limits import check_label_image
from cytomask.instances import Instances
from cytomask.output import new_folder

IMAGES, MASKS = "images", "masks"
#: Of so many entries of a folder, so many folders are looked into to recognise the layout.
_ENTRIES, _FOLDERS = 2000, 10
#: How bright red, green and blue are, of which two colours tell the object from the background.
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class _Folders:
    """A folder that was looked through; called with a name, it reads that image's masks."""

    place: Path
    finder: ImageFinder
    images: Mapping[str, Path | None]

    def __call__(self, name: str) -> Annotation:
        folder, image = self.place / name, self.images[name]
        if image is None:
            image = self.finder.find(name)
        crops, origins = [], []
        shape: tuple[int, int] | None = None
        first = ""
        for path in _pictures(folder / MASKS):
            mask = read_mask(path)
            if shape is not None and mask.shape != shape:
                raise LabelError(
                    "the masks of an image differ in size", where=path, found=f"{mask.shape[0]} x {mask.shape[1]}",
                    expected=f"{shape[0]} x {shape[1]} (height x width), as {first}",
                )  # fmt: skip
            shape, first = (mask.shape[0], mask.shape[1]), first or path.name
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                origins.append((rows[0], columns[0]))
                crops.append(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy())
        if shape is None:
            shape = self.finder.size_of(name, folder) if image is None else self.finder.size(image)
        objects = Instances.from_crops(shape, crops, np.array(origins, np.int32).reshape(-1, 2))
        return Annotation(name, objects, file_name=None if image is None else image.name, image=image)


def recognise(path: Path) -> bool:
    """Whether a folder has folders in it that each hold a folder of masks."""
    if not path.is_dir() or (path / MASKS).is_dir():
        return False
    try:
        return _holds_samples(path, depth=3)
    except OSError:
        return False


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the images that have masks; each one's are read when asked for.

    An image is called as its folder; its objects are in the order of their files' names. Where there is no image beside
    the masks, it is looked for by its name.

    Raises
    ------
    DataError
        If an image's folder holds several images. Files that are no masks raise a
        :class:`cytomask.errors.LabelError` when they are read.

    Examples
    --------
    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "set"
    >>> objects = Instances.from_labels(np.array([[1, 1, 0, 2]]))
    >>> write_annotations(place, [Annotation("a", objects)], ["object"])
    >>> sorted(p.relative_to(place).as_posix() for p in place.rglob("*.png"))
    ['a/masks/1.png', 'a/masks/2.png']
    >>> open_annotations(place, ImageFinder()).read("a").instances.to_labels()
    array([[1, 1, 0, 2]], dtype=int32)
    """
    path = Path(path)
    found: dict[str, Path | None] = {}
    for folder in sorted(p.parent for p in path.rglob(MASKS) if p.is_dir() and p.parent != path):
        pictures = _pictures(folder / IMAGES)
        if len(pictures) > 1:
            raise DataError(
                "a folder holds several images, and one set of masks", where=folder / IMAGES,
                found=", ".join(p.name for p in pictures[:5]), expected="one image",
            )  # fmt: skip
        found[folder.relative_to(path).as_posix()] = pictures[0] if pictures else None
    bare = sum(not (p.parent / MASKS).is_dir() for p in path.rglob(IMAGES) if p.is_dir() and _pictures(p))
    told = (f"images without a folder of masks are not annotated, and left out: {bare}",) if bare else ()
    return AnnotationSet(("object",), tuple(found), _Folders(path, images, found), told)


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:  # noqa: ARG001
    """Write each object's mask as a PNG of 0 and 255, and copy the images that are known, as they are.

    Where there is neither an object nor an image, one mask without pixels tells the image's size.

    Raises
    ------
    DataError
        If two images have one name, or a name is no name of a folder.
    OutputError
        If the folder is there and not empty, or cannot be written.
    """
    with new_folder(path) as place:
        used: dict[str, str] = {}
        for annotation in annotations:
            name = _folder_name(annotation.name, Path(path))
            # Some file systems do not tell upper from lower case.
            before = used.get(name.lower())
            if before is not None:
                raise DataError(
                    "two images would be written into one folder", where=path, found=f"{before} and {annotation.name}",
                    fix="rename one of them",
                )  # fmt: skip
            used[name.lower()] = annotation.name
            check_label_image(annotation.instances.shape, name)
            folder = place / name
            (folder / MASKS).mkdir(parents=True)
            _write_masks(annotation.instances, folder / MASKS, annotation.image is not None)
            if annotation.image is not None:
                (folder / IMAGES).mkdir()
                shutil.copyfile(annotation.image, folder / IMAGES / annotation.image.name)


def read_mask(path: Path) -> np.ndarray:
    """Read the mask of one object: a picture of two values, of which the higher is the object.

    Returns
    -------
    numpy.ndarray
        bool ``(Y, X)``. Of a picture of one value everything is the object, unless it is 0.

    Raises
    ------
    LabelError
        If it is no image, or has more values.
    """
    try:
        image = read_file(check_file(path, IMAGE_SUFFIXES))
    except ImageError as error:
        raise LabelError(
            error.what, where=error.where, found=error.found, expected=error.expected, fix=error.fix
        ) from error
    pixels = np.asarray(image.pixels)
    values = pixels[0] if len(pixels) != 3 else np.tensordot(_BRIGHTNESS, pixels, 1)
    low, high = values.min(), values.max()
    if low == high != 0:
        # One colour all over: what is drawn may be told by transparency alone.
        values = _opacity(path, values)
        low, high = values.min(), values.max()
    mask: np.ndarray = values == high
    if low == high:
        return mask if high != 0 else ~mask
    if not (mask | (values == low)).all():
        raise LabelError(
            "a mask has more than two values", where=path, found=f"{len(np.unique(values))} values, {low} to {high}",
            expected="0 and 255, or any other two",
            fix="export the mask without smoothing; a label image of all objects is the format 'labels'",
        )  # fmt: skip
    return mask


def _opacity(path: Path, values: np.ndarray) -> np.ndarray:
    """How opaque each pixel of a picture is; the values themselves where it has no transparency."""
    if file_kind(path) != "PNG":
        return values
    with PIL.Image.open(path) as picture:
        return np.asarray(picture.getchannel("A")) if "A" in picture.getbands() else values


def _write_masks(objects: Instances, folder: Path, has_image: bool) -> None:
    full = np.flatnonzero(objects.areas() > 0).tolist()
    digits = len(str(len(full)))
    for number, i in enumerate(full, start=1):
        picture = PIL.Image.fromarray(objects.full_mask(i).astype(np.uint8) * np.uint8(255))
        picture.save(folder / f"{number:0{digits}}.png", "PNG")
    if not full and not has_image:
        PIL.Image.fromarray(np.zeros(objects.shape, np.uint8)).save(folder / "empty.png", "PNG")


def _folder_name(name: str, path: Path) -> str:
    """The name as a path below the written folder; never one outside."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    strange = any(p in ("..", ".", "/", MASKS) or any(c in ':*?"<>|' or c < " " for c in p) for p in parts)
    if not parts or strange:
        raise DataError(
            "the name of an image cannot be the name of a folder", where=path, found=repr(name),
            expected=f"letters, digits and the like; no '..' and no part called {MASKS!r}", fix="rename the image",
        )  # fmt: skip
    return "/".join(parts)


def _holds_samples(folder: Path, depth: int) -> bool:
    """Whether folders in it, or in these, hold masks, and one image at most: more are of a folder of label images."""
    folders = sorted(p for p in islice(folder.iterdir(), _ENTRIES) if p.is_dir() and not p.name.startswith("."))
    for one in folders[:_FOLDERS]:
        images = _pictures(one / IMAGES)
        if (one / MASKS).is_dir() and len(images) <= 1 and (images or _pictures(one / MASKS)):
            return True
    return depth > 1 and any(_holds_samples(one, depth - 1) for one in folders[:_FOLDERS])


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in files if p.is_file())
