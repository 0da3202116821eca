"""The experiment: one YAML file that says everything about a training."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cytomask.data.augment_config import AugmentConfig
from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import Normalisation, PercentileNormalisation
from cytomask.data.working_size import ImageSize
from cytomask.errors import ConfigError, first_problem
from cytomask.tracking.config import TrackingConfig
from cytomask.training.config import TrainingConfig

if TYPE_CHECKING:
    from cytomask.data.patches import PatchSampler
    from cytomask.data.whole_images import WholeImageSampler

RECIPES = Path(__file__).parent / "recipes"
_STRICT = ConfigDict(extra="forbid")


class DataSection(BaseModel):
    """Which data, and how images become network input."""

    model_config = _STRICT

    path: str | None = Field(None, description="a data set YAML, or a folder with images/ and labels/")
    train: str = Field("train", description="split to train on")
    validation: str = Field("val", description="split to validate and tune on")
    test: str = Field("test", description="split to test on")
    channels: ChannelExpectation = Field(default_factory=ChannelExpectation)
    chosen_channels: list[str | int] | None = Field(
        None, description="channels of the images to use, by name or number"
    )
    normalisation: Normalisation = Field(default_factory=PercentileNormalisation)
    resize: ImageSize | None = Field(
        None, description="size at which images are validated and predicted, part of the model; null: their own"
    )
    balance: str | None = Field(None, description="column whose groups are drawn more evenly than they occur")
    licence: str | None = Field(None, description="licence of the data, copied into the model")


class PatchSection(BaseModel):
    """How training items are drawn: square patches, or whole images sized by their edges."""

    model_config = _STRICT

    mode: Literal["patch", "image"] = Field("patch", description="square patches, or whole images")
    size: int = Field(256, ge=32, multiple_of=16, description="patch: side in network pixels")
    foreground: float = Field(0.9, ge=0, le=1, description="patch: share of patches centred on an object")
    short_edge: tuple[Annotated[int, Field(ge=16)], ...] = Field(
        (640, 672, 704, 736, 768, 800),
        min_length=1,
        description="image: lengths in pixels of the shorter edge, of which one is drawn each time",
    )
    long_edge: int = Field(1333, ge=16, description="image: most pixels of the longer edge")
    crop: float | None = Field(
        None, gt=0, le=1, description="image: smallest share of rows and of columns that is kept, or null for all"
    )
    cache_gb: float = Field(4.0, ge=0, description="memory for decoded images")

    def sampler(self, augment: AugmentConfig) -> PatchSampler | WholeImageSampler:
        """Make what draws training items."""
        # Compiled code that reading an experiment does not need.
        from cytomask.data.patches import PatchSampler
        from cytomask.data.whole_images import WholeImageSampler

        if self.mode == "image":
            return WholeImageSampler(self.short_edge, self.long_edge, self.crop, augment)
        return PatchSampler(self.size, self.foreground, augment)


class TuneSection(BaseModel):
    """Whether thresholds are tuned on the validation split at the end."""

    model_config = _STRICT

    enabled: bool = True
    metric: Literal["accuracy", "ap", "iou"] = Field("accuracy", description="what is best, as for `cytomask tune`")
    max_images: int | None = Field(None, ge=1, description="at most so many validation images")


class PredictionSection(BaseModel):
    """How test images are segmented, where it differs from what `cytomask predict` does by itself."""

    model_config = _STRICT

    postprocess: dict[str, float | str | bool] = Field(
        default_factory=dict, description="settings of post-processing that take the place of the tuned ones"
    )
    diameter: float | Literal["auto"] | None = Field(None, description="typical object diameter in pixels, or auto")
    augment: Literal["none", "flips", "turns", "full"] = Field("none", description="turned views that are fused")
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0,), min_length=1, description="scales that are fused")
    tile: int | None = Field(None, ge=64, description="side of a tile in network pixels; null: chosen")
    overlap: int | None = Field(None, ge=0, description="overlap of tiles in network pixels; null: chosen")
    blend: int | None = Field(None, ge=0, description="dense models: network pixels that tiles are blended over")


class EvaluationSection(BaseModel):
    """How test images are scored."""

    model_config = _STRICT

    thresholds: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="IoU thresholds of matching besides 0.50, 0.55 … 0.95"
    )
    bootstrap: int = Field(1000, ge=0, description="resamplings of images for intervals; 0: none")
    group_by: tuple[str, ...] = Field((), description="columns whose groups get figures of their own; none: chosen")
    tolerance: float = Field(2.0, gt=0, description="how far apart outlines may lie for boundary F1, in pixels")
    max_images: int | None = Field(None, ge=1, description="at most so many test images")


class VisualiseSection(BaseModel):
    """Which images are shown, and how."""

    model_config = _STRICT

    images: int | tuple[str, ...] = Field(6, description="how many test images are drawn at random, or their names")
    colour_by: Literal["object", "class"] = "object"
    text: Literal["none", "id", "score", "class", "class-score"] = "none"
    boxes: bool = False
    grey: bool = False


class ReportSection(BaseModel):
    """What the report page tells besides what it finds."""

    model_config = _STRICT

    title: str | None = Field(None, description="null: the experiment's name")
    pictures: int = Field(4, ge=0, description="so many of the best images, and as many of the worst")


class Experiment(BaseModel):
    """An experiment. Unknown keys are errors, with the nearest known one named."""

    model_config = _STRICT

    name: str = Field("experiment", pattern=r"^[\w.-]+$")
    description: str = ""
    data: DataSection = Field(default_factory=DataSection)
    initial: str | None = Field(
        None,
        description="what training begins with: a model (name, bundle or run), known weights such as "
        "imagenet/resnet50, or a checkpoint of detectron2 or torchvision",
    )
    initial_sha256: str | None = Field(
        None, pattern="^[0-9a-fA-F]{64}$", description="SHA-256 that the file of initial weights must have"
    )
    model: dict[str, Any] = Field(default_factory=lambda: {"family": "star"}, description="family, and its settings")
    patches: PatchSection = Field(default_factory=PatchSection)
    augmentation: AugmentConfig = Field(default_factory=AugmentConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    tune: TuneSection = Field(default_factory=TuneSection)
    prediction: PredictionSection = Field(default_factory=PredictionSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    visualise: VisualiseSection = Field(default_factory=VisualiseSection)
    report: ReportSection = Field(default_factory=ReportSection)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)


def recipe_names() -> list[str]:
    """Names of the recipes that come with cytomask."""
    return sorted(p.stem for p in RECIPES.glob("*.yaml"))


def read_experiment(source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a YAML file or a recipe's name, and apply ``key.path=value`` overrides.

    A relative ``data.path`` inside a file is meant from that file's folder.

    Raises
    ------
    ConfigError
        If the file is missing or wrong, or a key is unknown.

    Examples
    --------
    >>> read_experiment("nuclei", ["training.epochs=3"]).training.epochs
    3
    """
    path = Path(source)
    recipe = RECIPES / f"{source}.yaml"
    if not path.is_file():
        if path.suffix or not recipe.is_file():
            raise ConfigError(
                "there is no such experiment",
                where=path,
                expected="a YAML file, or a recipe: " + ", ".join(recipe_names()),
            )
        path = recipe
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("the experiment cannot be read", where=path, found=str(error), expected="YAML") from error
    if not isinstance(fields, dict):
        raise ConfigError("the experiment is not a table of settings", where=path, found=type(fields).__name__)
    data = fields.get("data")
    if path != recipe and isinstance(data, dict) and isinstance(data.get("path"), str):
        data["path"] = str((path.parent / Path(data["path"]).expanduser()).resolve())
    for override in overrides:
        _apply(fields, override)
    try:
        return Experiment.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(
            "the experiment has a wrong setting", where=path, found=first_problem(error), fix=_nearest(error)
        ) from error


def experiment_to_yaml(experiment: Experiment) -> str:
    """Write an experiment with all its defaults filled in."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _apply(fields: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            "an override is not of the form key.path=value", found=override, expected="training.epochs=50"
        )
    *parents, leaf = key.split(".")
    place: Any = fields
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError("an override reaches into a setting that is not a table", found=override)
    try:
        place[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError("the value of an override is not YAML", found=override) from error


def _nearest(error: ValidationError) -> str | None:
    problem = error.errors()[0]
    if problem["type"] != "extra_forbidden":
        return None
    *parents, wrong = (str(p) for p in problem["loc"])
    model: Any = Experiment
    for parent in parents:
        field = getattr(model, "model_fields", {}).get(parent)
        model = getattr(field, "annotation", None)
    known = list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(wrong, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return ("known here: " + ", ".join(known)) if known else None
