"""Families whose objects are made of many proposals at once: what tiles exchange are pieces of a map, not objects."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from cytomask.geometry.fate import KEPT
from cytomask.geometry.resample import target_shape
from cytomask.instances import Instances
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter import Postprocess, Segmenter


class AssemblingSegmenter(Segmenter):
    """A segmenter whose proposals are pieces of a map.

    Pieces do not compete: each is owned by one tile. Objects are made of groups of connected foreground pixels.
    **What becomes of a group must be told from the group alone**, so that any window in which it lies whole gives the
    same objects as the whole image.
    """

    needs_whole_objects = False

    @abstractmethod
    def assemble(
        self,
        proposals: Proposals,
        postprocess: Postprocess,
        window: tuple[int, int, int, int],
        shape: tuple[int, int],
        scale: tuple[float, float] = (1.0, 1.0),
    ) -> tuple[Instances, np.ndarray]:
        """Make objects of the part of the map that lies in a window.

        Parameters
        ----------
        proposals
            All pieces that touch the window.
        window
            ``(y0, x0, y1, x1)`` in network pixels.
        shape, scale
            As for :meth:`~cytomask.models.segmenter.Segmenter.render`.

        Returns
        -------
        Instances
            In the frame of the native image. Objects that cover no native pixel are left out.
        numpy.ndarray
            float32 ``(N, 2)``: a pixel of each object, in network pixels, which decides on its owner and its place in
            the order: the first one, row by row.
        """

    @abstractmethod
    def foreground(
        self, proposals: Proposals, postprocess: Postprocess, window: tuple[int, int, int, int]
    ) -> np.ndarray:
        """Which pixels of a window may belong to an object: bool ``(Y, X)``; connected ones are a group."""

    @abstractmethod
    def probabilities(self, proposals: Proposals, window: tuple[int, int, int, int]) -> np.ndarray:
        """How likely the pixels of a window belong to objects of each class: float32 ``(classes, Y, X)``."""

    def settle(
        self,
        proposals: Proposals,
        postprocess: Postprocess,  # noqa: ARG002
        fates: np.ndarray,  # noqa: ARG002
        foreign: np.ndarray,  # noqa: ARG002
    ) -> np.ndarray:
        """Pieces do not compete."""
        return np.full(len(proposals), KEPT, np.uint8)

    def resolve(
        self,
        proposals: Proposals,
        postprocess: Postprocess,
        shape: tuple[int, int],
        scale: tuple[float, float] = (1.0, 1.0),
    ) -> Instances:
        """Put the pieces together, and make objects of the whole map."""
        if not len(proposals):
            return Instances.empty(shape, self.config.classes)
        # No object lies where there is no piece; a pixel more, since outlines are drawn between pixels.
        boxes = self.boxes(proposals)
        height, width = target_shape(shape, scale)
        y0, x0 = np.maximum(np.floor(boxes[:, :2].min(axis=0)) - 1, 0).astype(int).tolist()
        y1, x1 = np.minimum(np.ceil(boxes[:, 2:].max(axis=0)) + 1, (height, width)).astype(int).tolist()
        objects, points = self.assemble(proposals, postprocess, (y0, x0, max(y0, y1), max(x0, x1)), shape, scale)
        return objects.take(np.lexsort((points[:, 1], points[:, 0]))).renumbered()
