"""Boxes of regions: ImageJ's zips and tables of centre and size, there and back, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roifile import ROI_TYPE, ImagejRoi

from cytomask.errors import LabelError, OutputError
from cytomask.formats.annotations.region_boxes import (
    RegionBox,
    read_box_table,
    read_roi_boxes,
    write_box_table,
    write_roi_boxes,
)

BOXES = st.tuples(st.integers(-500, 20_000), st.integers(-500, 20_000), st.integers(1, 900), st.integers(1, 900)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Zs")), min_size=1, max_size=12)


@given(st.lists(st.tuples(NAMES, BOXES), max_size=6))
def test_tables_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, tuple[int, ...]]]) -> None:
    path = tmp_path_factory.mktemp("table") / "a--labels.txt"
    boxes = [RegionBox(f"row {i}", name, box) for i, (name, box) in enumerate(rows, start=1)]  # type: ignore[arg-type]
    write_box_table(path, boxes)
    assert read_box_table(path) == boxes
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "Class,X,Y,W,H"
    assert all(line.endswith(",") for line in lines[1:])


@given(st.lists(st.tuples(NAMES, BOXES), max_size=6))
def test_zips_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, tuple[int, ...]]]) -> None:
    path = tmp_path_factory.mktemp("zip") / "a--ROI.zip"
    write_roi_boxes(path, [RegionBox("", name, box) for name, box in rows])  # type: ignore[arg-type]
    found, passed = read_roi_boxes(path)
    assert passed == 0
    assert [one.box for one in found] == [box for _, box in rows]
    assert [one.class_name for one in found] == [name for name, _ in rows]


def test_a_macros_table_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "a--labels.txt"
    path.write_bytes(b"\xef\xbb\xbfclass, x ,Y,W,H\r\n1,10.00,20.50,4.00,5.00,\r\n\r\n,7.25,8,1.5,2\r\n")
    one, two = read_box_table(path)
    assert (one.class_name, one.box) == ("1", (18, 8, 23, 12))
    # Edges inside a pixel: the whole pixel belongs to it.
    assert (two.class_name, two.box) == ("object", (7, 6, 9, 8))


def test_columns_are_told_by_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "a--labels.txt"
    path.write_text("W,H,Class,Y,X\n4,6,cell,3,2\n")
    assert read_box_table(path) == [RegionBox("row 1", "cell", (0, 0, 6, 4))]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "nothing"),
        ("Class,X,Y,W\n1,2,3,4\n", "class, x, y, w"),
        ("Class,X,Y,W,H\n1,2,3,4,5\n1,2,three,4,5\n", "row 2"),
        ("Class,X,Y,W,H\n1,2,3,4\n", "row 1"),
        ("Class,X,Y,W,H\n1,2,3,0,5\n", "row 1"),
        ("Class,X,Y,W,H\n1,2,3,4,-5\n", "row 1"),
        ("Class,X,Y,W,H\n1,nan,3,4,5\n", "row 1"),
        ("Class,X,Y,W,H\n1,1e300,3,4,5\n", "row 1"),
    ],
)
def test_wrong_tables_name_the_row(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "a--labels.txt"
    path.write_text(text)
    with pytest.raises(LabelError, match=told) as error:
        read_box_table(path)
    assert error.value.where == path


def test_text_of_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a--labels.txt"
    path.write_bytes("Class,X,Y,W,H\nZelle\xe4,1,2,3,4\n".encode("latin-1"))
    with pytest.raises(LabelError, match="UTF-8"):
        read_box_table(path)


def write_rois(path: Path, rois: dict[str, ImagejRoi]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, roi in rois.items():
            archive.writestr(f"{name}.roi", roi.tobytes())
    return path


def test_boxes_of_outlines_and_what_has_no_area(tmp_path: Path) -> None:
    polygon = ImagejRoi.frompoints(np.array([[3, 4], [10, 4], [10, 20]]))
    line = ImagejRoi.frompoints(np.array([[3, 4], [10, 4]]))
    line.roitype = ROI_TYPE.LINE
    found, passed = read_roi_boxes(write_rois(tmp_path / "a.zip", {"cell": polygon, "axis": line}))
    assert passed == 1
    assert [one.name for one in found] == ["region 1 (cell)"]
    y0, x0, y1, x1 = found[0].box
    assert (y0, x0) == (4, 3)
    assert y1 >= 20
    assert x1 >= 10


def test_a_rectangle_without_extent_is_refused_by_name(tmp_path: Path) -> None:
    roi = ImagejRoi()
    roi.roitype = ROI_TYPE.RECT
    roi.top, roi.left, roi.bottom, roi.right = 3, 4, 3, 9
    with pytest.raises(LabelError, match=r"region 1 \(nothing\)"):
        read_roi_boxes(write_rois(tmp_path / "a.zip", {"nothing": roi}))


def test_boxes_that_imagej_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="farther out"):
        write_roi_boxes(tmp_path / "a.zip", [RegionBox("far", "cell", (0, 0, 5, 60_001))])
    assert list(tmp_path.iterdir()) == []
