"""What the settings of every model family have in common; nothing of a network is imported for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field


class SegmenterConfig(BaseModel):
    """All that is needed to rebuild a network. Families add their own fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_channels: int = Field(1, ge=1, description="channels of the network's input")
    classes: tuple[str, ...] = Field(("object",), min_length=1, description="names of the object classes, in order")


class Postprocess(BaseModel):
    """What turns proposals into instances. Families add their own thresholds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Values that tuning tries, setting by setting, in place of thresholds and ways of suppression: for families whose
    #: objects do not compete.
    searched: ClassVar[Mapping[str, Sequence[Any]]] = {}
    #: False where objects never compete, so that settings of suppression mean nothing.
    competing: ClassVar[bool] = True

    score_threshold: float = Field(0.5, ge=0, le=1, description="proposals below this score are dropped")
    nms: Literal["hard", "linear", "gaussian"] = Field(
        "hard",
        description="what becomes of an object that overlaps a better one: hard: it is dropped above the overlap "
        "threshold; linear: above it, its score is multiplied by 1 - IoU; gaussian: by exp(-IoU² / sigma) at any "
        "overlap (Soft-NMS, Bodla et al. 2017)",
    )
    nms_by: Literal["box", "mask"] = Field("mask", description="whose overlap counts: that of boxes or of masks")
    nms_threshold: float = Field(0.5, ge=0, le=1, description="of two objects whose IoU is above, the better stays")
    nms_sigma: float = Field(0.5, gt=0, description="width of gaussian Soft-NMS: the larger, the less scores fall")
    per_class: bool = Field(False, description="only objects of the same class compete")
