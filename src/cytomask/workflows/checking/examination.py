"""Look at every image of a data set once, and gather what was found; checking and repairing both begin so."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from cytomask.data.annotated import split_of, usual_annotations
from cytomask.data.check.coco_faults import coco_faults
from cytomask.data.check.examine import Examined, examine
from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding
from cytomask.data.check.label_faults import sentence
from cytomask.data.check.set_faults import set_faults
from cytomask.data.check.source_faults import name_findings, problem_findings
from cytomask.data.check.split_faults import split_faults
from cytomask.data.dataset import Dataset, open_dataset
from cytomask.data.dataset_config import CONFIG_NAMES, inside, read_config
from cytomask.data.remote_data import local_data
from cytomask.errors import CytomaskError, DataError
from cytomask.formats.annotations.coco_json import recognise as is_coco
from cytomask.progress import track

#: Suffixes of volumes, which are told from folders without images.
_VOLUMES = (".h5", ".hdf5", ".hdf", ".nrrd", ".nii", ".mrc")


@dataclass(frozen=True, eq=False)
class Examination:
    """What was found in a data set.

    Attributes
    ----------
    findings
        In no order.
    dataset
        The data set; None if it cannot be opened, and its annotation file is all that was looked at.
    examined
        What is remembered of each image.
    split
        The split that was looked at; None for all.
    """

    findings: list[Finding]
    dataset: Dataset | None
    examined: list[Examined]
    split: str | None = None


def examine_data(path: Path, *, split: str | None = None, workers: int | None = None) -> Examination:
    """Read everything once, and find what is wrong.

    Parameters
    ----------
    path, split, workers
        As for :func:`cytomask.workflows.check.check_data`.

    Raises
    ------
    DataError, ConfigError
        If there is no data set there, its file is wrong, or it has no such split.
    """
    path = local_data(path)
    _refuse_volumes(path)
    found = [one for file, of_split in coco_files(path).items() for one in coco_faults(file, of_split)]
    try:
        dataset = open_dataset(path)
    except CytomaskError as error:
        if not any(one.severity == "error" for one in found):
            raise
        found.append(finding("data-set-problem", sentence(error), file=None if error.where is None else path))
        return Examination(found, None, [])
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
    return Examination(found, dataset, examined, split)


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
