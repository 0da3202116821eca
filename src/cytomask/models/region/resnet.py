"""Residual networks: images to feature maps of four resolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.errors import ConfigError
from cytomask.models.region.config import Norm, ResNetConfig
from cytomask.models.region.norms import Convolution
from cytomask.models.region.resnet_blocks import BasicBlock, Bottleneck

#: Blocks in res2, res3, res4 and res5 by the number of layers.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Stem(nn.Module):
    """A 7x7 convolution of stride 2 and, for a stride of 4, a maximum over 3x3."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, norm: Norm) -> None:
        super().__init__()
        self.pooled = stride == 4
        self.conv1 = Convolution(inputs, outputs, 7, stride=2, norm=norm, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, Y, X)`` to ``(B, outputs, Y / stride, X / stride)``."""
        x = self.conv1(x)
        return F.max_pool2d(x, 3, 2, 1) if self.pooled else x


class ResNet(nn.Module):
    """A residual network without its classifier (He et al. 2016; ResNeXt: Xie et al. 2017).

    The first ``config.freeze`` of stem, res2 … res5 are not trained: their parameters need no gradient, and their
    batch norms keep their statistics also in training mode.

    Attributes
    ----------
    widths
        Channels of the four feature maps.
    strides
        Input pixels per pixel of each.

    Raises
    ------
    ConfigError
        If the groups of offsets of deformable convolutions do not divide their channels.

    Examples
    --------
    >>> import torch
    >>> net = ResNet(ResNetConfig(depth=18, width=16, stem_width=16), in_channels=5)
    >>> [tuple(level.shape) for level in net(torch.zeros(1, 5, 64, 32))]
    [(1, 16, 16, 8), (1, 32, 8, 4), (1, 64, 4, 2), (1, 128, 2, 1)]
    >>> net.widths, net.strides
    ((16, 32, 64, 128), (4, 8, 16, 32))
    """

    def __init__(self, config: ResNetConfig, in_channels: int) -> None:
        super().__init__()
        self.config = config
        self.widths = tuple(config.width * 2**k for k in range(4))
        self.strides = tuple(config.stem_stride * 2**k for k in range(4))
        self.stem = Stem(in_channels, config.stem_width, stride=config.stem_stride, norm=_norm(config, 0))
        inputs = (config.stem_width, *self.widths[:3])
        self.res2, self.res3, self.res4, self.res5 = (_stage(config, k, inputs[k], self.widths[k]) for k in range(4))
        for part in (self.stem, *self.stages)[: config.freeze]:
            part.requires_grad_(False)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The parts after the stem, finest first."""
        return self.res2, self.res3, self.res4, self.res5

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps of images ``(B, C, Y, X)``, finest first: level k is ``(B, widths[k], …)``."""
        x = self.stem(images)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


def _norm(config: ResNetConfig, part: int) -> Norm:
    """The norm of the stem (part 0) and of res2 … res5 (1 to 4): what is frozen keeps its statistics."""
    return "frozen_batch" if config.norm == "batch" and part < config.freeze else config.norm


def _stage(config: ResNetConfig, index: int, inputs: int, outputs: int) -> nn.Sequential:
    blocks: list[nn.Module] = []
    norm = _norm(config, index + 1)
    for number in range(BLOCKS[config.depth][index]):
        stride = 2 if index > 0 and number == 0 else 1
        if config.depth <= 34:
            blocks.append(BasicBlock(inputs, outputs, stride=stride, norm=norm))
        else:
            middle = config.groups * config.group_width * 2**index
            if config.deformable[index] and middle % config.deform_groups:
                raise ConfigError(
                    "groups of offsets do not divide the channels", where="backbone.deform_groups",
                    found=config.deform_groups, expected=f"a divisor of {middle}",
                )  # fmt: skip
            blocks.append(
                Bottleneck(
                    inputs, middle, outputs, stride=stride, norm=norm, groups=config.groups,
                    stride_in_1x1=config.stride_in_1x1,
                    deformable=config.modulated if config.deformable[index] else None,
                    offset_groups=config.deform_groups,
                )
            )  # fmt: skip
        inputs = outputs
    return nn.Sequential(*blocks)
