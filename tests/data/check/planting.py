"""A small clean data set of drawn cells, and ways to plant one fault in a copy of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from imagecodecs import png_encode
from scipy.ndimage import gaussian_filter

from cytomask.formats.label_images import read_labels, write_labels
from cytomask.instances import Instances

HEIGHT, WIDTH = 128, 168
SPLITS = {f"im{k}": "train" if k < 6 else "val" if k < 8 else "test" for k in range(10)}


def draw_cells(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (uint8) and its labels: twelve ellipses that do not touch, on a dim noisy background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    light = np.full((HEIGHT, WIDTH), 20.0)
    for k in range(12):
        cy, cx = 21 + 42 * (k // 4) + rng.integers(-5, 6), 21 + 42 * (k % 4) + rng.integers(-5, 6)
        a, b, turn = rng.uniform(9, 12), rng.uniform(9, 12), rng.uniform(0, np.pi)
        v = (y - cy) * np.cos(turn) + (x - cx) * np.sin(turn)
        u = (x - cx) * np.cos(turn) - (y - cy) * np.sin(turn)
        inside = (v / a) ** 2 + (u / b) ** 2 <= 1
        labels[inside] = k + 1
        light[inside] += rng.uniform(90, 150)
    image = gaussian_filter(light, 0.8) + rng.normal(0, 3, light.shape)
    return np.clip(image, 0, 250).astype(np.uint8), labels


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.write_bytes(png_encode(np.ascontiguousarray(pixels)))


def clean_set(root: Path) -> Path:
    """Ten images in images/ and labels/, with splits and a column in manifest.csv."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for k, name in enumerate(SPLITS):
        image, labels = draw_cells(k)
        write_png(root / "images" / f"{name}.png", image)
        write_labels(root / "labels" / f"{name}.png", labels)
    write_manifest(root, {name: {"split": split} for name, split in SPLITS.items()})
    return root


def write_manifest(root: Path, rows: dict[str, dict[str, str]]) -> None:
    columns = list(next(iter(rows.values())))
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *columns])
        writer.writerows([name, *row.values()] for name, row in rows.items())


def image_of(root: Path, name: str = "im0") -> np.ndarray:
    from cytomask.formats.images import read_image

    return np.array(read_image(root / "images" / f"{name}.png").pixels[0])


def edit_image(root: Path, change: Callable[[np.ndarray], np.ndarray], name: str = "im0") -> None:
    write_png(root / "images" / f"{name}.png", change(image_of(root, name)))


def edit_labels(root: Path, change: Callable[[np.ndarray], np.ndarray], name: str = "im0") -> None:
    path = root / "labels" / f"{name}.png"
    write_labels(path, change(read_labels(path)))


def coco_document(names: list[str], seed: int = 0, classes: tuple[str, ...] = ("cell",)) -> dict:
    """Drawn cells as a COCO document with polygons."""
    images, annotations = [], []
    for k, name in enumerate(names):
        labels = draw_cells(seed + k)[1]
        images.append({"id": k + 1, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH})
        cells = Instances.from_labels(labels)
        for i, rings in enumerate(cells.to_polygons(holes=False)):
            y0, x0, y1, x1 = cells.boxes[i].tolist()
            annotations.append({
                "id": len(annotations) + 1, "image_id": k + 1, "category_id": 1 + i % len(classes), "iscrowd": 0,
                "segmentation": [(ring[:, ::-1] + 0.5).ravel().tolist() for ring in rings],
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(cells.areas()[i]),
            })  # fmt: skip
    categories = [{"id": k, "name": name} for k, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def clean_coco(root: Path) -> Path:
    """Six images for training and two for validation in COCO JSON; returns the folder."""
    (root / "images").mkdir(parents=True)
    for file, names, seed in (("train", [f"t{k}" for k in range(6)], 0), ("val", ["v0", "v1"], 20)):
        for k, name in enumerate(names):
            write_png(root / "images" / f"{name}.png", draw_cells(seed + k)[0])
        (root / f"{file}.json").write_text(json.dumps(coco_document(names, seed, ("cell", "debris"))))
    return root
