"""The region proposal network (Ren et al. 2015): where there may be an object, of whatever class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from cytomask.errors import TrainingError
from cytomask.models.region.anchors import Anchors
from cytomask.models.region.box_coder import decode
from cytomask.models.region.boxes import clip, nonempty
from cytomask.models.region.config import AnchorConfig, RpnConfig
from cytomask.models.region.rpn_losses import ANCHOR_WEIGHTS, rpn_losses
from cytomask.models.region.structures import Truth


class RegionProposalNetwork(nn.Module):
    """Scores every anchor and moves it towards an object; the best that do not repeat each other are proposed.

    Parameters
    ----------
    config
        Layers, thresholds and limits.
    anchors
        The reference boxes.
    strides
        Of the pyramid's levels, finest first.
    width
        Channels of each level.

    Examples
    --------
    >>> strides = (4, 8, 16, 32, 64)
    >>> rpn = RegionProposalNetwork(RpnConfig(test_after=50), AnchorConfig(), strides, width=8)
    >>> maps = [torch.rand(1, 8, 128 // s, 128 // s) for s in strides]
    >>> [proposals] = rpn.propose(maps, [(128, 100)])
    >>> len(proposals), bool((proposals[:, 2] <= 100).all())
    (50, True)
    """

    def __init__(self, config: RpnConfig, anchors: AnchorConfig, strides: Sequence[int], width: int) -> None:
        super().__init__()
        self.config = config
        self.anchors = Anchors(anchors, strides)
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(config.convolutions))
        self.objectness = nn.Conv2d(width, self.anchors.per_place, 1)
        self.deltas = nn.Conv2d(width, 4 * self.anchors.per_place, 1)
        for layer in [*self.convolutions, self.objectness, self.deltas]:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predict from feature maps ``(B, C, rows, columns)``.

        Returns
        -------
        objectness, deltas
            For each level ``(B, A)`` and ``(B, A, 4)``, in the order of its anchors.
        """
        objectness, deltas = [], []
        for x in features:
            for convolution in self.convolutions:
                x = F.relu(convolution(x))
            objectness.append(self.objectness(x).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.deltas(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
        return objectness, deltas

    def losses(
        self, features: Sequence[Tensor], truths: Sequence[Truth], sizes: Sequence[tuple[int, int]]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Compute the losses, and the proposals that the heads are trained on.

        Parameters
        ----------
        features
            The pyramid.
        truths
            One for each image.
        sizes
            Rows and columns of each image that are picture.

        Returns
        -------
        losses, proposals
            See :func:`~cytomask.models.region.rpn_losses.rpn_losses`; float32 ``(N, 4)`` for each image, best first,
            through which no gradient flows.

        Raises
        ------
        TrainingError
            If predictions are no numbers any more.
        """
        anchors = self.anchors(features)
        objectness, deltas = self(features)
        losses = rpn_losses(self.config, torch.cat(anchors), torch.cat(objectness, 1), torch.cat(deltas, 1), truths)
        config = self.config
        return losses, self._best(
            anchors, objectness, deltas, sizes, config.train_before, config.train_after, training=True
        )

    def propose(self, features: Sequence[Tensor], sizes: Sequence[tuple[int, int]], share: float = 1.0) -> list[Tensor]:
        """Propose boxes of objects: float32 ``(N, 4)`` for each image, best first, inside of the picture.

        The limits are multiplied by ``share``.
        """
        objectness, deltas = self(features)
        before, after = (round(limit * share) for limit in (self.config.test_before, self.config.test_after))
        return self._best(self.anchors(features), objectness, deltas, sizes, before, after, training=False)

    @torch.no_grad()
    def _best(
        self,
        anchors: list[Tensor],
        objectness: list[Tensor],
        deltas: list[Tensor],
        sizes: Sequence[tuple[int, int]],
        before: int,
        after: int,
        training: bool,
    ) -> list[Tensor]:
        """Decode the best of each level, drop what repeats a better one of its level, keep the best of all levels."""
        boxes, scores, levels = [], [], []
        for level, (reference, score, delta) in enumerate(zip(anchors, objectness, deltas, strict=True)):
            best, index = score.float().topk(min(score.shape[1], before), dim=1)
            moved = decode(
                delta.gather(1, index[:, :, None].expand(-1, -1, 4)).reshape(-1, 4),
                reference[index].reshape(-1, 4),
                ANCHOR_WEIGHTS,
            )
            boxes.append(moved.reshape(len(score), -1, 4))
            scores.append(best)
            levels.append(torch.full_like(index[0], level))
        all_boxes, all_scores, all_levels = torch.cat(boxes, 1), torch.cat(scores, 1), torch.cat(levels)
        finite = torch.isfinite(all_boxes).all(dim=2) & torch.isfinite(all_scores)
        if training and not finite.all():
            raise TrainingError(
                "the proposals are no numbers any more: training has diverged",
                found=f"{int((~finite).sum())} of {finite.numel()} proposals are infinite or not a number",
                fix="lower the learning rate, or warm up longer",
            )
        proposals = []
        for i, size in enumerate(sizes):
            clipped = clip(all_boxes[i], size)
            usable = torch.nonzero(finite[i] & nonempty(clipped)).flatten()
            clipped = clipped[usable]
            kept = batched_nms(clipped, all_scores[i, usable], all_levels[usable], self.config.nms)
            proposals.append(clipped[kept[:after]])
        return proposals
