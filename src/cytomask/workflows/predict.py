"""Predict: segment images and write what people need of the result."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch

from cytomask._version import __version__
from cytomask.errors import ChannelError, ConfigError, CytomaskError, ImageError
from cytomask.formats.images import list_images, read_image
from cytomask.formats.label_images import write_labels
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.table import measure, write_table
from cytomask.models.bundle import Bundle
from cytomask.output import output_folder, replacing
from cytomask.prediction.predictor import Predictor
from cytomask.progress import say, track, warn
from cytomask.reporting.overlay import draw_overlay, write_png
from cytomask.workflows.model import override_thresholds
from cytomask.workflows.models import find_model, load_model
from cytomask.workflows.result_names import name_results, protect_inputs

#: What can be written, and the file's name behind the image's stem.
OUTPUTS = {"labels": "_labels.tif", "overlay": "_overlay.png", "table": "_objects.{table}", "coco": ""}
TABLE_FORMATS = ("csv", "parquet")
COCO_NAME, RECORD_NAME = "predictions.json", "run.json"
#: Longer overlays are shrunk: few viewers open them.
OVERLAY_SIDE = 10_000
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
    """

    path: Path
    name: str
    shape: tuple[int, int]
    counts: dict[str, int]
    scale: tuple[float, float]
    told: tuple[str, ...]
    outputs: tuple[Path, ...]
    seconds: float

    @property
    def n_objects(self) -> int:
        """All objects, of whatever class."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class PredictionSummary:
    """What became of all images."""

    folder: Path
    images: list[ImageResult]
    failed: list[tuple[Path, CytomaskError]]
    seconds: float

    def lines(self) -> list[str]:
        """The summary for people."""
        lines = [f"{r.path.name}: {_counted(r.counts)}" for r in self.images[:LISTED]]
        if len(self.images) > LISTED:
            lines.append(f"… and {len(self.images) - LISTED} more images")
        total: Counter[str] = Counter()
        for result in self.images:
            total.update(result.counts)
        if len(self.images) > 1:
            lines.append(f"{len(self.images)} images: {_counted(total)}")
        if self.images:
            names = [path.name for path in self.images[0].outputs] + (["…"] if len(self.images) > 1 else [])
            lines.append(f"results in {self.folder}: {', '.join(names)}")
        if self.failed:
            lines.append(f"{len(self.failed)} of {len(self.images) + len(self.failed)} images could not be segmented:")
            lines += [f"  {path}: {error.what}" for path, error in self.failed]
        return lines


def predict_images(
    model: str | Path,
    images: Sequence[str | Path],
    out: str | Path,
    *,
    save: Sequence[str] = tuple(OUTPUTS),
    channels: Sequence[str | int] | None = None,
    diameter: float | str | None = None,
    pixel_size: float | None = None,
    thresholds: Mapping[str, float | None] | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    axes: str | None = None,
    plane: int | None = None,
    table_format: str = "csv",
) -> PredictionSummary:
    """Segment images, one after the other, and write the results into a folder.

    For each image ``NAME_labels.tif``, ``NAME_overlay.png`` and ``NAME_objects.csv`` (or ``.parquet``), for all
    together ``predictions.json`` (COCO results) and ``run.json`` (what was done, and how each image was read). Every
    file appears complete or not at all. An image that cannot be read or does not fit the model is told and left out,
    and the others are done; with one image only, its error is raised.

    Parameters
    ----------
    model
        A shipped model's name, a bundle's folder or zip, or a run's folder.
    images
        Files, folders of images, or globs.
    out
        Folder for the results; made if it is not there.
    save
        What to write, of ``OUTPUTS``.
    channels
        Channels to use, by name or number.
    diameter
        Typical object diameter in native pixels, ``"auto"``, or None.
    pixel_size
        µm per pixel, instead of what the files say.
    thresholds
        Other thresholds than the model's; those that are None stay.
    tile, overlap, batch_size, device, precision
        As for :class:`~cytomask.prediction.predictor.Predictor`.
    axes, plane
        As for :func:`~cytomask.formats.images.read_image`.
    table_format
        ``"csv"`` or ``"parquet"``.

    Raises
    ------
    ConfigError
        If an option is wrong.
    ImageError, ChannelError
        If nothing is found, or the only image cannot be segmented.
    BundleError
        If the model cannot be loaded.
    OutputError
        If the results cannot be written, or would replace an image.
    """
    started = time.monotonic()
    _check_options(save, table_format, pixel_size)
    wanted_diameter = _parse_diameter(diameter)
    paths = list_images(images)
    bundle = load_model(model)
    postprocess = override_thresholds(bundle.postprocess, dict(thresholds or {}))
    predictor = Predictor.from_bundle(
        bundle, device=device, precision=precision, batch_size=batch_size, tile=tile, overlap=overlap
    )
    folder = output_folder(out)
    names = name_results(paths)
    suffixes = {kind: OUTPUTS[kind].format(table=table_format) for kind in OUTPUTS if kind in save and OUTPUTS[kind]}
    shared = [folder / RECORD_NAME] + ([folder / COCO_NAME] if "coco" in save else [])
    protect_inputs(paths, [folder / f"{name}{suffix}" for name in names for suffix in suffixes.values()] + shared)

    results: list[ImageResult] = []
    failed: list[tuple[Path, CytomaskError]] = []
    # The spool has no name in the folder: whatever happens, nothing half-written stays.
    with tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder) as spool:
        for number, (path, name) in enumerate(track(list(zip(paths, names)), "segmenting images"), start=1):
            begun = time.monotonic()
            try:
                image = _read(path, axes, plane, pixel_size)
                prepared = predictor.prepare(
                    image, diameter=wanted_diameter, channels=channels, postprocess=postprocess
                )
                instances = predictor.segment(prepared, postprocess)
            except (ImageError, ChannelError) as error:
                if len(paths) == 1:
                    raise
                warn(f"{path.name} is left out: {error}")
                failed.append((path, error))
                continue
            told, scale = (image.resolved, *prepared.told), prepared.scale
            del prepared
            outputs = {kind: folder / f"{name}{suffix}" for kind, suffix in suffixes.items()}
            _write(instances, image, outputs, channels)
            if "coco" in save:
                _append_coco(spool, instances, number, path)
            counts = _count(instances)
            results.append(
                ImageResult(
                    path, name, image.shape, counts, scale, told, tuple(outputs.values()), time.monotonic() - begun
                )
            )
        summary = PredictionSummary(folder, results, failed, time.monotonic() - started)
        if "coco" in save:
            _finish_coco(spool, folder / COCO_NAME)
    options = {"channels": channels, "diameter": diameter, "pixel_size": pixel_size, "axes": axes, "plane": plane}
    record = _record(summary, predictor, bundle, find_model(model), postprocess.model_dump(), options, paths)
    with replacing(folder / RECORD_NAME) as path:
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return summary


def _check_options(save: Sequence[str], table_format: str, pixel_size: float | None) -> None:
    unknown = [kind for kind in save if kind not in OUTPUTS]
    if unknown or not save:
        raise ConfigError(
            "what to save is not known",
            where="--save",
            found=", ".join(unknown) or "nothing",
            expected=", ".join(OUTPUTS),
        )
    if table_format not in TABLE_FORMATS:
        raise ConfigError(
            "there is no such table format",
            where="--table-format",
            found=table_format,
            expected=" or ".join(TABLE_FORMATS),
        )
    if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ConfigError(
            "the pixel size is not a length", where="--pixel-size", found=pixel_size, expected="µm, more than 0"
        )


def _parse_diameter(diameter: float | str | None) -> float | Literal["auto"] | None:
    if diameter is None or diameter == "auto":
        return diameter  # type: ignore[return-value]
    try:
        return float(diameter)
    except ValueError:
        raise ConfigError(
            "the object diameter is not understood", where="--diameter", found=diameter, expected="pixels, or auto"
        ) from None


def _read(path: Path, axes: str | None, plane: int | None, pixel_size: float | None) -> Image:
    image = read_image(path, axes=axes, plane=plane)
    say(f"{path.name}: {image.resolved}")
    if pixel_size is not None:
        sentence = f"{image.resolved}; pixel size {pixel_size:g} µm as told"
        image = replace(image, pixel_size=(pixel_size, pixel_size), resolved=sentence)
    return image


def _write(
    instances: Instances, image: Image, outputs: Mapping[str, Path], channels: Sequence[str | int] | None
) -> None:
    """Write what is wanted of one image; large arrays live only as long as their file is written."""
    if "labels" in outputs:
        write_labels(outputs["labels"], instances.to_labels("smallest"), image.pixel_size)
    if "overlay" in outputs:
        write_png(outputs["overlay"], draw_overlay(image, instances, channels=channels, max_side=OVERLAY_SIDE))
    if "table" in outputs:
        write_table(outputs["table"], measure(instances, image))


def _append_coco(spool: IO[str], instances: Instances, number: int, path: Path) -> None:
    """Add an image's objects to the COCO results, one line each; boxes are x, y, width, height."""
    for i, rle in enumerate(instances.to_rle()):
        y0, x0, y1, x1 = (float(v) for v in instances.boxes[i])
        entry = {
            "image_id": number,
            "file_name": path.name,
            "category_id": int(instances.classes[i]),
            "segmentation": rle,
            "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
            "score": round(float(instances.scores[i]), 6),
        }
        spool.write(("" if spool.tell() == 0 else ",\n") + json.dumps(entry, ensure_ascii=False))


