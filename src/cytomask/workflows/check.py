"""Check: examine annotated data before anything is trained on it, and tell what is wrong."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.data.annotated import split_of, usual_annotations
from cytomask.data.check.coco_faults import coco_faults
from cytomask.data.check.examine import Examined, examine
from cytomask.data.check.finding import CheckReport, Finding
from cytomask.data.check.kinds import TITLES, finding, gravest_first
from cytomask.data.check.label_faults import sentence
from cytomask.data.check.set_faults import class_counts, diameters, set_faults
from cytomask.data.check.source_faults import name_findings, problem_findings
from cytomask.data.check.split_faults import split_faults
from cytomask.data.dataset import Dataset, open_dataset
from cytomask.data.dataset_config import CONFIG_NAMES, inside, read_config
from cytomask.errors import CytomaskError, DataError
from cytomask.formats.coco_json import recognise as is_coco
from cytomask.output import output_folder, replacing
from cytomask.progress import track
from cytomask.workflows.check_model import model_faults
from cytomask.workflows.check_pictures import Pictures

REPORT_NAME, PAGE_NAME = "check.json", "check.html"
#: Suffixes of volumes, which are told from folders without images.
_VOLUMES = (".h5", ".hdf5", ".hdf", ".nrrd", ".nii", ".mrc")
#: Bins of the histogram of diameters, and how many shapes are listed.
_BINS, _SHAPES = 24, 20


def check_data(
    path: str | Path,
    out: str | Path | None = None,
    *,
    split: str | None = None,
    model: str | Path | None = None,
    workers: int | None = None,
) -> CheckReport:
    """Examine annotated data and tell what is wrong with it.

    Parameters
    ----------
    path
        A data set: a YAML file, a folder, or annotations with their images.
    out
        Folder for ``check.json`` and ``check.html``; None writes nothing.
    split
        Only this split.
    model
        A model (name, bundle or run) whose limits the objects are compared with.
    workers
        Threads; each holds one image. None: as many as there are processors, at most four.

    Returns
    -------
    CheckReport
        Findings, the gravest first.

    Raises
    ------
    DataError
        If there is no data set there, or it has no such split.
    ConfigError
        If the data set's YAML file is wrong.
    OutputError
        If the report cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from cytomask.formats.label_images import write_labels
    >>> root = Path(tempfile.mkdtemp())
    >>> for folder in ("images", "labels"):
    ...     (root / folder).mkdir()
    >>> disc = np.hypot(*np.mgrid[-20:20, -20:20]) < 9
    >>> write_labels(root / "images" / "train_1.png", 9 + 80 * disc)
    >>> write_labels(root / "labels" / "train_1.png", np.pad(disc[:30], ((0, 2), (0, 0))))
    >>> [found.kind for found in check_data(root).findings]
    ['size-mismatch', 'few-levels']
    """
    path = Path(path)
    folder = None if out is None else output_folder(out)
    found, dataset, examined = examine_all(path, split=split, workers=workers)
    if dataset is None:
        report = CheckReport(path.stem, path, tuple(gravest_first(found)), TITLES, {})
    else:
        if model is not None:
            found += model_faults(model, diameters(examined), dataset.classes)
        statistics = data_statistics(dataset, examined)
        report = CheckReport(dataset.name, dataset.source, tuple(gravest_first(found)), TITLES, statistics)
    if folder is not None:
        _write(report, folder, Pictures([] if dataset is None else dataset.samples))
    return report


def examine_all(
    path: Path, *, split: str | None = None, workers: int | None = None
) -> tuple[list[Finding], Dataset | None, list[Examined]]:
    """Find everything; the data set is None if it cannot be opened, and what its files show is all there is."""
    _refuse_volumes(path)
    found = [one for file, of_split in coco_files(path).items() for one in coco_faults(file, of_split)]
    try:
        dataset = open_dataset(path)
    except CytomaskError as error:
        if not any(one.severity == "error" for one in found):
            raise
        found.append(finding("data-set-problem", sentence(error), file=None if error.where is None else path))
        return found, None, []
    found += problem_findings(dataset.problems)
    if split is not None:
        chosen = dataset.split(split)
        dataset = replace(dataset, samples=chosen, split_names=(split,))
        names = {sample.name for sample in chosen}
        found = [one for one in found if (one.split in (None, split)) and (one.image is None or one.image in names)]
    examined = _examine(dataset, workers)
    split_by_name = {sample.name: sample.split for sample in dataset.samples}
    found = [replace(one, split=one.split or split_by_name.get(one.image or "")) for one in found]
    found += [one for result in examined for one in result.findings]
    found += name_findings(dataset.samples)
    found += set_faults(examined, dataset.classes)
    # Where chance draws the splits, none of them is anybody's decision.
    drawn = dataset.how_split.startswith("drawn")
    found += split_faults(examined, dataset.split_names, drawn)
    return found, dataset, examined


def coco_files(path: Path) -> dict[Path, str | None]:
    """The COCO files of a data set, each with its split."""
    if path.is_file() and path.suffix.lower() not in (".yaml", ".yml"):
        return {path: None} if is_coco(path) else {}
    source = path
    if path.is_dir():
        source = next((path / name for name in CONFIG_NAMES if (path / name).is_file()), path)
    named: dict[str | None, Path]
    if source.is_file():
        config = read_config(source)
        root = inside(source.parent, config.root, source, "root")
        if config.annotations is None:
            named = usual_annotations(root) if config.labels is None and config.pairs is None else {}
        else:
            texts = config.annotations if isinstance(config.annotations, dict) else {None: config.annotations}
            named = {split: inside(root, text, source, "annotations") for split, text in texts.items()}
    else:
        named = usual_annotations(path) if path.is_dir() else {}
    return {file: split or split_of(file.stem) for split, file in named.items() if file.is_file() and is_coco(file)}


def _examine(dataset: Dataset, workers: int | None) -> list[Examined]:
    if workers is None:
        workers = min(4, os.cpu_count() or 1)
    if workers <= 1:
        return [examine(sample) for sample in track(dataset.samples, "checking")]
    with ThreadPoolExecutor(workers) as pool:
        return list(track(pool.map(examine, dataset.samples), "checking", total=len(dataset.samples)))


def _refuse_volumes(path: Path) -> None:
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    volumes = [file for file in files if file.suffix.lower() in _VOLUMES]
    if volumes and (path.is_file() or not any(file.is_dir() for file in files)):
        raise DataError(
            "these are volumes, and only flat images are checked",
            where=path, found=", ".join(file.name for file in volumes[:5]),
            expected="images/ and labels/ of single planes, or annotations with their images",
            fix="export the planes that are annotated as TIFF, with labels of the same name",
        )  # fmt: skip


def data_statistics(dataset: Dataset, examined: Sequence[Examined]) -> dict[str, Any]:
    """Plain numbers about the data, as :class:`~cytomask.data.check.finding.CheckReport` describes them."""
    splits = list(dataset.split_names)
    members = {"all": list(examined)} | {s: [e for e in examined if e.sample.split == s] for s in splits}
    per_image = np.array([e.n_objects for e in examined if e.anatomy is not None])
    sizes = diameters(examined)
    images = [e.pixels for e in examined if e.pixels is not None]
    counts = {name: class_counts(part, dataset.classes) for name, part in members.items()}
    pixel_sizes = Counter("unknown" if f.pixel_size is None else "{:.4g} x {:.4g}".format(*f.pixel_size)
                          for f in images)  # fmt: skip
    shapes = Counter("{} x {}".format(*facts.shape) for facts in images)
    return {
        "images": {name: len(part) for name, part in members.items()},
        "objects": {name: sum(e.n_objects for e in part) for name, part in members.items()},
        "classes": {
            label: {name: int(counts[name][k]) for name in members} for k, label in enumerate(dataset.classes)
        },
        "objects_per_image": {
            "min": int(per_image.min()), "median": float(np.median(per_image)), "max": int(per_image.max())
        } if len(per_image) else {},
        "diameter": _diameters(sizes),
        "dtypes": dict(Counter(facts.dtype for facts in images)),
        "channels": dict(Counter(", ".join(facts.channels) for facts in images)),
        "shapes": dict(shapes.most_common(_SHAPES)),
        "pixel_size": dict(pixel_sizes),
        "how_split": dataset.how_split,
    }  # fmt: skip


def _diameters(sizes: np.ndarray) -> dict[str, Any]:
    if not len(sizes):
        return {}
    marks = (5, 25, 50, 75, 95)
    # The few largest would squeeze all others into one bin.
    top = max(float(np.percentile(sizes, 99.5)), float(sizes.min()) + 1)
    counts, edges = np.histogram(np.minimum(sizes, top), bins=_BINS, range=(0, top))
    percentiles = {f"p{p}": round(float(v), 2) for p, v in zip(marks, np.percentile(sizes, marks))}
    return {**percentiles, "edges": [round(float(v), 2) for v in edges], "counts": counts.tolist()}


def _write(report: CheckReport, folder: Path, pictures: Pictures) -> None:
    from cytomask.reporting.check_page import write_check_page

    with replacing(folder / REPORT_NAME) as temporary:
        text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    write_check_page(folder / PAGE_NAME, report, pictures)
