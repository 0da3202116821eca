"""Make a model bundle of a detectron2 checkpoint and its configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cytomask.errors import BundleError, ConfigError
from cytomask.models.bundle import Bundle, ModelSpec, TrainingRecord, save_bundle
from cytomask.models.region.config import RegionConfig
from cytomask.models.region.detectron2_config import read_config
from cytomask.models.region.detectron2_names import COCO_CLASSES
from cytomask.models.region.detectron2_weights import left_out, read_checkpoint, to_cytomask
from cytomask.models.region.segmenter import RegionSegmenter
from cytomask.output import new_folder
from cytomask.progress import say

_CLASS_LOGITS = "box_branch.heads.0.class_logits.weight"


def import_detectron2(
    checkpoint: str | Path,
    config_file: str | Path,
    out: str | Path,
    *,
    classes: str | Sequence[str] | None = None,
    changes: Sequence[str] = (),
) -> Path:
    """Turn a checkpoint into a bundle that gives detectron2's results.

    Parameters
    ----------
    checkpoint
        A ``.pth`` or ``.pkl`` file. Nothing in it is run.
    config_file
        Its configuration: the YAML that detectron2 dumped, or that of its zoo.
    out
        The bundle's folder; it must be new or empty.
    classes
        Names of the classes: a list, a text with commas, or a COCO JSON with the categories. None: those of COCO where
        there are as many, else ``class1`` and so on.
    changes
        Settings of the configuration that count instead of the file's, as ``KEY=VALUE``.

    Returns
    -------
    Path
        The bundle's folder.

    Raises
    ------
    ConfigError
        If the configuration has what cannot be had here, or the classes do not fit it.
    BundleError
        If the checkpoint cannot be read safely, or does not fit the configuration.
    """
    checkpoint, config_file = Path(checkpoint), Path(config_file)
    found = read_config(config_file, changes)
    names = class_names(classes, len(found.config.classes))
    config = found.config.model_copy(update={"classes": names})
    state = read_checkpoint(checkpoint)
    ignored, unknown = left_out(state)
    with torch.device("meta"):
        segmenter = RegionSegmenter(config)
    expected = segmenter.state_dict()
    weights = to_cytomask(state, config, bgr=found.bgr)
    weights = _completed(weights, expected)
    _check_classes(weights, config, checkpoint)
    _check_fit(weights, expected, unknown, checkpoint)
    segmenter.load_state_dict({name: weights[name].to(expected[name].dtype) for name in expected}, assign=True)
    spec = ModelSpec(
        name=Path(out).name,
        family=RegionSegmenter.family,
        config=config.model_dump(mode="json"),
        channels=found.channels,
        normalisation=found.normalisation,
        resize=found.resize,
        precision="float32",
        postprocess=found.postprocess.model_dump(mode="json"),
        training=TrainingRecord.model_validate(
            {"imported_from": checkpoint.name, "detectron2_configuration": config_file.name}
        ),
    )
    with new_folder(out) as folder:
        save_bundle(Bundle(segmenter, spec), folder, card=_card(spec, found.notes))
    for name, reason in ignored.items():
        say(f"not used: {name} ({reason})")
    for note in found.notes:
        say(note)
    return Path(out)


def class_names(classes: str | Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Names for the classes of an imported model.

    Raises
    ------
    ConfigError
        If there are not ``count`` of them, or two are equal.

    Examples
    --------
    >>> class_names("nucleus, cell", 2), class_names(None, 3), class_names(None, 80)[:2]
    (('nucleus', 'cell'), ('class1', 'class2', 'class3'), ('person', 'bicycle'))
    """
    if classes is None:
        return COCO_CLASSES if count == len(COCO_CLASSES) else tuple(f"class{k + 1}" for k in range(count))
    if not isinstance(classes, str):
        names = list(classes)
    elif classes.lower().endswith(".json"):
        names = _categories(Path(classes))
    else:
        names = [name.strip() for name in classes.split(",")]
    if len(names) != count or len(set(names)) != count or not all(names):
        raise ConfigError(
            "the names of the classes do not fit the model",
            where="classes",
            found=f"{len(names)}: " + ", ".join(names[:10]) + (" …" if len(names) > 10 else ""),
            expected=f"{count} different names, as the configuration has {count} classes",
        )
    return tuple(names)


def _categories(path: Path) -> list[str]:
    """Names of a COCO file's categories by rising number, which is the order that detectron2 gives them."""
    try:
        with path.open(encoding="utf-8") as file:
            categories = json.load(file)["categories"]
        return [str(category["name"]) for category in sorted(categories, key=lambda c: int(c["id"]))]
    except OSError as error:
        raise ConfigError("the file of classes cannot be read", where=path, found=error.strerror) from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ConfigError(
            "the file of classes is no COCO JSON", where=path, found=f"{type(error).__name__}: {error}"[:200],
            expected='"categories" with "id" and "name"',
        ) from error  # fmt: skip


def _completed(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Counts of training batches, which nothing depends on, are added where the network has them, and else dropped."""
    count = "num_batches_tracked"
    kept = {name: t for name, t in weights.items() if name in expected or not name.endswith(count)}
    for name in expected:
        if name.endswith(count):
            kept.setdefault(name, torch.zeros((), dtype=torch.int64))
    return kept


def _check_classes(weights: dict[str, Tensor], config: RegionConfig, checkpoint: Path) -> None:
    logits = weights.get(_CLASS_LOGITS)
    if logits is None or len(logits) == len(config.classes) + 1:
        return
    count = len(logits) - 1
    told = f"MODEL.ROI_HEADS.NUM_CLASSES={count}"
    if config.mask.kind == "pointrend":
        told += f" and MODEL.POINT_HEAD.NUM_CLASSES={count}"
    raise BundleError(
        "the checkpoint and its configuration have not the same number of classes",
        where=checkpoint,
        found=f"{count} classes in the checkpoint",
        expected=f"{len(config.classes)} classes, as the configuration says",
        fix=f"give the configuration of this checkpoint, or --set {told.replace(' and ', ' --set ')}",
    )


def _check_fit(weights: dict[str, Tensor], expected: dict[str, Tensor], unknown: list[str], checkpoint: Path) -> None:
    missing = [name for name in expected if name not in weights]
    extra = [*unknown, *(name for name in weights if name not in expected)]
    wrong = [
        f"{name} of shape {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    if missing or extra or wrong:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for names, what in ((missing, "missing"), (extra, "without a place"), (wrong, "of another shape"))
            if names
        ]
        raise BundleError(
            "the checkpoint's arrays do not fit the network of its configuration",
            where=checkpoint,
            found="; ".join(parts),
            expected=f"{len(expected)} arrays",
            fix="give the configuration that the checkpoint was trained with (config.yaml in its output folder)",
        )


def _card(spec: ModelSpec, notes: Sequence[str]) -> str:
    record = spec.training.model_dump()
    lines = [
        f"# {spec.name}",
        f"Imported from the detectron2 checkpoint `{record['imported_from']}` with the configuration "
        f"`{record['detectron2_configuration']}`.",
        "Classes: " + ", ".join(spec.config["classes"]) + ".",
        *(f"{note}." for note in notes),
        "Its licence, its data and what it can do are those of the checkpoint.",
    ]
    return "\n\n".join(lines) + "\n"
