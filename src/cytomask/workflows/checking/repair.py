"""Repair: write a copy of annotated data in which everything is mended that can be mended safely."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cytomask.data.check.examine import NO_LABELS, Examined, read_objects
from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import KINDS, gravest_first, many
from cytomask.data.check.mend import mend_objects
from cytomask.data.check.split_faults import duplicate_groups
from cytomask.data.dataset import Dataset
from cytomask.data.dataset_config import CONFIG_NAMES, DatasetConfig, read_config
from cytomask.data.sample import Sample
from cytomask.errors import DataError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.coco_json import write_annotations
from cytomask.formats.images import read_image
from cytomask.formats.label_images import write_labels
from cytomask.geometry.bit_mask_windows import tight_windows
from cytomask.instances import Instances
from cytomask.output import new_folder
from cytomask.progress import say, track
from cytomask.workflows.checking.examination import Examination, examine_data
from cytomask.workflows.checking.images import write_plain_image

TABLE_NAME = "repairs.csv"
_COLUMNS = ("status", "kind", "image", "split", "objects", "what")
#: So many ids are listed in a cell.
_LISTED = 50
#: Findings of these make it impossible to carry an image over.
_UNUSABLE = (
    "unreadable-image", "unreadable-labels", "empty-file", "size-mismatch", "colour-labels", "jpeg-labels", *NO_LABELS
)  # fmt: skip


@dataclass
class Repaired:
    """What was done.

    Attributes
    ----------
    folder
        Where the copy is.
    rows
        What ``repairs.csv`` holds: things that were done, and findings that are left for a person.
    """

    folder: Path
    rows: list[dict[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What to print."""
        done = sum(row["status"] == "done" for row in self.rows)
        return [
            f"repaired copy: {many(done, 'repair')}, "
            f"{many(len(self.rows) - done, 'finding')} left for a person ({TABLE_NAME})"
        ]

    def add(self, status: str, kind: str, sample: Sample | None, what: str, objects: Sequence[int] = ()) -> None:
        """Note one thing."""
        ids = " ".join(map(str, objects[:_LISTED])) + (" …" if len(objects) > _LISTED else "")
        name, split = ("", "") if sample is None else (sample.name, sample.split or "")
        self.rows.append(dict(zip(_COLUMNS, (status, kind, name, split, ids, what))))


def repair_data(path: str | Path, out: str | Path, *, split: str | None = None, workers: int | None = None) -> Repaired:
    """Write a repaired copy of a data set into a new folder; the data set itself is not touched.

    Specks and crumbs are dropped, holes filled, pieces far apart made objects, doubles dropped, boxes computed from the
    masks, objects cut at the image's border, unused classes dropped, ids made unique, grey images stored as RGB (or
    with transparency) made grey, and images removed from training that are in another split, too. Images that cannot be
    read with their labels are left out. Label images stay label images; any other annotation becomes COCO JSON.

    Parameters
    ----------
    path, split, workers
        As for :func:`cytomask.workflows.check.check_data`.
    out
        The new folder.

    Returns
    -------
    Repaired
        What was done and what is left, as in ``repairs.csv``.

    Raises
    ------
    DataError
        If the data set cannot be opened.
    OutputError
        If the folder is there already and not empty, or cannot be written.
    """
    path = Path(path)
    return repair_examined(examine_data(path, split=split, workers=workers), path, out)


def repair_examined(seen: Examination, path: Path, out: str | Path) -> Repaired:
    """Write a repaired copy of data that were examined; see :func:`repair_data`."""
    if seen.dataset is None:
        first = gravest_first([one for one in seen.findings if one.severity == "error"])[0]
        raise DataError(
            "the data set cannot be opened, so that nothing can be repaired", where=path, found=first.message,
            fix=first.todo,
        )  # fmt: skip
    done = Repaired(Path(out))
    with new_folder(out) as folder:
        kept = _kept(seen, done)
        if not kept:
            raise DataError("no image of the data set can be kept", where=path, fix="mend what the check tells first")
        if any(one.sample.annotation is not None for one in kept):
            _write_annotations(folder, seen, kept, done)
        else:
            _write_labels(folder, seen, kept, done)
        _tell_left(seen.findings, {one.sample.name: one.sample for one in seen.examined}, done)
        with (folder / TABLE_NAME).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(done.rows)
    for line in done.lines():
        say(line)
    return done


