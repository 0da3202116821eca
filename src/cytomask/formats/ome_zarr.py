"""Read OME-Zarr (NGFF 0.4 on zarr v2, 0.5 on zarr v3) and plain zarr arrays, from folders on this machine.

The metadata are read here, before the zarr library sees the folder: only packings that unpack plain numbers are
accepted (some could run code), no path leads out of the folder, and no chunk is larger than can be unpacked.

Source: OME-NGFF 0.4 and 0.5 (https://ngff.openmicroscopy.org), zarr v2 and v3 (https://zarr-specs.readthedocs.io).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import CytomaskError, ImageError
from cytomask.formats.limits import LAZY_FROM
from cytomask.formats.planes import choose_plane
from cytomask.formats.tiff_metadata import micrometres
from cytomask.formats.zarr_array import ZarrWindows, array_metadata
from cytomask.image import Image
from cytomask.image_axes import axes_by_shape, check_axes
from cytomask.lazy_pixels import indexed

#: Files that tell what a folder of zarr is.
_MARKS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_METADATA_BYTES = 16 * 2**20
_LETTERS = {"space": "", "channel": "C", "time": "T"}
_PURE_COLOURS = ("FF0000", "00FF00", "0000FF")


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a zarr array or group.

    Examples
    --------
    >>> is_zarr(Path("/nowhere.zarr"))
    False
    """
    return any((path / mark).is_file() for mark in _MARKS)


def read_zarr(
    path: Path, *, axes: str | None = None, plane: int | None = None, stored: bool = False, told: Sequence[str] = ()
) -> Image:
    """Read one plane of a zarr folder, with all its channels.

    Parameters
    ----------
    path
        An OME-Zarr image, a zarr array, or a group that holds one array.
    axes
        The axes, where the folder does not tell them or tells them wrongly.
    plane
        Which plane of a stack or movie, counted from 0 in the order of the array.
    stored
        Read it at once, as label images need.
    told
        Clauses for ``Image.resolved``.

    Raises
    ------
    ImageError
        If there is no image, or several (a plate, a well, a collection): the error names them; if it is damaged, packed
        in a way that is not accepted, or a stack without ``plane``.

    Notes
    -----
    More than 256 MiB (``LAZY_FROM``) are read by windows; the other levels then serve as overviews. Of several
    multiscale images in the metadata the first is read.
    """
    try:
        return _read(path, axes, plane, stored, list(told))
    except CytomaskError:
        raise
    except Exception as error:  # whatever comes of damaged metadata
        raise ImageError(
            "the zarr folder is damaged, or of a kind that cannot be read",
            where=path,
            found=f"{type(error).__name__}: {error}",
            fix="copy or export it again",
        ) from error


def _read(path: Path, axes: str | None, plane: int | None, stored: bool, told: list[str]) -> Image:
    attributes = _attributes(path)
    _refuse_collections(path, attributes)
    multiscales = attributes.get("multiscales")
    if isinstance(multiscales, list) and multiscales:
        multiscale = multiscales[0]
        if len(multiscales) > 1:
            told.append(f"the first of {len(multiscales)} images in the metadata")
        names = [dataset["path"] for dataset in multiscale["datasets"]]
        levels = [_open(path, name) for name in names]
        letters, clause = _ome_axes(multiscale, levels[0].ndim, axes, levels[0].shape, path)
        scale, unit_told = _pixel_size(multiscale, letters)
    else:
        levels = [_open(path, _only_array(path))]
        letters, clause = _plain_axes(levels[0], axes, path)
        scale, unit_told = None, []
    finest = levels[0]
    if 0 in finest.shape:
        raise ImageError("the image has no pixels", where=path, found=f"shape {finest.shape}")
    finest.coarser = _coarser(finest, levels[1:], letters)
    index, clause = choose_plane(letters, finest.shape, plane, clause, path)
    pixels = indexed(finest, index)
    letters = "".join(letter for letter, chosen in zip(letters, index) if isinstance(chosen, slice))
    channels, is_colour = _channels(attributes, dict(zip(letters, pixels.shape)), pixels.dtype)
    if is_colour and axes is None:
        letters = letters.replace("C", "S")
        told.append("three channels of pure red, green and blue, 8 bits deep, are taken for a colour picture")
    if stored or math.prod(pixels.shape) * pixels.dtype.itemsize <= LAZY_FROM:
        pixels = finest.whole(pixels)
    else:
        n_levels = len(finest.coarser) + 1
        told.append("read by windows" + (f"; the finest of {n_levels} levels" if n_levels > 1 else ""))
    size = dict(zip(letters, pixels.shape)).get("C", 1)
    return Image.from_array(
        pixels,
        axes=letters,
        channels=channels if len(channels) == size and "S" not in letters else None,
        pixel_size=scale,
        source=path,
        told=[clause, *told, *unit_told],
    )


