"""Deformable convolutions: each kernel sample is taken beside its place on the grid, by an offset learnt from the data.

After Dai et al. (ICCV 2017), and with a learnt weight per sample ("modulated") Zhu et al. (CVPR 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from cytomask.models.region.config import Norm
from cytomask.models.region.norms import Convolution

#: Samples of a 3x3 kernel.
SAMPLES = 9


class Offsets(nn.Conv2d):
    """The 3x3 convolution that tells a deformable one where to look; at first exactly where a plain one does.

    Its channels are, for each group and each sample of the kernel, the steps along y and x in pixels of the feature
    map; then, if modulated, the logit of each sample's weight.
    """

    def __init__(self, inputs: int, *, stride: int = 1, offset_groups: int = 1, modulated: bool = False) -> None:
        super().__init__(inputs, (3 if modulated else 2) * SAMPLES * offset_groups, 3, stride, 1)
        self.steps = 2 * SAMPLES * offset_groups
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class DeformableConvolution(Convolution):
    """A 3x3 convolution whose samples are moved (and weighted) by what :class:`Offsets` gives.

    Examples
    --------
    >>> offsets = Offsets(4, stride=2, modulated=True)
    >>> layer = DeformableConvolution(4, 8, stride=2, norm="none")
    >>> x = torch.ones(1, 4, 6, 6)
    >>> layer.deform(x, offsets).shape
    torch.Size([1, 8, 3, 3])
    """

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, groups: int = 1, norm: Norm = "none", relu: bool = False
    ) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, groups=groups, norm=norm, relu=relu)

    def deform(self, x: Tensor, offsets: Offsets) -> Tensor:
        """``(B, inputs, Y, X)`` to ``(B, outputs, Y / stride, X / stride)``."""
        told = offsets(x)
        # bfloat16 has 8 bits, too few for a place: the operator runs in float32 at least, on all devices.
        exact = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            told = told.to(exact)
            steps = told[:, : offsets.steps].contiguous()
            weights = told[:, offsets.steps :].sigmoid().contiguous() if told.shape[1] > offsets.steps else None
            bias = None if self.bias is None else self.bias.to(exact)
            y = deform_conv2d(
                x.to(exact), steps, self.weight.to(exact), bias, self.stride, self.padding, self.dilation, weights
            )
        return self.finish(y.to(x.dtype))
