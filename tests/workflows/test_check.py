"""Faults planted one by one in a clean data set: the check finds each, and nothing else; and repairs what it can."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
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
from cytomask.errors import CytomaskError
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels, write_labels
from cytomask.instances import Instances
from cytomask.workflows.check import check_data
from cytomask.workflows.repair import repair_data
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
    for k in range(20):
        image, labels = draw_cells(100 + k)
        split = "train" if k < 10 else "val"
        write_png(root / "images" / f"more{k}.png", image)
        write_labels(root / "labels" / f"more{k}.png", labels)
        rows[f"more{k}"] = {"split": split, column: values(k, split)}
    write_manifest(root, {**{n: {"split": s, column: values(0, s)} for n, s in SPLITS.items()}, **rows})


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
