"""What a network proposes before conflicts are resolved: the unit that tiles exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Proposals:
    """Objects that a network proposes, in pixels of the network's input.

    A tile keeps the proposals whose ``points`` lie in its own core, so each is kept by exactly one tile; the
    conflicts between what all tiles kept are resolved once, for the whole image.

    Attributes
    ----------
    points
        float32 ``(N, 2)``, row and column of the point that decides which tile owns the proposal.
    scores
        float32 ``(N,)``.
    classes
        int32 ``(N,)``, 1-based class ids.
    data
        What else the family needs, each array with ``N`` rows of a shape and dtype that all proposals of one network
        share (they are kept on disk as records), in coordinates relative to ``points`` only, so that a shift of the
        points moves the whole proposal.
    """

    points: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    data: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.points)

    def take(self, index: np.ndarray) -> Proposals:
        """Select by a boolean mask or by indices."""
        return Proposals(
            self.points[index], self.scores[index], self.classes[index], {k: v[index] for k, v in self.data.items()}
        )

    def shifted(self, dy: float, dx: float) -> Proposals:
        """Move all proposals, for instance from a tile's frame to the image's."""
        offset = np.array([dy, dx], dtype=np.float32)
        return Proposals(self.points + offset, self.scores, self.classes, self.data)

    @classmethod
    def concatenate(cls, parts: Sequence[Proposals]) -> Proposals:
        """Join the proposals of several tiles (at least one part)."""
        return cls(
            np.concatenate([p.points for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.classes for p in parts]),
            {k: np.concatenate([p.data[k] for p in parts]) for k in parts[0].data},
        )

    def in_canonical_order(self) -> Proposals:
        """Sort by row and column; those of one point stay as they were.

        So what ties between equal scores come to, and the order of the objects, do not depend on the tiles.
        """
        rows, columns = self.points[:, 0], self.points[:, 1]
        down, across = np.diff(rows), np.diff(columns)
        if np.all((down > 0) | ((down == 0) & (across >= 0))):
            return self
        return self.take(np.lexsort((columns, rows)))
