"""Sizing whole images by their shorter edge, the longer edge limited: the rule of networks that see whole images."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ShortestEdge(BaseModel):
    """Enlarge or shrink an image until its shorter edge has a given length, but the longer edge at most another.

    Examples
    --------
    >>> ShortestEdge(shortest=800, longest=1333).size((400, 600))
    (800, 1200)
    >>> ShortestEdge(shortest=800, longest=1333).size((500, 2000))
    (333, 1333)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shortest: int = Field(800, ge=16, description="length of the shorter edge, in pixels")
    longest: int = Field(1333, ge=16, description="most pixels of the longer edge; the shorter one becomes less then")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.longest < self.shortest:
            raise ValueError(f"longest {self.longest} is below shortest {self.shortest}")
        return self

    def scale(self, shape: tuple[int, int]) -> float:
        """Network pixels per pixel of an image of ``shape`` (rows, columns), before sizes are rounded.

        Examples
        --------
        >>> ShortestEdge(shortest=800, longest=1333).scale((1600, 1600))
        0.5
        """
        return min(self.shortest / min(shape), self.longest / max(shape))

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the image after sizing, halves rounded up; at least one each."""
        # In two steps, as other software of the field computes it, so that sizes agree where a half is rounded.
        sides = [side * (self.shortest / min(shape)) if side != min(shape) else float(self.shortest) for side in shape]
        if max(sides) > self.longest:
            sides = [side * (self.longest / max(sides)) for side in sides]
        height, width = (max(1, int(side + 0.5)) for side in sides)
        return height, width
