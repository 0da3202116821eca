"""Deformable convolutions, against a slow one written out sample by sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cytomask.errors import ConfigError
from cytomask.models.region.config import ResNetConfig
from cytomask.models.region.deformable import DeformableConvolution, Offsets
from cytomask.models.region.resnet import ResNet


def at(plane: np.ndarray, y: float, x: float) -> float:
    """The value between four pixels; 0 outside."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row, column]
    return total


def slow(
    image: np.ndarray, told: np.ndarray, weight: np.ndarray, stride: int, groups: int, offset_groups: int
) -> np.ndarray:
    """Convolve one image ``(C, Y, X)``.

    ``told``: first (y, x) of each of 9 samples, group by group; then, where there are more channels, logits.
    """
    outputs, per_group = weight.shape[:2]
    result = np.zeros((outputs, *told.shape[1:]))
    for o, y, x in np.ndindex(*result.shape):
        for c in range(per_group):
            channel = o // (outputs // groups) * per_group + c
            mover = channel // (image.shape[0] // offset_groups)
            for k in range(9):
                dy, dx = told[18 * mover + 2 * k : 18 * mover + 2 * k + 2, y, x]
                logits = told[18 * offset_groups :]
                share = 1 / (1 + math.exp(-logits[9 * mover + k, y, x])) if len(logits) else 1.0
                value = at(image[channel], y * stride - 1 + k // 3 + dy, x * stride - 1 + k % 3 + dx)
                result[o, y, x] += weight[o, c, k // 3, k % 3] * share * value
    return result


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("stride, groups, offset_groups", [(1, 1, 1), (2, 2, 1), (1, 2, 2), (2, 1, 2)])
def test_samples_are_taken_where_the_offsets_say(modulated: bool, stride: int, groups: int, offset_groups: int) -> None:
    offsets = Offsets(4, stride=stride, offset_groups=offset_groups, modulated=modulated).double()
    layer = DeformableConvolution(4, 6, stride=stride, groups=groups).double()
    with torch.no_grad():
        offsets.weight.copy_(0.3 * random(*offsets.weight.shape, seed=1))
        offsets.bias.copy_(random(len(offsets.bias), seed=2))
        layer.weight.copy_(random(*layer.weight.shape, seed=3))
        image = random(2, 4, 6, 8, seed=4).double()
        told = offsets(image)
        assert told.abs().max() > 3, "some samples should lie outside"
        found = layer.deform(image, offsets)
    for n in range(2):
        expected = slow(
            image[n].numpy(), told[n].numpy(), layer.weight.detach().numpy(), stride, groups, offset_groups
        )  # fmt: skip
        np.testing.assert_allclose(found[n].numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("modulated", [False, True])
def test_it_begins_as_a_plain_convolution(modulated: bool) -> None:
    layer = DeformableConvolution(4, 8, stride=2, groups=2, norm="group", relu=True)
    offsets = Offsets(4, stride=2, modulated=modulated)
    image = random(1, 4, 9, 7)
    with torch.no_grad():
        plain = torch.nn.functional.conv2d(image, layer.weight, None, 2, 1, 1, 2)
        # Each weight of a sample begins at one half.
        plain = plain / 2 if modulated else plain
        torch.testing.assert_close(layer.deform(image, offsets), layer.finish(plain))


@pytest.mark.parametrize("modulated", [False, True])
def test_offsets_are_learnt(modulated: bool) -> None:
    """A kernel that sees one pixel finds a picture that is shifted by a pixel and a half."""
    layer, offsets = DeformableConvolution(1, 1), Offsets(1, modulated=modulated)
    with torch.no_grad():
        layer.weight.zero_()[0, 0, 1, 1] = 2.0 if modulated else 1.0
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    image = (torch.sin(x / 4) + torch.cos(y / 5))[None, None]
    wanted = (torch.sin((x + 1.5) / 4) + torch.cos((y - 0.75) / 5))[None, None]
    optimizer = torch.optim.Adam([offsets.bias], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (layer.deform(image, offsets) - wanted)[..., 3:-3, 3:-3].square().mean()
        loss.backward()
        optimizer.step()
    dy, dx = offsets.bias.detach()[8:10].tolist()
    assert (dy, dx) == pytest.approx((-0.75, 1.5), abs=0.1)
    # The other eight samples have no weight: nothing moves them.
    others = torch.cat([offsets.bias.detach()[:8], offsets.bias.detach()[10:18]])
    assert not others.any()


def test_places_are_exact_in_low_precision() -> None:
    """In bfloat16, 200.75 is 201: a sample there must still be taken a quarter of a pixel before."""
    layer, offsets = DeformableConvolution(1, 1), Offsets(1)
    with torch.no_grad():
        layer.weight.zero_()[0, 0, 1, 1] = 1.0
        offsets.bias[9] = 0.75
        image = torch.zeros(1, 1, 4, 256)
        image[..., 201] = 1.0
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = layer.deform(image, offsets)
    assert found[0, 0, 1, 200].item() == pytest.approx(0.75)
    assert found[0, 0, 1, 201].item() == pytest.approx(0.25)


def test_stages_are_deformable_where_asked() -> None:
    config = ResNetConfig(
        depth=50, width=32, stem_width=8, group_width=8, deformable=(False, True, False, True), modulated=True,
        deform_groups=2,
    )  # fmt: skip
    names = {name for name in ResNet(config, 1).state_dict() if "conv2_offset" in name}
    assert names == {
        f"{stage}.{block}.conv2_offset.{leaf}"
        for stage, blocks in (("res3", 4), ("res5", 3))
        for block in range(blocks)
        for leaf in ("weight", "bias")
    }
    assert ResNet(config, 1).state_dict()["res3.0.conv2_offset.weight"].shape == (54, 16, 3, 3)


def test_groups_of_offsets_must_divide_the_channels() -> None:
    config = ResNetConfig(depth=50, deformable=(False, False, False, True), deform_groups=3)
    with pytest.raises(ConfigError, match="a divisor of 512"):
        ResNet(config, 1)