def _kept(seen: Examination, done: Repaired) -> list[Examined]:
    """Images that are carried over: readable ones, without those of training that are in another split, too."""
    kept = []
    dropped: dict[int, str] = {}
    for group in duplicate_groups(seen.examined):
        others = [one.sample.name for one in group if one.sample.split not in ("train", None)]
        if others:
            dropped |= {id(one): others[0] for one in group if one.sample.split == "train"}
    for one in seen.examined:
        bad = [found for found in one.findings if found.kind in _UNUSABLE]
        if bad or one.pixels is None or one.anatomy is None:
            done.add("left", bad[0].kind if bad else "unreadable-labels", one.sample,
                     "left out of the copy: " + (bad[0].message if bad else "it cannot be read"))  # fmt: skip
        elif id(one) in dropped:
            done.add("done", "exact-duplicate", one.sample, f"removed: the same image as {dropped[id(one)]}")
        else:
            kept.append(one)
    return kept


def _mended(one: Examined, done: Repaired) -> tuple[Instances, frozenset[int]]:
    sample = one.sample
    objects, crowd, _ = read_objects(sample, {})
    assert objects is not None
    objects, mended = mend_objects(objects, crowd)
    # Boxes that the annotation told may be wrong; the masks' own are not.
    objects = replace(objects, boxes=tight_windows(objects.windows, objects.bits, objects.offsets))
    for step in mended:
        done.add("done", step.kind, sample, step.what, step.objects)
    return objects, crowd.intersection(objects.ids.tolist())


def _write_labels(folder: Path, seen: Examination, kept: Sequence[Examined], done: Repaired) -> None:
    dataset = seen.dataset
    assert dataset is not None
    made_anew = _made_anew(kept)
    class_rows: list[tuple[str, int, str]] = []
    with_classes = any(one.sample.reading.object_classes is not None for one in kept)
    for one in track(kept, "repairing"):
        objects, _ = _mended(one, done)
        _copy_image(one, folder / "images", made_anew, done)
        suffix = one.sample.label_path.suffix.lower()
        labels = objects.to_labels(np.int32)
        if suffix not in (".png", ".tif", ".tiff") or (suffix == ".png" and labels.max(initial=0) > 65535):
            suffix = ".tif"
        target = folder / "labels" / f"{one.sample.name}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_labels(target, labels)
        if with_classes:
            names = objects.class_names
            class_rows += [(one.sample.name, i, names[c - 1]) for i, c in zip(objects.ids.tolist(), objects.classes)]
    if with_classes:
        _write_table(folder / "objects.csv", ("image", "id", "class"), class_rows)
    unused = _unused(seen, done)
    _write_manifest(folder, dataset, kept)
    told: dict[str, Any] = {"images": "images", "labels": "labels"}
    if with_classes:
        told |= {"object_classes": {"csv": "objects.csv"}}
    if len(dataset.classes) > 1 or with_classes:
        told |= {"classes": [name for name in dataset.classes if name not in unused]}
    _write_config(folder, dataset, kept, told)


def _write_annotations(folder: Path, seen: Examination, kept: Sequence[Examined], done: Repaired) -> None:
    dataset = seen.dataset
    assert dataset is not None
    unused, made_anew = _unused(seen, done), _made_anew(kept)
    classes = [name for name in dataset.classes if name not in unused]
    by_file: dict[tuple[str, str | None], list[Examined]] = {}
    # One file for each split where that is how the splits came about; else one for all.
    by_split = dataset.how_split.startswith("by file")
    for one in kept:
        key = (one.sample.split or "unassigned", one.sample.split) if by_split else ("annotations", None)
        by_file.setdefault(key, []).append(one)
    for kind in ("box-mismatch", "box-convention", "outside-image", "orphan-annotation", "few-points", "duplicate-ids"):
        for found in seen.findings:
            if found.kind == kind:
                sample = next((one.sample for one in kept if one.sample.name == found.image), None)
                done.add("done", kind, sample, f"{KINDS[kind].fix}: {found.message}", found.objects)

    def annotations(members: Sequence[Examined]) -> Iterator[Annotation]:
        for one in track(members, "repairing"):
            objects, crowd = _mended(one, done)
            name = _copy_image(one, folder / "images", made_anew, done)
            yield Annotation(one.sample.name, objects, crowd, name, None, one.sample.group)

    files = {}
    for (stem, split), members in by_file.items():
        files[split] = f"{stem}.json"
        write_annotations(folder / f"{stem}.json", annotations(members), classes)
    told: dict[str, Any] = {"images": "images", "annotations": files if by_split else files[None]}
    if not by_split:
        _write_manifest(folder, dataset, kept)
    _write_config(folder, dataset, kept, told)


