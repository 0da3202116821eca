"""PointRend (Kirillov et al., "PointRend: Image Segmentation as Rendering", CVPR 2020).

A coarse mask is doubled again and again; after each doubling, the points where it is least certain are decided anew
from the finest features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.batch_part import processes
from cytomask.models.region.config import PointRendMaskConfig
from cytomask.models.region.mask_head import mask_loss, of_class
from cytomask.models.region.mask_targets import mask_targets, sample_masks
from cytomask.models.region.point_head import CoarseHead, PointHead
from cytomask.models.region.point_sampling import (
    draw_training_points,
    grid_points,
    least_certain,
    points_in_image,
    sample_features,
    sample_maps,
)
from cytomask.models.region.structures import Regions, Truth

#: Boxes that are refined at a time in prediction: a box needs a megabyte of features for its points.
CHUNK = 64


class PointRendMaskBranch(nn.Module):
    """Masks of any resolution, seen from the finest level of the pyramid alone.

    Parameters
    ----------
    config
        Of the masks.
    classes
        Number of object classes.
    strides, width
        Of the pyramid.
    """

    def __init__(self, config: PointRendMaskConfig, classes: int, strides: Sequence[int], width: int) -> None:
        super().__init__()
        self.config = config
        self.stride = strides[0]
        self.coarse = CoarseHead(config, width, classes)
        self.point = PointHead(config, width, classes)
        # Where a doubled mask would have no more cells than points are decided anew, all of it would be: such
        # doublings are left out, and the mask begins larger.
        self.start, self.doublings = config.coarse_side, config.steps
        while self.doublings > 0 and 4 * self.start**2 <= config.points:
            self.start, self.doublings = 2 * self.start, self.doublings - 1

    def losses(self, features: list[Tensor], regions: list[Regions], truths: list[Truth]) -> dict[str, Tensor]:
        """Cross entropies of the coarse masks (``mask``) and of points (``mask_point``), each a mean.

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
            nothing = [sum(p.sum() for p in head.parameters()) * 0.0 for head in (self.coarse, self.point)]
            return {"mask": torch.as_tensor(nothing[0]), "mask_point": torch.as_tensor(nothing[1])}
        finest, config = features[0].float(), self.config
        boxes = [r.boxes.detach().float() for r in regions]
        classes = torch.cat([r.classes for r in regions])
        pairs = list(zip(truths, regions))
        counts = [len(b) for b in boxes]

        coarse = self._coarse_masks(finest, boxes)
        targets = torch.cat([mask_targets(t, r, config.coarse_side) for t, r in pairs]).float()
        loss = mask_loss(of_class(coarse, classes), targets)

        with torch.no_grad():
            own = of_class(coarse, classes)
            points = draw_training_points(own, config.train_points, config.oversample, config.importance, counts)
            pieces = points_in_image(torch.cat(boxes), points).split(counts)
            inside = torch.cat([sample_masks(t, r.matched, p) for (t, r), p in zip(pairs, pieces)])
        logits = of_class(self._point_logits(finest, boxes, coarse, points), classes)
        point_loss = mask_loss(logits, inside)
        return {"mask": config.weight * loss, "mask_point": config.weight * point_loss}

    def masks(self, features: list[Tensor], boxes: list[Tensor], classes: list[Tensor]) -> list[Tensor]:
        """Logits float32 ``(N, side, side)`` of each box's own class, for each image."""
        finest, found = features[0].float(), []
        for i, (own_boxes, own_classes) in enumerate(zip(boxes, classes)):
            masks = finest.new_empty(len(own_boxes), self.config.side, self.config.side)
            for begin in range(0, len(own_boxes), CHUNK):
                part = slice(begin, begin + CHUNK)
                masks[part] = self._render(finest[i : i + 1], own_boxes[part].float(), own_classes[part])
            found.append(masks)
        return found

    def _coarse_masks(self, finest: Tensor, boxes: list[Tensor]) -> Tensor:
        side = self.config.coarse_pool
        pooled = sample_features(finest, boxes, grid_points(side, finest.device), self.stride)
        return self.coarse(pooled.unflatten(2, (side, side))).float()

    def _point_logits(self, finest: Tensor, boxes: list[Tensor], coarse: Tensor, points: Tensor) -> Tensor:
        return self.point(sample_features(finest, boxes, points, self.stride), sample_maps(coarse, points)).float()

    def _render(self, finest: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
        """Masks of the boxes of one image."""
        coarse = self._coarse_masks(finest, [boxes])
        side = self.start
        points = grid_points(side, boxes.device).expand(len(boxes), -1, -1)
        # Classes are independent of each other in all that follows: only each box's own is carried along.
        masks = of_class(self._point_logits(finest, [boxes], coarse, points), classes).unflatten(1, (side, side))
        for _ in range(self.doublings):
            masks = F.interpolate(masks[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
            side *= 2
            index = least_certain(masks, self.config.points)
            points = torch.stack([index % side, index // side], dim=2) * (1 / side) + 0.5 / side
            logits = of_class(self._point_logits(finest, [boxes], coarse, points), classes)
            masks = masks.flatten(1).scatter(1, index, logits).unflatten(1, (side, side))
        return masks
