"""A U-Net on a ResNet encoder: the dynamic U-Net of fastai, as ``unet_learner(data, resnet34)`` builds it.

It gives what the network of fastai 2 gives with the same weights. fastai 1 builds the same but for one detail: there,
the last residual block adds without a ReLU behind. As in fastai's defaults, the decoder's convolutions have biases
and no norm, and skips pass a batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from cytomask.models.dense.config import ResNetUNetConfig
from cytomask.models.dense.unet_blocks import Residual, ShuffleUp, UpBlock, batch_norm, convolution, resized

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
#: Standard deviation of the last layer's fresh biases, as fastai's.
_BIAS_STD = 0.01


class ResNetEncoder(nn.Module):
    """torchvision's ResNet without its classifier, with any number of input channels; its names are kept.

    Attributes
    ----------
    widths
        Channels of the five feature maps.

    Examples
    --------
    >>> encoder = ResNetEncoder(18, in_channels=2)
    >>> [tuple(x.shape[1:]) for x in encoder(torch.zeros(1, 2, 64, 32))]
    [(64, 32, 16), (64, 16, 8), (128, 8, 4), (256, 4, 2), (512, 2, 1)]
    """

    def __init__(self, depth: int, in_channels: int, width: int = 64) -> None:
        super().__init__()
        self.depth = depth
        block: type[BasicBlock] | type[Bottleneck] = Bottleneck if depth >= 50 else BasicBlock
        self.widths = (width, *(width * block.expansion << level for level in range(4)))
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        counts = _BLOCKS[depth]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, self.widths[level], width << level, counts[level], 1 if level == 0 else 2)
            for level in range(4)
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The four stages of blocks, finest first."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps of ``(B, C, Y, X)``: those of the first convolution, then of the four stages."""
        levels = [F.relu(self.bn1(self.conv1(images)), inplace=True)]
        x = F.max_pool2d(levels[0], 3, 2, 1)
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels

    def steps(self) -> list[tuple[int, int]]:
        """Kernel and stride of each layer that looks around, from the input on."""
        found = [(7, 2), (3, 2)]
        per_block = 1 if self.depth >= 50 else 2
        for level, blocks in enumerate(_BLOCKS[self.depth]):
            for k in range(blocks):
                found += [(3, 2 if k == 0 and level > 0 else 1), *[(3, 1)] * (per_block - 1)]
        return found


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, planes: int, count: int, stride: int
) -> nn.Sequential:
    """A stage of torchvision's blocks, with its names."""
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    rest = [block(outputs, planes) for _ in range(count - 1)]
    return nn.Sequential(block(inputs, planes, stride, shortcut), *rest)


class ResNetUNet(nn.Module):
    """Images to channels of logits, of the same size.

    Parameters
    ----------
    config
        Depth, and what is added.
    in_channels, out_channels
        Of the images, and of the output.

    Attributes
    ----------
    stride
        Sides should be multiples of this many pixels; others work as in fastai, but see the image as if it were pulled.
    halo
        Pixels further away along y or x cannot influence an output through convolutions. With self-attention, which
        has no bounds, all pixels of a tile influence each other besides.

    Examples
    --------
    With three channels and two classes it has as many parameters as fastai's:

    >>> net = ResNetUNet(ResNetUNetConfig(depth=34), in_channels=3, out_channels=2)
    >>> sum(p.numel() for p in net.parameters())
    41221168
    >>> net.eval()(torch.zeros(1, 3, 64, 96)).shape
    torch.Size([1, 2, 64, 96])
    >>> net.stride, net.halo
    (32, 606)
    """

    stride = 32

    def __init__(self, config: ResNetUNetConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = ResNetEncoder(config.depth, in_channels, config.width)
        *skips, width = self.encoder.widths
        self.norm = batch_norm(width)
        self.middle1 = convolution(width, 2 * width)
        self.middle2 = convolution(2 * width, width)
        self.up = nn.ModuleList()
        for k, skipped in enumerate(reversed(skips)):
            attention = config.self_attention and k == len(skips) - 3
            block = UpBlock(width, skipped, halved=k == len(skips) - 1, blur=config.blur, attention=attention)
            self.up.append(block)
            width = block.outputs
        self.last_up = ShuffleUp(width, width)
        if config.image_shortcut:
            width += in_channels
        self.residual = Residual(width) if config.image_shortcut else nn.Identity()
        self.head = nn.Conv2d(width, out_channels, 1)
        nn.init.normal_(self.head.bias, std=_BIAS_STD)  # type: ignore[arg-type]
        self.halo = _reach(self._steps(), self.stride)

    @property
    def alignment(self) -> int:
        """Tiles that begin at multiples of this many pixels are seen as in the whole image."""
        return self.stride

    def layer_groups(self) -> list[list[nn.Module]]:
        """Fastai's three groups: the encoder's finer and coarser parts, and the rest."""
        e = self.encoder
        decoder = [self.norm, self.middle1, self.middle2, self.up, self.last_up, self.residual, self.head]
        return [[e.conv1, e.bn1, e.layer1, e.layer2], [e.layer3, e.layer4], decoder]

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, Y, X)`` to ``(B, out_channels, Y, X)``."""
        *skips, x = self.encoder(images)
        x = F.relu(self.norm(x), inplace=True)
        x = F.relu(self.middle1(x), inplace=True)
        x = F.relu(self.middle2(x), inplace=True)
        for block in self.up:
            x = block(x, skips.pop())
        x = resized(self.last_up(x), images)
        if self.config.image_shortcut:
            x = torch.cat([x, images.to(x.dtype)], dim=1)
        return self.head(self.residual(x))

    def _steps(self) -> list[tuple[int, int]]:
        """Kernel and stride of each layer on the longest way through the network; stride 0: upsampling by 2."""
        blur = [(2, 1)] if self.config.blur else []
        around = [*self.encoder.steps(), (3, 1), (3, 1)]
        around += [(1, 0), *blur, (3, 1), (3, 1)] * len(self.up)
        return [*around, (1, 0), *([(3, 1), (3, 1)] if self.config.image_shortcut else [])]


def _reach(steps: Sequence[tuple[int, int]], stride: int) -> int:
    """How far outputs look at most, followed back exactly for each place within the coarsest grid.

    Examples
    --------
    >>> _reach([(3, 1), (3, 2), (3, 1), (1, 0)], stride=2)
    5
    """
    furthest = 0
    for place in range(stride):
        low = high = place
        for kernel, step in reversed(steps):
            if step == 0:
                low, high = low // 2, high // 2
            else:
                low, high = low * step - kernel // 2, high * step - kernel // 2 + kernel - 1
        furthest = max(furthest, place - low, high - place)
    return furthest
