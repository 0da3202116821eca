"""Crops around regions of interest: what is cut, from which regions, and that the result is a data set."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from cytomask.cli.app import run
from cytomask.data.dataset import open_dataset
from cytomask.errors import ConfigError, CytomaskError, DataError, LabelError, OutputError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.coco_json import write_annotations
from cytomask.formats.annotations.imagej_files import write_regions
from cytomask.formats.annotations.region_boxes import read_box_table, read_roi_boxes
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels, write_labels
from cytomask.formats.ome_tiff import write_ome_tiff
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.workflows.cutting.cutter import CropOptions
from cytomask.workflows.cutting.windows import empty_windows, window_around
from cytomask.workflows.subimages import cut_subimages

SHAPE = (60, 80)


def field(place: Path, seed: int = 0, channels: int = 4) -> np.ndarray:
    """Write a 16-bit stack with named channels and a pixel size; give its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 60_000, (channels, *SHAPE), dtype=np.uint16)
    place.parent.mkdir(parents=True, exist_ok=True)
    names = [f"marker {i}" for i in range(channels)]
    write_ome_tiff(place, Image.from_array(pixels, axes="CYX", channels=names, pixel_size=(0.5, 0.25)))
    return pixels


def table(path: Path, *rows: str) -> None:
    path.write_text("Class,X,Y,W,H\n" + "".join(f"{row},\n" for row in rows))


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "subimages.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def two_cells() -> Instances:
    labels = np.zeros(SHAPE, np.int32)
    labels[10:20, 10:30] = 1
    labels[40:55, 60:75] = 2
    labels[12:14, 12:14] = 0
    return Instances.from_labels(labels, classes={1: 1, 2: 2}, class_names=("cell", "debris"))


def test_stacks_keep_depth_names_pixel_size_and_subfolders(tmp_path: Path) -> None:
    pixels = field(tmp_path / "in/day 1/a.ome.tif")
    table(tmp_path / "in/day 1/a--labels.txt", "1,20,15,10,8", "2,76,30,20,10")
    done = cut_subimages([tmp_path / "in"], tmp_path / "out", options=CropOptions(preview=(0, 1, 3), voc=True))
    assert (done.images, done.crops, done.negatives, done.data_set) == (1, 2, 0, False)
    one = read_image(tmp_path / "out/images/day 1/a_001.ome.tif")
    assert one.dtype == np.uint16
    assert one.channels == ("marker 0", "marker 1", "marker 2", "marker 3")
    assert one.pixel_size == (0.5, 0.25)
    assert (np.asarray(one.pixels) == pixels[:, 11:19, 15:25]).all()
    two = read_image(tmp_path / "out/images/day 1/a_002.ome.tif")
    assert (np.asarray(two.pixels) == pixels[:, 25:35, 66:80]).all()
    assert [(row["class"], row["clipped"], row["x0"], row["x1"]) for row in rows_of(tmp_path / "out")] == [
        ("1", "0", "15", "25"), ("2", "1", "66", "80"),
    ]  # fmt: skip
    with Picture.open(tmp_path / "out/previews/day 1/a_001.jpg") as preview:
        assert (preview.size, preview.mode, preview.format) == ((10, 8), "RGB", "JPEG")
    (thing,) = ElementTree.parse(tmp_path / "out/voc/day 1/a_002.xml").iter("object")
    assert [thing.findtext(name) for name in ("name", "truncated")] == ["2", "1"]
    assert [int(corner.text or 0) for corner in thing.iter() if corner.tag[1:] in ("min", "max")] == [1, 1, 14, 10]
    assert not (tmp_path / "out/dataset.yaml").exists()


def test_outlines_of_imagej_become_labels_and_a_data_set(tmp_path: Path) -> None:
    pixels = [field(tmp_path / f"in/{name}.ome.tif", seed) for seed, name in enumerate("ab")]
    for name in "ab":
        write_regions(tmp_path / f"in/{name}_rois.zip", two_cells(), ("cell", "debris"))
    options = CropOptions(margin=3, negatives=2, binary=True, seed=5)
    done = cut_subimages([tmp_path / "in"], tmp_path / "out", options=options)
    assert (done.images, done.crops, done.negatives, done.data_set) == (2, 4, 4, True)
    dataset = open_dataset(tmp_path / "out")
    dataset.verify()
    assert dataset.classes == ("cell", "debris")
    assert len(dataset) == 8
    by_name = {sample.name: sample for sample in dataset.samples}
    image, layers = dataset.load(by_name["b_002"])
    assert (np.asarray(image.pixels) == pixels[1][:, 37:58, 57:78]).all()
    assert list(layers.classes.values()) == [2]
    assert (layers.layers[0] > 0).sum() == 15 * 15
    image, layers = dataset.load(by_name["a_001"])
    # The hole stays a hole.
    assert (layers.layers[0] > 0).sum() == 10 * 20 - 4
    truth = two_cells().to_labels() > 0
    for row in rows_of(tmp_path / "out"):
        y0, x0, y1, x1 = (int(row[key]) for key in ("y0", "x0", "y1", "x1"))
        with Picture.open(tmp_path / "out" / row["mask"]) as mask:
            assert (np.asarray(mask) == truth[y0:y1, x0:x1] * np.uint8(255)).all()
        assert (row["region"] == "") == (not truth[y0:y1, x0:x1].any())
    # All crops of an image are in one split, and both splits have images.
    splits = {row["source"]: set() for row in rows_of(tmp_path / "out")}
    for row in rows_of(tmp_path / "out"):
        splits[row["source"]].add(row["split"])
    assert sorted(map(sorted, splits.values())) == [["train"], ["val"]]


