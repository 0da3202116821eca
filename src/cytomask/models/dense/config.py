"""Settings of the dense family: network, what it says of every pixel, loss, and how objects are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cytomask.models.segmenter_config import Postprocess, SegmenterConfig

_STRICT = ConfigDict(extra="forbid", frozen=True)
#: Loss terms by name.
Term = Literal["cross_entropy", "dice", "focal", "tversky"]
#: Width, blocks per level and heads per level of the Swin-UNet's sizes: the published ones of Swin transformers
#: (Liu et al. 2021), and the reference, which is much smaller.
SWIN_SIZES: dict[str, tuple[int, tuple[int, ...], int | tuple[int, ...]]] = {
    "reference": (32, (2, 2, 2, 2), 4),
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}


class ResNetUNetConfig(BaseModel):
    """A U-Net on a ResNet encoder, upsampled by pixel shuffle: fastai's dynamic U-Net."""

    model_config = _STRICT

    kind: Literal["resnet_unet"] = "resnet_unet"
    depth: Literal[18, 34, 50] = Field(34, description="layers of the encoder: ResNet-18, 34 or 50")
    width: int = Field(64, ge=8, multiple_of=4, description="channels of the encoder's first stage; 64: ImageNet's")
    self_attention: bool = Field(False, description="a self-attention layer in the decoder (Zhang et al. 2019)")
    blur: bool = Field(False, description="blur after each pixel shuffle, against checkerboards (Sugawara et al. 2018)")
    image_shortcut: bool = Field(True, description="the raw image is joined to the features before the last layers")


