"""What is known of a run, as its report tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytomask.reporting.evaluation_words import look_up, plural_of_objects
from cytomask.reporting.markup import Html

#: What families are called in a sentence.
_FAMILIES = {"star": "star-convex", "region": "region-based (Mask R-CNN)", "dense": "dense (pixel-wise)"}


@dataclass(frozen=True)
class StagePicture:
    """A picture of a stage.

    Attributes
    ----------
    name
        What is shown: an image's name, or what is plotted.
    group
        ``worst``, ``best``, ``chosen``, ``example`` or ``plot``.
    file
        The picture, by its name in the folder.
    height, width
        Its size in pixels.
    caption
        What is to be seen, in words.
    ground
        Where there are layers: the picture without them.
    layers
        Transparent layers over it, PNG: key, title and file of each.
    figures
        Figures of the image, such as ``f1``.
    counts
        How many objects of each kind: ``true``, ``hit``, ``missed`` …
    """

    name: str
    group: str
    file: str
    height: int
    width: int
    caption: str = ""
    ground: str | None = None
    layers: tuple[tuple[str, str, str], ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """Everything that the page of a run is made of; what a run does not have is None or empty.

    Attributes
    ----------
    name
        What the run is called.
    path
        Its folder.
    title
        What stands at the top instead of the name.
    description
        What the experiment says of itself.
    data
        What ``data/data.json`` holds.
    experiment, experiment_text
        The resolved experiment, as settings and as the text of its file.
    record
        What ``run.yaml`` of the training holds.
    model
        What ``model.yaml`` of the bundle holds.
    tuning
        What ``tuning.json`` holds: ``tuned``, ``before``, ``after``, ``score_before``, ``score_after``, ``tried`` …
    charts
        Name and drawing of each curve of the training.
    metrics, rows
        What ``metrics.json`` and ``per_image.csv`` hold.
    measurements
        What ``measurements.json`` holds.
    prediction
        What ``run.json`` of the prediction holds.
    stages
        For each stage that is done ``minutes``, ``version``, and what it ``said``.
    pictures
        Folder and picture, of all stages.
    files
        Path within the folder, what it is, and bytes.
    shown
        So many of the best and of the worst images are wanted.
    """

    name: str
    path: Path
    title: str | None = None
    description: str = ""
    data: Mapping[str, Any] | None = None
    experiment: Mapping[str, Any] = field(default_factory=dict)
    experiment_text: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    tuning: Mapping[str, Any] | None = None
    charts: Sequence[tuple[str, Html]] = ()
    metrics: Mapping[str, Any] | None = None
    rows: Sequence[Mapping[str, Any]] = ()
    measurements: Mapping[str, Any] | None = None
    prediction: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pictures: Sequence[tuple[Path, StagePicture]] = ()
    files: Sequence[tuple[str, str, int]] = ()
    shown: int = 4

    @property
    def things(self) -> str:
        """What the objects are called, in the plural."""
        told = (
            (self.metrics or {}).get("class_names"),
            (self.data or {}).get("classes"),
            look_up(self.model, "config", "classes"),
        )
        plurals = [plural_of_objects({"class_names": names}) for names in told if names]
        return next((plural for plural in plurals if plural != "objects"), "objects")

    @property
    def family(self) -> str:
        """The kind of model, in a word or two."""
        name = str(self.model.get("family") or look_up(self.experiment, "model", "family") or "")
        return _FAMILIES.get(name, name)

    def split(self, role: str) -> Mapping[str, Any] | None:
        """The split of a role (``train``, ``validation``, ``test``) as ``data.json`` tells of it."""
        splits = (self.data or {}).get("splits") or []
        return next((one for one in splits if one.get("role") == role), None)

    @property
    def optimistic(self) -> bool:
        """Whether the images were not only for testing."""
        return any(str(notice).startswith("OPTIMISTIC") for notice in (self.metrics or {}).get("notices") or ())

    @property
    def validation_score(self) -> float | None:
        """Mean accuracy over IoU 0.50 to 0.90 on the validation images, after tuning if the model was tuned by it."""
        tuning = self.tuning or {}
        if tuning.get("metric") == "accuracy" and isinstance(tuning.get("score_after"), int | float):
            return float(tuning["score_after"])
        for place in (("tuning", "mean_accuracy_50_90"), ("validation", "score")):
            value = look_up(self.model.get("metrics"), *place)
            if isinstance(value, int | float):
                return float(value)
        return None

    def of_group(self, group: str) -> list[tuple[Path, StagePicture]]:
        """The pictures of a group."""
        return [(folder, picture) for folder, picture in self.pictures if picture.group == group]
