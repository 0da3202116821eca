"""The tables of a folder of crops, and the file that makes it a data set."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cytomask.data.dataset_config import CONFIG_NAMES
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.coco_json import write_annotations
from cytomask.instances import Instances
from cytomask.progress import say
from cytomask.workflows.cutting.cutter import Cutter

TABLE, OBJECTS, COCO = "subimages.csv", "objects.csv", "annotations.json"
COLUMNS = (
    "name", "source", "region", "class", "y0", "x0", "y1", "x1", "clipped", "split",
    "image", "labels", "mask", "preview", "voc",
)  # fmt: skip
#: One of so many source images is for validation, where the images have no splits.
VALIDATION_SHARE = 5


def write_tables(cutter: Cutter, name: str) -> bool:
    """Write ``subimages.csv`` and, if all crops have labels, what makes the folder a data set.

    Parameters
    ----------
    cutter
        What was cut.
    name
        The data set's.

    Returns
    -------
    bool
        Whether the folder is a data set.
    """
    folder = cutter.folder
    labelled = all(row.get("labels") for row in cutter.rows)
    split = labelled and _split(cutter)
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(cutter.rows)
    if not labelled:
        kinds = "crops have no labels" if not any(row.get("labels") for row in cutter.rows) else "some have no labels"
        say(f"{kinds}, so the folder is no data set to train on; --labels names what labels are cut from")
        return False
    classes = tuple(cutter.classes) or ("object",)
    config: dict[str, Any] = {"name": name, "images": "images"}
    if cutter.hidden:
        say(f"objects overlap: {COCO} has them whole, each of the label images shows the upper one in {_px(cutter)}")
        config["annotations"] = COCO
        write_annotations(folder / COCO, _with_classes(cutter.annotations, classes), classes)
    else:
        config["labels"] = "labels"
    config |= {"classes": list(classes), "table": TABLE, "name_column": "name"}
    # Without images for validation there is still a split of that name, which is empty.
    config["splits"] = {"column": "split"} if split else {"fractions": {"train": 1.0, "val": 0.0}}
    if len(classes) > 1 and not cutter.hidden:
        config["object_classes"] = {"csv": OBJECTS}
        _write_classes(folder / OBJECTS, cutter.annotations)
    (folder / CONFIG_NAMES[0]).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return True


def _px(cutter: Cutter) -> str:
    return "1 pixel" if cutter.hidden == 1 else f"{cutter.hidden} pixels"


def _with_classes(annotations: list[Annotation], classes: tuple[str, ...]) -> Iterator[Annotation]:
    """The annotations with their classes numbered as those of all."""
    for one in annotations:
        objects = one.instances
        if not len(objects):
            yield replace(one, instances=Instances.empty(objects.shape, classes))
            continue
        numbers = np.array([classes.index(name) + 1 for name in objects.class_names], np.int32)
        renumbered = replace(objects, classes=numbers[objects.classes - 1], class_names=classes)
        yield replace(one, instances=renumbered)


def _write_classes(path: Path, annotations: list[Annotation]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "id", "class"])
        for one in annotations:
            names = [one.instances.class_names[c - 1] for c in one.instances.classes.tolist()]
            rows.writerows((one.name, i, name) for i, name in zip(one.instances.ids.tolist(), names))


def _split(cutter: Cutter) -> bool:
    """Give all crops of an image the same split, where the images have none; whether there are several splits."""
    if any(row["split"] for row in cutter.rows):
        return True
    sources = sorted({row["source"] for row in cutter.rows}, key=lambda name: zlib.crc32(Path(name).name.encode()))
    if len(sources) < 2:
        say("all crops are of one image, so none are set aside for validation")
        return False
    held_out = set(sources[:: max(2, min(VALIDATION_SHARE, len(sources)))])
    for row in cutter.rows:
        row["split"] = "val" if row["source"] in held_out else "train"
    say(f"the crops of {len(held_out)} of {len(sources)} images are set aside for validation")
    return True
