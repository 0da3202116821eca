"""Bringing every image to one size, whatever its own: the rule of networks that were made for one input size."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from cytomask.data.short_edge import ShortestEdge


class WorkingSize(BaseModel):
    """Stretch or shrink images to one height and width; their proportions are not kept.

    Examples
    --------
    >>> WorkingSize(height=224, width=224).size((520, 704))
    (224, 224)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int = Field(ge=16, description="rows, in pixels")
    width: int = Field(ge=16, description="columns, in pixels")

    def scale(self, shape: tuple[int, int]) -> float:
        """Network pixels per pixel of an image of ``shape`` (rows, columns), the mean of both axes.

        Examples
        --------
        >>> WorkingSize(height=200, width=100).scale((100, 200))
        1.0
        """
        return math.sqrt(self.height / shape[0] * self.width / shape[1])

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:  # noqa: ARG002 (as of ShortestEdge)
        """Rows and columns of the image after sizing."""
        return self.height, self.width


def _kind(value: Any) -> str:
    """Tell which of both is meant, so that what is wrong is told of that one."""
    fields = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return "height and width" if {"height", "width"} & set(fields) else "shortest and longest"


#: Size at which a model sees whole images.
ImageSize = Annotated[
    Annotated[ShortestEdge, Tag("shortest and longest")] | Annotated[WorkingSize, Tag("height and width")],
    Discriminator(_kind),
]
