"""Batch norms whose statistics are those of the whole batch, where several processes share it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.batch_part import processes


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm by the mean and variance of all processes' parts of the batch, on any device.

    Where a process is alone, and in prediction, it is torch's own. Parts may be of different sizes, and empty.

    Examples
    --------
    >>> norm = SharedBatchNorm(2)
    >>> x = torch.arange(8.0).reshape(1, 2, 2, 2)
    >>> torch.equal(norm(x), nn.BatchNorm2d(2)(x))
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, Y, X)`` to the same."""
        if not self.training or processes() == 1:
            return super().forward(input)
        output, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None and count > 0:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            # What is remembered is the unbiased variance, as torch does it.
            unbiased = variance * (count / (count - 1).clamp_min(1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return output


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        exact = torch.promote_types(x.dtype, torch.float32)
        count = x.numel() // x.shape[1]
        own = torch.zeros(2 * x.shape[1] + 1, dtype=exact, device=x.device)
        if count:
            variance, mean = torch.var_mean(x.to(exact), axes, correction=0)
            own = torch.cat([mean, variance, own.new_tensor([count])])
        parts = [torch.empty_like(own) for _ in range(processes())]
        torch.distributed.all_gather(parts, own)
        table = torch.stack(parts)
        means, variances, counts = table[:, : x.shape[1]], table[:, x.shape[1] : -1], table[:, -1:]
        total = counts.sum()
        divisor = total.clamp_min(1)
        mean = (means * counts).sum(0) / divisor
        variance = ((variances + (means - mean).square()) * counts).sum(0) / divisor
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), divisor)
        ctx.mark_non_differentiable(mean, variance, total)
        if not count:
            return x.clone(), mean, variance, total
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps), mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, scale, count = ctx.saved_tensors
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        gradient = gradients[0].to(mean.dtype)
        standard = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        own = torch.stack([gradient.sum(axes), (gradient * standard).sum(axes)])
        both = own.clone()
        torch.distributed.all_reduce(both)
        both /= count
        change = gradient - both[0].view(shape) - standard * both[1].view(shape)
        change = change * (scale if weight is None else scale * weight.to(scale.dtype)).view(shape)
        if weight is None:
            return change.to(x.dtype), None, None, None
        return change.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None


def share_norms(network: nn.Module) -> int:
    """Put a :class:`SharedBatchNorm` in the place of each batch norm; weights and their names stay. Return how many.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    >>> names = list(network.state_dict())
    >>> share_norms(network), list(network.state_dict()) == names
    (1, True)
    """
    found = 0
    for outer in list(network.modules()):
        for name, norm in outer.named_children():
            if type(norm) is not nn.BatchNorm2d:
                continue
            shared = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
            shared.weight, shared.bias = norm.weight, norm.bias
            for buffer, value in norm.named_buffers():
                setattr(shared, buffer, value)
            shared.train(norm.training)
            setattr(outer, name, shared)
            found += 1
    return found


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of a network that remember statistics."""
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]
