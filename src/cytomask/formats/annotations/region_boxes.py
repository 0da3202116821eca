"""Boxes around regions of interest: from ImageJ's regions, and tables ``NAME--labels.txt`` of ImageJ macros.

The table has the columns ``Class,X,Y,W,H``: the class, the box's centre and its size in pixels, from the upper left
corner of the image's first pixel. Macros end its rows with a comma.
"""

from __future__ import annotations

import csv
import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cytomask.errors import LabelError, OutputError
from cytomask.formats.annotations.imagej_files import FARTHEST, MAX_ENTRIES, escaped, read_regions
from cytomask.formats.annotations.imagej_shapes import is_area
from cytomask.output import replacing

COLUMNS = ("Class", "X", "Y", "W", "H")
#: Class of a box of which nothing tells it.
NO_CLASS = "object"
#: Tables tell centres with two decimals: so far an edge may lie beside a whole number that is meant.
_ROUNDING = 0.011
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class RegionBox:
    """A box around a region of interest.

    Attributes
    ----------
    name
        What to call it in messages: the region's name, or the table's row.
    class_name
        Its class, ``"object"`` where none is told.
    box
        ``(y0, x0, y1, x1)`` in whole pixels, half-open; it may leave the image.
    """

    name: str
    class_name: str
    box: tuple[int, int, int, int]


def read_roi_boxes(path: Path) -> tuple[list[RegionBox], int]:
    """Read the boxes around ImageJ's regions that cover pixels.

    Parameters
    ----------
    path
        A ``.roi`` file, or a zip of them.

    Returns
    -------
    tuple
        The boxes in their order, and how many regions were passed over, as they have no area (lines, points, texts).

    Raises
    ------
    LabelError
        If the file is broken, or a region has an area but no extent.
    """
    found: list[RegionBox] = []
    passed = 0
    for number, region in enumerate(read_regions(path), start=1):
        roi = region.roi
        if not is_area(roi):
            passed += 1
            continue
        name = f"region {number} ({region.name})"
        box = (int(roi.top), int(roi.left), int(roi.bottom), int(roi.right))
        _refuse_empty(box, name, path)
        found.append(RegionBox(name, region.class_name or NO_CLASS, box))
    return found, passed


def write_roi_boxes(path: Path, boxes: Sequence[RegionBox]) -> None:
    """Write boxes as a zip of rectangles, which ImageJ's ROI Manager opens; their classes are parts of their names.

    Raises
    ------
    OutputError
        If a box lies farther out than ImageJ's files can tell.
    """
    from roifile import ROI_TYPE, ImagejRoi

    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number, one in enumerate(boxes, start=1):
            if max(one.box) > FARTHEST or min(one.box) < -FARTHEST:
                raise OutputError(
                    "a region lies farther out than ImageJ's files can tell", where=path,
                    found=f"{one.name}: {one.box}", expected=f"at most {FARTHEST} pixels",
                    fix="take a part of the image",
                )  # fmt: skip
            roi = ImagejRoi()
            roi.roitype = ROI_TYPE.RECT
            roi.top, roi.left, roi.bottom, roi.right = one.box
            name = f"{number:04d}"
            if one.class_name != NO_CLASS:
                roi.props = f"class: {escaped(one.class_name)}\n"
                name += " " + re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]|[\ud800-\udfff]', "_", one.class_name)[:80]
            archive.writestr(zipfile.ZipInfo(f"{name}.roi", _NO_TIME), roi.tobytes(), zipfile.ZIP_DEFLATED)


def read_box_table(path: Path) -> list[RegionBox]:
    r"""Read a table of boxes by centre and size.

    Parameters
    ----------
    path
        Comma-separated text with the columns ``Class,X,Y,W,H`` in any order; rows may end with a comma.

    Raises
    ------
    LabelError
        If a column is missing, or a row cannot be understood; the row is named.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a--labels.txt"
    >>> _ = path.write_text("Class,X,Y,W,H\n1,10.50,20.00,5.00,8.00,\n")
    >>> read_box_table(path)
    [RegionBox(name='row 1', class_name='1', box=(16, 8, 24, 13))]
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(
            "the table of regions cannot be read", where=path, found=error, expected="comma-separated text in UTF-8"
        ) from error
    names = [cell.strip().casefold() for cell in lines[0]] if lines else []
    missing = [name for name in COLUMNS if name.casefold() not in names]
    if missing:
        raise LabelError(
            "the table of regions lacks a column", where=path, found=", ".join(filter(None, names)) or "nothing",
            expected=",".join(COLUMNS), fix="save it again with this first line",
        )  # fmt: skip
    if len(lines) > MAX_ENTRIES:
        raise LabelError("the table holds more regions than can be meant", where=path, found=f"{len(lines)} rows")
    place = [names.index(name.casefold()) for name in COLUMNS]
    return [_row(f"row {number}", [row[i] if i < len(row) else "" for i in place], path)
            for number, row in enumerate(lines[1:], start=1)]  # fmt: skip


def _row(name: str, cells: list[str], path: Path) -> RegionBox:
    try:
        x, y, width, height = (float(cell) for cell in cells[1:])
    except ValueError:
        x = y = width = height = math.nan
    if not all(math.isfinite(v) and abs(v) < 1e9 for v in (x, y, width, height)):
        raise LabelError(
            "a row of the table of regions cannot be understood", where=path, found=f"{name}: {','.join(cells)}",
            expected="a class and four numbers: " + ",".join(COLUMNS),
        )  # fmt: skip
    box = (
        math.floor(y - height / 2 + _ROUNDING), math.floor(x - width / 2 + _ROUNDING),
        math.ceil(y + height / 2 - _ROUNDING), math.ceil(x + width / 2 - _ROUNDING),
    )  # fmt: skip
    _refuse_empty(box if min(width, height) > 0 else (0, 0, 0, 0), name, path)
    return RegionBox(name, cells[0].strip() or NO_CLASS, box)


def write_box_table(path: Path, boxes: Sequence[RegionBox]) -> None:
    """Write the table of boxes as ImageJ macros write it: two decimals, a comma behind each row."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(COLUMNS) + "\n")
        writer = csv.writer(file, lineterminator="\n")
        for one in boxes:
            y0, x0, y1, x1 = one.box
            numbers = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
            writer.writerow([one.class_name, *(f"{v:.2f}" for v in numbers), ""])


def _refuse_empty(box: tuple[int, int, int, int], name: str, path: Path) -> None:
    if box[2] <= box[0] or box[3] <= box[1]:
        raise LabelError(
            "a region is empty", where=path, found=name, expected="a width and a height of at least a pixel",
            fix="delete it, or draw it again",
        )  # fmt: skip
