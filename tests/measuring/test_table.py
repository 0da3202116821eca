"""The object table against scikit-image, hand-made shapes, and its own symmetries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage as ndi
from skimage.draw import ellipse
from skimage.io import imread
from skimage.measure import label, regionprops_table

from cytomask.errors import ConfigError, LabelError, OutputError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.table import measure, write_table

#: Our column and scikit-image's, in pixels.
SAME = {
    "id": "label", "area_px": "area", "centroid_y": "centroid-0", "centroid_x": "centroid-1",
    "box_y0": "bbox-0", "box_x0": "bbox-1", "box_y1": "bbox-2", "box_x1": "bbox-3",
    "equivalent_diameter_px": "equivalent_diameter_area", "major_axis_px": "axis_major_length",
    "minor_axis_px": "axis_minor_length", "eccentricity": "eccentricity", "solidity": "solidity",
    "perimeter_px": "perimeter",
}  # fmt: skip
PROPERTIES = (
    "label", "area", "centroid", "bbox", "equivalent_diameter_area", "axis_major_length", "axis_minor_length",
    "orientation", "eccentricity", "solidity", "perimeter",
)  # fmt: skip
SHAPE = ["area_px", "perimeter_px", "major_axis_px", "minor_axis_px", "eccentricity", "solidity", "circularity"]


def assert_like_skimage(table: pd.DataFrame, expected: pd.DataFrame) -> None:
    for ours, theirs in SAME.items():
        np.testing.assert_allclose(table[ours], expected[theirs], rtol=1e-9, atol=2e-6, err_msg=ours)
    long = table["major_axis_px"] > table["minor_axis_px"] + 1e-6
    turn = table["orientation"][long] - expected["orientation"][long]
    np.testing.assert_allclose((turn + np.pi / 2) % np.pi, np.pi / 2, atol=1e-7)


@pytest.mark.parametrize("name", ["histology", "phase", "nuclei"])
def test_real_labels_measure_as_in_scikit_image(shared_data: Path, name: str) -> None:
    labels = imread(sorted((shared_data / name / "labels").iterdir())[3]).astype(np.int32)[:512, :512]
    assert_like_skimage(
        measure(Instances.from_labels(labels)), pd.DataFrame(regionprops_table(labels, properties=PROPERTIES))
    )


@settings(max_examples=150, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 13), st.integers(1, 13))).filter(np.any))
def test_any_mask_measures_as_in_scikit_image(mask: np.ndarray) -> None:
    """Also masks in several parts, with holes, one pixel wide."""
    labels = mask.astype(np.int32)
    assert_like_skimage(
        measure(Instances.from_labels(labels)), pd.DataFrame(regionprops_table(labels, properties=PROPERTIES))
    )


@settings(max_examples=50, deadline=None)
@given(arrays(bool, (9, 12)).filter(np.any))
def test_a_quarter_turn_changes_no_shape_measure(mask: np.ndarray) -> None:
    before = measure(Instances.from_labels(mask.astype(np.int32)))
    after = measure(Instances.from_labels(np.rot90(mask).astype(np.int32)))
    np.testing.assert_allclose(after[SHAPE], before[SHAPE], atol=1e-6)


def test_shapes_by_hand() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[0:4, 3:13] = 1
    labels[10, 10] = 2
    labels[12:17, 20] = labels[16, 20:25] = 3
    table = measure(Instances.from_labels(labels)).set_index("id")
    assert table["area_px"].tolist() == [40, 1, 9]
    assert table["perimeter_px"].tolist() == [24, 0, 7]
    assert table["centroid_y"].tolist() == [1.5, 10, (12 + 13 + 14 + 15 + 5 * 16) / 9]
    assert table["touches_border"].tolist() == [True, False, False]
    assert table["orientation"][1] == pytest.approx(np.pi / 2)
    assert table["solidity"][[1, 2]].tolist() == [1, 1]
    # The hull of an L of 5 by 5: the triangle with the 15 pixels on and below its diagonal.
    assert table["solidity"][3] == pytest.approx(9 / 15)
    assert np.isnan(table["circularity"][2])
    assert table["circularity"][1] == pytest.approx(4 * np.pi * 40 / 24**2)


def test_every_edge_of_the_image_is_a_border() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[0, 4], labels[8, 4], labels[4, 0], labels[4, 8], labels[1:8, 4], labels[4, 1:3] = 1, 2, 3, 4, 5, 6
    assert measure(Instances.from_labels(labels))["touches_border"].tolist() == [True] * 4 + [False] * 2


def test_a_large_disc_is_round() -> None:
    labels = np.zeros((430, 430), np.int32)
    labels[ellipse(215, 215, 200, 200)] = 1
    row = measure(Instances.from_labels(labels)).iloc[0]
    assert row["circularity"] == pytest.approx(1, abs=0.12)
    assert row["eccentricity"] == pytest.approx(0, abs=0.01)
    assert row["major_axis_px"] == pytest.approx(400, abs=1)


def test_overlapping_objects_are_measured_by_themselves() -> None:
    crops = [np.ones((4, 4), bool), np.ones((6, 2), bool), np.zeros((2, 3), bool)]
    packed = [np.packbits(c.ravel()) for c in crops]
    instances = Instances.from_packed(
        shape=(10, 10),
        windows=np.array([[0, 0, 4, 4], [2, 2, 8, 4], [0, 5, 2, 8]], np.int32),
        bits=np.concatenate(packed),
        offsets=np.cumsum([0, *map(len, packed)]),
        class_names=("cell",),
    )
    image = Image.from_array(np.arange(100, dtype=np.uint8).reshape(10, 10))
    table = measure(instances, image)
    assert table["area_px"].tolist() == [16, 12, 0]
    assert table["intensity_max_grey"].tolist()[:2] == [33, 73]
    assert table["touches_border"].tolist() == [True, False, False]
    empty = table.iloc[2]
    assert empty[["centroid_y", "solidity", "orientation", "intensity_mean_grey"]].isna().all()
    assert (empty["box_y0"], empty["box_y1"]) == (0, 0)


def test_intensities_are_the_images_own_values() -> None:
    rng = np.random.default_rng(1)
    labels = label(ndi.gaussian_filter(rng.random((90, 120)), 3) > 0.5).astype(np.int32)
    pixels = rng.integers(0, 60_000, (3, 90, 120), dtype=np.uint16)
    table = measure(Instances.from_labels(labels), Image.from_array(pixels, channels=["DAPI", "=a b", "dapi"]))
    for channel, name in enumerate(["DAPI", "a_b", "dapi_2"]):
        index = table["id"]
        assert table[f"intensity_mean_{name}"].to_numpy() == pytest.approx(ndi.mean(pixels[channel], labels, index))
        assert table[f"intensity_min_{name}"].tolist() == list(ndi.minimum(pixels[channel], labels, index))
        assert table[f"intensity_max_{name}"].tolist() == list(ndi.maximum(pixels[channel], labels, index))


def test_intensities_of_a_mapped_image_of_the_other_byte_order_in_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytomask.measuring.intensities._BLOCK", 100)
    mapped = np.memmap(tmp_path / "pixels", ">u2", "w+", shape=(1, 40, 30))
    mapped[:] = np.arange(1200).reshape(1, 40, 30)
    labels = np.zeros((40, 30), np.int32)
    labels[5:37, 4:9] = 1
    row = measure(Instances.from_labels(labels), Image.from_array(mapped, axes="CYX")).iloc[0]
    inside = np.arange(1200).reshape(40, 30)[5:37, 4:9]
    assert (row["intensity_mean_grey"], row["intensity_min_grey"], row["intensity_max_grey"]) == (
        inside.mean(), inside.min(), inside.max(),
    )  # fmt: skip


def test_square_pixels_scale_lengths_and_keep_shapes() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[ellipse(30, 30, 12, 20, rotation=0.4)] = 1
    plain, sized = measure(Instances.from_labels(labels)), measure(Instances.from_labels(labels), pixel_size=0.25)
    for name in ("equivalent_diameter", "major_axis", "minor_axis", "perimeter"):
        assert sized[f"{name}_um"][0] == pytest.approx(0.25 * plain[f"{name}_px"][0])
    assert sized["area_um2"][0] == pytest.approx(plain["area_px"][0] / 16)
    pd.testing.assert_frame_equal(sized[plain.columns], plain, rtol=1e-12)


def test_oblong_pixels_give_the_true_shape() -> None:
    """A disc drawn with pixels twice as high as wide is a disc in µm."""
    labels = np.zeros((120, 220), np.int32)
    labels[ellipse(60, 110, 50, 100)] = 1
    image = Image.from_array(labels.astype(np.uint8), pixel_size=(2.0, 1.0))
    row = measure(Instances.from_labels(labels), image).iloc[0]
    expected = regionprops_table(
        labels, spacing=(2, 1), properties=("axis_major_length", "axis_minor_length", "eccentricity")
    )
    assert row["major_axis_um"] == pytest.approx(expected["axis_major_length"][0])
    assert row["minor_axis_um"] == pytest.approx(expected["axis_minor_length"][0])
    assert row["eccentricity"] == pytest.approx(expected["eccentricity"][0])
    assert row["eccentricity"] < 0.15
    assert row["major_axis_px"] == pytest.approx(200, abs=2)
    assert row["perimeter_um"] == pytest.approx(2 * np.pi * 100, rel=0.08)
    box = np.zeros((20, 20), np.int32)
    box[2:8, 3:14] = 1
    sides = measure(Instances.from_labels(box), pixel_size=(2.0, 0.5)).iloc[0]
    assert sides["perimeter_um"] == pytest.approx(2 * 5 * 2.0 + 2 * 10 * 0.5)


def test_no_objects_give_an_empty_table_of_the_same_columns() -> None:
    image = Image.from_array(np.ones((8, 8), np.uint8), pixel_size=(1.0, 1.0), source=Path("a.tif"))
    labels = np.zeros((8, 8), np.int32)
    none = measure(Instances.from_labels(labels), image)
    labels[2:4, 3] = 1
    some = measure(Instances.from_labels(labels), image)
    assert len(none) == 0
    pd.testing.assert_series_equal(none.dtypes, some.dtypes)
    assert some["image"].tolist() == ["a.tif"]


def test_another_size_and_a_bad_pixel_size_are_refused() -> None:
    instances = Instances.from_labels(np.ones((8, 8), np.int32))
    with pytest.raises(LabelError, match="differ in size"):
        measure(instances, Image.from_array(np.ones((8, 9), np.uint8)))
    for bad in (0, -1.0, float("nan"), (1.0, 2.0, 3.0)):
        with pytest.raises(ConfigError, match="not a length"):
            measure(instances, pixel_size=bad)  # type: ignore[arg-type]


@pytest.fixture
def table() -> pd.DataFrame:
    labels = np.zeros((12, 12), np.int32)
    labels[2:5, 3:9] = 4
    labels[7:9, 3:5] = 9
    image = Image.from_array(np.arange(144, dtype=np.float32).reshape(12, 12) / 7, source=Path("-2+3.tif"))
    return measure(Instances.from_labels(labels), image)


@pytest.mark.parametrize("name", ["objects.csv", "objects.parquet"])
def test_a_table_comes_back_as_it_was_written(tmp_path: Path, table: pd.DataFrame, name: str) -> None:
    write_table(tmp_path / name, table)
    back = pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert back.columns.tolist() == table.columns.tolist()
    numbers = table.select_dtypes("number").columns
    np.testing.assert_allclose(back[numbers], table[numbers], rtol=1e-9)
    assert back["touches_border"].tolist() == [False, False]
    assert back["image"].tolist() == (["'-2+3.tif"] * 2 if name.endswith("csv") else ["-2+3.tif"] * 2)


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "＝1"])
def test_no_text_in_a_csv_becomes_a_formula(tmp_path: Path, text: str) -> None:
    write_table(tmp_path / "t.csv", pd.DataFrame({"class": [text], text: [-1.5]}))
    back = pd.read_csv(tmp_path / "t.csv")
    assert back.columns.tolist() == ["class", f"'{text}"]
    assert back.iloc[0].tolist() == [f"'{text}", -1.5]


def test_an_unknown_suffix_is_refused_and_a_failed_write_leaves_nothing(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(OutputError, match=r"\.csv or \.parquet"):
        write_table(tmp_path / "objects.xlsx", table)
    with pytest.raises(OutputError, match="cannot be written"):
        write_table(tmp_path / "nowhere" / "objects.csv", table)
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_measured_as_in_the_whole() -> None:
    """Objects measured with the pixels around them only have the same figures, to the last bit."""
    rng = np.random.default_rng(4)
    labels = np.zeros((90, 130), np.int32)
    for i in range(1, 40):
        y, x = rng.integers(0, 80), rng.integers(0, 115)
        labels[y : y + rng.integers(1, 12), x : x + rng.integers(1, 15)] = i
    objects = Instances.from_labels(labels)
    image = Image.from_array(rng.normal(size=(2, 90, 130)) * 1e3, axes="CYX", pixel_size=(0.3, 0.4))
    whole = measure(objects, image)
    order = rng.permutation(len(objects))
    parts = [measure(objects.take(part), image) for part in np.array_split(order, 7)]
    together = pd.concat(parts, ignore_index=True).sort_values("id", ignore_index=True)
    pd.testing.assert_frame_equal(together, whole, check_exact=True)


def test_only_the_part_with_objects_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((100, 200), np.int32)
    labels[40:50, 120:140] = 3
    image = Image.from_array(np.ones((100, 200), np.float32), axes="YX")
    read = []
    window = Image.window
    monkeypatch.setattr(Image, "window", lambda self, *place: (read.append(place), window(self, *place))[1])
    measure(Instances.from_labels(labels), image)
    assert read == [(40, 50, 120, 140)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_in_parts_is_the_table(tmp_path: Path, suffix: str) -> None:
    labels = np.arange(1, 41, dtype=np.int32).reshape(5, 8).repeat(4, 0).repeat(5, 1)
    image = Image.from_array(np.random.default_rng(0).random(labels.shape), axes="YX", source=Path("=a.tif"))
    table = measure(Instances.from_labels(labels), image)
    write_table(tmp_path / f"whole.{suffix}", table)
    write_table(tmp_path / f"parts.{suffix}", (table.iloc[i : i + 13] for i in (0, 13, 26, 39)))
    write_table(tmp_path / f"empty.{suffix}", iter([table.iloc[:0]]))
    if suffix == "csv":
        assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        assert (tmp_path / "empty.csv").read_text().count("\n") == 1
    else:
        whole, parts, empty = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "parts", "empty"))
        pd.testing.assert_frame_equal(parts, whole)
        assert list(empty.columns) == list(whole.columns)
        assert len(empty) == 0
