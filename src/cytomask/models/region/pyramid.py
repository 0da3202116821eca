"""A feature pyramid (Lin et al. 2017): what coarse levels know is handed down to the fine ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.region.config import PyramidConfig
from cytomask.models.region.norms import Convolution
from cytomask.models.region.resnet import ResNet


class Pyramid(nn.Module):
    """A backbone and the pyramid on top: images to five feature maps of the same width.

    Attributes
    ----------
    width
        Channels of each level.
    strides
        Input pixels per pixel of each level, finest first.

    Examples
    --------
    >>> import torch
    >>> from cytomask.models.region.config import ResNetConfig
    >>> backbone = ResNet(ResNetConfig(depth=18, width=16, stem_width=16), in_channels=1)
    >>> pyramid = Pyramid(PyramidConfig(width=24), backbone)
    >>> [tuple(level.shape[1:]) for level in pyramid(torch.zeros(1, 1, 64, 64))]
    [(24, 16, 16), (24, 8, 8), (24, 4, 4), (24, 2, 2), (24, 1, 1)]
    >>> pyramid.strides
    (4, 8, 16, 32, 64)
    """

    def __init__(self, config: PyramidConfig, backbone: ResNet) -> None:
        super().__init__()
        self.width = config.width
        self.strides = (*backbone.strides, 2 * backbone.strides[-1])
        self.fuse = config.fuse
        self.backbone = backbone
        self.lateral = nn.ModuleList(
            Convolution(width, config.width, 1, norm=config.norm, initial="xavier") for width in backbone.widths
        )
        self.output = nn.ModuleList(
            Convolution(config.width, config.width, 3, norm=config.norm, initial="xavier") for _ in backbone.widths
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the levels of images ``(B, C, Y, X)``, finest first.

        Sides must be multiples of the backbone's coarsest stride. The last level is every second pixel of the one
        before.
        """
        maps = self.backbone(images)
        joined = self.lateral[-1](maps[-1])
        levels = [self.output[-1](joined)]
        for lateral, output, finer in zip(reversed(self.lateral[:-1]), reversed(self.output[:-1]), reversed(maps[:-1])):
            joined = lateral(finer) + F.interpolate(joined, scale_factor=2.0, mode="nearest")
            if self.fuse == "avg":
                joined = joined / 2
            levels.append(output(joined))
        levels.reverse()
        return [*levels, F.max_pool2d(levels[-1], 1, 2)]
