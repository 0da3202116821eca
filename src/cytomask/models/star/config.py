"""Settings of the star family: network, loss and post-processing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cytomask.models.segmenter_config import Postprocess, SegmenterConfig


class UNetConfig(BaseModel):
    """StarDist's default backbone: max-pooling down to the grid, then a plain U-Net."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["unet"] = "unet"
    depth: int = Field(3, ge=1, le=6, description="levels below the grid's resolution")
    base: int = Field(32, ge=4, description="channels at the grid's resolution; doubled at each level")
    features: int = Field(128, ge=8, description="channels of the shared layer before the heads")


class ResidualConfig(BaseModel):
    """A residual encoder with a light decoder: the first convolution already works at half resolution."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["residual"] = "residual"
    widths: tuple[int, ...] = Field((32, 64, 128, 160), min_length=2, description="channels per level")
    blocks: tuple[int, ...] = Field((1, 1, 2, 2), min_length=2, description="residual blocks per level")
    features: int = Field(64, ge=8, description="channels of the shared layer before the heads")

    @model_validator(mode="after")
    def _one_number_per_level(self) -> ResidualConfig:
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"widths has {len(self.widths)} levels, blocks {len(self.blocks)}: they must agree")
        return self


class StarLoss(BaseModel):
    """The loss of the StarDist paper, with one alternative for the distances."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    distance: Literal["absolute", "relative"] = Field(
        "absolute",
        description="absolute: mean absolute error in pixels, as in the paper; relative: the same divided by the "
        "object's mean radius at that pixel, so that small and large objects weigh alike",
    )
    distance_weight: float = Field(0.2, ge=0, description="weight of the distance term")
    class_weight: float = Field(1.0, ge=0, description="weight of the class term, with more than one class")
    background_weight: float = Field(1e-4, ge=0, description="keeps distances small where there is no object")


class StarConfig(SegmenterConfig):
    """All that is needed to rebuild a star network."""

    rays: int = Field(32, ge=3, le=256, description="radial directions per object")
    grid: Literal[1, 2, 4, 8] = Field(2, description="predictions are made on every grid-th pixel along y and x")
    backbone: UNetConfig | ResidualConfig = Field(default_factory=UNetConfig, discriminator="kind")
    loss: StarLoss = Field(default_factory=StarLoss)


class StarPostprocess(Postprocess):
    """Thresholds of the star family."""

    nms_threshold: float = Field(
        0.4,
        ge=0,
        le=1,
        description="of two objects that share more than this part of the smaller, the better stays; by boxes, and for "
        "linear Soft-NMS, the IoU counts",
    )
