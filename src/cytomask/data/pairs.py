"""Find images and the label images that belong to them, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cytomask.errors import DataError
from cytomask.formats.images import IMAGE_SUFFIXES

#: Folders of a data set without a file that describes it.
IMAGE_FOLDERS = ("images", "image", "rawimages", "raw")
LABEL_FOLDERS = ("labels", "label", "masks", "mask", "groundtruth", "annotations")
#: What label images are often called after the image's name; tried in this order after the plain name.
LABEL_SUFFIXES = ("_labels", "_label", "_masks", "_mask")


@dataclass(frozen=True)
class Pair:
    """An image and its labels; ``name`` is unique in the data set."""

    name: str
    image: Path
    labels: Path


def find_pairs(
    root: Path, images: Path | None, labels: Path | None, image_suffix: str = "", label_suffix: str | None = None
) -> tuple[list[Pair], list[str]]:
    """Find a data set's pairs where they are said to lie, or else in folders with the usual names.

    Parameters
    ----------
    root
        The data set's folder.
    images, labels
        As for :func:`pair_up`; None looks for the usual folders, in ``root`` or (when neither is named) in a folder
        for each split.
    image_suffix, label_suffix
        As for :func:`pair_up`.

    Raises
    ------
    DataError
        If there are no images or no labels.
    """
    places = {
        "images": images if images is not None else _first_folder(root, IMAGE_FOLDERS),
        "labels": labels if labels is not None else _first_folder(root, LABEL_FOLDERS),
    }
    if places["images"] is not None and places["labels"] is not None:
        return pair_up(places["images"], places["labels"], image_suffix, label_suffix)
    by_split = _split_folders(root) if images is None and labels is None else []
    if not by_split:
        missing = " and ".join(f"{what}/" for what, place in places.items() if place is None)
        raise DataError(
            f"the data set has no folder {missing}",
            where=root,
            found=", ".join(sorted(p.name for p in root.iterdir())[:10]) if root.is_dir() else "nothing there",
            expected="images/ and labels/, annotations beside the images, or a dataset.yaml that says where they lie",
            fix="write a dataset.yaml with images: and labels:, with annotations:, or with pairs: that lists the files",
        )
    pairs, problems = [], []
    for folder, of_images, of_labels in by_split:
        found, wrong = pair_up(of_images, of_labels, image_suffix, label_suffix)
        pairs += [replace(pair, name=f"{folder.name}/{pair.name}") for pair in found]
        problems += [f"{folder.name}: {problem}" for problem in wrong]
    return pairs, problems


def pair_up(
    images: Path, labels: Path, image_suffix: str = "", label_suffix: str | None = None
) -> tuple[list[Pair], list[str]]:
    """Pair the images of a folder (or of a pattern) with label images of the same name.

    Parameters
    ----------
    images, labels
        A folder, searched with its subfolders, or a path with wildcards.
    image_suffix, label_suffix
        What the file names have after the common name. None tries the plain name first, then the usual suffixes.

    Returns
    -------
    tuple
        The pairs in order of their names, and what is wrong: files without a partner, names that occur twice.

    Raises
    ------
    DataError
        If there is no such folder, or no image in it.
    """
    shared = images == labels
    if shared and not label_suffix and not image_suffix:
        raise DataError(
            "images and labels lie in the same folder, and nothing tells them apart",
            where=images,
            fix="give label_suffix (such as _mask) in the data set's file, or move the labels",
        )
    image_files = {
        name.removesuffix(image_suffix): paths
        for name, paths in _by_name(images, "images", leave_out=labels).items()
        if name.endswith(image_suffix) and not (shared and label_suffix and name.endswith(label_suffix))
    }
    label_files = _by_name(labels, "label images")
    tried = ("", *LABEL_SUFFIXES) if label_suffix is None else (label_suffix,)
    pairs, problems, used = [], [], set()
    for name, paths in image_files.items():
        found = next((name + suffix for suffix in tried if label_files.get(name + suffix, paths) != paths), None)
        if found is not None:
            used.add(found)
        for what, files in (("images", paths), ("label images", label_files.get(found or "", []))):
            if len(files) > 1:
                problems.append(f"{name}: several {what} of this name: {', '.join(f.name for f in files)}")
        if found is None:
            problems.append(f"{_short(paths[0])}: has no label image ({name}{tried[0]}.* in {labels.name})")
        elif len(paths) == len(label_files[found]) == 1:
            pairs.append(Pair(name, paths[0], label_files[found][0]))
    for name, paths in label_files.items():
        if name not in used and not (shared and not (label_suffix and name.endswith(label_suffix))):
            problems.append(f"{_short(paths[0])}: labels without an image")
    return pairs, problems


def _first_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _split_folders(root: Path) -> list[tuple[Path, Path, Path]]:
    """Folders such as ``train`` that hold ``images`` and ``labels`` themselves."""
    found = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []:
        images, labels = _first_folder(folder, IMAGE_FOLDERS), _first_folder(folder, LABEL_FOLDERS)
        if images is not None and labels is not None:
            found.append((folder, images, labels))
    return found


def stem_of(name: str) -> str:
    """Cut a file's suffix off its name, ``.ome.tif`` and the like as one.

    Examples
    --------
    >>> stem_of("field.ome.tif"), stem_of("a.b.png"), stem_of("plain")
    ('field', 'a.b', 'plain')
    """
    suffix = Path(name).suffix
    return name.removesuffix(suffix).removesuffix(".ome") if suffix.lower() in IMAGE_SUFFIXES else name


def _by_name(place: Path, what: str, leave_out: Path | None = None) -> dict[str, list[Path]]:
    """Files below a place by their names, without what lies below a folder that is left out."""
    root, files = _files(place, what)
    if leave_out is not None and leave_out != root and leave_out.is_relative_to(root):
        files = [path for path in files if not path.is_relative_to(leave_out)]
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(stem_of(path.relative_to(root).as_posix()), []).append(path)
    return found


def _files(place: Path, what: str) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the image files below it, sorted."""
    parts = place.parts
    wild = next((i for i, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    if wild is not None and not place.exists():
        root = Path(*parts[:wild])
        candidates = root.glob("/".join(parts[wild:])) if root.is_dir() else iter(())
    elif place.is_dir():
        root, candidates = place, place.rglob("*")
    else:
        raise DataError(
            f"the data set's {what} should lie in a folder",
            where=place,
            found="a file" if place.exists() else "nothing there",
            expected="a folder, or a pattern such as raw/*.tif",
        )
    files = [
        path for path in candidates
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_dir() == (path.suffix.lower() == ".zarr")
        and not any(parent.suffix.lower() == ".zarr" for parent in path.relative_to(root).parents)
    ]  # fmt: skip
    if not files:
        raise DataError(
            f"the data set has no {what}", where=place, expected="files ending in " + ", ".join(sorted(IMAGE_SUFFIXES))
        )
    return root, sorted(files)


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