def _attributes(path: Path) -> dict[str, Any]:
    """What the folder says about itself; the OME metadata of either version lie at the top."""
    if (path / "zarr.json").is_file():
        attributes = read_json(path / "zarr.json").get("attributes") or {}
    elif (path / ".zattrs").is_file():
        attributes = read_json(path / ".zattrs")
    else:
        attributes = {}
    ome = attributes.get("ome")
    return {**attributes, **ome} if isinstance(ome, dict) else attributes


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of metadata.

    Raises
    ------
    ImageError
        If it is larger than 16 MiB, or no JSON object.
    """
    try:
        if path.stat().st_size > _METADATA_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes of metadata")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"{type(content).__name__} instead of an object")
    except (OSError, ValueError, RecursionError) as error:
        raise ImageError(
            "the metadata of the zarr folder cannot be read", where=path, found=error, fix="copy or export it again"
        ) from error
    return content


def _refuse_collections(path: Path, attributes: Mapping[str, Any]) -> None:
    """Name the images of a plate, a well or a collection of images, each of which can be read by itself."""
    kind, names = "", []
    if isinstance(attributes.get("plate"), dict):
        wells = [str(well["path"]) for well in attributes["plate"].get("wells", [])]
        kind = f"a plate of {len(wells)} wells"
        names = [f"{well}/{field}" for well in wells[:3] for field in _fields(path / well, path)]
    elif isinstance(attributes.get("well"), dict):
        names = _fields(path, path)
        kind = f"a well of {len(names)} fields"
    elif "bioformats2raw.layout" in attributes and "multiscales" not in attributes:
        names = sorted((entry.name for entry in path.iterdir() if entry.name.isdecimal() and is_zarr(entry)), key=int)
        kind = f"a collection of {len(names)} images"
    if kind:
        shown = ", ".join(names[:6]) + (", …" if len(names) > 6 or "plate" in kind else "")
        raise ImageError(
            "the zarr folder holds several images, not one",
            where=path,
            found=f"{kind}: {shown}" if names else kind,
            expected="one image",
            fix=f"name one of them, such as {path / names[0]}" if names else "name the folder of one image in it",
        )


def _fields(well: Path, root: Path) -> list[str]:
    if not well.resolve().is_relative_to(root.resolve()) or not is_zarr(well):
        return []
    images = _attributes(well).get("well", {}).get("images", [])
    return [str(image["path"]) for image in images]


def _open(root: Path, name: Any) -> ZarrWindows:
    place = root / str(name) if name else root
    if not place.resolve().is_relative_to(root.resolve()):
        raise ImageError(
            "the metadata name an array outside of the zarr folder, which is not read",
            where=root,
            found=repr(name),
            fix="put the array into the folder",
        )
    if not (place / "zarr.json").is_file() and not (place / ".zarray").is_file():
        raise ImageError(
            "an array of the image is missing",
            where=root,
            found=f"no array at {name!r}",
            fix="copy or export the folder again",
        )
    return ZarrWindows(place, array_metadata(place, read_json))


def _only_array(path: Path) -> str:
    """Name of the one array in a group; empty if the folder itself is an array."""
    if (path / ".zarray").is_file() or _node_type(path) == "array":
        return ""
    entries = sorted(entry for entry in path.iterdir() if entry.is_dir())
    names = [e.name for e in entries if (e / ".zarray").is_file() or _node_type(e) == "array"]
    if len(names) == 1:
        return names[0]
    raise ImageError(
        "the zarr folder is no image" if not names else "the zarr folder holds several arrays, and does not tell which",
        where=path,
        found=f"a group with the arrays {', '.join(names[:8])}" if names else "a group without arrays or OME metadata",
        expected="an OME-Zarr image, or one array",
        fix=f"name one of them, such as {path / names[0]}" if names else "name the folder of the image itself",
    )


def _node_type(path: Path) -> str | None:
    return read_json(path / "zarr.json").get("node_type") if (path / "zarr.json").is_file() else None


def _ome_axes(
    multiscale: Mapping[str, Any], n_axes: int, axes: str | None, shape: tuple[int, ...], path: Path
) -> tuple[str, str]:
    if axes is not None:
        return check_axes(axes, shape, path), f"axes {axes.strip().upper()}: as told"
    listed = multiscale.get("axes")
    if listed is None:  # before 0.3 the axes were these, and not listed
        letters = "TCZYX"[-n_axes:] if n_axes <= 5 else ""
    else:
        letters = ""
        for axis in listed:
            name = str(axis["name"] if isinstance(axis, dict) else axis).upper()
            kind = axis.get("type") if isinstance(axis, dict) else None
            letter = _LETTERS.get(str(kind), "") or name[:1]
            # An axis of any other kind is one more along which a plane is chosen.
            letters += letter if letter.isalpha() and letter not in letters else next(
                other for other in "QRUVWABD" if other not in letters
            )  # fmt: skip
    return check_axes(letters, shape, path), f"axes {letters}: told by the OME metadata"


def _plain_axes(array: ZarrWindows, axes: str | None, path: Path) -> tuple[str, str]:
    if axes is not None:
        return check_axes(axes, array.shape, path), f"axes {axes.strip().upper()}: as told"
    names = [str(name).upper() for name in array.axis_names]
    letters = "".join(name[:1] for name in names)
    if len(letters) == array.ndim and len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters):
        return check_axes(letters, array.shape, path), f"axes {letters}: told by the array's own names"
    whole = tuple(size for size in array.shape if size > 1) if array.ndim > 3 else array.shape
    letters, _, reason = axes_by_shape(np.broadcast_to(np.uint8(0), whole), path)
    told = f"axes {letters}: {reason}"
    given = iter(letters)
    return "".join(next(given) if array.ndim <= 3 or size > 1 else "_" for size in array.shape), told


def _pixel_size(multiscale: Mapping[str, Any], letters: str) -> tuple[tuple[float, float] | None, list[str]]:
    """µm per pixel: the scale of the finest level, times the scale of all levels, in the unit of the axes."""
    steps = [*(multiscale["datasets"][0].get("coordinateTransformations") or [])]
    steps += multiscale.get("coordinateTransformations") or []
    sizes = dict.fromkeys("YX", 1.0)
    for step in steps:
        if step.get("type") == "scale" and isinstance(step.get("scale"), list) and len(step["scale"]) == len(letters):
            for letter, factor in zip(letters, step["scale"]):
                if letter in sizes:
                    sizes[letter] *= float(factor)
    units = {}
    for letter, axis in zip(letters, multiscale.get("axes") or []):
        if isinstance(axis, dict) and letter in sizes:
            units[letter] = micrometres(axis.get("unit")) if axis.get("unit") else None
    if any(units.get(letter) is None for letter in "YX"):
        scaled = any(size != 1 for size in sizes.values())
        return None, ["the OME metadata tell a scale without a unit of length, so no pixel size"] if scaled else []
    y, x = (sizes[letter] * (units[letter] or 0.0) for letter in "YX")
    if not all(math.isfinite(size) and size > 0 for size in (y, x)):
        return None, ["the scale in the OME metadata is no length"]
    return (y, x), ["the pixel size is told by the OME metadata"]


def _channels(attributes: Mapping[str, Any], sizes: Mapping[str, int], dtype: np.dtype) -> tuple[tuple[str, ...], bool]:
    """Names of the channels, and whether they are red, green and blue."""
    omero = attributes.get("omero")
    listed = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(listed, list) or len(listed) != sizes.get("C", 1):
        return (), False
    channels = [channel if isinstance(channel, dict) else {} for channel in listed]
    names = tuple(str(channel.get("label") or "").strip() or f"channel {i}" for i, channel in enumerate(channels))
    colours = tuple(str(channel.get("color") or "").lstrip("#").upper()[:6] for channel in channels)
    return names, dtype == np.uint8 and colours == _PURE_COLOURS


def _coarser(finest: ZarrWindows, others: Sequence[ZarrWindows], letters: str) -> tuple[ZarrWindows, ...]:
    """The levels that show the same at lower resolution, finest first."""
    levels: list[ZarrWindows] = []
    for level in others:
        before = levels[-1] if levels else finest
        smaller = level.ndim == finest.ndim and level.dtype == finest.dtype and all(
            0 < size <= old and (size < old or letter not in "YX")
            for size, old, letter in zip(level.shape, before.shape, letters)
        )  # fmt: skip
        if smaller:
            levels.append(level)
    return tuple(levels)
