"""The head that says of each pooled box which class it is and how it should be moved."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.region.config import BoxHeadConfig
from cytomask.models.region.norms import Convolution


class BoxHead(nn.Module):
    """3x3 convolutions and linear layers, each followed by a rectifier; then one linear layer for each answer.

    Parameters
    ----------
    config
        Layers and the side of the pooled features.
    width
        Channels of the pooled features.
    n_classes
        Without background.

    Examples
    --------
    >>> import torch
    >>> head = BoxHead(BoxHeadConfig(pool=7, linear_width=32), width=8, n_classes=3)
    >>> [answer.shape[1] for answer in head(torch.zeros(5, 8, 7, 7))]
    [4, 12]
    """

    def __init__(self, config: BoxHeadConfig, width: int, n_classes: int) -> None:
        super().__init__()
        # Keys count from 1, as the layers are named in the published checkpoints.
        self.convolutions, self.linear = nn.ModuleDict(), nn.ModuleDict()
        for k in range(1, config.convolutions + 1):
            self.convolutions[str(k)] = Convolution(width, config.convolution_width, 3, norm=config.norm, relu=True)
            width = config.convolution_width
        width *= config.pool**2
        for k in range(1, config.linear + 1):
            linear = nn.Linear(width, config.linear_width)
            nn.init.kaiming_uniform_(linear.weight, a=1)
            nn.init.zeros_(linear.bias)
            self.linear[str(k)] = linear
            width = config.linear_width
        self.class_logits = nn.Linear(width, n_classes + 1)
        self.box_deltas = nn.Linear(width, 4 if config.class_agnostic else 4 * n_classes)
        for layer, spread in ((self.class_logits, 0.01), (self.box_deltas, 0.001)):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """``(R, width, pool, pool)`` to logits ``(R, C + 1)``, the background last, and deltas ``(R, 4 or 4 * C)``."""
        x = pooled
        for convolution in self.convolutions.values():
            x = convolution(x)
        x = x.flatten(1)
        for linear in self.linear.values():
            x = F.relu(linear(x))
        return self.class_logits(x), self.box_deltas(x)
