"""Losses of the dense family, over all pixels of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cytomask.errors import ConfigError
from cytomask.models.batch_part import mean_over_processes, sum_over_processes
from cytomask.models.dense.config import DenseConfig

#: What is added to found and true pixels alike in overlap losses: one pixel more that is right.
_SMOOTH = 1.0
#: How much the distance of background pixels counts, which shall be 0.
_BACKGROUND = 0.1
#: Below this, the power of focal losses has no useful gradient.
_TINY = 1e-6


def dense_losses(
    logits: Tensor, targets: dict[str, Tensor], config: DenseConfig, class_weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute the weighted loss terms, in single precision.

    Pixels that are not valid count nowhere: a batch of nothing else has losses and gradients of 0.

    Parameters
    ----------
    logits
        The network's output, ``(B, channels_out, Y, X)``.
    targets
        As from :func:`~cytomask.models.dense.targets.dense_targets`, batched.
    config
        The output and the loss.
    class_weights
        float32, background first, as many as there are kinds of pixels. None: those of ``config.loss``.

    Returns
    -------
    dict
        Scalars; their sum is to be minimised. The terms are those of ``config.loss.terms``, and tell about the classes
        (outputs binary and softmax), the parts (boundary) or the foreground (distance):

        - ``cross_entropy``: with a softmax as torch's, the mean weighted by the class weight of each pixel's true
          class. With sigmoids the binary one: pixels of a class weigh that class's weight, all others the
          background's, and the mean is over valid pixels and classes (``pos_weight`` where the background's is 1);
        - ``focal``: the same, each pixel times ``(1 - p)^gamma``, with the probability ``p`` of what is true (Lin et
          al. 2017);
        - ``tversky``: ``1 - (TP + 1) / (TP + alpha FP + beta FN + 1)`` of probabilities, of each class but the
          background over the whole batch, averaged over the classes (Salehi et al. 2017);
        - ``dice``: the same with one half for both, the Dice coefficient (Milletari et al. 2016);

        and further ``distance``: the mean absolute error on the foreground, and a tenth of it on the background; and
        ``class``, with several classes: cross-entropy of the class on the foreground.

        The border weight is added to the pixel's class weight, as in Ronneberger et al. 2015.

    Raises
    ------
    ConfigError
        If class weights are to be balanced, and are not given.

    Examples
    --------
    >>> config = DenseConfig(output="softmax")
    >>> truth = {"labels": torch.tensor([[[0, 1]]]), "valid": torch.ones(1, 1, 2)}
    >>> dense_losses(torch.zeros(1, 2, 1, 2), truth, config)
    {'cross_entropy': tensor(0.6931)}
    """
    logits, valid = logits.float(), targets["valid"].float()
    n, loss = len(config.classes), config.loss
    if class_weights is None and (values := class_weight_values(config)) is not None:
        class_weights = torch.tensor(values, device=logits.device)
    border = targets["border"].float() if "border" in targets else None
    losses: dict[str, Tensor] = {}
    if config.output in ("binary", "distance"):
        sigmoid = logits if config.output == "binary" else logits[:, :1]
        truth = targets["present"] if config.output == "binary" else targets["foreground"][:, None]
        truth = truth.float()
        entropy = F.binary_cross_entropy_with_logits(sigmoid, truth, reduction="none")
        weight = _sigmoid_weights(truth, class_weights, border) * valid[:, None]
        total = mean_over_processes(valid.sum() * truth.shape[1])
        probability = sigmoid.sigmoid()
    else:
        kinds = n + 1 if config.output == "softmax" else 3
        truth = _one_hot(targets["labels" if config.output == "softmax" else "parts"], kinds)
        log = logits[:, :kinds].log_softmax(dim=1)
        entropy = -(log * truth).sum(dim=1)
        weight = _softmax_weights(truth, class_weights, border) * valid
        total = mean_over_processes(weight.sum())
        probability, truth = log.exp()[:, 1:], truth[:, 1:]
    for term, factor in loss.terms.items():
        if term == "cross_entropy":
            value = _mean(entropy * weight, total)
        elif term == "focal":
            wrong = (1 - (-entropy).exp()).clamp_min(_TINY)
            value = _mean(entropy * weight * wrong**loss.gamma, total)
        else:
            alpha, beta = (0.5, 0.5) if term == "dice" else (loss.alpha, loss.beta)
            value = _overlap_loss(probability, truth, valid, alpha, beta)
        losses[term] = factor * value
    if config.output == "distance" and loss.distance_weight:
        losses["distance"] = loss.distance_weight * _distance_error(logits[:, 1], targets, valid)
    if config.output in ("boundary", "distance") and n > 1 and loss.object_class_weight:
        of_object = _one_hot(targets["labels"], n + 1)[:, 1:]
        entropy = -(logits[:, -n:].log_softmax(dim=1) * of_object).sum(dim=1)
        known = of_object.sum(dim=1) * valid
        losses["class"] = loss.object_class_weight * _mean(entropy * known, mean_over_processes(known.sum()))
    return losses