def test_overlap_is_kept_by_coco(tmp_path: Path) -> None:
    field(tmp_path / "in/a.ome.tif")
    cell, inside = np.ones((30, 30), bool), np.ones((6, 6), bool)
    objects = Instances.from_crops(
        SHAPE, [cell, inside], np.array([(5, 5), (15, 15)]), classes=[1, 2], class_names=("cell", "nucleus")
    )
    write_annotations(tmp_path / "a.json", [Annotation("a", objects, file_name="a.ome.tif")], objects.class_names)
    done = cut_subimages([tmp_path / "in"], tmp_path / "out", regions=tmp_path / "a.json")
    assert done.data_set
    dataset = open_dataset(tmp_path / "out")
    dataset.verify()
    layers = dataset.load_layers(dataset.samples[0])
    whole = layers.to_instances()
    assert sorted(whole.areas().tolist()) == [36, 900]
    # The label image of it shows one of the two.
    assert (read_labels(tmp_path / "out/labels/a_001.tif") > 0).sum() == 900


def test_windows_of_one_size_and_labels_beside_the_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)
    Picture.fromarray(pixels).save(tmp_path / "a.png")
    truth = two_cells().to_labels()
    write_labels(tmp_path / "a_seg.png", truth)
    table(tmp_path / "a--labels.txt", "x,20,15,10,8", "x,79,59,2,2")
    for clip, windows in ((False, [(5, 10, 25, 30), (40, 60, 60, 80)]), (True, [(5, 10, 25, 30), (49, 69, 60, 80)])):
        out = tmp_path / f"out {clip}"
        options = CropOptions(size=(20, 20), clip=clip)
        done = cut_subimages([tmp_path / "*.png"], out, label_suffix="_seg", options=options)
        assert (done.crops, done.data_set) == (2, True)
        for i, (y0, x0, y1, x1) in enumerate(windows, start=1):
            assert (read_labels(out / f"labels/a_00{i}.tif") == truth[y0:y1, x0:x1]).all()
            assert (np.asarray(read_image(out / f"images/a_00{i}.ome.tif").pixels[0]) == pixels[y0:y1, x0:x1]).all()
        # One image only: nothing can be set aside, and the split for validation is there, but empty.
        assert [len(open_dataset(out).split(name)) for name in ("train", "val")] == [2, 0]


def test_colour_pictures_stay_colour_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    Picture.fromarray(pixels).save(tmp_path / "a.png")
    table(tmp_path / "a--labels.txt", "x,20,15,10,8")
    cut_subimages([tmp_path / "a.png"], tmp_path / "out")
    image = read_image(tmp_path / "out/images/a_001.ome.tif")
    assert image.rgb
    assert (np.moveaxis(np.asarray(image.pixels), 0, -1) == pixels[11:19, 15:25]).all()


def test_boxes_are_written_for_imagej(tmp_path: Path) -> None:
    field(tmp_path / "a.ome.tif")
    table(tmp_path / "a--labels.txt", "1,20,15,10,8", "2,76,30,20,10")
    cut_subimages([tmp_path / "a.ome.tif"], tmp_path / "out", options=CropOptions(rois=True, channels=("marker 2", 0)))
    assert read_image(tmp_path / "out/images/a_001.ome.tif").channels == ("marker 2", "marker 0")
    boxes = read_box_table(tmp_path / "out/rois/a--labels.txt")
    assert [one.box for one in boxes] == [(11, 15, 19, 25), (25, 66, 35, 80)]
    assert [one.box for one in read_roi_boxes(tmp_path / "out/rois/a--ROI.zip")[0]] == [one.box for one in boxes]
    # There and back: the crops of these are the same.
    cut_subimages([tmp_path / "a.ome.tif"], tmp_path / "again", regions=tmp_path / "out/rois")
    for name in ("a_001", "a_002"):
        first, second = (tifffile.imread(tmp_path / place / f"images/{name}.ome.tif") for place in ("out", "again"))
        assert (first == second[[2, 0]]).all()


def test_a_data_set_gives_regions_labels_and_splits(tmp_path: Path) -> None:
    for name in ("train_a", "val_b"):
        field(tmp_path / f"in/images/{name}.ome.tif")
        (tmp_path / "in/labels").mkdir(exist_ok=True)
        write_labels(tmp_path / f"in/labels/{name}.tif", two_cells().to_labels())
    (tmp_path / "in/dataset.yaml").write_text("images: images\nlabels: labels\nsplits: prefixes\nclasses: [blob]\n")
    done = cut_subimages([tmp_path / "in"], tmp_path / "out")
    assert (done.images, done.crops) == (2, 4)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.classes == ("blob",)
    assert [sample.name for sample in dataset.split("val")] == ["val_b_001", "val_b_002"]


