"""Weights of torchvision's networks give torchvision's features, for any number of channels."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cytomask.errors import ConfigError
from cytomask.models.region.config import Norm, ResNetConfig
from cytomask.models.region.resnet import ResNet
from cytomask.models.region.resnet_weights import torchvision_names
from cytomask.models.stem_weights import adapt_stem

fill = runpy.run_path(str(Path(__file__).with_name("fixtures") / "make_backbones.py"))["fill"]
#: torchvision's networks by our settings.
TORCHVISION = {
    "resnet18": ResNetConfig(depth=18, width=64, norm="frozen_batch"),
    "resnet34": ResNetConfig(depth=34, width=64, norm="frozen_batch"),
    "resnet50": ResNetConfig(depth=50, norm="frozen_batch"),
    "resnet101": ResNetConfig(depth=101, norm="frozen_batch"),
    "resnet152": ResNetConfig(depth=152, norm="frozen_batch"),
    "resnext50_32x4d": ResNetConfig(depth=50, groups=32, group_width=4, norm="frozen_batch"),
    "resnext101_32x8d": ResNetConfig(depth=101, groups=32, group_width=8, norm="frozen_batch"),
}


def loaded(config: ResNetConfig, channels: int, theirs: nn.Module) -> ResNet:
    """Our network with the weights of torchvision's."""
    network = ResNet(config, channels).eval()
    state = torchvision_names(theirs.state_dict(), config)
    state["stem.conv1.weight"] = adapt_stem(state["stem.conv1.weight"], channels)
    network.load_state_dict(state)
    return network


def torchvisions(name: str) -> nn.Module:
    """One of torchvision's networks with the same numbers each time."""
    with torch.device("meta"):
        network = torchvision.models.get_model(name)
    network = network.to_empty(device="cpu").eval()
    fill(network.state_dict())
    for tensor_name, tensor in network.state_dict().items():
        if tensor_name.endswith("num_batches_tracked"):
            tensor.fill_(12)
    return network


def features(network: nn.Module, images: Tensor) -> list[Tensor]:
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))  # type: ignore[operator]
    levels = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)  # type: ignore[operator]
        levels.append(x)
    return levels


def grey(channels: int) -> Tensor:
    return torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(1, channels, 64, 64)


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for level, wanted in zip(found, expected, strict=True):
        assert (level - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize(
    "name, norm",
    [
        ("resnet18", "frozen_batch"), ("resnet18", "batch"), ("resnet18", "none"), ("resnet34", "batch"),
        ("resnet50", "frozen_batch"), ("resnet50", "none"), ("resnext50_32x4d", "frozen_batch"),
    ],
)  # fmt: skip
def test_features_are_those_of_torchvision(name: str, norm: Norm) -> None:
    theirs = torchvisions(name)
    ours = loaded(TORCHVISION[name].model_copy(update={"norm": norm, "freeze": 2}), 3, theirs)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert_same(ours(images), features(theirs, images))


@pytest.mark.parametrize("name", ["resnet101", "resnet152", "resnext101_32x8d"])
def test_the_large_networks_fit_too(name: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(name).state_dict()
        ours = ResNet(TORCHVISION[name], 3).state_dict()
    mapped = torchvision_names(state, TORCHVISION[name])
    assert {key: tensor.shape for key, tensor in mapped.items()} == {key: t.shape for key, t in ours.items()}


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 7])
def test_a_grey_image_gives_the_same_features_with_any_number_of_channels(channels: int) -> None:
    theirs = torchvisions("resnet18")
    ours = loaded(TORCHVISION["resnet18"], channels, theirs)
    with torch.inference_mode():
        assert_same(ours(grey(channels)), features(theirs, grey(3)))


@given(channels=st.integers(1, 40), seed=st.integers(0, 1000))
def test_no_channel_is_left_out_of_an_adapted_stem(channels: int, seed: int) -> None:
    weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    adapted = adapt_stem(weight, channels)
    assert adapted.shape == (4, channels, 2, 2)
    torch.testing.assert_close(adapted.sum(1), weight.sum(1))
    assert (adapted != 0).all()
    if channels == 3:
        assert torch.equal(adapted, weight)


def test_a_deformable_network_begins_as_the_plain_one() -> None:
    theirs = torchvisions("resnet50")
    config = TORCHVISION["resnet50"].model_copy(update={"deformable": (False, True, True, True), "deform_groups": 2})
    ours = loaded(config, 3, theirs)
    with torch.inference_mode():
        assert_same(ours(grey(3)), features(theirs, grey(3)))


@pytest.mark.parametrize(
    "config, told",
    [
        (ResNetConfig(depth=18, width=64, norm="group"), "group norm"),
        (ResNetConfig(depth=34, width=64, norm="frozen_batch"), "another network"),
        (ResNetConfig(depth=18, width=32, norm="frozen_batch"), "another network"),
        (ResNetConfig(depth=50, norm="none"), "another network"),
        (ResNetConfig(depth=50, norm="frozen_batch", stride_in_1x1=True), "step in their 3x3"),
    ],
)
def test_weights_of_another_network_are_refused(config: ResNetConfig, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        torchvision_names(torchvisions("resnet18").state_dict(), config)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="another network"):
        torchvision_names({"weight": torch.zeros(3)}, TORCHVISION["resnet18"])
