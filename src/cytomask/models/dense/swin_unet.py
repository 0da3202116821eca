"""A U-shaped network of shifted-window transformers, for images of any size.

After Swin-Unet (Cao et al. 2021) with blocks of Swin transformers (Liu et al. 2021). Windows lie on a fixed raster that
begins at the image's first pixel, and what is added to fill them up is seen by no token. So neither the size of a
canvas nor what lies on it beyond the picture changes what is said of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytomask.models.dense.config import SwinUNetConfig
from cytomask.models.dense.swin_blocks import Extents, PatchExpanding, PatchMerging, SwinBlock, truncated_normal

#: On its way up, a level has this many blocks at most.
_UP_BLOCKS = 2


class SwinUNet(nn.Module):
    """Images to channels of logits, of the same size.

    Parameters
    ----------
    config
        Patch, window, widths, blocks and heads.
    in_channels, out_channels
        Of the images, and of the output.

    Attributes
    ----------
    stride
        Pixels of a token of the coarsest level. Sides need not be multiples of it.
    alignment
        Tiles that begin at multiples of this many pixels are cut into windows as the whole image is.
    halo
        Pixels further away along y or x cannot influence an output.

    Examples
    --------
    >>> net = SwinUNet(SwinUNetConfig(), in_channels=1, out_channels=1)
    >>> sum(p.numel() for p in net.parameters())
    3050649
    >>> net(torch.zeros(2, 1, 61, 224)).shape
    torch.Size([2, 1, 61, 224])
    >>> net.stride, net.alignment, net.halo
    (32, 224, 827)
    """

    def __init__(self, config: SwinUNetConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.config = config
        deepest = len(config.blocks) - 1
        self.embed = nn.Conv2d(in_channels, config.width, config.patch, stride=config.patch)
        step = config.drop_path / (sum(config.blocks) - 1)
        before = [sum(config.blocks[:k]) for k in range(deepest + 1)]
        rates = [[step * (first + n) for n in range(count)] for first, count in zip(before, config.blocks)]
        self.down = nn.ModuleList(SwinLevel(config, k, rates[k]) for k in range(deepest))
        self.merge = nn.ModuleList(PatchMerging(config.width << k) for k in range(deepest))
        self.bottleneck = SwinLevel(config, deepest, rates[deepest])
        # From the coarsest to the finest.
        coming = range(deepest - 1, -1, -1)
        self.expand = nn.ModuleList(PatchExpanding(config.width << (k + 1)) for k in coming)
        self.join = nn.ModuleList(nn.Linear(config.width << (k + 1), config.width << k) for k in coming)
        self.up = nn.ModuleList(SwinLevel(config, k, rates[k][:_UP_BLOCKS]) for k in coming)
        self.final = nn.Linear(config.width, config.patch**2 * config.width, bias=False)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Conv2d(config.width, out_channels, 1)
        self.apply(truncated_normal)
        self.stride = config.patch << deepest
        self.alignment = self.stride * config.window
        self.halo = self._reach()

    def layer_groups(self) -> list[list[nn.Module]]:
        """Two groups: the way down, and the bottleneck with the way up."""
        decoder = [self.bottleneck, self.expand, self.join, self.up, self.final, self.norm, self.head]
        return [[self.embed, self.down, self.merge], decoder]

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Compute the logits of images ``(B, C, Y, X)`` of any height and width.

        Parameters
        ----------
        images
            float ``(B, C, Y, X)``.
        sizes
            Rows and columns of each image that are picture: what lies below and right of them is not looked at, and
            what is said of it means nothing. None: all are.

        Returns
        -------
        Tensor
            ``(B, out_channels, Y, X)``.
        """
        canvas = images.shape[-2:]
        if sizes is not None:
            rows, columns = (max(size[axis] for size in sizes) for axis in (0, 1))
            images = images[..., :rows, :columns]
            if any(tuple(size) != (rows, columns) for size in sizes):
                images = images * _inside(sizes, (rows, columns), images.device)[:, None]
            else:
                sizes = None
        height, width = images.shape[-2:]
        patch = self.config.patch
        images = F.pad(images, (0, -width % patch, 0, -height % patch))
        extents: Extents = None
        if sizes is not None:
            extents = tuple((-(-rows // patch), -(-columns // patch)) for rows, columns in sizes)

        x = self.embed(images).permute(0, 2, 3, 1).contiguous()
        skips: list[tuple[Tensor, Extents]] = []
        for blocks, merge in zip(self.down, self.merge):
            x = blocks(x, extents)
            skips.append((x, extents))
            if extents is not None:
                # Tokens beyond the picture are 0 where they are merged, as those beyond the canvas are.
                x = x * _inside(extents, x.shape[1:3], x.device)[..., None]
                extents = tuple(((rows + 1) // 2, (columns + 1) // 2) for rows, columns in extents)
            x = merge(x)
        x = self.bottleneck(x, extents)
        for expand, join, blocks in zip(self.expand, self.join, self.up):
            skip, extents = skips.pop()
            x = expand(x)[:, : skip.shape[1], : skip.shape[2]]
            x = join(torch.cat([x, skip], dim=-1))
            x = blocks(x, extents)

        # The 1 x 1 convolution goes before the tokens are laid out as pixels: so far fewer numbers are moved.
        batch, rows, columns = x.shape[:3]
        x = self.norm(self.final(x).view(batch, rows, columns, patch, patch, -1))
        x = F.linear(x, self.head.weight.flatten(1), self.head.bias)
        x = x.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, rows * patch, columns * patch)[..., :height, :width]
        return F.pad(x, (0, canvas[1] - width, 0, canvas[0] - height))

    def _reach(self) -> int:
        """How far an output looks at most, followed back exactly for each place within one period of windows."""
        config = self.config
        deepest = len(config.blocks) - 1
        # The way through the bottleneck sees all that shorter ways see.
        steps: list[tuple[str, int]] = [("patch", config.patch)]
        for k in range(deepest):
            steps += [("window", n % 2) for n in range(config.blocks[k])] + [("merge", 2)]
        steps += [("window", n % 2) for n in range(config.blocks[deepest])]
        for k in range(deepest - 1, -1, -1):
            steps += [("expand", 2)] + [("window", n % 2) for n in range(min(config.blocks[k], _UP_BLOCKS))]
        steps.append(("expand", config.patch))
        furthest = 0
        for place in range(self.alignment):
            low = high = place
            for kind, value in reversed(steps):
                if kind == "window":
                    shift = value * (config.window // 2)
                    low = (low - shift) // config.window * config.window + shift
                    high = (high - shift) // config.window * config.window + shift + config.window - 1
                elif kind == "expand":
                    low, high = low // value, high // value
                else:
                    low, high = low * value, high * value + value - 1
            furthest = max(furthest, place - low, high - place)
        return furthest


class SwinLevel(nn.ModuleList):
    """The blocks of one level in turn: every second one with shifted windows."""

    def __init__(self, config: SwinUNetConfig, level: int, drops: Sequence[float]) -> None:
        heads, shift = config.heads_per_level[level], config.window // 2
        super().__init__(
            SwinBlock(
                config.width << level, heads, config.window, shift * (n % 2), mlp_ratio=config.mlp_ratio, drop_path=drop
            )
            for n, drop in enumerate(drops)
        )

    def forward(self, x: Tensor, extents: Extents = None) -> Tensor:
        """``(B, H, W, C)`` to the same."""
        for block in self:
            x = block(x, extents)
        return x


def _inside(sizes: Sequence[tuple[int, int]], grid: Sequence[int], device: torch.device) -> Tensor:
    """Where each image is picture: bool ``(B, H, W)``."""
    limits = torch.tensor(sizes, device=device)[:, :, None]
    rows, columns = (torch.arange(n, device=device) for n in grid)
    return (rows < limits[:, 0])[:, :, None] & (columns < limits[:, 1])[:, None]
