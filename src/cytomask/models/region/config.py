"""Settings of the region family: every part by itself, so that any combination is a few lines of YAML."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cytomask.models.segmenter_config import Postprocess, SegmenterConfig

#: ``frozen_batch``: batch norm whose statistics and weights never move; ``group``: group norm of 32 groups.
Norm = Literal["none", "frozen_batch", "batch", "group"]

_STRICT = ConfigDict(extra="forbid", frozen=True)


class ResNetConfig(BaseModel):
    """A residual network (He et al. 2016) or ResNeXt (Xie et al. 2017); blocks are basic up to depth 34."""

    model_config = _STRICT

    kind: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101, 152] = Field(50, description="layers")
    stem_width: int = Field(64, ge=8, description="channels of the first convolution")
    width: int = Field(256, ge=8, description="output channels of the first stage (res2), doubled at each next one")
    groups: int = Field(1, ge=1, description="groups of the 3x3 convolutions: 32 for ResNeXt 32x8d")
    group_width: int = Field(64, ge=1, description="channels per group in res2, doubled at each stage: 8 for 32x8d")
    stem_stride: Literal[2, 4] = Field(4, description="4: a strided convolution and max pooling; 2: no pooling")
    stride_in_1x1: bool = Field(False, description="bottlenecks step in their first 1x1 convolution (MSRA) or the 3x3")
    norm: Norm = Field("group", description="of all convolutions")
    deformable: tuple[bool, bool, bool, bool] = Field(
        (False, False, False, False),
        description="deformable 3x3 convolutions (Dai et al. 2017) in res2, res3, res4, res5",
    )
    modulated: bool = Field(False, description="deformable convolutions with weights per sample (Zhu et al. 2019)")
    deform_groups: int = Field(1, ge=1, description="groups of offsets")
    freeze: int = Field(0, ge=0, le=5, description="the first so many of stem, res2 … res5 are not trained")

    @model_validator(mode="after")
    def _deformable_bottlenecks(self) -> ResNetConfig:
        if self.depth <= 34 and (any(self.deformable) or self.groups != 1):
            raise ValueError("deformable and grouped convolutions need bottlenecks: depth 50, 101 or 152")
        return self


class PyramidConfig(BaseModel):
    """A feature pyramid (Lin et al. 2017) on the four stages, and a fifth level by subsampling the last."""

    model_config = _STRICT

    width: int = Field(256, ge=8, description="channels of each level")
    norm: Norm = Field("none", description="after lateral and output convolutions")
    fuse: Literal["sum", "avg"] = Field("sum", description="how a level and the coarser one are joined")


class AnchorConfig(BaseModel):
    """Reference boxes at every place of every level."""

    model_config = _STRICT

    sizes: tuple[tuple[float, ...], ...] = Field(
        ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)), description="sides in pixels, for each of the five levels"
    )
    ratios: tuple[float, ...] = Field((0.5, 1.0, 2.0), min_length=1, description="height over width")
    offset: float = Field(0.0, ge=0, lt=1, description="of the first place, as a share of the stride")

    @model_validator(mode="after")
    def _five_levels(self) -> AnchorConfig:
        if len(self.sizes) != 5 or len({len(s) for s in self.sizes}) != 1 or not self.sizes[0]:
            raise ValueError("anchor sizes are given for five levels, equally many for each")
        if min(value for row in (*self.sizes, self.ratios) for value in row) <= 0:
            raise ValueError("sizes and ratios of anchors are above 0")
        return self


class RpnConfig(BaseModel):
    """The region proposal network (Ren et al. 2015)."""

    model_config = _STRICT

    convolutions: int = Field(1, ge=1, description="3x3 convolutions before the two heads")
    iou: tuple[float, float] = Field((0.3, 0.7), description="anchors below are background, at or above are objects")
    batch: int = Field(256, ge=1, description="anchors per image that the loss looks at")
    positive: float = Field(0.5, gt=0, le=1, description="largest share of objects among them")
    nms: float = Field(0.7, gt=0, le=1, description="IoU above which the weaker of two proposals is dropped")
    train_before: int = Field(2000, ge=1, description="in training: best proposals per level before suppression")
    train_after: int = Field(1000, ge=1, description="in training: best proposals per image after it")
    test_before: int = Field(2000, ge=1, description="in prediction: best proposals per level before suppression")
    test_after: int = Field(2000, ge=1, description="in prediction: best proposals per tile after it")
    area: int | None = Field(
        512 * 512,
        ge=1,
        description="limits of prediction are meant for so many pixels, and grow with the tile; null: for any tile",
    )
    beta: float = Field(0.0, ge=0, description="smooth L1 is quadratic below this; 0: L1")
    objectness_weight: float = Field(1.0, ge=0, description="of the loss that tells objects from background")
    box_weight: float = Field(1.0, ge=0, description="of the loss of the boxes")

    @model_validator(mode="after")
    def _rising_overlaps(self) -> RpnConfig:
        if not 0 <= self.iou[0] <= self.iou[1] <= 1:
            raise ValueError("the two overlaps of iou lie between 0 and 1, the smaller one first")
        return self


class BoxHeadConfig(BaseModel):
    """The head that classifies and refines proposals."""

    model_config = _STRICT

    pool: int = Field(7, ge=1, description="side of the pooled features")
    sampling: int = Field(0, ge=0, description="samples per bin and axis of RoIAlign; 0: as many as the box needs")
    convolutions: int = Field(0, ge=0, description="3x3 convolutions before the fully connected layers")
    convolution_width: int = Field(256, ge=8, description="their channels")
    linear: int = Field(2, ge=0, description="fully connected layers")
    linear_width: int = Field(1024, ge=8, description="their features")
    norm: Norm = Field("none", description="of the convolutions")
    class_agnostic: bool = Field(False, description="one box for all classes instead of one each")
    weights: tuple[float, float, float, float] = Field((10.0, 10.0, 5.0, 5.0), description="of dx, dy, dw, dh")
    beta: float = Field(0.0, ge=0, description="smooth L1 is quadratic below this; 0: L1")
    class_weight: float = Field(1.0, ge=0, description="of the loss of the classes")
    box_weight: float = Field(1.0, ge=0, description="of the loss of the boxes")
    train_on_predicted: bool = Field(False, description="the mask head is trained on refined boxes, not on proposals")


class CascadeStage(BaseModel):
    """One stage of a cascade (Cai and Vasconcelos 2018)."""

    model_config = _STRICT

    iou: float = Field(gt=0, lt=1, description="from which overlap on a proposal is an object")
    weights: tuple[float, float, float, float] = Field(description="of dx, dy, dw, dh")


#: The stages of the paper.
CASCADE = (
    CascadeStage(iou=0.5, weights=(10.0, 10.0, 5.0, 5.0)),
    CascadeStage(iou=0.6, weights=(20.0, 20.0, 10.0, 10.0)),
    CascadeStage(iou=0.7, weights=(30.0, 30.0, 15.0, 15.0)),
)


class SamplingConfig(BaseModel):
    """Which proposals the heads are trained on."""

    model_config = _STRICT

    batch: int = Field(512, ge=1, description="proposals per image")
    positive: float = Field(0.25, gt=0, le=1, description="largest share of objects among them")
    iou: float = Field(
        0.5, gt=0, lt=1, description="from which overlap on a proposal is an object; a cascade has its own"
    )
    append_truth: bool = Field(True, description="true boxes are proposals too")


class ConvolutionMaskConfig(BaseModel):
    """The mask head of Mask R-CNN (He et al. 2017)."""

    model_config = _STRICT

    kind: Literal["convolution"] = "convolution"
    pool: int = Field(14, ge=2, description="side of the pooled features; masks have twice that")
    sampling: int = Field(0, ge=0, description="samples per bin and axis of RoIAlign; 0: as many as the box needs")
    convolutions: int = Field(4, ge=0, description="3x3 convolutions")
    width: int = Field(256, ge=8, description="their channels, and those of the upsampling after them")
    norm: Norm = Field("none", description="of the convolutions")
    class_agnostic: bool = Field(False, description="one mask for all classes instead of one each")
    weight: float = Field(1.0, ge=0, description="of the loss of the masks")

    @property
    def side(self) -> int:
        """Rows and columns of a predicted mask."""
        return 2 * self.pool


class PointRendMaskConfig(BaseModel):
    """PointRend (Kirillov et al. 2020): a coarse mask, and points where it is uncertain."""

    model_config = _STRICT

    kind: Literal["pointrend"] = "pointrend"
    coarse_pool: int = Field(14, ge=2, description="side of the grid of features that the coarse head sees")
    coarse_linear: int = Field(2, ge=0, description="fully connected layers of the coarse head")
    coarse_width: int = Field(1024, ge=8, description="their features")
    coarse_side: int = Field(7, ge=2, description="rows and columns of the coarse mask")
    point_linear: int = Field(3, ge=1, description="layers of the point head")
    point_width: int = Field(256, ge=8, description="their features")
    coarse_in_each_layer: bool = Field(True, description="every layer of the point head sees the coarse mask")
    train_points: int = Field(196, ge=1, description="points per object in training")
    oversample: float = Field(3.0, ge=1, description="so many times more points are drawn and the uncertain ones kept")
    importance: float = Field(0.75, ge=0, le=1, description="share of points taken where the mask is uncertain")
    steps: int = Field(5, ge=0, le=8, description="subdivisions in prediction, each doubling the side")
    points: int = Field(784, ge=1, description="points per object and subdivision")
    class_agnostic: bool = Field(False, description="one mask for all classes instead of one each")
    weight: float = Field(1.0, ge=0, description="of the loss of the masks")

    @property
    def side(self) -> int:
        """Rows and columns of a predicted mask."""
        return self.coarse_side * 2**self.steps


class RegionConfig(SegmenterConfig):
    """All that is needed to rebuild a region network.

    Examples
    --------
    A cascade with PointRend's masks on a small backbone:

    >>> config = RegionConfig.model_validate({
    ...     "backbone": {"depth": 18, "width": 64}, "cascade": True, "mask": {"kind": "pointrend"}})
    >>> len(config.stages), config.mask.side
    (3, 224)
    """

    backbone: ResNetConfig = Field(default_factory=ResNetConfig)
    pyramid: PyramidConfig = Field(default_factory=PyramidConfig)
    anchors: AnchorConfig = Field(default_factory=AnchorConfig)
    rpn: RpnConfig = Field(default_factory=RpnConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    box: BoxHeadConfig = Field(default_factory=BoxHeadConfig)
    cascade: bool | tuple[CascadeStage, ...] = Field(
        False, description="true: the three stages of the paper; or a list"
    )
    mask: ConvolutionMaskConfig | PointRendMaskConfig = Field(
        default_factory=ConvolutionMaskConfig, discriminator="kind"
    )
    context: int = Field(64, ge=0, description="pixels around a tile that are shown to the network besides its objects")

    @field_validator("mask", mode="before")
    @classmethod
    def _usual_mask(cls, value: Any) -> Any:
        return {"kind": "convolution", **value} if isinstance(value, dict) else value

    @property
    def stages(self) -> tuple[CascadeStage, ...]:
        """The stages of the box head; one where there is no cascade."""
        if self.cascade is True:
            return CASCADE
        if self.cascade:
            return tuple(self.cascade)
        return (CascadeStage(iou=self.sampling.iou, weights=self.box.weights),)


class RegionPostprocess(Postprocess):
    """Thresholds of the region family."""

    nms_threshold: float = Field(0.5, ge=0, le=1, description="of two objects whose IoU is above, the better stays")
    nms_by: Literal["box", "mask"] = Field("box", description="whose overlap counts: that of boxes or of masks")
    per_class: bool = Field(True, description="only objects of the same class compete")
    max_objects: int = Field(2000, ge=1, description="most objects, the best scored, in the pixels of rpn.area")
