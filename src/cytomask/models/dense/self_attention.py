"""Self-attention over all positions of a feature map (Zhang et al., "Self-Attention GANs", ICML 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Rounds of the power iteration before a fresh weight is first used.
_FIRST_ROUNDS = 15


class SpectralProjection(nn.Module):
    """A linear map of the channels, divided by its largest singular value (Miyato et al., ICLR 2018).

    That value is followed by one round of the power iteration at each step of a training.

    Parameters
    ----------
    inputs, outputs
        Channels.

    Examples
    --------
    >>> projection = SpectralProjection(8, 4).eval()
    >>> projection(torch.zeros(2, 8, 5)).shape
    torch.Size([2, 4, 5])
    """

    left: Tensor
    right: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.kaiming_normal_(self.weight)
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))
        self.register_buffer("right", F.normalize(torch.randn(inputs), dim=0))
        self._follow(_FIRST_ROUNDS)

    @torch.no_grad()
    def _follow(self, rounds: int) -> None:
        weight = self.weight.float()
        for _ in range(rounds):
            self.right.copy_(F.normalize(weight.T @ self.left.float(), dim=0))
            self.left.copy_(F.normalize(weight @ self.right.float(), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, N)`` to ``(B, outputs, N)``."""
        with torch.autocast(x.device.type, enabled=False):
            if self.training:
                self._follow(1)
            # Copies: the next step changes the vectors, which the gradient of this one still needs.
            largest = (self.weight * torch.outer(self.left, self.right)).sum()
            weight = self.weight / largest
        return weight @ x


class SelfAttention(nn.Module):
    """Add to every position what it asks of all others; at first nothing, as ``gamma`` begins at 0.

    Examples
    --------
    >>> attention = SelfAttention(16)
    >>> x = torch.rand(1, 16, 3, 5)
    >>> torch.equal(attention(x), x)
    True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.query = SpectralProjection(channels, channels // 8)
        self.key = SpectralProjection(channels, channels // 8)
        self.value = SpectralProjection(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, Y, X)`` to the same."""
        flat = x.flatten(2)
        # For each position, its key weighs the queries of all, without scaling: the paper's formula, and fastai's.
        asked, asking, told = (part(flat).transpose(1, 2)[:, None] for part in (self.key, self.query, self.value))
        answer = F.scaled_dot_product_attention(asked, asking, told, scale=1.0)
        return x + self.gamma * answer[:, 0].transpose(1, 2).reshape(x.shape)