def class_weight_values(config: DenseConfig) -> tuple[float, ...] | None:
    """How much the pixels of each kind weigh, background first, as numbers; None: all the same.

    Raises
    ------
    ConfigError
        If the weights are to be balanced: that takes data, and is done when a training begins.

    Examples
    --------
    >>> from cytomask.models.dense.config import DenseLoss
    >>> class_weight_values(DenseConfig(output="boundary", loss=DenseLoss(class_weights=4)))
    (1.0, 4.0, 4.0)
    """
    weights = config.loss.class_weights
    if weights is None or isinstance(weights, tuple):
        return weights
    if weights == "balanced":
        raise ConfigError(
            "the weights of the classes are not known without data", where="loss.class_weights", found="balanced",
            expected="numbers, background first", fix="train with an experiment, which works them out, or give numbers",
        )  # fmt: skip
    kinds = {"boundary": 2, "distance": 1}.get(config.output, len(config.classes))
    return (1.0, *(float(weights),) * kinds)


def _one_hot(labels: Tensor, kinds: int) -> Tensor:
    """``(B, Y, X)`` to float32 ``(B, kinds, Y, X)``; sums over it, unlike look-ups, are the same on every run."""
    return (labels[:, None] == torch.arange(kinds, device=labels.device)[:, None, None]).float()


def _softmax_weights(truth: Tensor, class_weights: Tensor | None, border: Tensor | None) -> Tensor:
    """Weights ``(B, Y, X)`` of pixels whose kind is one of ``truth``'s ``(B, K, Y, X)``."""
    if class_weights is None:
        weight = torch.ones_like(truth[:, 0])
    else:
        weight = (truth * class_weights.to(truth)[:, None, None]).sum(dim=1)
    return weight if border is None else weight + border


def _sigmoid_weights(truth: Tensor, class_weights: Tensor | None, border: Tensor | None) -> Tensor:
    """Weights ``(B, n, Y, X)`` of pixels that are, or are not, of each of ``n`` classes."""
    if class_weights is None:
        weight = torch.ones_like(truth)
    else:
        weights = class_weights.to(truth)
        weight = torch.where(truth > 0, weights[1:, None, None], weights[0])
    return weight if border is None else weight + border[:, None]


def _mean(values: Tensor, total: Tensor) -> Tensor:
    """Sum over ``total``, or 0 where that is 0, as the sum then is.

    ``total`` is the mean of all processes that share the batch.
    """
    return values.sum() / torch.where(total > 0, total, torch.ones_like(total))


def _overlap_loss(probability: Tensor, truth: Tensor, valid: Tensor, alpha: float, beta: float) -> Tensor:
    found, true = probability * valid[:, None], truth * valid[:, None]
    over_batch = (0, 2, 3)
    # Of the whole batch, also where processes share it: the quotient of sums is no sum of quotients.
    hit, all_found, all_true = sum_over_processes(
        torch.stack([(found * truth).sum(over_batch), found.sum(over_batch), true.sum(over_batch)])
    )
    wrong, missed = all_found - hit, all_true - hit
    return (1 - (hit + _SMOOTH) / (hit + alpha * wrong + beta * missed + _SMOOTH)).mean()


def _distance_error(distance: Tensor, targets: dict[str, Tensor], valid: Tensor) -> Tensor:
    error = (distance - targets["distance"].float()).abs()
    inside = targets["foreground"].float() * valid
    outside = valid - inside
    pixels, others = mean_over_processes(torch.stack([inside.sum(), outside.sum()]))
    return _mean(error * inside, pixels) + _BACKGROUND * _mean(error * outside, others)
