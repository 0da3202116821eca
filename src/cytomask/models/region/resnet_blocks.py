"""The blocks of residual networks: two 3x3 convolutions, or a 3x3 between two 1x1, added to their input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.region.config import Norm
from cytomask.models.region.deformable import DeformableConvolution, Offsets
from cytomask.models.region.norms import Convolution


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> Convolution | None:
    """The 1x1 convolution beside a block that changes the shape; None: the input itself is added."""
    if inputs == outputs and stride == 1:
        return None
    return Convolution(inputs, outputs, 1, stride=stride, norm=norm)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the first with the stride (ResNet-18 and -34)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, norm: Norm) -> None:
        super().__init__()
        self.shortcut = _shortcut(inputs, outputs, stride, norm)
        self.conv1 = Convolution(inputs, outputs, 3, stride=stride, norm=norm, relu=True)
        self.conv2 = Convolution(outputs, outputs, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, Y, X)`` to ``(B, outputs, Y / stride, X / stride)``."""
        y = self.conv2(self.conv1(x))
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(y)


class Bottleneck(nn.Module):
    """A 1x1 convolution to ``middle`` channels, a 3x3 there, in groups and perhaps deformable, and a 1x1 back.

    Parameters
    ----------
    inputs, middle, outputs
        Channels.
    groups
        Of the 3x3 convolution.
    stride_in_1x1
        Step in the first 1x1 convolution, as the networks of MSRA do, not in the 3x3.
    deformable
        None: the 3x3 convolution is a plain one. Else whether it is modulated.
    offset_groups
        Groups of channels that are moved together in a deformable convolution.
    """

    def __init__(
        self,
        inputs: int,
        middle: int,
        outputs: int,
        *,
        stride: int,
        norm: Norm,
        groups: int = 1,
        stride_in_1x1: bool = False,
        deformable: bool | None = None,
        offset_groups: int = 1,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = _shortcut(inputs, outputs, stride, norm)
        self.conv1 = Convolution(inputs, middle, 1, stride=first, norm=norm, relu=True)
        self.conv2: Convolution
        self.conv2_offset: Offsets | None
        if deformable is None:
            self.conv2_offset = None
            self.conv2 = Convolution(middle, middle, 3, stride=second, groups=groups, norm=norm, relu=True)
        else:
            self.conv2_offset = Offsets(middle, stride=second, offset_groups=offset_groups, modulated=deformable)
            self.conv2 = DeformableConvolution(middle, middle, stride=second, groups=groups, norm=norm, relu=True)
        self.conv3 = Convolution(middle, outputs, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, Y, X)`` to ``(B, outputs, Y / stride, X / stride)``."""
        y = self.conv1(x)
        if isinstance(self.conv2, DeformableConvolution) and self.conv2_offset is not None:
            y = self.conv2.deform(y, self.conv2_offset)
        else:
            y = self.conv2(y)
        y = self.conv3(y)
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(y)
