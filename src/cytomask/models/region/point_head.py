"""The two heads of PointRend: a coarse mask of the whole box, and a finer look at single points."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from cytomask.models.region.config import PointRendMaskConfig
from cytomask.models.region.mask_head import begin_undecided
from cytomask.models.region.norms import Convolution

#: The coarse head works on this many channels at most.
COARSE_CHANNELS = 256


class CoarseHead(nn.Module):
    """A small mask for every class, from a grid of features, by fully connected layers.

    Examples
    --------
    >>> head = CoarseHead(PointRendMaskConfig(coarse_width=32), 16, 3)
    >>> head(torch.zeros(5, 16, 14, 14)).shape
    torch.Size([5, 3, 7, 7])
    """

    def __init__(self, config: PointRendMaskConfig, width: int, classes: int) -> None:
        super().__init__()
        channels = min(width, COARSE_CHANNELS)
        self.narrow = Convolution(width, channels, 1, relu=True) if width > channels else nn.Identity()
        self.halve = nn.Conv2d(channels, channels, 2, stride=2)
        nn.init.kaiming_normal_(self.halve.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.halve.bias)  # type: ignore[arg-type]
        size = channels * (config.coarse_pool // 2) ** 2
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, config.coarse_linear + 1):
            layer = nn.Linear(size, config.coarse_width)
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
            layers[str(number)], size = layer, config.coarse_width
        self.linear = nn.ModuleDict(layers)
        self.shape = (classes, config.coarse_side, config.coarse_side)
        self.predictor = nn.Linear(size, classes * config.coarse_side**2)
        begin_undecided(self.predictor)

    def forward(self, features: Tensor) -> Tensor:
        """``(R, width, P, P)`` to logits ``(R, classes, side, side)``."""
        x = self.halve(self.narrow(features)).relu().flatten(1)
        for layer in self.linear.values():
            x = layer(x).relu()
        return self.predictor(x).unflatten(1, self.shape)


class PointHead(nn.Module):
    """A perceptron that sees the features and the coarse masks at one point, and says whether it is inside.

    Examples
    --------
    >>> head = PointHead(PointRendMaskConfig(point_width=32), 16, 3)
    >>> head(torch.zeros(5, 16, 100), torch.zeros(5, 3, 100)).shape
    torch.Size([5, 3, 100])
    """

    def __init__(self, config: PointRendMaskConfig, width: int, classes: int) -> None:
        super().__init__()
        self.again = config.coarse_in_each_layer
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = width + classes
        for number in range(1, config.point_linear + 1):
            layer = nn.Conv1d(inputs, config.point_width, 1)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            layers[str(number)] = layer
            inputs = config.point_width + (classes if self.again else 0)
        self.linear = nn.ModuleDict(layers)
        self.predictor = nn.Conv1d(inputs, 1 if config.class_agnostic else classes, 1)
        begin_undecided(self.predictor)

    def forward(self, features: Tensor, coarse: Tensor) -> Tensor:
        """Features ``(R, width, P)`` and coarse logits ``(R, classes, P)`` to logits ``(R, classes or 1, P)``."""
        x = torch.cat([features, coarse], dim=1)
        for layer in self.linear.values():
            x = layer(x).relu()
            if self.again:
                x = torch.cat([x, coarse.to(x.dtype)], dim=1)
        return self.predictor(x)
