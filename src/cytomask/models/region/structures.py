"""What the parts of a region network hand to each other.

Boxes inside the network are float32 tensors ``(N, 4)``: ``x0, y0, x1, y1`` in pixels, where pixel ``i`` reaches from
``i`` to ``i + 1``, as in torchvision's operators.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Truth:
    """The annotated objects of one image.

    Attributes
    ----------
    boxes
        float32 ``(N, 4)``, tight around each object.
    classes
        int64 ``(N,)``, **from 0**.
    ids
        int32 ``(N,)``: the object's value in its layer.
    layer
        int64 ``(N,)``: which layer it is in.
    layers
        int32 ``(K, Y, X)``: the label images, 0 for the background.
    ignored
        float32 ``(M, 4)``: boxes of crowd regions, where nothing is learnt.
    """

    boxes: Tensor
    classes: Tensor
    ids: Tensor
    layer: Tensor
    layers: Tensor
    ignored: Tensor

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, eq=False)
class Regions:
    """Boxes of one image that a head is trained on.

    Attributes
    ----------
    boxes
        float32 ``(R, 4)``.
    classes
        int64 ``(R,)``: class from 0 of the object that each is matched with; the number of classes for background.
    matched
        int64 ``(R,)``: position of that object in the image's :class:`Truth`; of no meaning for background.
    """

    boxes: Tensor
    classes: Tensor
    matched: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: Tensor) -> Regions:
        """Select by a boolean mask or by indices."""
        return Regions(self.boxes[index], self.classes[index], self.matched[index])


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes that one image is found to hold.

    Attributes
    ----------
    boxes
        float32 ``(N, 4)``.
    scores
        float32 ``(N,)``.
    classes
        int64 ``(N,)``, from 0.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.boxes)
