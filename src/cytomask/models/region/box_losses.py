"""The losses of box regression and classification."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cytomask.models.batch_part import mean_over_processes
from cytomask.models.region.box_coder import Weights, encode
from cytomask.models.region.config import BoxHeadConfig

#: Below this, the quadratic part of smooth L1 is of no use, and dividing by it harms.
_MIN_BETA = 1e-5


def smooth_l1_sum(predicted: Tensor, wanted: Tensor, beta: float) -> Tensor:
    """Sum of smooth L1 over all elements (Girshick 2015): quadratic where the error is below ``beta``, else linear.

    Examples
    --------
    >>> error = torch.tensor([0.5, 3.0])
    >>> smooth_l1_sum(error, torch.zeros(2), 0.0), smooth_l1_sum(error, torch.zeros(2), 1.0)
    (tensor(3.5000), tensor(2.6250))
    """
    if beta < _MIN_BETA:
        return (predicted - wanted).abs().sum()
    return F.smooth_l1_loss(predicted, wanted, reduction="sum", beta=beta)


def box_head_losses(
    config: BoxHeadConfig,
    logits: Tensor,
    deltas: Tensor,
    boxes: Tensor,
    classes: Tensor,
    targets: Tensor,
    weights: Weights,
) -> tuple[Tensor, Tensor]:
    """Compute the losses of one stage over the sampled boxes of a batch.

    Parameters
    ----------
    config
        Beta and weights.
    logits
        ``(R, C + 1)``, the background last.
    deltas
        ``(R, 4)`` or ``(R, 4 * C)``.
    boxes
        float32 ``(R, 4)``: what was pooled.
    classes
        int64 ``(R,)``; ``C`` for background.
    targets
        float32 ``(R, 4)``: the matched objects' boxes; of no meaning for background.
    weights
        Of the stage's box changes.

    Returns
    -------
    classification, regression
        Mean cross-entropy; smooth L1 of the boxes with objects, divided by the number of **all** boxes, so that each
        object weighs the same however many there are. Zero, and still joined to the predictions, without boxes.
    """
    logits, deltas = logits.float(), deltas.float()
    count = mean_over_processes(torch.tensor(float(len(classes)), device=logits.device))
    if len(classes) == 0:
        return logits.sum() * 0, deltas.sum() * 0
    entropy = F.cross_entropy(logits, classes, reduction="sum") / count
    objects = torch.nonzero(classes < logits.shape[1] - 1).flatten()
    predicted = of_class(deltas, classes.clamp(max=logits.shape[1] - 2))[objects]
    changes = encode(boxes[objects], targets[objects], weights)
    distance = smooth_l1_sum(predicted, changes, config.beta) / count
    return config.class_weight * entropy, config.box_weight * distance


def of_class(values: Tensor, classes: Tensor) -> Tensor:
    """Each row's four numbers of its class, out of ``(R, 4 * C)``; all rows as they are where there are only four.

    Examples
    --------
    >>> of_class(torch.arange(16.0).reshape(2, 8), torch.tensor([1, 0]))
    tensor([[ 4.,  5.,  6.,  7.],
            [ 8.,  9., 10., 11.]])
    """
    if values.shape[1] == 4:
        return values
    rows = torch.arange(len(values), device=values.device)
    return values.reshape(len(values), values.shape[1] // 4, 4)[rows, classes]
