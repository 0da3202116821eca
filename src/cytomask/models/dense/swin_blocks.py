"""Shifted-window attention on grids of tokens of any size, channels last."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.batch_part import random_of_batch

#: What is added to attention logits of keys that must not be seen: their weights are exactly 0 in every precision, and
#: a query that sees no key at all, which only padding is, still gets finite numbers.
_UNSEEN = -1e4
#: How many grids' masks are remembered.
_REMEMBERED = 64

#: Rows and columns of tokens that are picture, of each image of a batch; None: all are.
Extents = tuple[tuple[int, int], ...] | None


def truncated_normal(module: nn.Module) -> None:
    """Draw the weights of linear layers anew, as Swin transformers begin (Liu et al. 2021)."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def seen(length: int, padded: int, window: int, shift: int) -> tuple[Tensor, Tensor]:
    """Which tokens along one axis see each other, in the order in which they lie after the shift.

    Windows of shifted blocks begin at ``shift``, ``shift + window`` …, whatever the grid's size; what lies before the
    first is a window of its own.

    Parameters
    ----------
    length, padded
        Tokens that are picture, and all.
    window, shift
        Side of a window, and where the first begins.

    Returns
    -------
    group : Tensor
        int64 ``(padded,)``: tokens of one group see each other.
    real : Tensor
        bool ``(padded,)``: whether a token is picture.

    Examples
    --------
    >>> seen(6, 8, window=4, shift=2)
    (tensor([1, 1, 1, 1, 2, 2, 0, 0]), tensor([ True,  True,  True,  True, False, False,  True,  True]))
    """
    place = (torch.arange(padded) + shift) % padded
    group = (place + window - shift) // window if shift else place // window
    return group, place < length


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attend within windows ``(N, heads, tokens, features)``; the bias, ``(M, heads, …)``, repeats N / M times.

    On a processor, torch's fused attention has no gradient for the bias, and what it does instead takes care of rows
    without any key, which do not occur here: so the plain way is faster in training.
    """
    if q.device.type == "cpu" and torch.is_grad_enabled() and bias.requires_grad:
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        logits = (logits.unflatten(0, (-1, len(bias))) + bias).flatten(0, 1)
        return logits.softmax(dim=-1).to(v.dtype) @ v
    if 1 < len(bias) < len(q):
        bias = bias.repeat(len(q) // len(bias), 1, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class WindowAttention(nn.Module):
    """Attention among the tokens of each window, with a bias by their relative positions.

    Parameters
    ----------
    width
        Features of a token.
    heads
        Attention heads; they divide the width.
    window
        Side of a window.
    shift
        Where the first whole window begins, 0 to ``window - 1``.
    """

    index: Tensor

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        rows, columns = (place.flatten() for place in torch.meshgrid(*[torch.arange(window)] * 2, indexing="ij"))
        dy, dx = rows[:, None] - rows, columns[:, None] - columns
        index = (dy + window - 1) * (2 * window - 1) + dx + window - 1
        self.register_buffer("index", index, persistent=False)
        self._masks: dict[tuple[object, ...], Tensor] = {}

    def forward(self, x: Tensor, extents: Extents = None) -> Tensor:
        """Tokens ``(B, H, W, C)`` of any height and width to the same; padding in them is not seen by any token."""
        batch, height, width, features = x.shape
        window, shift = self.window, self.shift
        down, across = -height % window, -width % window
        if down or across:
            x = F.pad(x, (0, 0, 0, across, 0, down))
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        ny, nx = (height + down) // window, (width + across) // window
        x = x.view(batch, ny, window, nx, window, features).transpose(2, 3).reshape(-1, window * window, features)
        q, k, v = self.qkv(x).view(len(x), window * window, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.bias_table[self.index].permute(2, 0, 1)[None].to(q.dtype)
        if shift or down or across or extents is not None:
            mask = self._mask((height, width), extents, x.device).to(q.dtype)
            bias = bias + mask[:, None]
        x = self.proj(attend(q, k, v, bias).transpose(1, 2).reshape(-1, window * window, features))
        x = x.view(batch, ny, nx, window, window, features).transpose(2, 3)
        x = x.reshape(batch, height + down, width + across, features)
        if shift:
            x = torch.roll(x, (shift, shift), (1, 2))
        return x[:, :height, :width]

    def _mask(self, grid: tuple[int, int], extents: Extents, device: torch.device) -> Tensor:
        """What is added to logits: ``(windows, tokens, tokens)`` of one image, or of all if extents differ."""
        key = (grid, extents, device)
        if key not in self._masks:
            if len(self._masks) >= _REMEMBERED:
                self._masks.clear()
            # Made during inference it would be of no use in training.
            with torch.inference_mode(False):
                self._masks[key] = torch.cat([self._one_mask(grid, e) for e in extents or (grid,)]).to(device)
        return self._masks[key]

    def _one_mask(self, grid: tuple[int, int], extent: tuple[int, int]) -> Tensor:
        axes = [seen(n, side + -side % self.window, self.window, self.shift) for n, side in zip(extent, grid)]
        (rows, real_rows), (columns, real_columns) = axes
        group = self._windows(rows[:, None] * (len(columns) + 1) + columns)
        real = self._windows(real_rows[:, None] & real_columns)
        visible = (group[:, :, None] == group[:, None]) & real[:, None]
        return torch.zeros(visible.shape).masked_fill_(~visible, _UNSEEN)

    def _windows(self, values: Tensor) -> Tensor:
        n = self.window
        ny, nx = values.shape[0] // n, values.shape[1] // n
        return values.view(ny, n, nx, n).transpose(1, 2).reshape(ny * nx, n * n)


class Mlp(nn.Module):
    """Two linear layers with GELU and a layer norm between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape of tokens to the same."""
        return self.linear2(self.norm(F.gelu(self.linear1(x))))


class SwinBlock(nn.Module):
    """Attention in windows, then a multi-layer perceptron, each added to what came in, behind a layer norm.

    Parameters
    ----------
    width, heads, window, shift
        See :class:`WindowAttention`.
    mlp_ratio
        Hidden features over the token's.
    drop_path
        Chance that a branch is left out of one image in training (stochastic depth).
    """

    def __init__(
        self, width: int, heads: int, window: int, shift: int, *, mlp_ratio: float = 4.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window, shift)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, round(width * mlp_ratio))

    def forward(self, x: Tensor, extents: Extents = None) -> Tensor:
        """``(B, H, W, C)`` to the same."""
        x = x + self._dropped(self.attention(self.norm1(x), extents))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch
        kept = random_of_batch(len(branch), branch.device).view(-1, 1, 1, 1) >= self.drop_path
        return branch * (kept / (1 - self.drop_path)).to(branch.dtype)


class PatchMerging(nn.Module):
    """Join 2 x 2 tokens to one of twice the width; what is missing at odd sides is 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.linear = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` to ``(B, ceil(H / 2), ceil(W / 2), 2 C)``."""
        batch, height, width, features = x.shape
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        x = x.view(batch, (height + 1) // 2, 2, (width + 1) // 2, 2, features).permute(0, 1, 3, 4, 2, 5)
        return self.linear(self.norm(x.flatten(3)))


class PatchExpanding(nn.Module):
    """Part each token into 2 x 2 of half the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(width // 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` to ``(B, 2 H, 2 W, C / 2)``."""
        batch, height, width, features = x.shape
        x = self.norm(self.linear(x).view(batch, height, width, 2, 2, features // 2))
        return x.transpose(2, 3).reshape(batch, 2 * height, 2 * width, features // 2)
