"""Normalisations, and the convolution that carries one: what all parts of a region network are built from."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.region.config import Norm


class FrozenBatchNorm(nn.Module):
    """Batch normalisation by stored statistics: nothing of it is learnt, and training mode changes nothing.

    A fresh one is the identity. Its buffers have the names of :class:`torch.nn.BatchNorm2d`, so that either reads the
    weights of the other.

    Parameters
    ----------
    channels
        Of the features.
    eps
        Added to the variance.

    Examples
    --------
    >>> norm = FrozenBatchNorm(2)
    >>> norm.running_mean.copy_(torch.tensor([0.0, 4.0]))
    tensor([0., 4.])
    >>> norm(torch.full((1, 2, 1, 1), 5.0)).flatten().tolist()
    [5.0, 1.0]
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels) - eps)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, Y, X)`` to the same."""
        if not (x.requires_grad and torch.is_grad_enabled()):
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        # Where gradients flow, batch_norm would keep its input; a product with a constant keeps nothing.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.channels}, eps={self.eps}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Batch norms count what they have seen; here nothing is counted.
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class GroupNorm(nn.GroupNorm):
    """Group norm, also where a group has a single value, as in a tiny picture's coarsest level: that becomes the bias.

    Examples
    --------
    >>> GroupNorm(2, 2)(torch.ones(1, 2, 1, 1)).flatten().tolist()
    [0.0, 0.0]
    """

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, Y, X)`` to the same."""
        # Torch's module refuses what the operator itself can do.
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def make_norm(kind: Norm, channels: int) -> nn.Module | None:
    """Build a normalisation of feature maps ``(B, channels, Y, X)``; None for ``none``.

    Group norm has 32 groups, or as many below as divide the channels.

    Examples
    --------
    >>> make_norm("group", 48).num_groups
    24
    """
    if kind == "none":
        return None
    if kind == "group":
        groups = max(count for count in range(1, 33) if channels % count == 0)
        return GroupNorm(groups, channels)
    return FrozenBatchNorm(channels) if kind == "frozen_batch" else nn.BatchNorm2d(channels)


class Convolution(nn.Conv2d):
    """A convolution that keeps the size (but for its stride), its normalisation, and perhaps a ReLU.

    Only without a normalisation it has a bias, for a normalisation has its own.

    Parameters
    ----------
    inputs, outputs
        Channels.
    kernel
        Side of the kernel, odd.
    initial
        What the weights are drawn from: ``msra``, normal, so that gradients keep their size through ReLUs (He et al.
        2015, by fan out); ``xavier``, uniform, so that features do (Glorot and Bengio 2010, by fan in, as Caffe2 has
        it).

    Examples
    --------
    >>> layer = Convolution(3, 32, 3, stride=2, norm="group", relu=True)
    >>> layer(torch.zeros(1, 3, 10, 8)).shape, layer.bias is None
    (torch.Size([1, 32, 5, 4]), True)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: Norm = "none",
        relu: bool = False,
        initial: Literal["msra", "xavier"] = "msra",
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=norm == "none")
        self.norm = make_norm(norm, outputs)
        self.relu = relu
        if initial == "msra":
            nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.kaiming_uniform_(self.weight, a=1)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, Y, X)`` to ``(B, outputs, Y / stride, X / stride)``."""
        return self.finish(super().forward(x))

    def finish(self, x: Tensor) -> Tensor:
        """Normalise what the convolution gave, and cut off what is below 0 if it has a ReLU."""
        if self.norm is not None:
            x = self.norm(x)
        return F.relu_(x) if self.relu else x
