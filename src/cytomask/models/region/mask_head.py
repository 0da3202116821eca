"""The mask head of Mask R-CNN: convolutions on pooled features, twice the size, and one mask per class."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.batch_part import mean_over_processes
from cytomask.models.region.config import ConvolutionMaskConfig
from cytomask.models.region.norms import Convolution


class MaskHead(nn.Module):
    """From pooled features to mask logits (He et al., "Mask R-CNN", 2017, figure 4 right).

    Parameters
    ----------
    config
        Its ``pool`` and ``sampling`` are of no concern here.
    width
        Channels of the pooled features.
    classes
        Number of object classes.

    Examples
    --------
    >>> head = MaskHead(ConvolutionMaskConfig(convolutions=2, width=16), 8, 3)
    >>> head(torch.zeros(5, 8, 14, 14)).shape
    torch.Size([5, 3, 28, 28])
    """

    def __init__(self, config: ConvolutionMaskConfig, width: int, classes: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, config.convolutions + 1):
            layers[str(number)] = Convolution(width, config.width, 3, norm=config.norm, relu=True)
            width = config.width
        self.convolutions = nn.Sequential(layers)
        self.enlarge = nn.ConvTranspose2d(width, config.width, 2, stride=2)
        self.predictor = nn.Conv2d(config.width, 1 if config.class_agnostic else classes, 1)
        nn.init.kaiming_normal_(self.enlarge.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.enlarge.bias)  # type: ignore[arg-type]
        begin_undecided(self.predictor)

    def forward(self, pooled: Tensor) -> Tensor:
        """``(R, width, P, P)`` to logits ``(R, classes or 1, 2 P, 2 P)``."""
        return self.predictor(self.enlarge(self.convolutions(pooled)).relu())


def begin_undecided(layer: nn.Conv1d | nn.Conv2d | nn.Linear) -> None:
    """Let a fresh layer that predicts masks say about one half everywhere."""
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross entropy of masks ``(R, …)``; where processes share a batch, over those of the whole batch.

    Examples
    --------
    >>> mask_loss(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
    tensor(0.6931)
    """
    count = mean_over_processes(torch.tensor(float(logits.numel()), device=logits.device))
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / count.clamp_min(1)


def of_class(logits: Tensor, classes: Tensor) -> Tensor:
    """Pick each region's own class: ``(R, C, …)`` to ``(R, …)``; where there is one mask for all, that.

    Examples
    --------
    >>> of_class(torch.arange(6).reshape(2, 3), torch.tensor([2, 0]))
    tensor([2, 3])
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    # Gathered and not indexed: its gradient is added up in a fixed order on CUDA too.
    index = classes.reshape(-1, 1, *[1] * (logits.dim() - 2)).expand(-1, 1, *logits.shape[2:])
    return logits.gather(1, index)[:, 0]
