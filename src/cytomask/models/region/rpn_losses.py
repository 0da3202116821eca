"""What the region proposal network learns: the objectness of sampled anchors, and the boxes of those with objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cytomask.models.batch_part import generator_of_item
from cytomask.models.region.box_coder import Weights, encode
from cytomask.models.region.box_losses import smooth_l1_sum
from cytomask.models.region.config import RpnConfig
from cytomask.models.region.matcher import ignore_covered, match
from cytomask.models.region.sampler import sample
from cytomask.models.region.structures import Truth

#: Changes of anchors are predicted as they are.
ANCHOR_WEIGHTS: Weights = (1.0, 1.0, 1.0, 1.0)


def rpn_losses(
    config: RpnConfig, anchors: Tensor, objectness: Tensor, deltas: Tensor, truths: Sequence[Truth]
) -> dict[str, Tensor]:
    """Compute both losses of a batch.

    Parameters
    ----------
    config
        Thresholds, sample size and weights.
    anchors
        float32 ``(A, 4)``, of all levels.
    objectness, deltas
        Predictions ``(B, A)`` and ``(B, A, 4)``.
    truths
        One for each image.

    Returns
    -------
    dict
        ``rpn_objectness``: binary cross-entropy; ``rpn_box``: smooth L1. Both are sums over the sampled anchors,
        divided by the number that could have been sampled, so that each anchor weighs the same in every batch.
    """
    scores, wanted, predicted, changes = [], [], [], []
    for i, truth in enumerate(truths):
        objects, others, matched = choose_anchors(
            config, anchors, truth, generator_of_item(i, "anchors", anchors.device)
        )
        chosen = torch.cat([objects, others])
        scores.append(objectness[i, chosen].float())
        wanted.append((torch.arange(len(chosen), device=chosen.device) < len(objects)).float())
        predicted.append(deltas[i, objects].float())
        changes.append(encode(anchors[objects], truth.boxes[matched[objects]], ANCHOR_WEIGHTS))
    entropy = F.binary_cross_entropy_with_logits(torch.cat(scores), torch.cat(wanted), reduction="sum")
    distance = smooth_l1_sum(torch.cat(predicted), torch.cat(changes), config.beta)
    # Processes that share a batch have as many images each, so this is the mean of their counts.
    count = config.batch * len(truths)
    return {
        "rpn_objectness": config.objectness_weight * entropy / count,
        "rpn_box": config.box_weight * distance / count,
    }


@torch.no_grad()
def choose_anchors(
    config: RpnConfig, anchors: Tensor, truth: Truth, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw anchors with objects and anchors on background; also the object that each of **all** anchors matches."""
    matched, labels = match(truth.boxes, anchors, config.iou, (0, -1, 1), keep_best=True)
    labels = ignore_covered(labels, anchors, truth.ignored)
    objects, others = sample(labels, config.batch, config.positive, 0, generator)
    return objects, others, matched
