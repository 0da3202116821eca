"""Residual networks and pyramids: detectron2's numbers, what is frozen stays so, low precision, memory layouts."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytomask.models.region.config import Norm, PyramidConfig, ResNetConfig
from cytomask.models.region.norms import Convolution, FrozenBatchNorm, make_norm
from cytomask.models.region.pyramid import Pyramid
from cytomask.models.region.resnet import ResNet

FIXTURES = Path(__file__).with_name("fixtures")
MAKER = runpy.run_path(str(FIXTURES / "make_backbones.py"))
SMALL = ResNetConfig(depth=18, width=16, stem_width=8)


def build(resnet: ResNetConfig, channels: int = 2, **pyramid: object) -> Pyramid:
    torch.manual_seed(0)
    return Pyramid(PyramidConfig.model_validate({"width": 24, **pyramid}), ResNet(resnet, channels))


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


# What detectron2 gives


@pytest.mark.parametrize("case", MAKER["CASES"])
def test_features_are_those_of_detectron2(case: str) -> None:
    resnet, pyramid, channels = MAKER["CASES"][case]
    network = Pyramid(PyramidConfig.model_validate(pyramid), ResNet(ResNetConfig.model_validate(resnet), channels))
    MAKER["fill"](network.eval().state_dict())
    with torch.inference_mode():
        levels = [*network.backbone(MAKER["images"](channels)), *network(MAKER["images"](channels))]
    with np.load(FIXTURES / "backbones.npz") as stored:
        parameters = list(network.parameters())
        counts = [sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)]
        np.testing.assert_array_equal(counts, stored[f"{case}/parameters"])
        for name, level in zip(MAKER["LEVELS"], levels, strict=True):
            expected = stored[f"{case}/{name}"]
            np.testing.assert_allclose(
                MAKER["sampled"](level), expected, rtol=1e-4, atol=1e-4 * expected[1], err_msg=name
            )


def test_the_large_network_has_the_size_of_detectron2s() -> None:
    # Cascade Mask R-CNN X-152 32x8d, deformable in res3 to res5, up to its pyramid; counted in detectron2.
    config = ResNetConfig(
        depth=152, groups=32, group_width=8, norm="frozen_batch", deformable=(False, True, True, True), freeze=2
    )
    with torch.device("meta"):
        network = Pyramid(PyramidConfig(), ResNet(config, 3))
    assert sum(p.numel() for p in network.parameters()) == 131_004_430
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 130_579_278


# Shapes


@pytest.mark.parametrize("stem_stride", [2, 4])
@pytest.mark.parametrize("depth", [34, 50])
def test_strides_are_what_they_say(stem_stride: int, depth: int) -> None:
    config = ResNetConfig.model_validate(
        {"depth": depth, "width": 16, "stem_width": 8, "group_width": 4, "stem_stride": stem_stride}
    )
    network = build(config).eval()
    assert network.strides == tuple(stem_stride * 2**k for k in range(5))
    rows, columns = 3 * network.backbone.strides[-1], 2 * network.backbone.strides[-1]
    with torch.inference_mode():
        maps, levels = network.backbone(noise(1, 2, rows, columns)), network(noise(1, 2, rows, columns))
    assert [level.shape[1] for level in maps] == list(network.backbone.widths) == [16, 32, 64, 128]
    for stride, level in zip(network.strides[:4], levels[:4]):
        assert level.shape == (1, 24, rows // stride, columns // stride)
    # Every second pixel of three rows: the first and the third.
    assert torch.equal(levels[4], levels[3][:, :, ::2, ::2])
    assert levels[4].shape == (1, 24, 2, 1)


def test_a_pixel_lights_up_where_it_is_on_every_level() -> None:
    network = build(SMALL, channels=1).eval()
    dark = torch.zeros(1, 1, 256, 256)
    lit = dark.clone()
    lit[..., 200, 72] = 100.0
    with torch.inference_mode():
        for stride, before, after in zip(network.backbone.strides, network.backbone(dark), network.backbone(lit)):
            change = (after - before).abs().sum((0, 1))
            y, x = divmod(int(change.argmax()), change.shape[1])
            assert abs((y + 0.5) * stride - 200) <= 1.5 * stride
            assert abs((x + 0.5) * stride - 72) <= 1.5 * stride


def test_levels_are_joined_from_coarse_to_fine() -> None:
    for fuse, share in (("sum", 1.0), ("avg", 0.5)):
        network = build(SMALL, fuse=fuse).eval()
        with torch.no_grad():
            for lateral, output in zip(network.lateral, network.output):
                assert isinstance(lateral, Convolution)
                assert isinstance(output, Convolution)
                # Laterals give 1 everywhere; outputs hand on what they get.
                lateral.weight.zero_()
                lateral.bias.fill_(1.0)
                output.weight.zero_()
                output.weight[:, :, 1, 1] = torch.eye(24)
            levels = network(noise(1, 2, 64, 64))
        expected = [1.0]
        for _ in range(3):
            expected.insert(0, share * (1.0 + expected[0]))
        for level, value in zip(levels, [*expected, 1.0]):
            assert torch.equal(level, torch.full_like(level, value))


# Norms


@pytest.mark.parametrize("channels, groups", [(256, 32), (64, 32), (48, 24), (24, 24), (37, 1), (70, 14), (8, 8)])
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    norm = make_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert (norm.num_groups, norm.num_channels) == (groups, channels)


def some_batch_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(5).eval()
    MAKER["fill"](norm.state_dict())
    return norm


def test_a_frozen_norm_is_a_batch_norm_that_does_not_move() -> None:
    norm, frozen = some_batch_norm(), FrozenBatchNorm(5)
    frozen.load_state_dict(norm.state_dict())
    assert not list(frozen.parameters())
    x = noise(2, 5, 3, 4)
    with torch.no_grad():
        expected = norm(x)
        torch.testing.assert_close(frozen.train()(x), expected)

    gradients = []
    for module in (norm, frozen):
        leaf = x.clone().requires_grad_()
        y = module(leaf)
        torch.testing.assert_close(y, expected)
        y.square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(frozen.running_mean, norm.running_mean)

    back = nn.BatchNorm2d(5)
    back.load_state_dict({name: tensor.clone() for name, tensor in frozen.state_dict().items()})
    torch.testing.assert_close(back.eval()(x), expected)


def test_a_fresh_frozen_norm_is_the_identity() -> None:
    x = noise(1, 5, 8, 8)
    torch.testing.assert_close(FrozenBatchNorm(5)(x), x)


@pytest.mark.parametrize("norm, biased", [("none", True), ("batch", False), ("frozen_batch", False), ("group", False)])
def test_only_convolutions_without_norm_have_biases(norm: Norm, biased: bool) -> None:
    network = build(SMALL.model_copy(update={"norm": norm}), norm=norm)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    # Of ResNet-18: stem, 8 blocks of two, 4 shortcuts (its stem has another width than res2).
    assert len(convolutions) == 1 + 16 + 4 + 8
    assert all((convolution.bias is not None) == biased for convolution in convolutions)


def test_weights_begin_with_the_spread_of_their_schemes() -> None:
    torch.manual_seed(0)
    by_fan_out = Convolution(64, 128, 3)
    assert by_fan_out.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    by_fan_in = Convolution(64, 128, 3, initial="xavier")
    assert by_fan_in.weight.abs().max().item() == pytest.approx((3 / (64 * 9)) ** 0.5, rel=0.01)
    assert by_fan_in.weight.std().item() == pytest.approx((1 / (64 * 9)) ** 0.5, rel=0.02)
    assert by_fan_out.bias is not None
    assert not by_fan_out.bias.any()


# Freezing


@pytest.mark.parametrize("freeze", [0, 1, 2, 5])
def test_what_is_frozen_stays_as_it_is_in_training(freeze: int) -> None:
    backbone = ResNet(SMALL.model_copy(update={"norm": "batch", "freeze": freeze}), 2)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    backbone.train()
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    levels = backbone(noise(2, 2, 64, 64) + 1.0)
    if trained:
        sum((level.square().mean() for level in levels), torch.zeros(())).backward()
        torch.optim.SGD(trained, lr=0.01, weight_decay=0.1).step()
    parts = ("stem", "res2", "res3", "res4", "res5")
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[name]) == (parts.index(name.split(".")[0]) < freeze), name


def test_weights_move_between_frozen_and_free_networks() -> None:
    free = ResNet(SMALL.model_copy(update={"norm": "batch"}), 2).eval()
    MAKER["fill"](free.state_dict())
    frozen = ResNet(SMALL.model_copy(update={"norm": "batch", "freeze": 3}), 2).eval()
    frozen.load_state_dict(dict(free.state_dict()))
    again = ResNet(SMALL.model_copy(update={"norm": "batch"}), 2).eval()
    again.load_state_dict(dict(frozen.state_dict()))
    with torch.inference_mode():
        expected = free(noise(1, 2, 64, 64))
        for network in (frozen, again):
            for level, wanted in zip(network(noise(1, 2, 64, 64)), expected):
                torch.testing.assert_close(level, wanted)


# Precision and layout

DEFORMABLE = ResNetConfig(
    depth=50, width=32, stem_width=16, groups=2, group_width=4, norm="frozen_batch",
    deformable=(False, True, False, True), modulated=True, deform_groups=2,
)  # fmt: skip


@pytest.mark.parametrize("config", [SMALL, SMALL.model_copy(update={"norm": "frozen_batch"}), DEFORMABLE])
def test_bfloat16_is_near_and_trains(config: ResNetConfig) -> None:
    network = build(config).eval()
    MAKER["fill"](network.state_dict())
    x = noise(1, 2, 64, 64)
    with torch.no_grad():
        exact = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(x)
    for level, wanted in zip(rough, exact):
        assert (level.float() - wanted).square().mean().sqrt() < 0.05 * wanted.std()
    sum((level.float().square().mean() for level in rough), torch.zeros(())).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("config", [SMALL, DEFORMABLE])
def test_the_layout_in_memory_does_not_matter(config: ResNetConfig) -> None:
    network = build(config).eval()
    MAKER["fill"](network.state_dict())
    x = noise(2, 2, 64, 64)
    with torch.inference_mode():
        expected = network(x)
        network.to(memory_format=torch.channels_last)
        for level, wanted in zip(network(x.contiguous(memory_format=torch.channels_last)), expected):
            torch.testing.assert_close(level, wanted, rtol=1e-4, atol=1e-4 * wanted.std().item())


@pytest.mark.parametrize("training", [True, False])
def test_group_norm_takes_the_smallest_pictures(training: bool) -> None:
    """Of 32 x 32 pixels the coarsest level is one, and of few channels a group has one value."""
    network = build(SMALL, width=16, norm="group").train(training)
    assert isinstance(network.output[-1].norm, nn.GroupNorm)
    assert network.output[-1].norm.num_groups == 16
    levels = network(noise(1, 2, 32, 32))
    assert levels[-1].shape == (1, 16, 1, 1)
    assert all(level.isfinite().all() for level in levels)
    # A value that is alone is the mean of its group, in batches of two as well.
    both = network(noise(1, 2, 32, 32).repeat(2, 1, 1, 1))[-1]
    assert torch.allclose(both[:1], levels[-1])
    assert torch.allclose(levels[-1].flatten(), network.output[-1].norm.bias)
