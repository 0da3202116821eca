"""ImageJ's ``.roi`` files and zips of them: from and to bytes, with limits against files that announce too much."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import LabelError, OutputError
from cytomask.formats.annotations.object_parts import as_score
from cytomask.instances import Instances

#: More than anybody draws; a zip can announce far more than it holds.
MAX_ENTRIES, MAX_ENTRY, MAX_TOTAL = 200_000, 64 * 2**20, 2**30
#: ImageJ's files cannot tell places beyond this.
FARTHEST = 60_000
#: The same bytes for the same objects, whenever they are written.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_BROKEN = (ValueError, IndexError, KeyError, TypeError, OverflowError, RuntimeError, struct.error)


@dataclass(frozen=True)
class Region:
    """One region of interest: its name, the ``roifile.ImagejRoi``, and what its properties tell."""

    name: str
    roi: Any
    class_name: str | None
    score: float
    label: int


def holds_rois(path: Path) -> bool:
    """Whether a file is a ``.roi`` file, or a zip with any; never raises on strange content."""
    try:
        if path.suffix.lower() == ".roi":
            with path.open("rb") as file:
                return file.read(4) == b"Iout"
        with zipfile.ZipFile(path) as archive:
            return any(_is_roi(info.filename) for info in archive.infolist()[:1000])
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        return False


def is_empty_zip(path: Path) -> bool:
    """Whether a file is a zip without entries, as it is written for an image without objects."""
    try:
        with path.open("rb") as file:
            return file.read(23) == b"PK\x05\x06" + bytes(18)
    except OSError:
        return False


def read_regions(path: Path) -> Iterator[Region]:
    """Read the regions of a ``.roi`` file or a zip, in their order.

    Raises
    ------
    LabelError
        If the file is broken, or holds more than can be meant.
    """
    from roifile import ImagejRoi

    for name, content in _contents(path):
        try:
            roi = ImagejRoi.frombytes(content)
        except _BROKEN as error:
            raise LabelError(
                "a region of interest is broken", where=f"{path}, {name}", found=error,
                expected="a region as ImageJ saves it", fix="save the regions again in ImageJ's ROI Manager",
            ) from error  # fmt: skip
        told = _properties(roi.props)
        yield Region(name, roi, told.get("class") or None, _score(told), _label(told))


def write_regions(path: Path, instances: Instances | Iterable[Instances], classes: Sequence[str]) -> None:
    """Write the objects of an image as a zip of regions; objects without pixels are left out.

    Parameters
    ----------
    path
        The zip.
    instances
        The objects, all together or in parts, no two with the same id.
    classes
        The names of the classes, in the order of the objects' class ids.

    Raises
    ------
    OutputError
        If an object lies farther out than ImageJ's files can tell.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for part in [instances] if isinstance(instances, Instances) else instances:
            _write_objects(archive, path, part.shifted(0, 0, part.shape), classes)


def _write_objects(archive: zipfile.ZipFile, path: Path, whole: Instances, classes: Sequence[str]) -> None:
    several = len(classes) > 1
    for i, rings in enumerate(whole.to_polygons()):
        if max(whole.windows[i].tolist()) > FARTHEST:
            raise OutputError(
                "an object lies farther out than ImageJ's files can tell", where=path,
                found=f"object {whole.ids[i]} at {whole.windows[i].tolist()}",
                expected=f"at most {FARTHEST} pixels",
                fix="write another format, or a part of the image",
            )  # fmt: skip
        class_name = classes[whole.classes[i] - 1]
        facts = {"label": str(whole.ids[i])}
        if several or class_name != "object":
            facts["class"] = class_name
        if whole.scores[i] != 1 and np.isfinite(whole.scores[i]):
            facts["score"] = str(whole.scores[i])
        name = " ".join([f"{whole.ids[i]:04d}", *([class_name] if "class" in facts else [])])
        if "score" in facts:
            name += f" {whole.scores[i]:.2f}"
        group = min(int(whole.classes[i]), 255) if several else 0
        content = _roi([(ring[:, ::-1] + 0.5).astype(np.int64) for ring in rings], facts, group)
        archive.writestr(zipfile.ZipInfo(f"{_file_name(name)}.roi", _NO_TIME), content, zipfile.ZIP_DEFLATED)


