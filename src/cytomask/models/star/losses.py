"""The losses of the star family (Schmidt et al. 2018; Weigert and Schmidt 2022 for classes)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cytomask.models.batch_part import mean_over_processes
from cytomask.models.star.config import StarLoss

_EPSILON = 1e-6


def star_losses(
    config: StarLoss,
    probability_logits: Tensor,
    distances: Tensor,
    class_logits: Tensor | None,
    targets: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Compute the weighted loss terms.

    Parameters
    ----------
    config
        Weights, and the kind of distance loss.
    probability_logits
        ``(B, Yg, Xg)``.
    distances
        ``(B, R, Yg, Xg)`` in pixels.
    class_logits
        ``(B, 1 + classes, Yg, Xg)``, background first, or None.
    targets
        As from :func:`cytomask.models.star.targets.star_targets`, batched.

    Returns
    -------
    dict
        ``probability``: binary cross-entropy with the soft target. ``distance``: error weighted by the target
        probability, so that pixels near an object's centre count most, plus the small background term.
        ``classes``: cross-entropy, when there are classes.
    """
    target, valid = targets["probability"].float(), targets["valid"].float()
    logits, distances = probability_logits.float(), distances.float()
    weight = target * valid
    # Where processes share the batch, of the whole batch.
    count, weights = mean_over_processes(torch.stack([valid.sum(), weight.sum()])) + _EPSILON
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    losses = {"probability": (bce * valid).sum() / count}

    truth = targets["distances"].float()
    error = (distances - truth).abs().mean(dim=1)
    if config.distance == "relative":
        error = error / (truth.mean(dim=1) + 1.0)
    background = (distances.abs().mean(dim=1) * (target == 0) * valid).sum() / count
    distance = (error * weight).sum() / weights
    losses["distance"] = config.distance_weight * distance + config.background_weight * background

    if class_logits is not None:
        entropy = F.cross_entropy(class_logits.float(), targets["classes"], reduction="none")
        losses["classes"] = config.class_weight * (entropy * valid).sum() / count
    return losses
