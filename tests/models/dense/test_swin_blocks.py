"""Attention in shifted windows against a slow second implementation, token by token."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cytomask.models.dense.swin_blocks import PatchExpanding, PatchMerging, SwinBlock, WindowAttention


def seeded_block(shift: int, window: int = 4, heads: int = 2) -> SwinBlock:
    torch.manual_seed(3)
    block = SwinBlock(8, heads, window, shift, mlp_ratio=2.0)
    with torch.no_grad():
        for p in block.parameters():
            p.normal_(0, 0.5)
    return block


def window_of(place: int, window: int, shift: int) -> int:
    """Windows end before shift, shift + window, shift + 2 window …: counted by walking along the axis."""
    number, end = 0, shift if shift else window
    while place >= end:
        number, end = number + 1, end + window
    return number


def attention_slowly(x: Tensor, attention: WindowAttention, rows: int, columns: int) -> Tensor:
    """One image ``(H, W, C)``, of which ``rows`` and ``columns`` are picture: each query looks for its keys itself."""
    window, shift, heads = attention.window, attention.shift, attention.heads
    width = x.shape[-1]
    each = width // heads
    q, k, v = (
        F.linear(x, attention.qkv.weight[n * width : (n + 1) * width], attention.qkv.bias[n * width : (n + 1) * width])
        for n in range(3)
    )
    out = torch.zeros_like(x)
    places = [(y, x) for y in range(rows) for x in range(columns)]
    for y0, x0 in places:
        keys = [
            (y1, x1)
            for y1, x1 in places
            if window_of(y0, window, shift) == window_of(y1, window, shift)
            and window_of(x0, window, shift) == window_of(x1, window, shift)
        ]
        for head in range(heads):
            part = slice(head * each, (head + 1) * each)
            logits = []
            for y1, x1 in keys:
                row = (y0 - y1 + window - 1) * (2 * window - 1) + (x0 - x1 + window - 1)
                dot = torch.dot(q[y0, x0, part], k[y1, x1, part]) / math.sqrt(each)
                logits.append(dot + attention.bias_table[row, head])
            weights = torch.stack(logits).softmax(0)
            out[y0, x0, part] = sum(w * v[y1, x1, part] for w, (y1, x1) in zip(weights, keys))
    return F.linear(out, attention.proj.weight, attention.proj.bias)


def block_slowly(x: Tensor, block: SwinBlock, rows: int, columns: int) -> Tensor:
    width = x.shape[-1:]
    normed = F.layer_norm(x, width, block.norm1.weight, block.norm1.bias)
    x = x + attention_slowly(normed, block.attention, rows, columns)
    hidden = F.gelu(block.mlp.linear1(F.layer_norm(x, width, block.norm2.weight, block.norm2.bias)))
    return x + block.mlp.linear2(F.layer_norm(hidden, hidden.shape[-1:], block.mlp.norm.weight, block.mlp.norm.bias))


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
@pytest.mark.parametrize("grid", [(4, 8), (9, 7), (3, 2), (1, 13)])
@pytest.mark.parametrize("training", [False, True])
def test_a_block_as_token_by_token(grid: tuple[int, int], shift: int, training: bool) -> None:
    block = seeded_block(shift)
    x = torch.randn(2, *grid, 8)
    with torch.set_grad_enabled(training):
        got = block(x)
    assert got.requires_grad == training
    for index in range(2):
        assert torch.allclose(got[index], block_slowly(x[index], block, *grid), atol=1e-5)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("training", [False, True])
def test_padding_is_seen_by_no_token(shift: int, training: bool) -> None:
    block = seeded_block(shift)
    extents = ((9, 7), (5, 10), (1, 1))
    x = torch.randn(3, 10, 11, 8) * 10
    with torch.set_grad_enabled(training):
        got = block(x, extents)
    assert got.isfinite().all()
    for index, (rows, columns) in enumerate(extents):
        expected = block_slowly(x[index], block, rows, columns)[:rows, :columns]
        assert torch.allclose(got[index, :rows, :columns], expected, atol=1e-4)


@torch.no_grad()
def test_merging_joins_four_neighbours() -> None:
    merging = PatchMerging(4)
    x = torch.randn(1, 5, 3, 4)
    padded = F.pad(x, (0, 0, 0, 1, 0, 1))
    got = merging(x)
    assert got.shape == (1, 3, 2, 8)
    for y in range(3):
        for x in range(2):
            four = [padded[0, 2 * y + dy, 2 * x + dx] for dx in (0, 1) for dy in (0, 1)]
            assert torch.allclose(got[0, y, x], merging.linear(merging.norm(torch.cat(four))), atol=1e-6)


@torch.no_grad()
def test_expanding_parts_each_token_in_four() -> None:
    expanding = PatchExpanding(8)
    x = torch.randn(1, 2, 3, 8)
    got = expanding(x)
    assert got.shape == (1, 4, 6, 4)
    for y in range(4):
        for u in range(6):
            part = expanding.linear(x[0, y // 2, u // 2]).view(4, 4)[(y % 2) * 2 + u % 2]
            assert torch.allclose(got[0, y, u], expanding.norm(part), atol=1e-6)
