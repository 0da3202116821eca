"""The part of a region network that draws masks into boxes, of either kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cytomask.models.batch_part import processes
from cytomask.models.region.config import ConvolutionMaskConfig, RegionConfig
from cytomask.models.region.mask_head import MaskHead, mask_loss, of_class
from cytomask.models.region.mask_targets import mask_targets
from cytomask.models.region.point_rend import PointRendMaskBranch
from cytomask.models.region.pooler import LEVELS, Pooler
from cytomask.models.region.structures import Regions, Truth

#: Boxes that go through the head at a time in prediction.
CHUNK = 256


class ConvolutionMaskBranch(nn.Module):
    """Masks as of Mask R-CNN: features pooled from the level that fits a box, and a head on them.

    Parameters
    ----------
    config
        Of the masks.
    classes
        Number of object classes.
    strides, width
        Of the pyramid.
    """

    def __init__(self, config: ConvolutionMaskConfig, classes: int, strides: Sequence[int], width: int) -> None:
        super().__init__()
        self.config = config
        self.pooler = Pooler(config.pool, strides, config.sampling)
        self.head = MaskHead(config, width, classes)

    def losses(self, features: list[Tensor], regions: list[Regions], truths: list[Truth]) -> dict[str, Tensor]:
        """Mean cross entropy of the masks (``mask``).

        Parameters
        ----------
        features
            The pyramid's levels, finest first.
        regions
            Boxes of each image, all of foreground.
        truths
            Objects of each image.
        """
        if processes() == 1 and not any(len(r) for r in regions):
            # Still a function of the parameters, so that each has a gradient.
            return {"mask": torch.as_tensor(sum(p.sum() for p in self.parameters()) * 0.0)}
        boxes = [r.boxes.detach() for r in regions]
        classes = torch.cat([r.classes for r in regions])
        logits = of_class(self.head(self.pooler(features, boxes)), classes).float()
        targets = torch.cat([mask_targets(t, r, self.config.side) for t, r in zip(truths, regions)])
        return {"mask": self.config.weight * mask_loss(logits, targets.float())}

    def masks(self, features: list[Tensor], boxes: list[Tensor], classes: list[Tensor]) -> list[Tensor]:
        """Logits float32 ``(N, side, side)`` of each box's own class, for each image."""
        found = []
        for i, (own_boxes, own_classes) in enumerate(zip(boxes, classes)):
            side = self.config.side
            masks = torch.empty(len(own_boxes), side, side, device=features[0].device)
            levels = [level[i : i + 1] for level in features[:LEVELS]]
            for begin in range(0, len(own_boxes), CHUNK):
                part = slice(begin, begin + CHUNK)
                masks[part] = of_class(self.head(self.pooler(levels, [own_boxes[part]])), own_classes[part]).float()
            found.append(masks)
        return found


def make_mask_branch(
    config: RegionConfig, strides: Sequence[int], width: int
) -> ConvolutionMaskBranch | PointRendMaskBranch:
    """Build what ``config.mask`` asks for.

    Parameters
    ----------
    config
        Of the network.
    strides
        Of the pyramid's levels, finest first.
    width
        Channels of each level.

    Examples
    --------
    >>> config = RegionConfig.model_validate({"mask": {"kind": "pointrend", "coarse_width": 32}})
    >>> branch = make_mask_branch(config, (4, 8, 16, 32, 64), 16)
    >>> features = [torch.zeros(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64)]
    >>> boxes, classes = torch.tensor([[8.0, 8.0, 40.0, 24.0]]), torch.zeros(1, dtype=torch.int64)
    >>> branch.masks(features, [boxes], [classes])[0].shape
    torch.Size([1, 224, 224])
    """
    kind = ConvolutionMaskBranch if isinstance(config.mask, ConvolutionMaskConfig) else PointRendMaskBranch
    return kind(config.mask, len(config.classes), strides, width)  # type: ignore[arg-type]
