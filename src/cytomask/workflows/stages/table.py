"""The stages of a run: what each of them depends on, and where it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Code that everything rests on.
_BASE = ("*.py", "geometry", "formats", "data", "storage")
_MODELS = (*_BASE, "models")
_DRAWING = tuple(f"reporting/{name}.py" for name in ("colours", "display", "legend", "outlines", "overlay"))
_PICTURES = ("workflows/stages/pictures.py", "workflows/evaluating/inputs.py", "workflows/evaluating/measured_sides.py")


@dataclass(frozen=True)
class Stage:
    """A part of a run that is done again when something that it depends on has changed.

    Attributes
    ----------
    name
        What it is called, and its module in :mod:`cytomask.workflows.stages`.
    about
        What it does, for people.
    places
        Files and folders in the run's folder that are its own.
    keys
        Settings of the experiment that its result depends on: sections, or ``section.setting``.
    without
        Settings in them that change nothing of the result.
    reads
        Files and folders of earlier stages.
    code
        Parts of the package that its result depends on: folders, or patterns of files.
    data
        Whether it reads the data set.
    unwatched
        Folders in its places that are its own business: no other stage reads them, and nobody misses them.
    remade
        Files that it makes anew from the rest of its places, so that the rest is kept when only these are damaged.
    told
        Settings that its result only tells of, such as the data's licence: it is made anew from the rest, too, when no
        other input has changed.
    """

    name: str
    about: str
    places: tuple[str, ...]
    keys: tuple[str, ...]
    code: tuple[str, ...]
    without: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    data: bool = True
    unwatched: tuple[str, ...] = ()
    remade: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def settings(self, experiment: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a resolved experiment that the stage depends on, by their dotted names.

        Examples
        --------
        >>> STAGES["tune"].settings({"name": "a", "tune": {"enabled": True, "metric": "iou", "max_images": None}})
        {'tune.enabled': True, 'tune.metric': 'iou', 'tune.max_images': None}
        """
        return {
            key: value
            for key, value in flattened(experiment).items()
            if _is_within(key, self.keys) and not _is_within(key, self.without)
        }

    def without_told(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings by dotted names, but for those that the result only tells of.

        Examples
        --------
        >>> STAGES["train"].without_told({"name": "a", "data.licence": None, "training.seed": 1})
        {'training.seed': 1}
        """
        return {key: value for key, value in settings.items() if not _is_within(key, self.told)}

    def sections(self) -> list[str]:
        """The sections of the experiment in which its settings are."""
        return list(dict.fromkeys(key.partition(".")[0] for key in self.keys))

    def before(self) -> list[Stage]:
        """The stages that it reads of, directly or by others, in their order."""
        needed = {other.name for other in STAGES.values() if any(is_below(path, other.places) for path in self.reads)}
        for name in list(needed):
            needed |= {other.name for other in STAGES[name].before()}
        return [stage for stage in STAGES.values() if stage.name in needed]


def _is_within(key: str, keys: Sequence[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in keys)


def is_below(path: str, places: Sequence[str]) -> bool:
    """Whether a path is one of some files and folders, or in one of them."""
    return any(path == place or path.startswith(f"{place}/") for place in places)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of settings by dotted names; of an empty group there is nothing to say.

    Examples
    --------
    >>> flattened({"tune": {"metric": "iou", "images": [1, 2]}, "model": {}})
    {'tune.metric': 'iou', 'tune.images': [1, 2]}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


#: All stages, in their order.
STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "prepare",
            "check the data, count and measure its objects",
            places=("data",),
            keys=("data",),
            without=("data.path", "data.balance"),
            code=(*_BASE, *_DRAWING, "reporting/page_pictures.py", "workflows/stages/pictures.py",
                  "workflows/stages/prepare.py"),
        ),
        Stage(
            "train",
            "train the network",
            places=("train",),
            keys=("name", "description", "data", "initial", "initial_sha256", "model", "patches", "augmentation",
                  "training"),
            without=("data.path", "data.test", "patches.cache_gb", "training.device", "training.devices",
                     "training.nodes", "training.workers"),
            code=(*_MODELS, "training", "evaluation", "prediction", "workflows/train.py", "workflows/trainings"),
            unwatched=("train/checkpoints", "train/tensorboard"),
            remade=("train/bundle", "train/run.yaml", "train/curves.png"),
            told=("name", "description", "data.licence"),
        ),
        Stage(
            "tune",
            "find the best post-processing on validation images",
            places=("bundle", "tuning.json"),
            keys=("tune",),
            reads=("train/bundle",),
            code=(*_MODELS, "prediction", "evaluation", "workflows/tune*.py", "workflows/stages/tune.py"),
        ),
        Stage(
            "evaluate",
            "segment the test images and score them",
            places=("predictions", "evaluation"),
            keys=("data", "prediction", "evaluation", "report.pictures"),
            without=("data.path", "data.balance", "data.licence"),
            reads=("bundle",),
            code=(*_MODELS, "prediction", "evaluation", "measuring", "reporting", "workflows/predict.py",
                  "workflows/predicting", "workflows/ensemble.py", "workflows/evaluate.py", "workflows/evaluating",
                  "workflows/stages/evaluate.py", *_PICTURES),
        ),
        Stage(
            "visualise",
            "draw images, objects and plots",
            places=("pictures",),
            keys=("visualise",),
            reads=("predictions", "evaluation"),
            code=(*_BASE, "measuring", "reporting", "workflows/stages/visualise.py", *_PICTURES),
        ),
        Stage(
            "report",
            "write the page that tells all of it",
            places=("report.html",),
            keys=("name", "description", "report"),
            reads=("data", "train", "bundle", "tuning.json", "predictions", "evaluation", "pictures"),
            code=("*.py", "reporting", "formats", "workflows/report*.py", "workflows/stages/report.py"),
            data=False,
        ),
    )
}  # fmt: skip