def _roi(rings: list[np.ndarray], facts: dict[str, str], group: int) -> bytes:
    """Build a region from closed outlines along the edges of pixels, ``(x, y)``."""
    from roifile import ROI_TYPE, ImagejRoi

    points = np.concatenate(rings)
    roi = ImagejRoi()
    roi.left, roi.top = points.min(axis=0).tolist()
    roi.right, roi.bottom = points.max(axis=0).tolist()
    roi.group = group
    roi.props = "".join(f"{key}: {escaped(value)}\n" for key, value in sorted(facts.items()))
    if len(rings) == 1:
        roi.roitype = ROI_TYPE.TRACED
        roi.n_coordinates = len(points)
        roi.integer_coordinates = (points - points.min(axis=0)).astype(np.int32)
        return roi.tobytes()
    path: list[float] = []
    for ring in rings:
        for k, (x, y) in enumerate(ring.tolist()):
            path += [float(k > 0), x, y]
        path.append(4.0)
    roi.roitype = ROI_TYPE.RECT
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    return roi.tobytes()


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if path.suffix.lower() == ".roi":
            with path.open("rb") as file:
                yield path.stem, _limited(file.read(MAX_ENTRY + 1), path, path.name)
            return
        with zipfile.ZipFile(path) as archive:
            entries = [info for info in archive.infolist() if _is_roi(info.filename)]
            total = 0
            for info in entries:
                with archive.open(info) as entry:
                    content = _limited(entry.read(MAX_ENTRY + 1), path, info.filename)
                total += len(content)
                if len(entries) > MAX_ENTRIES or total > MAX_TOTAL:
                    raise LabelError(
                        "the zip holds more than regions can take", where=path,
                        found=f"{len(entries)} entries, {total} bytes or more",
                        expected=f"at most {MAX_ENTRIES} entries and {MAX_TOTAL} bytes",
                    )  # fmt: skip
                yield info.filename.rsplit("/", 1)[-1][:-4], content
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise LabelError(
            "the file with regions of interest cannot be read", where=path, found=error,
            fix="save the regions again in ImageJ's ROI Manager",
        ) from error  # fmt: skip
    except RuntimeError as error:
        raise LabelError(
            "the zip is encrypted", where=path, found=error, fix="save the regions without a password"
        ) from error


def _limited(content: bytes, path: Path, name: str) -> bytes:
    if len(content) > MAX_ENTRY:
        raise LabelError(
            "a region of interest is larger than any can be", where=f"{path}, {name}",
            found=f"more than {MAX_ENTRY} bytes", fix="make sure that the file is ImageJ's",
        )  # fmt: skip
    return content


def _is_roi(name: str) -> bool:
    # Macs add files that begin with ._ to zips, and nothing of them is ImageJ's.
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return last.lower().endswith(".roi") and not last.startswith("._")


def _properties(text: str) -> dict[str, str]:
    told = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            told[key.strip().lower()] = _unescaped(value.strip())
    return told


def _score(told: dict[str, str]) -> float:
    for key in ("score", "probability", "confidence"):
        try:
            score = as_score(float(told[key]))
        except (KeyError, ValueError):
            continue
        if score is not None:
            return score
    return 1.0


def _label(told: dict[str, str]) -> int:
    text = told.get("label", "")
    return int(text) if re.fullmatch(r"[0-9]{1,9}|1[0-9]{9}", text) else 0


def escaped(text: str) -> str:
    r"""Write text as Java's properties do, which ImageJ reads: ``\uXXXX`` for what is not plain."""
    plain = [c.isascii() and c.isprintable() and c != "\\" for c in text]
    units = ["".join(f"\\u{u:04X}" for u in struct.unpack(f">{len(b) // 2}H", b)) for b in map(_utf16, text)]
    edges = {i for i, c in enumerate(text) if c == " " and (not text[:i].strip() or not text[i:].strip())}
    return "".join(c if plain[i] and i not in edges else units[i] for i, c in enumerate(text))


def _unescaped(text: str) -> str:
    def decoded(found: re.Match[str]) -> str:
        units = [int(u, 16) for u in found[0].split("\\u")[1:]]
        return struct.pack(f">{len(units)}H", *units).decode("utf-16-be", "replace")

    return re.sub(r"(\\u[0-9a-fA-F]{4})+", decoded, text)


def _utf16(c: str) -> bytes:
    return c.encode("utf-16-be", "surrogatepass")


def _file_name(name: str) -> str:
    return re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]|[\ud800-\udfff]', "_", name)[:100]
