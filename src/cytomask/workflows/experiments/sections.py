"""What an experiment can say, section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cytomask.data.augment_config import AugmentConfig
from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import Normalisation, PercentileNormalisation
from cytomask.data.working_size import ImageSize
from cytomask.tracking.config import TrackingConfig
from cytomask.training.config import TrainingConfig

if TYPE_CHECKING:
    from cytomask.data.patches import PatchSampler
    from cytomask.data.whole_images import WholeImageSampler

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

    name: str = Field("experiment", pattern=r"^\.*[\w-][\w.-]*$")
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
