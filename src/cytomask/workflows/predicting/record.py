"""What a prediction did: the result of each image, the summary for people, and the record ``run.json``."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

from cytomask._version import __version__
from cytomask.errors import CytomaskError
from cytomask.instances import Instances

#: Images that are listed one by one in the summary.
LISTED = 20


@dataclass(frozen=True)
class ImageResult:
    """What became of one image.

    Attributes
    ----------
    path, name
        The file, and the name that its results bear.
    counts
        Objects per class name.
    scale
        Network pixels per native pixel, along y and x.
    told
        How the image was read, and what was done to make it fit the model.
    outputs
        The files written for it.
    on_disk
        Whether it was worked through on disk, as giant images are.
    fingerprint
        Checksum of all that the results follow from: file, model, settings.
    resumed
        Whether it was done in an earlier run.
    pixel_size
        µm along y and x, where known.
    """

    path: Path
    name: str
    shape: tuple[int, int]
    counts: dict[str, int]
    scale: tuple[float, float]
    told: tuple[str, ...]
    outputs: tuple[Path, ...]
    seconds: float
    on_disk: bool = False
    fingerprint: str = ""
    resumed: bool = False
    pixel_size: tuple[float, float] | None = None

    @property
    def n_objects(self) -> int:
        """All objects, of whatever class."""
        return sum(self.counts.values())

    def to_json(self, image_id: int, folder: Path) -> dict[str, Any]:
        """The entry in ``run.json``; outputs are told from the folder of the results on."""
        return {
            "image_id": image_id,
            "file": str(self.path),
            "name": self.name,
            "height": self.shape[0],
            "width": self.shape[1],
            "pixel_size": list(self.pixel_size) if self.pixel_size else None,
            "told": list(self.told),
            "scale": list(self.scale),
            "objects": self.counts,
            "outputs": [path.relative_to(folder).as_posix() for path in self.outputs],
            "on_disk": self.on_disk,
            "fingerprint": self.fingerprint,
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], path: Path, folder: Path) -> Self | None:
        """Take up what an earlier run did; None when the entry is of another version, or a result is gone."""
        try:
            outputs = tuple(folder / str(name) for name in entry["outputs"])
            if not all(_is_inside(output, folder) and output.exists() for output in outputs):
                return None
            size = entry["pixel_size"]
            return cls(
                path,
                str(entry["name"]),
                (int(entry["height"]), int(entry["width"])),
                {str(name): int(count) for name, count in entry["objects"].items()},
                (float(entry["scale"][0]), float(entry["scale"][1])),
                tuple(str(sentence) for sentence in entry["told"]),
                outputs,
                float(entry["seconds"]),
                bool(entry["on_disk"]),
                str(entry["fingerprint"]),
                resumed=True,
                pixel_size=(float(size[0]), float(size[1])) if size else None,
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            return None


@dataclass(frozen=True)
class JobFacts:
    """What is to be known of the models, as plain values.

    Attributes
    ----------
    binding
        What every result follows from, but for the image and the options.
    classes
        Names of the object classes.
    name, family, weights_sha256
        Of the model's specification.
    thresholds
        Post-processing.
    device, precision, tile, overlap
        As the predictor has settled them.
    ensemble
        What ``run.json`` tells of several models or views, if there are any.
    """

    binding: dict[str, Any]
    classes: tuple[str, ...]
    name: str
    family: str
    weights_sha256: str | None
    thresholds: dict[str, Any]
    device: str
    precision: str
    tile: int
    overlap: int
    ensemble: dict[str, Any] | None = None


@dataclass(frozen=True)
class PredictionSummary:
    """What became of all images."""

    folder: Path
    images: list[ImageResult]
    failed: list[tuple[Path, CytomaskError]]
    seconds: float
    shared: tuple[Path, ...] = ()

    def lines(self) -> list[str]:
        """The summary for people."""
        lines = [f"{r.path.name}: {counted(r.counts)}" for r in self.images[:LISTED]]
        if len(self.images) > LISTED:
            lines.append(f"… and {len(self.images) - LISTED} more images")
        total: Counter[str] = Counter()
        for result in self.images:
            total.update(result.counts)
        if len(self.images) > 1:
            lines.append(f"{len(self.images)} images: {counted(total)}")
        resumed = sum(result.resumed for result in self.images)
        if resumed:
            lines.append(f"{resumed} of them {'was' if resumed == 1 else 'were'} done in an earlier run")
        if self.images:
            names = [path.relative_to(self.folder).as_posix() for path in self.images[0].outputs]
            names += ["…"] * (len(self.images) > 1)
            names += [path.name for path in self.shared]
            lines.append(f"results in {self.folder}: {', '.join(names)}")
        if self.failed:
            lines.append(f"{len(self.failed)} of {len(self.images) + len(self.failed)} images could not be segmented:")
            lines += [f"  {path}: {error.what}" for path, error in self.failed]
        return lines


def _is_inside(path: Path, folder: Path) -> bool:
    return folder in path.parents and ".." not in path.parts[len(folder.parts) :]


def count_classes(instances: Instances) -> dict[str, int]:
    """Count the objects of each class, by its name."""
    ids = np.bincount(instances.classes, minlength=len(instances.class_names) + 1)
    return {name: int(ids[i]) for i, name in enumerate(instances.class_names, start=1)}


def counted(counts: Mapping[str, int]) -> str:
    """Say how many objects there are.

    Examples
    --------
    >>> counted({"cell": 1}), counted({"cell": 2, "debris": 1})
    ('1 object', '3 objects (2 cell, 1 debris)')
    """
    total = sum(counts.values())
    if len(counts) < 2:
        return f"{total} object{'' if total == 1 else 's'}"
    return f"{total} objects ({', '.join(f'{n} {name}' for name, n in counts.items())})"


def run_record(
    summary: PredictionSummary,
    facts: JobFacts,
    model: Path,
    options: dict[str, Any],
    paths: Sequence[Path],
) -> dict[str, Any]:
    """Everything that is needed to understand, and to repeat, what was done."""
    image_ids = {path: number for number, path in enumerate(paths, start=1)}
    return {
        "cytomask": __version__,
        "python": platform.python_version(),
        "torch": facts.binding["torch"],
        "numpy": np.__version__,
        "platform": platform.platform(),
        "command": sys.argv,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(summary.seconds, 3),
        "model": {
            "name": facts.name,
            "family": facts.family,
            "path": str(model),
            "weights_sha256": facts.weights_sha256,
        },
        "thresholds": facts.thresholds,
        "options": options,
        "device": facts.device,
        "precision": facts.precision,
        "tile": facts.tile,
        "overlap": facts.overlap,
        "categories": [{"id": i, "name": n} for i, n in enumerate(facts.classes, start=1)],
        "images": [r.to_json(image_ids[r.path], summary.folder) for r in summary.images],
        "failed": [{"file": str(path), "error": str(error)} for path, error in summary.failed],
        **({"ensemble": facts.ensemble} if facts.ensemble is not None else {}),
    }
