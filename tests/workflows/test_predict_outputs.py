"""Outputs for those who have several classes: masks, overlays, lists of objects, charts, submissions."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image as Picture
from skimage.measure import regionprops

from cytomask.cli.app import run
from cytomask.errors import ConfigError
from cytomask.formats.annotations.coco_json import open_annotations as open_coco
from cytomask.formats.annotations.coco_results import open_annotations as open_results
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.label_files import find_label_files
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle, ModelSpec, save_bundle
from cytomask.models.registry import build_segmenter
from cytomask.reporting.colours import class_colours
from cytomask.reporting.overlay import OverlayStyle
from cytomask.workflows.predict import predict_images
from cytomask.workflows.predicting import run_outputs
from cytomask.workflows.predicting.class_masks import class_file_names, write_class_masks
from cytomask.workflows.predicting.coco_results import coco_lines, write_lines
from cytomask.workflows.predicting.outputs import Outputs
from cytomask.workflows.predicting.run_outputs import DoneImage, write_run_outputs
from cytomask.workflows.predicting.submission import NumberedImage, number_images, write_submission

CLASSES = ("Cells", "Alpha Granule", "none/at all")
SIDE = 160


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A star model that draws a disc at every bright spot: a granule at the brightest, a cell at others."""
    torch.manual_seed(0)
    config = {"classes": list(CLASSES), "backbone": {"kind": "unet", "depth": 1, "base": 4, "features": 8}}
    network = build_segmenter("star", config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                middle = layer.kernel_size[0] // 2
                layer.weight[0, 0, middle, middle] = 1.0
        join = network.backbone.up[0][0][0]
        join.weight.zero_()
        join.weight[0, join.in_channels // 2, 1, 1] = 1.0
        network.probability.bias.fill_(-0.3)
        network.distances.bias.fill_(6.0)
        network.distances.weight.zero_()
        # Background, cell, granule, nothing: the granule wins where the pixel is bright.
        network.classes.weight.zero_()
        network.classes.bias[:] = torch.tensor([-9.0, 0.0, -8.0, -9.0])
        network.classes.weight[2, 0] = 10.0
    spec = ModelSpec(
        name="discs", family="star", config=network.config.model_dump(mode="json"), diameter=12.0,
        postprocess={"score_threshold": 0.5, "nms_threshold": 0.1},
    )  # fmt: skip
    return save_bundle(Bundle(network, spec), tmp_path_factory.mktemp("model") / "discs")


def spots(n_cells: int, n_granules: int) -> np.ndarray:
    """Spots on a dark lattice: first cells, then granules. Two pixels are of the brightest in every image."""
    places = [(y, x) for y in range(20, SIDE - 12, 24) for x in range(4, SIDE - 12, 24)]
    pixels = np.full((SIDE, SIDE), 100, np.uint16)
    for i, (y, x) in enumerate(places[: n_cells + n_granules]):
        pixels[y : y + 2, x : x + 2] = 600 if i < n_cells else 1000
    return pixels


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images: cells and granules, granules only, and nothing at all."""
    folder = tmp_path_factory.mktemp("images")
    tifffile.imwrite(folder / "a.tif", spots(5, 3))
    tifffile.imwrite(folder / "b.tif", spots(0, 4))
    tifffile.imwrite(folder / "c.tif", np.full((SIDE, 100), 100, np.uint16))
    return folder


def predict(model: Path, images: list[Path], out: Path, *save: str, **options: Any) -> Any:
    return predict_images(model, images, out, save=save, device="cpu", precision="float32", **options)


def found_objects(out: Path, image_id: int, shape: tuple[int, int] = (SIDE, SIDE)) -> Instances:
    """The objects of predictions.json."""
    entries = [e for e in json.loads((out / "predictions.json").read_text()) if e["image_id"] == image_id]
    return Instances.from_rle(
        shape, [e["segmentation"] for e in entries], classes=[e["category_id"] for e in entries],
        scores=[e["score"] for e in entries], class_names=CLASSES,
    )  # fmt: skip


def test_class_masks_hold_the_objects_of_each_class(model, images, tmp_path):
    summary = predict(model, [images], tmp_path, "class-masks", "labels", "coco")
    assert [r.counts for r in summary.images] == [
        dict(zip(CLASSES, counts)) for counts in ((5, 3, 0), (0, 4, 0), (0, 0, 0))
    ]
    folder = tmp_path / "class_masks"
    parts = ("Cells", "Alpha_Granule", "none_at_all")
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        f"{name}_{part}_{ending}" for name in "abc" for part in parts for ending in ("mask.png", "labels.tif")
    )
    for number, name in enumerate("abc", start=1):
        objects = found_objects(tmp_path, number, read_labels(tmp_path / f"{name}_labels.tif").shape)
        whole = read_labels(tmp_path / f"{name}_labels.tif")
        together = np.zeros_like(whole)
        for c, part in enumerate(parts, start=1):
            labels = tifffile.imread(folder / f"{name}_{part}_labels.tif")
            mask = np.asarray(Picture.open(folder / f"{name}_{part}_mask.png"))
            assert labels.dtype == np.uint16
            assert (mask.dtype, mask.shape) == (np.dtype(np.uint8), whole.shape)
            np.testing.assert_array_equal(mask, np.where(labels > 0, 255, 0))
            assert set(np.unique(labels)) - {0} == set(objects.ids[objects.classes == c].tolist())
            together = np.maximum(together, labels)
        # These objects do not overlap.
        np.testing.assert_array_equal(together, whole)


def test_within_a_class_the_better_object_is_on_top_and_classes_do_not_hide_each_other(tmp_path):
    crops, origins = [np.ones((1, 3), bool)] * 3, [(0, 0), (0, 1), (0, 2)]
    objects = Instances.from_crops(
        (1, 5), crops, origins, classes=[1, 1, 2], scores=[0.9, 0.5, 1.0], ids=[3, 70_000, 8], class_names=("a", "b")
    )
    write_class_masks(tmp_path, ["x_a", "x_b"], objects, (0.25, 0.5))
    of_a = tifffile.imread(tmp_path / "class_masks/x_a_labels.tif")
    assert of_a.dtype == np.uint32
    assert of_a.tolist() == [[3, 3, 3, 70_000, 0]]
    with tifffile.TiffFile(tmp_path / "class_masks/x_b_labels.tif") as of_b:
        assert of_b.asarray().tolist() == [[0, 0, 8, 8, 8]]
        assert of_b.asarray().dtype == np.uint16
        assert of_b.imagej_metadata["unit"] == "um"
    assert np.asarray(Picture.open(tmp_path / "class_masks/x_a_mask.png")).tolist() == [[255, 255, 255, 255, 0]]


@pytest.mark.parametrize(
    ("images", "classes"),
    [(["a", "a_b"], ["b_c", "c"]), (["a"], ["x", "X", "x?", "x_2"]), (["a", "A_x"], ["x", "../../x", "x/x", "."])],
)
def test_names_of_class_files_are_apart_and_safe(images, classes):
    found = class_file_names(images, classes)
    names = [name for image in images for name in found[image]]
    assert all(len(found[image]) == len(classes) for image in images)
    assert len({name.casefold() for name in names}) == len(images) * len(classes)
    assert all(Path(name).name == name and not set(name) & set('/\\:*?"<>|. ') for name in names)
    assert all(name.startswith(f"{image}_") for image in images for name in found[image])


def test_class_masks_on_disk_are_those_in_memory(model, images, tmp_path):
    import zarr

    predict(model, [images / "a.tif"], tmp_path / "memory", "class-masks", tile=96)
    summary = predict(model, [images / "a.tif"], tmp_path / "disk", "class-masks", tile=96, on_disk=True)
    folder = tmp_path / "disk" / "class_masks"
    names = ["a_Alpha_Granule", "a_Cells", "a_none_at_all"]
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}_labels.ome.zarr" for name in names]
    for name in names:
        wanted = tifffile.imread(tmp_path / "memory" / "class_masks" / f"{name}_labels.tif")
        np.testing.assert_array_equal(zarr.open_group(str(folder / f"{name}_labels.ome.zarr"), mode="r")["0"], wanted)
    assert {p.parent for p in summary.images[0].outputs} == {folder}
    assert not (tmp_path / "disk" / ".predict.progress").exists()


def test_a_resumed_run_does_not_repeat_class_masks(model, images, tmp_path):
    predict(model, [images / "a.tif"], tmp_path, "class-masks")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["images"][0]["outputs"][0] == "class_masks/a_Cells_mask.png"
    assert predict(model, [images / "a.tif"], tmp_path, "class-masks", resume=True).images[0].resumed
    (tmp_path / "class_masks/a_Cells_mask.png").unlink()
    assert not predict(model, [images / "a.tif"], tmp_path, "class-masks", resume=True).images[0].resumed
    record["images"][0]["outputs"] = ["class_masks/../../x.tif"]
    (tmp_path.parent / "x.tif").touch()
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert not predict(model, [images / "a.tif"], tmp_path, "class-masks", resume=True).images[0].resumed


def test_class_masks_are_no_images_of_their_own(model, images, tmp_path):
    predict(model, [images], tmp_path, "class-masks", "labels")
    files = [file.name for _, file in find_label_files(tmp_path)[0]]
    assert files == ["a_labels.tif", "b_labels.tif", "c_labels.tif"]
    # A folder of that name elsewhere is a folder like any other, and it can be named itself.
    (tmp_path / "run.json").unlink()
    assert len(find_label_files(tmp_path)[0]) == 3 + 18


@pytest.mark.parametrize("on_disk", [False, True])
def test_overlays_by_class_have_a_legend(model, images, tmp_path, on_disk):
    style = OverlayStyle(by="class", grey=True)
    predict(model, [images / "a.tif", images / "c.tif"], tmp_path, "overlay", overlay=style, on_disk=on_disk)
    picture = np.asarray(Picture.open(tmp_path / "a_overlay.png"))
    assert picture.shape[0] > SIDE
    cells, granules, others = ((picture == colour).all(axis=-1) for colour in class_colours(3))
    # Outlines in the picture, and the patches of the legend below it.
    assert cells[:SIDE].any()
    assert granules[:SIDE].any()
    assert not others[:SIDE].any()
    assert all(patch[SIDE:].sum() >= 100 for patch in (cells, granules, others))
    # The first spots are cells.
    assert cells[:36, :110].any()
    assert not granules[:36, :110].any()
    nothing = np.asarray(Picture.open(tmp_path / "c_overlay.png"))
    assert nothing.shape[0] > SIDE
    assert nothing.shape[1] >= 100


def test_another_style_is_another_overlay(model, images, tmp_path):
    """Results of another style are not taken up."""
    files = [images / "a.tif"]
    predict(model, files, tmp_path, "overlay")
    plain = np.asarray(Picture.open(tmp_path / "a_overlay.png"))
    assert predict(model, files, tmp_path, "overlay", resume=True).images[0].resumed
    summary = predict(model, files, tmp_path, "overlay", overlay=OverlayStyle(text="score", boxes=True), resume=True)
    assert not summary.images[0].resumed
    assert (np.asarray(Picture.open(tmp_path / "a_overlay.png")) != plain).any()


def test_a_wrong_style_is_told():
    with pytest.raises(ConfigError, match="overlay") as caught:
        OverlayStyle(by="colour")
    assert caught.value.where == "--overlay-by"
    with pytest.raises(ConfigError, match="class-score"):
        OverlayStyle(text="names")


def test_the_command_takes_the_options(model, images, tmp_path):
    options = ["--overlay-by", "class", "--overlay-text", "class-score", "--overlay-boxes", "--overlay-grey"]
    words = ["predict", str(model), str(images / "a.tif"), "--out", str(tmp_path), "--save", "overlay", "--device=cpu"]
    assert run([*words, *options]) == 0
    assert np.asarray(Picture.open(tmp_path / "a_overlay.png")).shape[0] > SIDE
    assert run([*words, "--overlay-by", "size"]) != 0


HEADER = "File Name,Class Name,Object Number,Area,Centroid,BoundingBox"


def done(folder: Path, name: str, objects: Instances, pixel_size: tuple[float, float] | None = None) -> DoneImage:
    lines = folder / f"{name}.jsonl".replace("/", "_")
    write_lines(lines, coco_lines(objects, 1, name))
    return DoneImage(Path(name), lines, objects.shape, pixel_size)


def check_rows(rows: pd.DataFrame, objects: Instances) -> None:
    """Each row is what scikit-image says of the object's own mask."""
    assert len(rows) == len(objects)
    for i, row in enumerate(rows.itertuples(index=False)):
        _name, class_name, number, area, centroid, box = row
        (own,) = regionprops(objects.full_mask(i).astype(np.uint8))
        assert (class_name, number, area) == (objects.class_names[objects.classes[i] - 1], i + 1, own.area)
        assert re.fullmatch(r"\((\d+), (\d+), (\d+), (\d+)\)", box)
        assert tuple(int(v) for v in box[1:-1].split(",")) == own.bbox
        np.testing.assert_allclose([float(v) for v in centroid[1:-1].split(",")], own.centroid, rtol=1e-9)


def test_recognised_objects_are_as_regionprops_has_them(model, images, tmp_path):
    predict(model, [images], tmp_path, "recognized-objects", "coco", "labels")
    text = (tmp_path / "output_recognized_objects.csv").read_text()
    assert text.splitlines()[0] == HEADER
    table = pd.read_csv(tmp_path / "output_recognized_objects.csv")
    assert table["File Name"].tolist() == ["a.tif"] * 8 + ["b.tif"] * 4
    check_rows(table[:8], found_objects(tmp_path, 1))
    check_rows(table[8:], found_objects(tmp_path, 2))
    labels = read_labels(tmp_path / "a_labels.tif")
    y0, x0, y1, x1 = (int(v) for v in table["BoundingBox"][4][1:-1].split(","))
    assert (labels[y0:y1, x0:x1] == table["Object Number"][4]).sum() == table["Area"][4]


def test_recognised_objects_of_real_overlapping_organelles(shared_data, tmp_path):
    folder = shared_data / "platelet_em"
    truth = open_coco(folder / "val.json", ImageFinder([folder / "tiles"]))
    objects = truth.read(truth.names[0]).instances.renumbered()
    plan = Outputs(tmp_path, ("recognized-objects",))
    write_run_outputs(plan, [done(tmp_path, "tile.tif", objects)], objects.class_names)
    check_rows(pd.read_csv(tmp_path / "output_recognized_objects.csv"), objects)


def test_recognised_objects_without_any_and_of_files_of_one_name(tmp_path):
    plan = Outputs(tmp_path, ("recognized-objects",))
    nothing, one = Instances.empty((4, 4)), Instances.from_labels(np.eye(4, dtype=np.int32))
    write_run_outputs(plan, [done(tmp_path, "x/a.tif", nothing)], ["object"])
    assert (tmp_path / "output_recognized_objects.csv").read_text() == HEADER + "\n"
    write_run_outputs(plan, [done(tmp_path, "x/a.tif", one), done(tmp_path, "y/a.tif", one)], ["object"])
    table = pd.read_csv(tmp_path / "output_recognized_objects.csv")
    assert table["File Name"].tolist() == ["x/a.tif", "y/a.tif"]
    assert table["Object Number"].tolist() == [1, 1]
    assert table["Centroid"][0] == "(1.5, 1.5)"


SHARED = ("coco", "recognized-objects", "charts")
SHARED_FILES = ("predictions.json", "output_recognized_objects.csv", "objects_per_class.png", "area_per_class.png")


def test_results_of_all_images_are_the_same_on_disk_and_when_taken_up(model, images, tmp_path):
    predict(model, [images], tmp_path / "memory", *SHARED, tile=96)
    predict(model, [images], tmp_path / "disk", *SHARED, tile=96, on_disk=True)
    wanted = {name: (tmp_path / "memory" / name).read_bytes() for name in SHARED_FILES}
    assert {name: (tmp_path / "disk" / name).read_bytes() for name in SHARED_FILES} == wanted
    for name in SHARED_FILES[1:]:
        (tmp_path / "memory" / name).unlink()
    summary = predict(model, [images], tmp_path / "memory", *SHARED, tile=96, resume=True)
    assert all(result.resumed for result in summary.images)
    assert {name: (tmp_path / "memory" / name).read_bytes() for name in SHARED_FILES} == wanted
    assert "area_per_class.png" in summary.lines()[-1]


def test_without_coco_results_nothing_finished_is_taken_up(model, images, tmp_path):
    for _ in range(2):
        summary = predict(model, [images / "a.tif"], tmp_path, "recognized-objects", resume=True)
        assert not summary.images[0].resumed
        assert len(pd.read_csv(tmp_path / "output_recognized_objects.csv")) == 8


def test_charts_beside_the_images_are_no_images(model, images, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(images, folder)
    for _ in range(2):
        assert len(predict(model, [folder], folder, "charts").images) == 3
    assert np.asarray(Picture.open(folder / "area_per_class.png")).std() > 10


@pytest.mark.parametrize(("sizes", "unit", "area"), [((0.5, 0.5), "µm²", 4.0), ((0.5, None), "px", 16.0)])
def test_areas_are_in_micrometres_when_all_pixel_sizes_are_known(tmp_path, monkeypatch, sizes, unit, area):
    square = Instances.from_crops((9, 9), [np.ones((4, 4), bool)], [(1, 2)])
    images = [
        done(tmp_path, f"{i}.tif", square, None if size is None else (size, size)) for i, size in enumerate(sizes)
    ]
    seen = []
    monkeypatch.setattr(run_outputs, "write_area_chart", lambda target, statistics: seen.append(statistics))
    write_run_outputs(Outputs(tmp_path, ("charts",)), images, ["object"])
    assert seen[0].unit == unit
    assert seen[0].areas()[0] == [area]


def submitted(path: Path) -> list[dict[str, Any]]:
    with zipfile.ZipFile(path) as package:
        assert package.namelist() == ["test-results.json"]
        assert package.getinfo("test-results.json").compress_type == zipfile.ZIP_DEFLATED
        return json.loads(package.read("test-results.json"))


@pytest.fixture
def image_ids(tmp_path: Path) -> Path:
    """The list of a challenge: numbers in another order than the names, and an image more."""
    path = tmp_path / "test_image_name_to_ids.json"
    sizes = {"c.tif": (5, SIDE, 100), "z.tif": (1, 9, 9), "a.tif": (9, SIDE, SIDE), "b.tif": (2, SIDE, SIDE)}
    listed = [{"file_name": n, "id": i, "height": h, "width": w} for n, (i, h, w) in sizes.items()]
    path.write_text(json.dumps(listed))
    return path


def test_a_submission_holds_every_object(model, images, tmp_path, image_ids):
    predict(model, [images], tmp_path, "submission", "coco", image_ids=image_ids)
    entries = submitted(tmp_path / "submission.zip")
    assert [e["image_id"] for e in entries] == [9] * 8 + [2] * 4
    known = json.loads((tmp_path / "predictions.json").read_text())
    for entry, other in zip(entries, known, strict=True):
        assert set(entry) == {"image_id", "bbox", "score", "category_id", "segmentation"}
        (mask,) = Instances.from_rle((SIDE, SIDE), [entry["segmentation"]]).windows.tolist()
        assert entry["bbox"] == [mask[1], mask[0], mask[3], mask[2]]
        assert all(isinstance(value, float) for value in entry["bbox"])
        assert isinstance(entry["segmentation"]["counts"], str)
        assert [entry[k] for k in ("score", "category_id", "segmentation")] == [
            other[k] for k in ("score", "category_id", "segmentation")
        ]
    assert {e["category_id"] for e in entries} == {1, 2}


def test_a_submission_is_read_again(model, images, tmp_path, image_ids):
    predict(model, [images], tmp_path, "submission", "coco", image_ids=image_ids)
    found = open_results(tmp_path / "submission.zip", ImageFinder(), image_ids)
    assert any("two corners" in sentence for sentence in found.told)
    for number, name in ((1, "a"), (2, "b")):
        wanted, again = found_objects(tmp_path, number), found.read(name).instances
        for field in ("windows", "bits", "classes", "scores", "boxes"):
            np.testing.assert_array_equal(getattr(again, field), getattr(wanted, field))
    assert len(found.read("c").instances) == 0


def test_a_submission_is_evaluated(model, images, tmp_path, image_ids):
    predict(model, [images], tmp_path, "submission", "coco", image_ids=image_ids)
    entries = submitted(tmp_path / "submission.zip")
    objects = [
        {**{k: e[k] for k in ("image_id", "category_id", "segmentation")}, "id": i, "iscrowd": 0, "area": 1,
         "bbox": [e["bbox"][0], e["bbox"][1], e["bbox"][2] - e["bbox"][0], e["bbox"][3] - e["bbox"][1]]}
        for i, e in enumerate(entries, start=1)
    ]  # fmt: skip
    truth = {
        "images": [i for i in json.loads(image_ids.read_text()) if i["file_name"] != "z.tif"],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
        "annotations": objects,
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    words = ["evaluate", str(tmp_path / "submission.zip"), str(tmp_path / "truth.json"), "--no-page"]
    assert run([*words, "--out", str(tmp_path / "scores")]) == 0
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert (metrics["n_images"], metrics["n_pred"], metrics["n_true"]) == (3, 12, 12)
    assert metrics["coco"]["segm"]["AP"] == 1


def test_boxes_are_cut_and_empty_ones_left_out(tmp_path):
    crops, origins = [np.ones((2, 2), bool)] * 4, [(0, 0), (4, 6), (2, 2), (5, 5)]
    boxes = [[-1.5, -2, 2.25, 2], [4, 6, 9, 9], [2, 12, 4, 14], [5, 5, 5, 7]]
    objects = Instances.from_crops((6, 8), crops, origins, boxes=boxes)
    lines = tmp_path / "lines"
    write_lines(lines, coco_lines(objects, 1, "a.tif"))
    assert write_submission(tmp_path / "s.zip", [(lines, NumberedImage(4), (6, 8))]) == 2
    assert [e["bbox"] for e in submitted(tmp_path / "s.zip")] == [[0.0, 0.0, 2.0, 2.25], [6.0, 4.0, 8.0, 6.0]]
    write_lines(lines, [])
    assert write_submission(tmp_path / "s.zip", [(lines, NumberedImage(4), (6, 8))]) == 0
    assert submitted(tmp_path / "s.zip") == []


def test_a_submission_is_the_same_on_disk_and_without_numbers(model, images, tmp_path):
    predict(model, [images], tmp_path / "memory", "submission", tile=96)
    predict(model, [images], tmp_path / "disk", "submission", tile=96, on_disk=True)
    assert [e["image_id"] for e in submitted(tmp_path / "memory" / "submission.zip")] == [1] * 8 + [2] * 4
    one, other = ((tmp_path / way / "submission.zip").read_bytes() for way in ("memory", "disk"))
    assert one == other


def test_images_must_be_in_the_list(model, images, tmp_path, image_ids):
    listed = json.loads(image_ids.read_text())
    image_ids.write_text(json.dumps({"images": listed[:3]}))
    with pytest.raises(ConfigError, match="not in the list") as caught:
        predict(model, [images], tmp_path / "out", "submission", image_ids=image_ids)
    assert caught.value.found == "b.tif"
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="for a submission"):
        predict(model, [images], tmp_path / "out", "labels", image_ids=image_ids)


def test_images_are_found_by_name_then_by_stem(tmp_path):
    path = tmp_path / "ids.json"
    path.write_text(
        '[{"file_name": "x/a.png", "id": 3}, {"file_name": "b.png", "id": 4}, {"file_name": "b.tif", "id": 5}]'
    )
    numbers = number_images([Path("i/a.tif"), Path("i/b.tif")], path)
    assert [image.number for image in numbers] == [3, 5]
    with pytest.raises(ConfigError, match="two images have one number"):
        number_images([Path("a.tif"), Path("a.png")], path)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '[{"file_name": "a.tif"}]', '[{"file_name": "a.tif", "id": "1"}]', '{"images": {"a": 1}}',
     '[{"file_name": "a.tif", "id": true}]', '[{"file_name": "a.tif", "id": 1}, {"file_name": "b.tif", "id": 1}]',
     '[{"file_name": "a.tif", "id": 1}, {"file_name": "a.tif", "id": 2}]', "[" * 100_000],
)  # fmt: skip
def test_broken_lists_are_told(tmp_path, text):
    path = tmp_path / "ids.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        number_images([Path("a.tif")], path)
    assert caught.value.where == path
    with pytest.raises(ConfigError, match="cannot be read"):
        number_images([Path("a.tif")], tmp_path / "nothing.json")


def test_another_size_than_listed_is_warned_of(tmp_path, capsys):
    NumberedImage(1, (5, 6)).check_size(Path("a.tif"), (5, 6))
    assert capsys.readouterr().err == ""
    NumberedImage(1, (5, 6)).check_size(Path("a.tif"), (6, 5))
    assert "6 x 5" in capsys.readouterr().err
