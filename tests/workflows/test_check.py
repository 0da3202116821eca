"""Faults planted one by one in a clean data set: the check finds each, and nothing else; and repairs what it can."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter, zoom

from cytomask.__main__ import main
from cytomask.data.check.finding import CheckReport
from cytomask.data.check.kinds import KINDS
from cytomask.data.dataset import open_dataset
from cytomask.data.object_sizes import object_size_statistics
from cytomask.errors import CytomaskError
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels, write_labels
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.registry import family_class
from cytomask.workflows.check import check_data
from cytomask.workflows.checking.images import write_plain_image
from cytomask.workflows.checking.repair import repair_data

from ..data.check.planting import (
    HEIGHT,
    SPLITS,
    WIDTH,
    clean_coco,
    clean_set,
    draw_cells,
    edit_image,
    edit_labels,
    image_of,
    write_manifest,
    write_png,
)

Plant = Callable[[Path], Any]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clean_set(tmp_path_factory.mktemp("clean") / "set")


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clean_coco(tmp_path_factory.mktemp("coco") / "set")


def kinds(report: CheckReport, notes: bool = True) -> set[str]:
    return {found.kind for found in report.findings if notes or found.severity != "note"}


def test_nothing_is_found_in_clean_data(clean: Path, coco: Path) -> None:
    for root in (clean, coco, coco / "train.json"):
        report = check_data(root)
        assert kinds(report) == set(), [found.message for found in report.findings]


# One fault in label images


def two_touching(labels: np.ndarray) -> np.ndarray:
    """Cell 2 moved until it meets cell 1 in a narrow waist, and given its number."""
    out = np.where(labels == 2, 0, labels)
    y, x = np.nonzero(labels == 2)
    v, u = np.nonzero(labels == 1)
    x = x - (x.min() - u.max()) + 1
    y = y - round(y.mean() - v.mean())
    out[y, x] = 1
    return out


def forget_two(root: Path) -> None:
    edit_labels(root, lambda a: np.where((a == 6) | (a == 7), 0, a))


def rings(labels: np.ndarray) -> np.ndarray:
    inner = labels.copy()
    for axis in (0, 1):
        for step in (-2, 2):
            inner[np.roll(labels, step, axis) != labels] = 0
    return np.where(inner > 0, 0, labels)


def smear(labels: np.ndarray) -> np.ndarray:
    """What linear interpolation makes of label numbers."""
    return np.rint(gaussian_filter(labels * 40.0, 1.0)).astype(np.int32)


def merge(root: Path) -> None:
    image, labels = image_of(root), read_labels(root / "labels" / "im0.png")
    merged = two_touching(labels)
    old = labels == 2
    image[old] = 20
    image[(merged == 1) & (labels != 1)] = image[labels == 1].mean().astype(np.uint8)
    write_png(root / "images" / "im0.png", image)
    write_labels(root / "labels" / "im0.png", merged)


def speck(labels: np.ndarray) -> np.ndarray:
    labels[42, 42:44] = 13
    return labels


def crumb(labels: np.ndarray) -> np.ndarray:
    y, x = np.argwhere(labels == 1)[0]
    labels[y - 3, x] = 1
    return labels


def second_piece(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == 12, 1, labels)


def hole(labels: np.ndarray) -> np.ndarray:
    y, x = np.argwhere(labels == 1).mean(axis=0).round().astype(int)
    labels[y - 2 : y + 4, x - 2 : x + 4] = 0
    return labels


def same_image(root: Path, source: str, target: str, change: Callable[[np.ndarray], np.ndarray] = np.array) -> None:
    write_png(root / "images" / f"{target}.png", change(image_of(root, source)))
    labels = read_labels(root / "labels" / f"{source}.png")
    write_labels(root / "labels" / f"{target}.png", labels)


def write_tiff(root: Path, name: str, pixels: np.ndarray, **options: Any) -> None:
    (root / "images" / f"{name}.png").unlink()
    tifffile.imwrite(root / "images" / f"{name}.tif", pixels, **options)


def all_tiff(root: Path, change: Callable[[np.ndarray], np.ndarray], **options: Any) -> None:
    for name in SPLITS:
        write_tiff(root, name, change(image_of(root, name)), **options)


def with_rows(root: Path, column: str, values: Callable[[int], str]) -> None:
    write_manifest(root, {n: {"split": s, column: values(k)} for k, (n, s) in enumerate(SPLITS.items())})


def many_images(root: Path, column: str, values: Callable[[int, str], str]) -> None:
    rows = {}
    for k in range(12):
        image, labels = draw_cells(100 + k)
        split = "train" if k < 6 else "val"
        write_png(root / "images" / f"more{k}.png", image)
        write_labels(root / "labels" / f"more{k}.png", labels)
        rows[f"more{k}"] = {"split": split, column: values(k, split)}
    write_manifest(root, {**{n: {"split": s, column: values(0, s)} for n, s in SPLITS.items()}, **rows})


def rename(root: Path, old: str, new: str) -> None:
    for folder in ("images", "labels"):
        (root / folder / f"{old}.png").rename(root / folder / f"{new}.png")
    write_manifest(root, {new if n == old else n: {"split": s} for n, s in SPLITS.items()})


def same_pixels(root: Path, source: str, target: str) -> None:
    write_png(root / "images" / f"{target}.png", image_of(root, source))


def sizes(root: Path) -> None:
    """Large cells with small ones of an eleventh of their diameter between them, in all images."""
    y, x = np.mgrid[:160, :220]
    for k, name in enumerate(SPLITS):
        rng = np.random.default_rng(k)
        labels = np.zeros(y.shape, np.int32)
        for cy, cx in ((50, 50), (50, 160)):
            labels[np.hypot(y - cy, x - cx) < 44] = labels.max() + 1
        for cx in range(10, 210, 20):
            cy = int(rng.integers(115, 150))
            labels[cy : cy + 6, cx : cx + 6] = labels.max() + 1
        light = rng.integers(90, 160, 13)[labels]
        image = np.where(labels > 0, light, 20) + rng.integers(0, 12, y.shape)
        write_png(root / "images" / f"{name}.png", image.astype(np.uint8))
        write_labels(root / "labels" / f"{name}.png", labels)


def classes_table(root: Path, rare: Callable[[str, int], str], names: str = "[a, b]") -> None:
    rows = [(n, i, rare(n, i)) for n in SPLITS for i in range(1, 13)]
    (root / "objects.csv").write_text("image,id,class\n" + "".join(f"{n},{i},{c}\n" for n, i, c in rows))
    (root / "dataset.yaml").write_text(
        f"images: images\nlabels: labels\nclasses: {names}\nobject_classes: {{csv: objects.csv}}\n"
    )


def label_picture(root: Path) -> None:
    labels = read_labels(root / "labels" / "im0.png")
    write_png(root / "labels" / "im0.png", np.random.default_rng(0).integers(0, 255, (13, 3), np.uint8)[labels])


def jpeg_labels(root: Path) -> None:
    labels = read_labels(root / "labels" / "im0.png")
    Picture.fromarray(labels.astype(np.uint8)).save(root / "labels" / "im0.png", "JPEG")


def tiny(root: Path) -> None:
    for name in SPLITS:
        labels = np.zeros((HEIGHT, WIDTH), np.int32)
        labels[4:-4:8, 4:-4:8] = np.arange(15 * 20).reshape(15, 20) + 1
        labels[5:-4:8, 4:-4:8] = labels[4:-4:8, 4:-4:8]
        labels[4:-4:8, 5:-4:8] = labels[4:-4:8, 4:-4:8]
        write_labels(root / "labels" / f"{name}.png", labels)
        image = np.random.default_rng(int(name[2:])).integers(10, 60, labels.shape)
        write_png(root / "images" / f"{name}.png", (image + 120 * (labels > 0)).astype(np.uint8))


def shrink_validation(root: Path) -> None:
    """Ten images more for validation, of half the magnification."""
    rows = {n: {"split": s} for n, s in SPLITS.items()}
    for k in range(5):
        image, labels = draw_cells(50 + k)
        write_png(root / "images" / f"small{k}.png", image[::2, ::2])
        write_labels(root / "labels" / f"small{k}.png", labels[::2, ::2])
        rows[f"small{k}"] = {"split": "new"}
    write_manifest(root, rows)


def crowd_of(root: Path, side: int) -> None:
    y, x = np.mgrid[: 8 * side, : 8 * side]
    labels = (y // 8 * side + x // 8 + 1) * (((y % 8) > 0) & ((y % 8) < 7) & ((x % 8) > 0) & ((x % 8) < 7))
    noise = np.random.default_rng(1).integers(0, 30, labels.shape)
    light = np.random.default_rng(2).integers(90, 170, side * side + 1)[labels]
    write_png(root / "images" / "im0.png", (np.where(labels > 0, light, 30) + noise).astype(np.uint8))
    write_labels(root / "labels" / "im0.png", labels.astype(np.int32))


def shifted(labels: np.ndarray) -> np.ndarray:
    out = np.zeros_like(labels)
    out[5:, :-4] = labels[:-5, 4:]
    return out


def elsewhere(labels: np.ndarray) -> np.ndarray:
    """Cells in the gaps between those of the drawn images."""
    return np.roll(labels, (21, 21), (0, 1))


PLANTED: dict[str, Plant] = {
    "missing-labels": lambda r: (r / "labels" / "im0.png").unlink(),
    "missing-image": lambda r: (r / "images" / "im0.png").unlink(),
    "doubled-name": lambda r: tifffile.imwrite(r / "images" / "im0.tif", image_of(r)),
    "empty-file": lambda r: (r / "images" / "im0.png").write_bytes(b""),
    "unreadable-image": lambda r: (r / "images" / "im0.png").write_bytes(
        (r / "images" / "im0.png").read_bytes()[:-200]
    ),
    "unreadable-labels": lambda r: (r / "labels" / "im0.png").write_bytes(b"not a picture"),
    "size-mismatch": lambda r: edit_labels(r, lambda a: a[:-2]),
    "constant-image": lambda r: edit_image(r, lambda a: np.full_like(a, 7)),
    "few-levels": lambda r: edit_image(r, lambda a: (a // 60 * 60).astype(np.uint8)),
    "saturated": lambda r: edit_image(r, lambda a: np.where(a > 70, 255, a).astype(np.uint8)),
    "unused-bits": lambda r: all_tiff(r, lambda a: a.astype(np.uint16) * 16),
    "float-range": lambda r: all_tiff(r, lambda a: a.astype(np.float32)),
    "mixed-dtypes": lambda r: edit_image(r, lambda a: a.astype(np.uint16) * 257),
    "inverted": lambda r: edit_image(r, lambda a: 255 - a),
    "grey-as-rgb": lambda r: [edit_image(r, lambda a: np.stack([a] * 3, -1), n) for n in SPLITS],
    "alpha": lambda r: [
        edit_image(r, lambda a: np.stack([a, a // 2, a // 3, np.full_like(a, 255)], -1), n) for n in SPLITS
    ],
    "channels-differ": lambda r: write_tiff(
        r, "im0", np.stack([image_of(r), image_of(r)[::-1]]), metadata={"axes": "CYX"}, photometric="minisblack"
    ),
    "colour-labels": label_picture,
    "jpeg-labels": jpeg_labels,
    "smeared-labels": lambda r: edit_labels(r, smear),
    "binary-labels": lambda r: edit_labels(r, lambda a: 255 * (a > 0)),
    "constant-labels": lambda r: edit_labels(r, lambda a: np.full_like(a, 3)),
    "labels-are-image": lambda r: write_labels(r / "labels" / "im0.png", image_of(r)),
    "name-case": lambda r: rename(r, "im5", "IM0"),
    "pixel-size-differs": lambda r: [
        write_tiff(r, n, image_of(r, n), resolution=(1 / s, 1 / s), imagej=True, metadata={"unit": "um"})
        for n, s in (("im0", 0.2), ("im1", 0.5), ("im2", 0.5))
    ],
    "conflicting-labels": lambda r: (
        same_image(r, "im0", "im1"), edit_labels(r, lambda a: a[::-1, ::-1], "im7"), same_pixels(r, "im7", "im8"),
    ),
    "size-range": sizes,
    "ids-not-contiguous": lambda r: edit_labels(r, lambda a: np.where(a == 12, 40, a)),
    "no-objects": lambda r: (edit_labels(r, np.zeros_like), edit_image(r, lambda a: np.minimum(a, 25))),
    "scattered-object": lambda r: edit_labels(r, second_piece),
    "crumbs": lambda r: edit_labels(r, crumb),
    "specks": lambda r: edit_labels(r, speck),
    "holes": lambda r: edit_labels(r, hole),
    "outlines-only": lambda r: edit_labels(r, rings),
    "merged-objects": merge,
    "missing-objects": forget_two,
    "shifted-labels": lambda r: edit_labels(r, shifted),
    "foreign-labels": lambda r: write_labels(r / "labels" / "im0.png", elsewhere(draw_cells(77)[1])),
    "crowded": lambda r: crowd_of(r, 11),
    "exact-duplicate": lambda r: same_image(r, "im0", "im9"),
    "near-duplicate": lambda r: same_image(r, "im0", "im9", lambda a: np.rint(12 + 0.6 * a).astype(np.uint8)),
    "unassigned": lambda r: write_manifest(
        r, {n: {"split": "" if n == "im3" else s} for n, s in SPLITS.items()}
    ),
    "empty-split": lambda r: (r / "dataset.yaml").write_text(
        "images: images\nlabels: labels\nsplits: {train: ['im*'], val: []}\n"
    ),
    "data-set-problem": lambda r: write_manifest(r, {n: {"split": s} for n, s in list(SPLITS.items())[1:]}),
    "split-imbalance": lambda r: many_images(r, "stain", lambda k, s: "dapi" if s == "train" else "he"),
    "group-leak": lambda r: with_rows(r, "patient", lambda k: f"p{k % 5}"),
    "tiny-objects": tiny,
    "sizes-differ": shrink_validation,
    "class-imbalance": lambda r: classes_table(r, lambda n, i: "b" if (n, i) == ("im0", 1) else "a"),
    "unused-category": lambda r: classes_table(r, lambda n, i: "ab"[i % 2], "[a, b, c]"),
    "class-not-in-split": lambda r: classes_table(r, lambda n, i: "b" if n == "im9" and i < 4 else "a"),
}  # fmt: skip


#: What cannot be planted without something else that is true as well.
BESIDES = {
    "unassigned": {"data-set-problem"},
    "data-set-problem": {"unassigned"},
    "missing-labels": {"data-set-problem"},
    "missing-image": {"data-set-problem"},
    "doubled-name": {"data-set-problem"},
    "scattered-object": {"ids-not-contiguous"},
    "merged-objects": {"ids-not-contiguous"},
    "missing-objects": {"ids-not-contiguous"},
    "foreign-labels": {"scattered-object", "crumbs"},
    "conflicting-labels": {"exact-duplicate", "shifted-labels", "foreign-labels", "missing-objects"},
    "size-range": {"near-duplicate"},  # two large cells in each are much alike
    "class-imbalance": {"class-not-in-split"},
    "class-not-in-split": {"class-imbalance"},
    "tiny-objects": {"crowded"},
    "saturated": {"few-levels"},
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found_and_nothing_else(kind: str, clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    PLANTED[kind](root)
    report = check_data(root, workers=1)
    assert kind in kinds(report)
    assert kinds(report) <= {kind} | BESIDES.get(kind, set()), [f.message for f in report.findings]
    one = next(found for found in report.findings if found.kind == kind)
    assert one.todo
    assert one.message


# One fault in a COCO file

Document = dict[str, Any]


def first(document: Document) -> dict[str, Any]:
    return document["annotations"][0]


def repeat(document: Document, **changes: Any) -> None:
    document["annotations"].append({**deepcopy(first(document)), "id": 1000, **changes})


def as_corners(document: Document) -> None:
    for one in document["annotations"]:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x, y, x + width, y + height]


def move(one: dict[str, Any], dx: float) -> None:
    one["segmentation"] = [[v + dx * (k % 2 == 0) for k, v in enumerate(piece)] for piece in one["segmentation"]]
    one["bbox"][0] += dx


PLANTED_IN_COCO: dict[str, Callable[[Document], Any]] = {
    "duplicate-ids": lambda d: d["annotations"][20].update(id=1),
    "doubled-entry": lambda d: d["images"].append({**d["images"][0], "id": 99}),
    "orphan-annotation": lambda d: repeat(d, image_id=77),
    "unknown-category": lambda d: first(d).update(category_id=9),
    "few-points": lambda d: first(d)["segmentation"].append([3, 3, 8, 8]),
    "empty-mask": lambda d: repeat(d, segmentation=[[5, 5, 9, 5, 12, 5]], bbox=[5, 5, 7, 0]),
    "broken-mask": lambda d: first(d).update(segmentation={"size": [HEIGHT, WIDTH], "counts": [5, 7]}),
    "outside-image": lambda d: move(d["annotations"][3], 22),
    "box-convention": as_corners,
    "box-mismatch": lambda d: first(d).update(bbox=[60, 60, 30, 30]),
    "duplicate-objects": repeat,
    "overlapping-objects": lambda d: (repeat(d), move(d["annotations"][-1], 3.5)),
    "size-mismatch": lambda d: d["images"][0].update(height=HEIGHT + 9),
    "missing-image": lambda d: d["images"].append({"id": 50, "file_name": "gone.png", "height": 64, "width": 64}),
}
BESIDES_IN_COCO = {
    "doubled-entry": {"data-set-problem"},
    "unknown-category": {"unreadable-labels"},
    "broken-mask": {"unreadable-labels"},
    # A box of no height fits nothing, and moved cells leave their old places bare.
    "empty-mask": {"box-mismatch", "few-points"},
    "outside-image": {"missing-objects"},
}


def edit_coco(root: Path, change: Callable[[Document], Any]) -> None:
    document = json.loads((root / "train.json").read_text())
    change(document)
    (root / "train.json").write_text(json.dumps(document))


@pytest.mark.parametrize("kind", PLANTED_IN_COCO)
def test_a_fault_planted_in_coco_is_found_and_nothing_else(kind: str, coco: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(coco, tmp_path / "set"))
    edit_coco(root, PLANTED_IN_COCO[kind])
    report = check_data(root, workers=1)
    assert kind in kinds(report)
    assert kinds(report) <= {kind} | BESIDES_IN_COCO.get(kind, set()), [f.message for f in report.findings]


def test_coco_named_in_a_yaml_is_looked_at(coco: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(coco, tmp_path / "set"))
    edit_coco(root, as_corners)
    (root / "train.json").rename(root / "first.json")
    (root / "all.yaml").write_text("images: images\nannotations: {train: first.json, val: val.json}\n")
    found = check_data(root / "all.yaml").findings
    assert [(one.kind, one.split) for one in found] == [("box-convention", "train")]


def test_every_kind_is_planted_somewhere() -> None:
    # What compares the objects with a model has tests of its own below.
    elsewhere = {"model-diameter", "model-classes", "model-limits", "larger-than-patch"}
    assert set(KINDS) == set(PLANTED) | set(PLANTED_IN_COCO) | elsewhere


# Real images


def test_real_nuclei_with_and_without_faults(shared_data: Path, tmp_path: Path) -> None:
    with (shared_data / "nuclei" / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] == "fluorescence" and row["height"] == "256"]
    names = [row["name"] for row in rows[2:62:5]]
    root = tmp_path / "set"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(shared_data / "nuclei" / folder / f"{name}.png", root / folder)
    write_manifest(root, {name: {"split": "train" if k < 8 else "val"} for k, name in enumerate(names)})
    assert kinds(check_data(root), notes=False) == set()
    edit_labels(root, shifted, names[0])
    shutil.copy(root / "images" / f"{names[1]}.png", root / "images" / f"{names[-1]}.png")
    shutil.copy(root / "labels" / f"{names[1]}.png", root / "labels" / f"{names[-1]}.png")
    found = {(one.kind, one.image) for one in check_data(root).findings if one.severity != "note"}
    assert found == {("shifted-labels", names[0]), ("exact-duplicate", names[-1])}


def test_volumes_are_refused_with_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    for path in (tmp_path, tmp_path / "a.h5"):
        with pytest.raises(CytomaskError, match="volumes"):
            check_data(path)


# With a model


def test_objects_are_compared_with_a_model(clean: Path, tmp_path: Path) -> None:
    assert kinds(check_data(clean, model="nuclei")) == set()
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    for name in SPLITS:
        edit_image(root, lambda a: zoom(a, 3, order=1), name)
        edit_labels(root, lambda a: np.kron(a, np.ones((3, 3), np.int32)), name)
    (found,) = check_data(root, model="nuclei").findings
    assert found.kind == "model-diameter"
    assert "--diameter 63" in found.todo


def test_objects_too_large_for_a_patch_or_for_the_networks_view_are_told(clean: Path) -> None:
    from cytomask.workflows.checking.model import model_faults, patch_faults

    assert patch_faults(np.full(50, 120.0)) == patch_faults(np.zeros(0)) == []
    (found,) = patch_faults(np.full(50, 140.0))
    assert (found.kind, "patches.size=320" in found.todo) == ("larger-than-patch", True)
    # Of the same median as the model's own, but a tenth of them larger than it can see.
    sizes = np.r_[np.full(90, 20.0), np.full(10, 900.0)]
    assert "model-limits" in {one.kind for one in model_faults("nuclei", sizes, ("object",))}
    assert "model-limits" not in {one.kind for one in model_faults("nuclei", np.full(50, 20.0), ("object",))}


def test_settings_that_fit_the_objects_are_told(clean: Path) -> None:
    settings = check_data(clean).statistics["settings"]
    for chosen in settings.values():
        assert len(chosen["settings"]) == len(chosen["reasons"])
    assert settings["star"]["settings"]["grid"] == 2


def bars(root: Path, split: str, height: int, width: int) -> None:
    """Objects of one size in two images of a split."""
    for k in range(2):
        labels = np.zeros((HEIGHT, WIDTH), np.int32)
        for number, (y, x) in enumerate(((8 + 2 * k, 10), (8, 90), (68, 10), (68, 90 + 3 * k)), start=1):
            labels[y : y + height, x : x + width] = number
        noise = np.random.default_rng(len(split) + k).integers(0, 12, labels.shape)
        write_png(root / "images" / f"{split}_{k}.png", (np.where(labels > 0, 120, 20) + noise).astype(np.uint8))
        write_labels(root / "labels" / f"{split}_{k}.png", labels)


def test_what_training_would_choose_follows_from_the_training_images_boxes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    bars(tmp_path / "set", "train", 9, 36)
    bars(tmp_path / "set", "val", 40, 40)
    assert main(["check", str(tmp_path / "set"), "--out", str(tmp_path / "report")]) == 0
    # A square with the area of 9 x 36 pixels has a side of 18, and nothing here has another size.
    stored = json.loads((tmp_path / "report" / "check.json").read_text())["statistics"]["settings"]
    assert stored["region"]["settings"]["anchors"] == {
        "sizes": [[18.0], [36.0], [72.0], [144.0], [288.0]], "ratios": [0.25, 1.0, 4.0],
    }  # fmt: skip
    assert stored["region"]["settings"]["backbone"] == {"stem_stride": 4}
    # Training itself comes to the same.
    dataset = open_dataset(tmp_path / "set")
    sizes = object_size_statistics(dataset.split("train"), dataset)
    for family, told in stored.items():
        settings, reasons = family_class(family).propose_from_data(sizes)
        assert told == json.loads(json.dumps({"settings": settings, "reasons": reasons}))
    printed, page = capsys.readouterr().out, (tmp_path / "report" / "check.html").read_text()
    for family in ("star", "region"):
        assert f"training a {family} model would choose" in printed
        assert f"What training a {family} model would choose" in page
    assert all(reason in printed for reason in stored["region"]["reasons"])
    assert "anchors of 18, 36, 72, 144, 288 px" in page


def test_classes_that_a_model_does_not_know_are_told(coco: Path) -> None:
    assert kinds(check_data(coco, model="nuclei")) == {"model-classes"}


# The report


def test_images_of_single_cells_are_not_called_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-32:32, -32:32]
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for k in range(12):
        cell = np.hypot((y - rng.normal()) * rng.uniform(0.9, 1.1), x - rng.normal()) < rng.uniform(14, 20)
        name = f"{'train' if k < 8 else 'val'}_{k}.png"
        light = gaussian_filter(20 + 100.0 * cell, 1) + rng.normal(0, 5, cell.shape)
        write_png(tmp_path / "images" / name, light.clip(0, 255).astype(np.uint8))
        write_labels(tmp_path / "labels" / name, cell.astype(np.int32))
    assert kinds(check_data(tmp_path)) == set()
    # A brighter copy still is.
    edit_image(tmp_path, lambda image: (image * 1.4).astype(np.uint8), "train_0")
    shutil.copy(tmp_path / "labels" / "train_0.png", tmp_path / "labels" / "val_20.png")
    write_png(tmp_path / "images" / "val_20.png", (image_of(tmp_path, "train_0") * 0.6).astype(np.uint8))
    assert kinds(check_data(tmp_path)) == {"near-duplicate"}


def test_sparse_and_large_ids_are_no_matter(clean: Path, tmp_path: Path) -> None:
    root = shutil.copytree(clean, tmp_path / "set")
    labels = read_labels(root / "labels" / "im0.png")
    (root / "labels" / "im0.png").unlink()
    write_labels(root / "labels" / "im0.tif", np.where(labels, 2**31 - 20 + labels, 0).astype(np.int32))
    assert kinds(check_data(root)) == {"ids-not-contiguous"}


def test_crowd_regions_are_no_large_objects(coco: Path, tmp_path: Path) -> None:
    root = shutil.copytree(coco, tmp_path / "set")
    document = json.loads((root / "train.json").read_text())
    sides = [0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]
    for image in document["images"]:
        for _ in range(3):
            number = len(document["annotations"]) + 1
            document["annotations"].append({
                "id": number, "image_id": image["id"], "category_id": 1, "iscrowd": 1, "segmentation": [sides],
                "bbox": [0, 0, WIDTH, HEIGHT], "area": WIDTH * HEIGHT,
            })  # fmt: skip
    (root / "train.json").write_text(json.dumps(document))
    report, before = check_data(root), check_data(coco)
    assert kinds(report) == set()
    for told in ("objects", "classes", "diameter"):
        assert report.statistics[told] == before.statistics[told]


def test_splits_are_told_apart(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    edit_labels(root, speck, "im0")
    edit_labels(root, hole, "im9")
    assert {(f.kind, f.split) for f in check_data(root).findings} == {("specks", "train"), ("holes", "test")}
    only = check_data(root, split="test")
    assert [(f.kind, f.image) for f in only.findings] == [("holes", "im9")]
    assert only.statistics["images"] == {"all": 2, "test": 2}


def test_statistics_count_what_is_there(coco: Path) -> None:
    report = check_data(coco)
    assert report.statistics["images"] == {"all": 8, "train": 6, "val": 2}
    assert report.statistics["objects"] == {"all": 96, "train": 72, "val": 24}
    assert report.statistics["classes"]["debris"] == {"all": 48, "train": 36, "val": 12}
    assert report.statistics["objects_per_image"] == {"min": 12, "median": 12.0, "max": 12}
    areas = np.concatenate([np.bincount(draw_cells(k)[1].ravel())[1:] for k in (*range(6), 20, 21)])
    median = np.median(np.sqrt(4 / np.pi * areas))
    assert report.statistics["diameter"]["p50"] == pytest.approx(median, abs=0.1)
    assert sum(report.statistics["diameter"]["counts"]) == 96
    assert report.statistics["dtypes"] == {"uint8": 8}


def test_the_gravest_come_first(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    edit_labels(root, hole, "im0")
    edit_labels(root, lambda a: np.where(a == 12, 40, a), "im1")
    edit_labels(root, lambda a: a[:-2], "im2")
    order = {"error": 0, "warning": 1, "note": 2}
    found = [order[one.severity] for one in check_data(root).findings]
    assert found == sorted(found)
    assert len(set(found)) == 3


# Repairing


def files_of(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def repairs(out: Path) -> list[dict[str, str]]:
    with (out / "repairs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "kind", ["specks", "crumbs", "holes", "scattered-object", "outlines-only", "grey-as-rgb", "alpha"]
)
def test_a_repaired_copy_passes(kind: str, clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    PLANTED[kind](root)
    before = files_of(root)
    done = repair_data(root, tmp_path / "out")
    assert files_of(root) == before
    assert kinds(check_data(tmp_path / "out"), notes=False) == set()
    assert kind not in kinds(check_data(tmp_path / "out"))
    if kind != "outlines-only":  # which is mended as holes are
        assert kind in {row["kind"] for row in repairs(tmp_path / "out") if row["status"] == "done"}
    assert done.rows == repairs(tmp_path / "out")


def test_repair_changes_nothing_but_the_fault(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    edit_labels(root, lambda a: hole(crumb(speck(a))))
    repair_data(root, tmp_path / "out")
    for name in SPLITS:
        expected = read_labels(clean / "labels" / f"{name}.png")
        np.testing.assert_array_equal(read_labels(tmp_path / "out" / "labels" / f"{name}.png"), expected)
        image = f"images/{name}.png"
        assert (tmp_path / "out" / image).read_bytes() == (root / image).read_bytes()
    assert check_data(tmp_path / "out").statistics["images"] == {"all": 10, "train": 6, "val": 2, "test": 2}
    done = Counter(row["kind"] for row in repairs(tmp_path / "out"))
    assert done == {"specks": 1, "crumbs": 1, "holes": 1}


def test_pieces_far_apart_become_objects(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    edit_labels(root, second_piece)
    repair_data(root, tmp_path / "out")
    whole, mended = (read_labels(r / "labels" / "im0.png") for r in (clean, tmp_path / "out"))
    assert mended.max() == 12
    # Which of the two keeps the number 1 is the larger one's right.
    pairs = np.unique(np.stack([whole.ravel(), mended.ravel()]), axis=1)
    assert pairs.shape == (2, 13)


def test_a_training_image_that_is_tested_on_is_removed(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    same_image(root, "im0", "im9")
    same_image(root, "im1", "im2")
    repair_data(root, tmp_path / "out")
    names = {p.stem for p in (tmp_path / "out" / "images").iterdir()}
    assert names == set(SPLITS) - {"im0"}
    left = [row for row in repairs(tmp_path / "out") if row["status"] == "left"]
    assert [(row["kind"], row["image"]) for row in left] == [("exact-duplicate", "im2")]


def test_what_cannot_be_read_is_left_for_a_person(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    edit_labels(root, lambda a: a[:-2], "im3")
    merge(root)
    repair_data(root, tmp_path / "out")
    left = {(row["kind"], row["image"]) for row in repairs(tmp_path / "out")}
    assert left == {("size-mismatch", "im3"), ("merged-objects", "im0")}
    assert not (tmp_path / "out" / "images" / "im3.png").exists()


def test_classes_of_objects_are_kept(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    classes_table(root, lambda n, i: "ab"[i % 2], "[a, b, c]")
    edit_labels(root, second_piece, "im0")
    repair_data(root, tmp_path / "out")
    report = check_data(tmp_path / "out")
    assert "unused-category" not in kinds(report)
    assert {name: counts["all"] for name, counts in report.statistics["classes"].items()} == {"a": 59, "b": 61}


FIXED_IN_COCO = ["duplicate-ids", "orphan-annotation", "few-points", "empty-mask", "outside-image", "box-convention",
                 "box-mismatch", "duplicate-objects"]  # fmt: skip


@pytest.mark.parametrize("kind", FIXED_IN_COCO)
def test_a_repaired_coco_file_passes(kind: str, coco: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(coco, tmp_path / "set"))
    edit_coco(root, PLANTED_IN_COCO[kind])
    before = files_of(root)
    repair_data(root, tmp_path / "out")
    assert files_of(root) == before
    report = check_data(tmp_path / "out")
    assert kinds(report) <= BESIDES_IN_COCO.get(kind, set()) - {"box-mismatch", "few-points"}
    assert kind in {row["kind"] for row in repairs(tmp_path / "out") if row["status"] == "done"}
    assert report.statistics["images"] == {"all": 8, "train": 6, "val": 2}


def test_masks_of_coco_are_kept_to_the_pixel(coco: Path, tmp_path: Path) -> None:
    repair_data(coco, tmp_path / "out")
    old, new = (json.loads((root / "train.json").read_text()) for root in (coco, tmp_path / "out"))
    size = HEIGHT, WIDTH
    masks = [Instances.from_coco(size, [one["segmentation"] for one in d["annotations"]]) for d in (old, new)]
    assert masks[0].to_rle() == masks[1].to_rle()
    assert [a["category_id"] for a in old["annotations"]] == [a["category_id"] for a in new["annotations"]]
    assert [a["bbox"] for a in old["annotations"]] == [a["bbox"] for a in new["annotations"]]


def test_grey_stays_rgb_where_channels_are_named_or_others_have_colours(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    for name in SPLITS:
        write_png(root / "images" / f"{name}.png", np.repeat(image_of(clean, name)[..., None], 3, axis=2))
    (root / "dataset.yaml").write_text("images: images\nlabels: labels\nchannels: [red, green, blue]\n")
    repair_data(root, tmp_path / "named")
    (root / "dataset.yaml").unlink()
    dyed = np.stack([image_of(clean), image_of(clean) // 2, image_of(clean) // 3], axis=2)
    write_png(root / "images" / "im0.png", dyed)
    repair_data(root, tmp_path / "coloured")
    for copy in (tmp_path / "named", tmp_path / "coloured"):
        for sample in (opened := open_dataset(copy)).samples:
            assert opened.load(sample)[0].n_channels == 3
        assert repairs(copy) == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_images_made_anew_keep_pixels_and_their_size(
    shape: tuple[int, ...], dtype: type, suffix: str, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    image = replace(Image.from_array(pixels), pixel_size=(0.5, 0.25))
    write_plain_image(tmp_path / f"a{suffix}", image)
    back = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.pixels, image.pixels)
    assert (back.pixel_size, back.rgb) == ((0.5, 0.25), len(shape) == 3)


def test_a_split_alone_is_repaired_with_its_steps_and_all_classes(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    classes_table(root, lambda name, i: "ab"[i % 2 and SPLITS[name] != "train"], "[a, b]")
    text = (root / "dataset.yaml").read_text()
    (root / "dataset.yaml").write_text(text + "steps: {train: [fill_label_holes], val: [fill_label_holes]}\n")
    repair_data(root, tmp_path / "out", split="train")
    copy = open_dataset(tmp_path / "out")
    assert (len(copy), copy.classes) == (6, ("a", "b"))
    assert all(sample.reading.steps for sample in copy.samples)


def test_repair_never_writes_over_what_is_there(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(CytomaskError, match="mix"):
        repair_data(clean, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


# The command line


def test_exit_codes(clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(clean)]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    warned, wrong = (Path(shutil.copytree(clean, tmp_path / name)) for name in ("warned", "wrong"))
    edit_labels(warned, crumb)
    edit_labels(warned, crumb, "im1")
    edit_labels(warned, second_piece, "im2")
    assert main(["check", str(warned)]) == 0
    assert main(["check", str(warned), "--strict"]) == 1
    edit_labels(wrong, lambda a: a[:-2])
    capsys.readouterr()
    assert main(["check", str(wrong)]) == 1
    said = capsys.readouterr().out
    for word in ("1 error", "size-mismatch", "126 x 168", "to do:"):
        assert word in said
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    assert main(["check", str(clean), "--split", "nosuch"]) == 2


def test_report_page_and_repaired_copy_are_written(clean: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    edit_labels(root, second_piece)
    out, fixed = tmp_path / "report", tmp_path / "fixed"
    assert main(["--quiet", "check", str(root), "--out", str(out), "--fix", str(fixed)]) == 0
    report = json.loads((out / "check.json").read_text())
    assert report["counts"] == {"error": 0, "warning": 1, "note": 0}
    assert report["findings"][0]["kind"] == "scattered-object"
    assert report["findings"][0]["objects"] == [1]
    page = (out / "check.html").read_text()
    assert "im0" in page
    assert "data:image/" in page
    assert main(["check", str(fixed), "--strict"]) == 0


def test_what_was_written_is_said_once(clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    edit_labels(root, second_piece)
    main(["check", str(root), "--fix", str(tmp_path / "fixed")])
    said = capsys.readouterr()
    assert (said.out + said.err).count("wrote") == 1
    assert f"wrote the repaired copy {tmp_path / 'fixed'}" in " ".join(said.out.split("\n"))
    assert "repaired copy: 1 repair, 0 findings left for a person" in said.err


@pytest.mark.parametrize("folder", ["images", "labels", "elsewhere"])
def test_an_image_is_not_taken_for_its_own_labels(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    root = Path(shutil.copytree(clean, tmp_path / "set"))
    if folder == "elsewhere":
        (root / "elsewhere").mkdir()
        shutil.copy(root / "images" / "im0.png", root / "elsewhere" / "im0.png")
    assert main(["check", str(root / folder / "im0.png")]) == 2
    said = capsys.readouterr().err
    assert "this is a single image" in said
    assert "im0.png" in said
    assert "images/ and labels/" in said


def test_pictures_show_the_place(clean: Path, tmp_path: Path) -> None:
    from cytomask.data.dataset import open_dataset
    from cytomask.workflows.checking.pictures import Pictures

    root = Path(shutil.copytree(clean, tmp_path / "set"))
    edit_labels(root, second_piece)
    edit_labels(root, lambda a: a[:-2], "im1")
    (root / "images" / "im2.png").write_bytes(b"")
    pictures = Pictures(open_dataset(root).samples)
    report = check_data(root)
    drawn = {found.kind: pictures(found) for found in report.findings}
    assert drawn["scattered-object"].shape == (HEIGHT, WIDTH, 3)
    assert drawn["size-mismatch"].shape == (HEIGHT, WIDTH, 3)
    assert drawn["empty-file"] is None
    # The outlines are of the object that the finding is about, not of all.
    shown = drawn["scattered-object"].astype(int)
    coloured = (shown.max(axis=2) - shown.min(axis=2)) > 60
    labels = read_labels(root / "labels" / "im0.png")
    assert coloured[labels == 1].any()
    assert not coloured[labels == 6].any()


def test_crowded_images_are_told_with_whose_limit_it_is(tmp_path: Path) -> None:
    labels = np.zeros((120, 120), np.int32)
    labels[::10, ::10] = labels[1::10, ::10] = np.arange(1, 145).reshape(12, 12)
    for folder, pixels in (("images", 200 * (labels > 0)), ("labels", labels)):
        (tmp_path / folder).mkdir()
        write_labels(tmp_path / folder / "a.png", pixels)
    (crowded,) = [found for found in check_data(tmp_path).findings if found.kind == "crowded"]
    assert crowded.message == "1 image has more than 100 objects (up to 144); COCO's own metrics count 100 of them"
    assert "--max-dets" in crowded.todo


@pytest.mark.parametrize(("radius", "fits"), [(9, True), (38, False)])
def test_a_model_that_fits_is_said_to_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], radius: int, fits: bool
) -> None:
    labels = np.zeros((2, 2, 80, 80), np.int32)
    labels[..., np.hypot(*(np.mgrid[:80, :80] - 40)) < radius] = np.arange(1, 5).reshape(2, 2, 1)
    labels = labels.transpose(0, 2, 1, 3).reshape(160, 160)
    for folder, pixels in (("images", 200 * (labels > 0)), ("labels", labels)):
        (tmp_path / folder).mkdir()
        write_labels(tmp_path / folder / "a.png", pixels)
    main(["check", str(tmp_path), "--model", "nuclei"])
    told = capsys.readouterr().out
    assert ("nuclei fits" in told) == fits
    assert ("--diameter 76" in told) == (not fits)