def test_images_without_regions_are_told_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        field(tmp_path / f"{name}.ome.tif")
    table(tmp_path / "a--labels.txt", "1,20,15,10,8")
    assert run(["subimages", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "1 of 2 images have no regions and are left out: b.ome.tif" in shown.err
    assert "1 crop from 1 image" in shown.out
    assert run(["subimages", str(tmp_path / "b.ome.tif"), "--out", str(tmp_path / "alone")]) == 2
    assert "there are no regions of interest" in capsys.readouterr().err
    assert not (tmp_path / "alone").exists()


def test_a_region_outside_is_refused_by_row_and_nothing_of_its_image_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        field(tmp_path / f"{name}.ome.tif")
    table(tmp_path / "a--labels.txt", "1,20,15,10,8")
    table(tmp_path / "b--labels.txt", "1,20,15,10,8", "1,300,15,10,8")
    with pytest.raises(LabelError, match="row 2: 10 x 8 pixels at x 295, y 11") as error:
        cut_subimages([tmp_path / "b.ome.tif"], tmp_path / "out")
    assert error.value.where == tmp_path / "b--labels.txt"
    assert run(["subimages", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "b.ome.tif is left out" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == ["a_001.ome.tif"]
    assert len(rows_of(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"regions": "nowhere"}, DataError, "nothing of this name"),
        ({"labels": "nowhere"}, DataError, "nothing of this name"),
        ({"label_suffix": "_gt"}, DataError, "no label image"),
        ({"options": CropOptions(preview=(0, 1, 2, 3))}, ConfigError, "one to three channels"),
        ({"options": CropOptions(preview=("DAPI",))}, CytomaskError, "no channel"),
    ],
)
def test_wrong_wishes(tmp_path: Path, change: dict[str, object], error: type[Exception], told: str) -> None:
    field(tmp_path / "a.ome.tif")
    table(tmp_path / "a--labels.txt", "1,20,15,10,8")
    with pytest.raises(error, match=told):
        cut_subimages([tmp_path / "a.ome.tif"], tmp_path / "out", **change)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    field(tmp_path / "a.ome.tif")
    table(tmp_path / "a--labels.txt", "1,20,15,10,8")
    with pytest.raises(OutputError, match="mix with what is there"):
        cut_subimages([tmp_path / "a.ome.tif"], tmp_path)
    with pytest.raises(ConfigError, match="no margin"):
        CropOptions(margin=2, size=(9, 9))


@given(
    st.lists(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 12)] * 2), max_size=5),
    st.lists(st.tuples(st.integers(1, 14), st.integers(1, 14)), min_size=1, max_size=3),
    st.integers(0, 4),
    st.integers(0, 99),
)
def test_empty_windows_touch_nothing(
    boxes: list[tuple[int, int, int, int]], sizes: list[tuple[int, int]], count: int, seed: int
) -> None:
    taken = [(y, x, y + h, x + w) for y, x, h, w in boxes]
    found = empty_windows((24, 31), taken, sizes, count, np.random.default_rng(seed))
    covered = np.zeros((24, 31), int)
    for y0, x0, y1, x1 in [*taken, *found]:
        covered[y0:y1, x0:x1] += 1
    for y0, x0, y1, x1 in found:
        assert 0 <= y0 < y1 <= 24
        assert 0 <= x0 < x1 <= 31
        assert (y1 - y0, x1 - x0) in sizes
        assert (covered[y0:y1, x0:x1] == 1).all()
    if len(found) < count:
        # There was no room: every place of every size touches something.
        for h, w in sizes:
            places = [(y, x) for y in range(24 - h + 1) for x in range(31 - w + 1)]
            assert all(covered[y : y + h, x : x + w].any() for y, x in places)


@given(st.integers(-20, 60), st.integers(1, 30), st.integers(1, 50), st.booleans())
def test_windows_of_a_size_lie_inside(start: int, length: int, side: int, clip: bool) -> None:
    window = window_around((start, 0, start + length, 9), (40, 30), size=(side, 9), clip=clip)
    if start >= 40 or start + length <= 0:
        assert window is None
    elif window is not None:
        assert 0 <= window[0] < window[2] <= 40
        assert clip or window[2] - window[0] == min(side, 40)
    else:
        assert clip


def test_one_label_image_for_one_image_needs_no_name_that_tells(tmp_path: Path) -> None:
    field(tmp_path / "field.ome.tif")
    table(tmp_path / "field--labels.txt", "left,20,30,40,60", "right,60,30,40,60")
    write_labels(tmp_path / "expert.tif", two_cells().to_labels())
    cut_subimages([tmp_path / "field.ome.tif"], tmp_path / "out", labels=tmp_path / "expert.tif")
    first = read_labels(tmp_path / "out/labels/field_001.tif")
    assert (first > 0).sum() == two_cells().areas()[0]
