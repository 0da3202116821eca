"""Parts of the ResNet U-Net's decoder: upsampling by pixel shuffle, blocks with skips, the last residual block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.dense.self_attention import SelfAttention

#: What fresh biases of batch norms are, as fastai's.
_NORM_BIAS = 1e-3


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Make a batch norm that begins as fastai's do."""
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.bias, _NORM_BIAS)
    return norm


def convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """Make a convolution that keeps the image's size, with He's normal weights and without biases at first."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def icnr_(weight: Tensor) -> Tensor:
    """Fill the weight of a convolution before a pixel shuffle by 2, so that it begins as nearest-neighbour upsampling.

    All four of the convolution's outputs that become one block of 2x2 pixels are alike (Aitken et al. 2017), which
    leaves no checkerboard.

    Parameters
    ----------
    weight
        ``(4 * outputs, inputs, 1, 1)``, changed in place.

    Examples
    --------
    >>> weight = icnr_(torch.empty(8, 3, 1, 1))
    >>> bool((weight[:4] == weight[0]).all()), bool((weight[:] == weight[0]).all())
    (True, False)
    """
    with torch.no_grad():
        one = nn.init.kaiming_normal_(torch.empty_like(weight[::4]))
        return weight.copy_(one.repeat_interleave(4, dim=0))


class ShuffleUp(nn.Module):
    """Upsample by 2: a 1x1 convolution, ReLU and pixel shuffle (Shi et al. 2016), then a blur of 2x2 if wanted.

    Examples
    --------
    >>> ShuffleUp(16, 8)(torch.zeros(1, 16, 3, 5)).shape
    torch.Size([1, 8, 6, 10])
    """

    def __init__(self, inputs: int, outputs: int, *, blur: bool = False) -> None:
        super().__init__()
        self.conv = convolution(inputs, 4 * outputs, kernel=1)
        icnr_(self.conv.weight)
        self.blur = blur

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, Y, X)`` to ``(B, outputs, 2 Y, 2 X)``."""
        x = F.pixel_shuffle(F.relu(self.conv(x), inplace=True), 2)
        return F.avg_pool2d(F.pad(x, (1, 0, 1, 0), mode="replicate"), 2, stride=1) if self.blur else x


class UpBlock(nn.Module):
    """Join upsampled features with those of the encoder.

    Parameters
    ----------
    inputs, skipped
        Channels of the coarser features, and of the encoder's.
    halved
        The block gives half as many channels as it joins.
    blur, attention
        See :class:`~cytomask.models.dense.config.ResNetUNetConfig`.

    Attributes
    ----------
    outputs
        Channels of the block's output.

    Examples
    --------
    >>> block = UpBlock(16, 4)
    >>> block(torch.zeros(1, 16, 3, 5), torch.zeros(1, 4, 5, 9)).shape
    torch.Size([1, 12, 5, 9])
    """

    def __init__(
        self, inputs: int, skipped: int, *, halved: bool = False, blur: bool = False, attention: bool = False
    ) -> None:
        super().__init__()
        joined = inputs // 2 + skipped
        self.outputs = joined // 2 if halved else joined
        self.up = ShuffleUp(inputs, inputs // 2, blur=blur)
        self.norm = batch_norm(skipped)
        self.conv1 = convolution(joined, self.outputs)
        self.conv2 = convolution(self.outputs, self.outputs)
        self.attention = SelfAttention(self.outputs) if attention else nn.Identity()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """``(B, inputs, Y / 2, X / 2)`` and ``(B, skipped, Y, X)`` to ``(B, outputs, Y, X)``."""
        x = resized(self.up(x), skip)
        # What was upsampled went through a ReLU already: only the skip needs another.
        x = torch.cat([x, F.relu(self.norm(skip), inplace=True)], dim=1)
        x = F.relu(self.conv1(x), inplace=True)
        return self.attention(F.relu(self.conv2(x), inplace=True))


class Residual(nn.Module):
    """Two convolutions whose result is added to their input.

    Examples
    --------
    >>> Residual(4)(torch.zeros(1, 4, 3, 5)).shape
    torch.Size([1, 4, 3, 5])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels)
        self.conv2 = convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, Y, X)`` to the same."""
        return F.relu(x + self.conv2(F.relu(self.conv1(x), inplace=True)), inplace=True)


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Give features the size of others by the nearest neighbour: needed where a side was odd before it was halved."""
    size = like.shape[-2:]
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="nearest")