def _finish_coco(spool: IO[str], target: Path) -> None:
    spool.seek(0)
    with replacing(target) as path, path.open("w", encoding="utf-8") as file:
        file.write("[\n")
        shutil.copyfileobj(spool, file)
        file.write("\n]\n")


def _count(instances: Instances) -> dict[str, int]:
    ids = np.bincount(instances.classes, minlength=len(instances.class_names) + 1)
    return {name: int(ids[i]) for i, name in enumerate(instances.class_names, start=1)}


def _counted(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    if len(counts) < 2:
        return f"{total} object{'' if total == 1 else 's'}"
    return f"{total} objects ({', '.join(f'{n} {name}' for name, n in counts.items())})"


def _record(
    summary: PredictionSummary,
    predictor: Predictor,
    bundle: Bundle,
    model: Path,
    thresholds: dict[str, Any],
    options: dict[str, Any],
    paths: list[Path],
) -> dict[str, Any]:
    """Everything that is needed to understand, and to repeat, what was done."""
    spec = bundle.spec
    return {
        "cytomask": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "command": sys.argv,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(summary.seconds, 3),
        "model": {"name": spec.name, "family": spec.family, "path": str(model), "weights_sha256": spec.weights_sha256},
        "thresholds": thresholds,
        "options": options,
        "device": str(predictor.device),
        "precision": str(predictor.precision).removeprefix("torch."),
        "tile": predictor.tile,
        "overlap": predictor.overlap,
        "categories": [{"id": i, "name": n} for i, n in enumerate(bundle.segmenter.config.classes, start=1)],
        "images": [
            {
                "image_id": paths.index(r.path) + 1,
                "file": str(r.path),
                "name": r.name,
                "height": r.shape[0],
                "width": r.shape[1],
                "told": list(r.told),
                "scale": list(r.scale),
                "objects": r.counts,
                "outputs": [path.name for path in r.outputs],
                "seconds": round(r.seconds, 3),
            }
            for r in summary.images
        ],
        "failed": [{"file": str(path), "error": str(error)} for path, error in summary.failed],
    }