def _unused(seen: Examination, done: Repaired) -> list[str]:
    """Classes without objects, where all of the data set was read: what was not looked at may have some."""
    dataset = seen.dataset
    if dataset is None or len(dataset.classes) < 2 or seen.split is not None:
        return []
    if any(one.anatomy is None for one in seen.examined):
        return []
    used = {int(c) for one in seen.examined for c in np.unique(one.classes)}
    unused = [name for k, name in enumerate(dataset.classes, start=1) if k not in used] if used else []
    for name in unused:
        done.add("done", "unused-category", None, f"class {name} dropped: it has no object")
    return unused


def _made_anew(kept: Sequence[Examined]) -> tuple[bool, bool]:
    """Whether grey images are made grey, and transparency is dropped.

    Neither where the data set's file says what the images' axes or planes are; nor grey where it names channels or
    steps, or other images have colours: then all images must go on having as many channels.
    """
    readings = [one.sample.reading for one in kept]
    if any(reading.axes is not None or reading.plane is not None for reading in readings):
        return False, False
    named = any(reading.channels is not None or reading.steps for reading in readings)
    return not named and not any(one.pixels is not None and one.pixels.colour for one in kept), True


def _copy_image(one: Examined, folder: Path, made_anew: tuple[bool, bool], done: Repaired) -> str:
    """Copy an image, made grey or without transparency where it should be; return its name below the folder."""
    assert one.pixels is not None
    source = one.sample.image_path
    grey, alpha = one.pixels.rgb and one.pixels.equal_channels, one.pixels.alpha
    grey, alpha = grey and made_anew[0], alpha and made_anew[1]
    suffix = "".join(source.suffixes[-2:]) if source.name.lower().endswith((".ome.tif", ".ome.tiff")) else source.suffix
    plain = (grey or alpha) and one.pixels.dtype in ("uint8", "uint16")
    name = one.sample.name + (suffix if not plain else ".tif" if suffix.lower() in (".tif", ".tiff") else ".png")
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not plain:
        shutil.copyfile(source, target)
        return name
    image = read_image(source)
    write_plain_image(target, image.select([0]) if grey else image)
    if grey:
        done.add("done", "grey-as-rgb", one.sample, "one of three equal channels kept")
    if alpha:
        done.add("done", "alpha", one.sample, "transparency dropped")
    return name


def _write_manifest(folder: Path, dataset: Dataset, kept: Sequence[Examined]) -> None:
    columns = list(dict.fromkeys(c for one in kept for c in one.sample.group if c not in ("name", "split")))
    head = ["name", *(["split"] if dataset.split_names else []), *columns]
    rows = []
    for one in kept:
        row = {**one.sample.group, "name": one.sample.name, "split": one.sample.split or ""}
        rows.append([row.get(column, "") for column in head])
    _write_table(folder / "manifest.csv", head, rows)


def _write_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def _write_config(folder: Path, dataset: Dataset, kept: Sequence[Examined], told: dict[str, Any]) -> None:
    """Write ``dataset.yaml``: what the data set's own file says beside where things lie."""
    source = dataset.source
    if source.is_dir():
        source = next((source / name for name in CONFIG_NAMES if (source / name).is_file()), source)
    old = read_config(source) if source.suffix.lower() in (".yaml", ".yml") and source.is_file() else DatasetConfig()
    carried = ("description", "licence", "axes", "plane", "channels", "pixel_size", "steps")
    said = old.model_dump(mode="json", include=set(carried), exclude_defaults=True)
    if isinstance(said.get("steps"), dict):
        splits = {one.sample.split for one in kept}
        said["steps"] = {split: steps for split, steps in said["steps"].items() if split in splits}
    text = yaml.safe_dump({"name": dataset.name, **said, **told}, sort_keys=False, allow_unicode=True)
    (folder / CONFIG_NAMES[0]).write_text(text, encoding="utf-8")


def _tell_left(findings: Sequence[Finding], samples: dict[str, Sample], done: Repaired) -> None:
    told = {(row["kind"], row["image"]) for row in done.rows}
    for found in gravest_first(list(findings)):
        mended = found.fix is not None and not (found.kind == "exact-duplicate" and found.severity != "error")
        if found.severity == "note" or mended or (found.kind, found.image or "") in told:
            continue
        sample = samples.get(found.image or "")
        what = f"{found.message}; to do: {found.todo}"
        done.add("left", found.kind, sample, what if sample or not found.file else f"{found.file.name}: {what}",
                 found.objects)  # fmt: skip
