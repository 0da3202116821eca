"""Check: examine annotated data before anything is trained on it, and tell what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.data.check.examine import Examined
from cytomask.data.check.finding import CheckReport
from cytomask.data.check.kinds import TITLES, gravest_first
from cytomask.data.check.set_faults import boxes, class_counts, diameters
from cytomask.data.dataset import Dataset
from cytomask.output import output_folder, replacing
from cytomask.workflows.checking.examination import examine_data
from cytomask.workflows.checking.model import fitting_settings, model_faults, patch_faults
from cytomask.workflows.checking.pictures import Pictures

REPORT_NAME, PAGE_NAME = "check.json", "check.html"
#: Bins of the histogram of diameters, and how many shapes are listed.
_BINS, _SHAPES = 24, 20


def check_data(
    path: str | Path,
    out: str | Path | None = None,
    *,
    split: str | None = None,
    model: str | Path | None = None,
    fix: str | Path | None = None,
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
    fix
        New folder for a repaired copy; see :func:`cytomask.workflows.checking.repair.repair_data`.
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
        If the report or the copy cannot be written.

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
    seen = examine_data(path, split=split, workers=workers)
    found, dataset, examined = list(seen.findings), seen.dataset, seen.examined
    if dataset is None:
        report = CheckReport(path.stem, path, tuple(gravest_first(found)), TITLES, {})
    else:
        sizes = diameters(examined)
        found += patch_faults(sizes)
        if model is not None:
            found += model_faults(model, sizes, dataset.classes)
        statistics = {**data_statistics(dataset, examined), "settings": _chosen_by_training(examined)}
        report = CheckReport(dataset.name, dataset.source, tuple(gravest_first(found)), TITLES, statistics)
    if folder is not None:
        _write(report, folder, Pictures([] if dataset is None else dataset.samples))
    if fix is not None:
        from cytomask.workflows.checking.repair import repair_examined

        repair_examined(seen, path, fix)
    return report


def _chosen_by_training(examined: Sequence[Examined]) -> dict[str, dict[str, Any]]:
    """Settings that fit what training looks at: the training split, where there is one."""
    seen = [one for one in examined if one.sample.split == "train"] or examined
    return fitting_settings(diameters(seen), boxes(seen))


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
        # Inside, so that neither file is of another check than the other.
        write_check_page(folder / PAGE_NAME, report, pictures)
