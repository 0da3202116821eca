"""From proposals to classified, refined boxes: one stage (Ren et al. 2015), or a cascade (Cai and Vasconcelos 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from cytomask.models.batch_part import generator_of_item
from cytomask.models.region.box_coder import decode
from cytomask.models.region.box_head import BoxHead
from cytomask.models.region.box_losses import box_head_losses, of_class
from cytomask.models.region.boxes import clip, nonempty
from cytomask.models.region.config import RegionConfig
from cytomask.models.region.matcher import ignore_covered, match
from cytomask.models.region.pooler import Pooler
from cytomask.models.region.sampler import sample
from cytomask.models.region.structures import Detections, Regions, Truth

#: In prediction, so many boxes go through the head at once: their pooled features are what takes memory.
CHUNK = 1024


class BoxBranch(nn.Module):
    """Classifies and refines proposals in one or more stages, each with a head of its own.

    Parameters
    ----------
    config
        The whole network's.
    strides
        Of the pyramid's levels, finest first.
    width
        Channels of each level.

    Examples
    --------
    >>> strides = (4, 8, 16, 32, 64)
    >>> branch = BoxBranch(RegionConfig(box={"linear_width": 16}), strides, width=8).eval()
    >>> maps = [torch.rand(1, 8, 64 // s, 64 // s) for s in strides]
    >>> [found] = branch.detect(maps, [torch.tensor([[0.0, 0, 20, 20], [30, 30, 50, 60]])], [(64, 64)],
    ...     score_threshold=0.1, nms_threshold=0.5, per_class=True, max_objects=100)
    >>> len(found), found.boxes.shape
    (2, torch.Size([2, 4]))
    """

    def __init__(self, config: RegionConfig, strides: Sequence[int], width: int) -> None:
        super().__init__()
        self.config = config.box
        self.sampling = config.sampling
        self.stages = config.stages
        self.n_classes = len(config.classes)
        self.pooler = Pooler(config.box.pool, strides, config.box.sampling)
        self.heads = nn.ModuleList(BoxHead(config.box, width, self.n_classes) for _ in self.stages)

    def losses(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Tensor],
        truths: Sequence[Truth],
        sizes: Sequence[tuple[int, int]],
    ) -> tuple[dict[str, Tensor], list[Regions]]:
        """Compute the losses, and what the mask head is to be trained on.

        Parameters
        ----------
        features
            The pyramid.
        proposals
            float32 ``(N, 4)`` for each image.
        truths
            One for each image.
        sizes
            Rows and columns of each image that are picture.

        Returns
        -------
        losses
            ``class`` and ``box``; of a cascade ``class_1``, ``box_1``, ``class_2`` ….
        regions
            For each image the sampled proposals that match an object. Where ``box.train_on_predicted``, the boxes
            that the last stage makes of them.
        """
        losses: dict[str, Tensor] = {}
        regions = [
            self.sample(p, truth, generator_of_item(i, "boxes", p.device))
            for i, (p, truth) in enumerate(zip(proposals, truths, strict=True))
        ]
        for_masks = regions
        logits = deltas = features[0]
        for stage, settings in enumerate(self.stages):
            if stage > 0:
                refined = self._refined(stage - 1, logits, deltas, regions, sizes)
                regions = [self._label(boxes, truth, stage) for boxes, truth in zip(refined, truths, strict=True)]
            pooled = self.pooler(features, [r.boxes for r in regions])
            # Each stage adds its losses; the features are to learn from their mean, the heads from each.
            pooled = ScaleGradient.apply(pooled, 1 / len(self.stages))
            logits, deltas = self.heads[stage](pooled)
            suffix = f"_{stage + 1}" if len(self.stages) > 1 else ""
            losses[f"class{suffix}"], losses[f"box{suffix}"] = box_head_losses(
                self.config,
                logits,
                deltas,
                torch.cat([r.boxes for r in regions]),
                torch.cat([r.classes for r in regions]),
                torch.cat([_matched_boxes(r, truth) for r, truth in zip(regions, truths, strict=True)]),
                settings.weights,
            )
        if self.config.train_on_predicted:
            for_masks = self._predicted(deltas, regions)
        return losses, [r.take(r.classes < self.n_classes) for r in for_masks]

    def detect(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float,
        nms_threshold: float,
        per_class: bool,
        max_objects: int,
    ) -> list[Detections]:
        """Find objects among the proposals.

        Parameters
        ----------
        features
            The pyramid.
        proposals
            float32 ``(N, 4)`` for each image.
        sizes
            Rows and columns of each image that are picture.
        score_threshold
            Each class of a box that scores above it is a detection of its own.
        nms_threshold
            Of two detections whose IoU is above, the better stays.
        per_class
            Detections of different classes do not compete.
        max_objects
            Most detections of an image, the best scored.

        Returns
        -------
        list of Detections
            Best first. The score is the mean over the stages, the box that of the last stage.
        """
        found = []
        for i, (boxes, size) in enumerate(zip(proposals, sizes, strict=True)):
            image = [level[i : i + 1] for level in features]
            parts = [self._classify(image, part, size) for part in boxes.split(CHUNK)]
            found.append(
                select(
                    torch.cat([scores for scores, _ in parts]),
                    torch.cat([moved for _, moved in parts]),
                    size,
                    score_threshold=score_threshold,
                    nms_threshold=nms_threshold,
                    per_class=per_class,
                    max_objects=max_objects,
                )
            )
        return found

    @torch.no_grad()
    def sample(self, proposals: Tensor, truth: Truth, generator: torch.Generator | None = None) -> Regions:
        """Draw the proposals of one image that the heads are trained on: objects first, then background."""
        boxes = torch.cat([proposals, truth.boxes]) if self.sampling.append_truth else proposals
        regions = self._label(boxes, truth, 0)
        objects, others = sample(
            regions.classes, self.sampling.batch, self.sampling.positive, self.n_classes, generator
        )
        return regions.take(torch.cat([objects, others]))

    def _label(self, boxes: Tensor, truth: Truth, stage: int) -> Regions:
        """Match boxes with the true objects as this stage demands; those in crowd regions are left out."""
        matched, labels = match(truth.boxes, boxes, (self.stages[stage].iou,), (0, 1), keep_best=False)
        labels = ignore_covered(labels, boxes, truth.ignored)
        classes = torch.full_like(matched, self.n_classes)
        objects = labels == 1
        classes[objects] = truth.classes[matched[objects]]
        regions = Regions(boxes, classes, matched)
        return regions.take(labels >= 0) if len(truth.ignored) else regions

    @torch.no_grad()
    def _refined(
        self, stage: int, logits: Tensor, deltas: Tensor, regions: list[Regions], sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """What a stage makes of its boxes: the next stage's proposals, without those that became empty."""
        boxes = self._moved(stage, logits, deltas, torch.cat([r.boxes for r in regions]))
        parts = [clip(b, size) for b, size in zip(boxes.split([len(r) for r in regions]), sizes, strict=True)]
        return [part[nonempty(part)] for part in parts]

    def _moved(self, stage: int, logits: Tensor, deltas: Tensor, boxes: Tensor) -> Tensor:
        """One box for each, of its likeliest class where classes have boxes of their own."""
        classes = logits[:, :-1].argmax(dim=1)
        return decode(of_class(deltas, classes), boxes, self.stages[stage].weights)

    @torch.no_grad()
    def _predicted(self, deltas: Tensor, regions: list[Regions]) -> list[Regions]:
        """Move each region as is predicted for its true class; what matches no object does not matter."""
        boxes, classes = torch.cat([r.boxes for r in regions]), torch.cat([r.classes for r in regions])
        own = of_class(deltas, classes.clamp(max=self.n_classes - 1))
        moved = decode(own, boxes, self.stages[-1].weights).split([len(r) for r in regions])
        return [Regions(b, r.classes, r.matched) for b, r in zip(moved, regions, strict=True)]

    def _classify(self, features: list[Tensor], boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Mean scores ``(N, C + 1)`` and last boxes ``(N, 4 or 4 * C)`` of one image's proposals."""
        scores: Any = 0.0
        last = len(self.stages) - 1
        for stage in range(last):
            logits, deltas = self.heads[stage](self.pooler(features, [boxes]))
            scores = scores + logits.float().softmax(dim=-1)
            boxes = clip(self._moved(stage, logits, deltas, boxes), size)
        logits, deltas = self.heads[last](self.pooler(features, [boxes]))
        scores = (scores + logits.float().softmax(dim=-1)) / len(self.stages)
        # A box that is no number stays so when moved again.
        return scores, decode(deltas, boxes, self.stages[last].weights)


def select(
    scores: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    *,
    score_threshold: float,
    nms_threshold: float,
    per_class: bool,
    max_objects: int,
) -> Detections:
    """Choose the detections of one image.

    Parameters
    ----------
    scores
        float32 ``(N, C + 1)``, the background last.
    boxes
        float32 ``(N, 4)``, or ``(N, 4 * C)`` with one for each class. Rows with a value that is no finite number are
        left out.
    size
        Rows and columns of the picture, in which boxes are cut.
    score_threshold, nms_threshold, per_class, max_objects
        See :meth:`BoxBranch.detect`.
    """
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    scores, boxes = scores[finite, :-1], clip(boxes[finite].unflatten(1, (boxes.shape[1] // 4, 4)), size)
    row, classes = torch.nonzero(scores > score_threshold, as_tuple=True)
    scores = scores[row, classes]
    boxes = boxes[row, classes if boxes.shape[1] > 1 else 0]
    groups = classes if per_class else torch.zeros_like(classes)
    kept = batched_nms(boxes, scores, groups, nms_threshold)[:max_objects]
    return Detections(boxes[kept], scores[kept], classes[kept])


class ScaleGradient(torch.autograd.Function):
    """Passes features on, and only a share of the gradient back."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, share: float) -> Tensor:
        """Return the features as they are."""
        ctx.share = share
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return ``share`` of the gradient."""
        return gradients[0] * ctx.share, None


def _matched_boxes(regions: Regions, truth: Truth) -> Tensor:
    """float32 ``(R, 4)``: the box of each region's object; the region's own where the image has no object."""
    return truth.boxes[regions.matched] if len(truth) else regions.boxes
