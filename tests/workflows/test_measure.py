"""Measure: from label images, annotations and predictions to tables, groups and the page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cytomask
from cytomask.cli.app import run
from cytomask.errors import ConfigError, CytomaskError, DataError, LabelError
from cytomask.formats.label_images import write_labels
from cytomask.formats.ome_tiff import write_ome_tiff
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.workflows.measure import measure
from cytomask.workflows.predicting.outputs import Outputs


def cells(seed: int, side: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.uint16)
    for i, (y, x) in enumerate(rng.integers(0, side - 12, (8, 2)), start=1):
        labels[y : y + 10, x : x + 10] = i
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of two channels, label images of cells and of spots, and a table of groups."""
    rng = np.random.default_rng(0)
    for name in ("images", "cells", "spots"):
        (tmp_path / name).mkdir()
    for k in range(6):
        labels = cells(k)
        spots = np.zeros_like(labels)
        spots[labels > 0] = rng.integers(0, 40, (labels > 0).sum()) == 0
        spots[spots > 0] = np.arange(1, (spots > 0).sum() + 1)
        write_labels(tmp_path / "cells" / f"im{k}.tif", labels)
        write_labels(tmp_path / "spots" / f"im{k}_labels.tif", spots)
        pixels = rng.integers(0, 4000, (2, 60, 60)).astype(np.uint16)
        image = Image.from_array(pixels, axes="CYX", channels=["DAPI", "GFP"], pixel_size=(0.5, 0.5))
        write_ome_tiff(tmp_path / "images" / f"im{k}.ome.tif", image)
    rows = "".join(f"im{k}.tif,{'treated' if k % 2 else 'control'}\n" for k in range(6))
    (tmp_path / "table.csv").write_text(f"image,condition\n{rows}")
    return tmp_path


def test_everything_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    code = run([
        "measure", f"cell={folder / 'cells'}", f"spot={folder / 'spots'}", "--images", str(folder / "images"),
        "--group-by", "condition", "--table", str(folder / "table.csv"), "--radius", "3", "--out", str(out),
    ])  # fmt: skip
    assert code == 0, capsys.readouterr().err
    names = ("objects", "pairs", "children", "parents", "images", "summary", "groups", "comparisons")
    tables = {name: pd.read_csv(out / f"{name}.csv") for name in names}
    objects = tables["objects"]
    true = [(cells(k), k) for k in range(6)]
    assert (objects["class"] == "cell").sum() == sum(len(np.unique(labels)) - 1 for labels, _ in true)
    assert set(objects["group"]) == {"control", "treated"}
    assert not objects.duplicated(["image", "id"]).any()
    spots = objects[objects["class"] == "spot"]
    # Every spot was put into a cell.
    assert (spots["in_cell_id"] > 0).all()
    assert spots["in_cell_edge_distance_um"].max() <= 2.5
    parents = tables["parents"]
    assert parents["spot_count"].sum() == len(spots)
    assert len(parents) == (objects["class"] == "cell").sum()
    merged = objects.merge(parents, on=["image", "id"])
    assert (merged["holds_spot_count"] == merged["spot_count"]).all()
    assert (tables["pairs"]["gap_um"] <= 3).all()
    images = tables["images"].set_index("image")
    assert images.loc["im1", "group"] == "treated"
    assert images.loc["im0", "cell_per_mm2"] == pytest.approx(images.loc["im0", "cell_count"] / (30 * 30) * 1e6)
    assert images["DAPI_GFP_pearson"].abs().max() < 0.1
    assert {"DAPI_GFP_icq", "intensity_mean_GFP", "local_density_mm2"} <= set(objects.columns)
    groups = tables["groups"].set_index(["group", "class", "measurement"])
    control = tables["summary"].query(
        "image in ['im0', 'im2', 'im4'] and `class` == 'cell' and measurement == 'area_px'"
    )
    assert groups.loc[("control", "cell", "area_px"), "mean"] == pytest.approx(control["mean"].mean())
    assert set(tables["comparisons"]["test"]) == {"Mann–Whitney U"}
    page = (out / "measurements.html").read_text()
    assert "Do the groups differ?" in page
    assert page.count('data-layer="lines') == 12
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)


def test_in_memory_from_python() -> None:
    labels = cells(3)
    image = np.random.default_rng(0).integers(0, 255, (2, 60, 60)).astype(np.uint8)
    found = cytomask.measure(labels, image, relations=["neighbours", "colocalisation"], pixel_size=2.0)
    assert found.unit == "um"
    assert "nearest_object_um" not in found.objects
    assert {"touching", "area_um2"} <= set(found.objects.columns)
    assert sum(name.endswith("_pearson") for name in found.objects.columns) == 1
    assert not len(found.children)


