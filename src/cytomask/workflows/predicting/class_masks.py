"""One mask and one label image per class and image, for programs that know no classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cytomask.formats.annotations.label_files import CLASS_MASKS_FOLDER
from cytomask.formats.label_images import write_labels
from cytomask.instances import Instances
from cytomask.reporting.overlay import write_png

MASK_ENDING, LABELS_ENDING, GIANT_LABELS_ENDING = "_mask.png", "_labels.tif", "_labels.ome.zarr"
#: What stays of a class's name: file systems allow 255 bytes, and the image's name needs some.
_MOST_LETTERS = 40
_UNSAFE = re.compile(r"[^\w+-]+")


def class_file_names(images: Sequence[str], classes: Sequence[str]) -> dict[str, list[str]]:
    """Give the files of every image and class a name: the image's, then the class's, made safe for any file system.

    Names that would be alike, but for upper and lower case, are told apart by a number.

    Parameters
    ----------
    images
        Names of the images' results, all different.
    classes
        Names of the classes.

    Returns
    -------
    dict
        For each image one name per class.

    Examples
    --------
    >>> class_file_names(["a"], ["Cells", "Alpha Granule", "../b", "α/β", "?"])
    {'a': ['a_Cells', 'a_Alpha_Granule', 'a_b', 'a_α_β', 'a_class_5']}
    >>> class_file_names(["a", "a_b"], ["b c", "c", "C"])
    {'a': ['a_b_c', 'a_c', 'a_C_2'], 'a_b': ['a_b_b_c', 'a_b_c_2', 'a_b_C_3']}
    """
    safe = [
        _UNSAFE.sub("_", name).strip("_")[:_MOST_LETTERS] or f"class_{number}"
        for number, name in enumerate(classes, start=1)
    ]
    taken: set[str] = set()
    found: dict[str, list[str]] = {}
    for image in images:
        found[image] = []
        for part in safe:
            name, again = f"{image}_{part}", 1
            while name.casefold() in taken:
                again += 1
                name = f"{image}_{part}_{again}"
            taken.add(name.casefold())
            found[image].append(name)
    return found


def class_mask_files(folder: Path, names: Sequence[str], *, on_disk: bool = False) -> list[Path]:
    """List the files of one image.

    Parameters
    ----------
    folder
        Folder of all results.
    names
        One per class, of :func:`class_file_names`.
    on_disk
        Whether the image is worked through on disk: it has label images as OME-Zarr only.

    Examples
    --------
    >>> [path.as_posix() for path in class_mask_files(Path("out"), ["a_cell"])]
    ['out/class_masks/a_cell_mask.png', 'out/class_masks/a_cell_labels.tif']
    """
    endings = (GIANT_LABELS_ENDING,) if on_disk else (MASK_ENDING, LABELS_ENDING)
    return [folder / CLASS_MASKS_FOLDER / f"{name}{ending}" for name in names for ending in endings]


def write_class_masks(
    folder: Path, names: Sequence[str], instances: Instances, pixel_size: tuple[float, float] | None = None
) -> None:
    """Write the masks and label images of one image; also of classes without objects.

    The mask is 255 where any object of the class is, and 0 elsewhere. The label image has 16 bits, or 32 where they do
    not suffice; its numbers are those of the objects in all other results. Objects of different classes may share
    pixels; of the same class, the better scored one has them.

    Parameters
    ----------
    folder
        Folder of all results.
    names
        One per class, of :func:`class_file_names`.
    instances
        The objects.
    pixel_size
        µm along y and x.

    Raises
    ------
    OutputError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> cells = Instances.from_labels(np.array([[0, 7]]), class_names=("cell", "debris"))
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_class_masks(folder, ["a_cell", "a_debris"], cells)
    >>> sorted(path.name for path in (folder / "class_masks").iterdir())
    ['a_cell_labels.tif', 'a_cell_mask.png', 'a_debris_labels.tif', 'a_debris_mask.png']
    """
    files = class_mask_files(folder, names)
    files[0].parent.mkdir(exist_ok=True)
    for number in range(len(names)):
        # One class at a time: with many classes, all images at once would be many times the picture.
        painted = instances.take(instances.classes == number + 1).to_labels()
        mask, labels = files[2 * number : 2 * number + 2]
        write_png(mask, (painted > 0).astype(np.uint8) * np.uint8(255))
        write_labels(labels, painted, pixel_size, least_bits=16)
