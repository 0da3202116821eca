"""The two backbones of the star family. Each gives a feature map on the grid and says how far it looks.

``PlainUNet`` follows the network of Schmidt et al., "Cell Detection with Star-convex Polygons" (MICCAI 2018).
``ResidualUNet`` combines residual blocks (He et al., CVPR 2016) with additive lateral connections (Lin et al., FPN,
CVPR 2017). Only batch normalisation is used: statistics of the image at hand would make a tile differ from the whole.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.receptive_field import ReceptiveField
from cytomask.models.star.config import ResidualConfig, UNetConfig


def _conv_relu(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True))


def _conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


def _double(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_conv_relu(inputs, middle), _conv_relu(middle, outputs))


class PlainUNet(nn.Module):
    """StarDist's default network: with 1 channel, grid 2 and 32 rays it has 1,425,185 parameters."""

    def __init__(self, config: UNetConfig, in_channels: int, grid: int) -> None:
        super().__init__()
        base, depth = config.base, config.depth
        self.stride = grid * 2**depth
        self.out_channels = config.features
        field = ReceptiveField()

        self.pools = nn.ModuleList()
        channels, reached = in_channels, 1
        while reached < grid:
            self.pools.append(_double(channels, base, base))
            field.convolve(3, times=2).convolve(2, stride=2)
            channels, reached = base, reached * 2

        self.down = nn.ModuleList()
        for level in range(depth):
            width = base * 2**level
            self.down.append(_double(channels, width, width))
            field.convolve(3, times=2).convolve(2, stride=2)
            channels = width
        self.middle = _double(channels, base * 2**depth, base * 2 ** (depth - 1))
        field.convolve(3, times=2)

        self.up = nn.ModuleList()
        for level in reversed(range(depth)):
            width = base * 2**level
            self.up.append(_double(2 * width, width, base * 2 ** max(0, level - 1)))
            field.upsample().convolve(3, times=2)
        self.features = _conv_relu(base, config.features)
        field.convolve(3)
        self.halo = int(field.radius + 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, Y, X)`` to ``(B, features, Y / grid, X / grid)``."""
        for pool in self.pools:
            x = F.max_pool2d(pool(x), 2)
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2.0), skips.pop()], dim=1))
        return self.features(x)


class ResidualBlock(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_norm(channels, channels), nn.ReLU(inplace=True), *_conv_norm(channels, channels)
        )
        # A block that begins as the identity trains more steadily (Goyal et al. 2017, section 5.1).
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class ResidualUNet(nn.Module):
    """A residual encoder whose stem already strides, and one 3x3 convolution per level on the way up."""

    def __init__(self, config: ResidualConfig, in_channels: int, grid: int) -> None:
        super().__init__()
        widths = config.widths
        self.stride = grid * 2 ** (len(widths) - 1)
        self.out_channels = config.features
        field = ReceptiveField()

        stem: list[nn.Module] = []
        channels, reached = in_channels, 1
        while reached < max(grid, 1):
            kernel = 5 if reached == 1 else 3
            stem += [*_conv_norm(channels, widths[0], kernel, 2), nn.ReLU(inplace=True)]
            field.convolve(kernel, stride=2)
            channels, reached = widths[0], reached * 2
        if not stem:
            stem = [*_conv_norm(channels, widths[0], 5), nn.ReLU(inplace=True)]
            field.convolve(5)
        self.stem = nn.Sequential(*stem)

        self.levels, self.down = nn.ModuleList(), nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, config.blocks)):
            self.levels.append(nn.Sequential(*[ResidualBlock(width) for _ in range(count)]))
            field.convolve(3, times=2 * count)
            if level + 1 < len(widths):
                self.down.append(nn.Sequential(*_conv_norm(width, widths[level + 1], 3, 2), nn.ReLU(inplace=True)))
                field.convolve(3, stride=2)

        self.lateral, self.up = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths) - 1)):
            self.lateral.append(nn.Conv2d(widths[level + 1], widths[level], 1))
            self.up.append(nn.Sequential(*_conv_norm(widths[level], widths[level]), nn.ReLU(inplace=True)))
            field.upsample().convolve(3)
        self.features = nn.Sequential(*_conv_norm(widths[0], config.features), nn.ReLU(inplace=True))
        field.convolve(3)
        self.halo = int(field.radius + 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, Y, X)`` to ``(B, features, Y / grid, X / grid)``."""
        x = self.stem(x)
        skips = []
        for level, down in zip(self.levels, self.down):
            x = level(x)
            skips.append(x)
            x = down(x)
        x = self.levels[-1](x)
        for lateral, up in zip(self.lateral, self.up):
            x = up(F.interpolate(lateral(x), scale_factor=2.0) + skips.pop())
        return self.features(x)