def test_chosen_classes_of_annotations_with_classes(shared_data: Path) -> None:
    place = shared_data / "platelet_em" / "train.json"
    found = measure(place, classes=["Mitochondrion", "cell"], relations="containment,distances")
    assert list(dict.fromkeys(found.objects["class"])) == ["cell", "mitochondrion"]
    assert (found.children["parent_class"] == "cell").all()
    assert len(found.children) == (found.objects["class"] == "mitochondrion").sum() == 7
    assert not len(found.pairs)
    with pytest.raises(ConfigError, match="no such class"):
        measure(place, classes=["golgi"])


def test_an_image_without_objects(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", np.zeros((20, 20), np.uint8))
    found = measure(tmp_path / "a.tif", out=tmp_path / "out")
    assert len(found.objects) == 0
    assert found.images["objects"].tolist() == [0]
    assert (tmp_path / "out" / "measurements.html").is_file()


def test_tables_of_an_earlier_measurement_do_not_stay(folder: Path) -> None:
    out = folder / "out"
    measure([f"cell={folder / 'cells'}", f"spot={folder / 'spots'}"], out=out, page=False)
    assert (out / "children.csv").is_file()
    measure(folder / "cells", out=out, relations="density", page=False)
    assert sorted(path.name for path in out.iterdir()) == ["groups.csv", "images.csv", "objects.csv", "summary.csv"]


def test_predictions_find_their_images_and_classes(tmp_path: Path) -> None:
    """What predict writes of an image in memory: relations in a table of their own, of the same objects."""
    labels = cells(1)
    objects = Instances.from_labels(labels, classes={int(i): 1 + int(i) % 2 for i in np.unique(labels)[1:]},
                                    class_names=("a", "b"))  # fmt: skip
    image = Image.from_array(np.zeros((60, 60), np.uint8))
    plan = Outputs(tmp_path, ("table", "relations")).of_run(["x"], ["a", "b"])
    plan.write("x", objects, image, None)
    written = pd.read_csv(tmp_path / "x_relations.csv")
    shapes = pd.read_csv(tmp_path / "x_objects.csv")
    pd.testing.assert_frame_equal(written[["id", "class", "area_px"]], shapes[["id", "class", "area_px"]])
    assert {"touching", "nearest_a_px", "nearest_b_px", "local_density_mpx"} <= set(written.columns)
    assert "relations" not in plan.of_image("x", on_disk=True)
    parquet = Outputs(tmp_path, ("relations",), "parquet").of_image("x")
    assert parquet["relations"].name == "x_relations.parquet"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"relations": "neighbors"}, ConfigError, "--relations"),
        ({"relations": ""}, ConfigError, "--relations"),
        ({"relations": "colocalisation"}, ConfigError, "needs the images"),
        ({"group_by": "condition"}, DataError, "groups of the images"),
        ({"table": "table.csv"}, ConfigError, "--group-by"),
        ({"images": "nowhere"}, DataError, "do not exist"),
        ({"split": "test"}, CytomaskError, "split"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(folder: Path, options: dict[str, str], error: type[Exception], said: str) -> None:
    labels = folder / "alone"
    labels.mkdir()
    write_labels(labels / "q.tif", cells(1))
    with pytest.raises(error, match=said):
        measure(labels, **options)  # type: ignore[arg-type]


def test_groups_need_a_row_for_every_image(folder: Path) -> None:
    (folder / "short.csv").write_text("image,condition\nim0,x\nim1,\n")
    with pytest.raises(DataError, match=r"im1, im2"):
        measure(folder / "cells", group_by="condition", table=folder / "short.csv")
    with pytest.raises(DataError, match="no column 'dose'"):
        measure(folder / "cells", group_by="dose", table=folder / "short.csv")


def test_images_and_objects_belong_together(folder: Path) -> None:
    write_labels(folder / "cells" / "im0.tif", np.zeros((50, 60), np.uint8))
    with pytest.raises(LabelError, match="differ in size"):
        measure(folder / "cells", folder / "images")
    (folder / "images" / "im0.ome.tif").unlink()
    with pytest.raises(DataError, match="no image called im0"):
        measure(folder / "cells", folder / "images")


def test_a_pixel_size_of_some_images_only(folder: Path) -> None:
    image = Image.from_array(np.zeros((2, 60, 60), np.uint16), axes="CYX")
    write_ome_tiff(folder / "images" / "im3.ome.tif", image)
    with pytest.raises(ConfigError, match="some of the images only"):
        measure(folder / "cells", folder / "images", relations="density")
    assert measure(folder / "cells", folder / "images", relations="density", pixel_size=1.0).unit == "um"


def test_classes_are_named_for_all_places_or_none(folder: Path) -> None:
    with pytest.raises(ConfigError, match="only some"):
        measure([f"cell={folder / 'cells'}", str(folder / "spots")])
    with pytest.raises(ConfigError, match="named twice"):
        measure([f"cell={folder / 'cells'}", f"cell={folder / 'spots'}"])