class SwinUNetConfig(BaseModel):
    """A U-shaped network of shifted-window transformers (Cao et al. 2021), for images of any size.

    Examples
    --------
    ``size`` sets what is not given:

    >>> SwinUNetConfig(size="tiny").heads
    (3, 6, 12, 24)
    >>> SwinUNetConfig(size="tiny", blocks=(2, 2, 2), heads=3).width
    96
    """

    model_config = _STRICT

    kind: Literal["swin_unet"] = "swin_unet"
    size: Literal["reference", "tiny", "small", "base"] = Field(
        "reference", description="sets width, blocks and heads where they are not given: Swin's published sizes"
    )
    patch: int = Field(4, ge=1, description="side in pixels of a token")
    width: int = Field(32, ge=8, description="features of a token at the finest level; doubled at each level")
    blocks: tuple[int, ...] = Field(
        (2, 2, 2, 2),
        min_length=2,
        description="transformer blocks per level, the last is the bottleneck; on its way up, a level has two at most",
    )
    heads: int | tuple[int, ...] = Field(4, description="attention heads, of all levels or of each")
    window: int = Field(7, ge=2, description="side of an attention window, in tokens")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the hidden layer over that of the tokens")
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="chance of leaving out the deepest block's branch in training"
    )

    @model_validator(mode="before")
    @classmethod
    def _sized(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        size = values.get("size", "reference")
        if not isinstance(size, str) or size not in SWIN_SIZES:
            return values
        return {**dict(zip(("width", "blocks", "heads"), SWIN_SIZES[size])), **values}

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if isinstance(self.heads, tuple) and len(self.heads) != len(self.blocks):
            raise ValueError(f"heads has {len(self.heads)} levels, blocks {len(self.blocks)}: they must agree")
        if any(n < 1 for n in self.blocks):
            raise ValueError("every level needs one block at least")
        for level, heads in enumerate(self.heads_per_level):
            if heads < 1 or (self.width << level) % heads:
                raise ValueError(f"{self.width << level} features of level {level} are no multiple of {heads} heads")
        return self

    @property
    def heads_per_level(self) -> tuple[int, ...]:
        """Attention heads of each level."""
        return self.heads if isinstance(self.heads, tuple) else (self.heads,) * len(self.blocks)


class DenseLoss(BaseModel):
    """A sum of loss terms over all pixels."""

    model_config = _STRICT

    terms: dict[Term, float] = Field(
        {"cross_entropy": 1.0},
        min_length=1,
        description="terms and their weights; with output binary, cross_entropy is the binary one of each class",
    )
    class_weights: Literal["balanced"] | float | tuple[float, ...] | None = Field(
        None,
        description="how much pixels of each class weigh in cross_entropy and focal: background first, then the "
        "classes; one number is that of all classes, with 1 for the background; balanced: from their shares of data",
    )
    gamma: float = Field(2.0, ge=0, description="focal: how much pixels that are right already count less")
    alpha: float = Field(0.3, ge=0, description="tversky: weight of wrongly found pixels")
    beta: float = Field(0.7, ge=0, description="tversky: weight of missed pixels")
    border_weight: float | None = Field(
        None,
        gt=0,
        description="cross_entropy and focal: extra weight of pixels between close objects (U-Net paper: 10)",
    )
    border_sigma: float = Field(5.0, gt=0, description="how fast it falls with the distance to the two nearest, pixels")
    distance_weight: float = Field(1.0, ge=0, description="output distance: weight of the distances' absolute error")
    object_class_weight: float = Field(1.0, ge=0, description="outputs boundary and distance: weight of the class term")

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if any(weight <= 0 for weight in self.terms.values()):
            raise ValueError("weights of loss terms must be above 0: leave out a term that shall not count")
        weights = self.class_weights
        if isinstance(weights, float | tuple) and any(
            w < 0 for w in (weights if isinstance(weights, tuple) else (weights,))
        ):
            raise ValueError("class_weights must not be negative")
        return self


class DenseConfig(SegmenterConfig):
    """All that is needed to rebuild a dense network.

    ``output`` says what the network's channels (logits, but for the distance) mean, with ``n`` classes:

    - ``binary``: ``n`` channels, each the sigmoid of one class; classes may overlap.
    - ``softmax``: ``1 + n`` channels, background first.
    - ``boundary``: 3 channels, background, interior and boundary of objects (softmax); with several classes ``n`` more,
      the class of the object that a pixel belongs to (softmax).
    - ``distance``: 2 channels, foreground (sigmoid), and the distance to the object's boundary over its largest in the
      object (a number of 0 to 1, as it is); with several classes ``n`` more, as above.
    """

    network: ResNetUNetConfig | SwinUNetConfig = Field(default_factory=ResNetUNetConfig, discriminator="kind")
    output: Literal["binary", "softmax", "boundary", "distance"] = Field(
        "distance", description="what is said of every pixel: classes only, or also what parts touching objects"
    )
    boundary_width: int = Field(
        1, ge=1, le=8, description="output boundary: width of boundaries inside objects, pixels"
    )
    loss: DenseLoss = Field(default_factory=DenseLoss)

    @model_validator(mode="after")
    def _weights_for_all(self) -> Self:
        weights, n = self.loss.class_weights, len(self.classes)
        expected = 3 if self.output == "boundary" else 2 if self.output == "distance" else n + 1
        if isinstance(weights, tuple) and len(weights) != expected:
            names = {"boundary": "background, interior, boundary", "distance": "background, foreground"}
            raise ValueError(
                f"{len(weights)} class_weights are given for {expected} classes of pixels: "
                + names.get(self.output, ", ".join(["background", *self.classes]))
            )
        return self

    @property
    def channels_out(self) -> int:
        """Channels of the network's output.

        Examples
        --------
        >>> DenseConfig(output="softmax", classes=("cell", "nucleus")).channels_out
        3
        >>> DenseConfig(output="distance").channels_out
        2
        """
        n = len(self.classes)
        extra = n if n > 1 else 0
        return {"binary": n, "softmax": n + 1, "boundary": 3 + extra, "distance": 2 + extra}[self.output]


class DensePostprocess(Postprocess):
    """How objects are made of what a dense network says of pixels."""

    searched: ClassVar[Mapping[str, Sequence[Any]]] = {
        "score_threshold": tuple(round(0.2 + 0.05 * k, 2) for k in range(13)),
        "seed_threshold": tuple(round(0.2 + 0.05 * k, 2) for k in range(15)),
        "min_area": (0, 8, 16, 32, 64, 128, 256),
        "objects": ("auto", "components", "shape"),
    }

    competing: ClassVar[bool] = False

    nms: Literal["hard"] = Field("hard", description="objects of a dense network do not compete")
    objects: Literal["auto", "seeds", "components", "shape", "whole"] = Field(
        "auto",
        description="seeds: grown from seeds by a watershed (outputs boundary and distance); components: connected "
        "pixels of a class; shape: these, parted at their waists; whole: all pixels of a class are one object; auto: "
        "seeds if the network finds any, else components",
    )
    score_threshold: float = Field(0.5, ge=0, le=1, description="pixels of a lower probability are background")
    seed_threshold: float = Field(
        0.5, ge=0, le=1, description="seeds: an object's heart is where interior or distance are above; shape: part of "
        "a pixel's distance to the background by which a waist must be narrower than both sides of it",
    )  # fmt: skip
    min_area: int = Field(16, ge=0, description="objects of fewer network pixels are dropped")
    fill_holes: bool = Field(True, description="holes in an object become part of it")
