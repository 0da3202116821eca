"""The ResNet U-Net: fastai's values, how far it looks, its beginnings, and that it runs in all ways."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytomask.models.dense.config import ResNetUNetConfig
from cytomask.models.dense.resnet_unet import ResNetUNet
from cytomask.models.dense.self_attention import SelfAttention, SpectralProjection
from cytomask.models.dense.unet_blocks import ShuffleUp, UpBlock

FIXTURES = Path(__file__).parent / "fixtures"


def _recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fastai", FIXTURES / "make_fastai.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECIPE = _recipe()


@pytest.fixture(scope="module")
def fastai() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "fastai_unet.npz") as values:
        return dict(values)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def network(depth: Any = 18, inputs: int = 3, outputs: int = 2, **options: Any) -> ResNetUNet:
    return ResNetUNet(ResNetUNetConfig(depth=depth, **options), inputs, outputs)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / expected.std())


@pytest.mark.parametrize("name", RECIPE.NETWORKS)
def test_it_gives_what_fastais_gives(name: str, fastai: dict[str, np.ndarray]) -> None:
    depth, inputs, options, sizes = RECIPE.NETWORKS[name]
    net = network(depth, inputs, **options).eval()
    assert sum(p.numel() for p in net.parameters()) == fastai[f"{name}/parameters"]
    RECIPE.fill(net)
    for size in sizes:
        with torch.inference_mode():
            output = net(RECIPE.images(1, inputs, size))
        assert output.shape == (1, 2, *size)
        assert relative_error(RECIPE.chosen(output), fastai[f"{name}/{size[0]}x{size[1]}"]) < 1e-4


def test_its_gradients_are_fastais(fastai: dict[str, np.ndarray]) -> None:
    depth, inputs, options, size = RECIPE.TRAINED
    net = network(depth, inputs, **options)
    RECIPE.fill(net)
    norms = RECIPE.gradient_norms(net, inputs, size)
    assert norms.shape == fastai["gradients"].shape
    # Biases before batch norms have gradients of about 0, of which only rounding is seen: there are none here.
    assert np.allclose(norms, fastai["gradients"], rtol=2e-3)


def thin(**options: Any) -> ResNetUNet:
    """The same network with a thirty-second of the channels within, of weights above 0, in double precision."""

    def fewer(channels: int) -> int:
        return channels if channels < 32 else channels // 32 + (3 if channels % 32 else 0)

    with torch.device("meta"):
        net = network(**options)
    for name, module in list(net.named_modules()):
        parent, leaf = net.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        if isinstance(module, nn.Conv2d):
            size: Any = module.kernel_size
            sizes = fewer(module.in_channels), fewer(module.out_channels), size
            setattr(parent, leaf, nn.Conv2d(*sizes, stride=module.stride, padding=module.padding))  # type: ignore[arg-type]
        elif isinstance(module, nn.BatchNorm2d):
            setattr(parent, leaf, nn.BatchNorm2d(fewer(module.num_features)))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 1 / parameter[0].numel() if parameter.ndim > 1 else 1.0)
    return net.double().eval()


@pytest.mark.parametrize("options", [{}, {"depth": 34}, {"depth": 50}, {"blur": True}, {"image_shortcut": False}])
def test_the_halo_is_how_far_it_looks_and_no_more(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of outputs, with means in place of maxima, which pass on all they see, reach just as far as said."""
    monkeypatch.setattr("torch.nn.functional.max_pool2d", torch.nn.functional.avg_pool2d)
    net = thin(**options)
    side = (net.halo // 32 + 3) * 64
    furthest = 0
    for place in range(27, 32):
        image = torch.ones(1, 3, 32, side, dtype=torch.float64, requires_grad=True)
        x = side // 2 + place
        net(image)[0, 0, 0, x].backward()
        assert image.grad is not None
        reached = image.grad[0].abs().sum((0, 1)).nonzero().flatten()
        assert reached[0] > 0
        assert reached[-1] < side - 1
        furthest = max(furthest, x - int(reached[0]), int(reached[-1]) - x)
    assert furthest == net.halo


def test_pixels_beyond_the_halo_change_nothing() -> None:
    net = thin()
    image = torch.rand(1, 3, 32, (net.halo // 32 + 2) * 64, dtype=torch.float64)
    other = image.clone()
    at = image.shape[-1] // 2 + 3
    other[..., at] = 50
    with torch.inference_mode():
        changed = (net(image) != net(other)).flatten(0, 2).any(0)
    assert changed[at]
    assert not changed[: at - net.halo].any()
    assert not changed[at + net.halo + 1 :].any()
    assert changed[: at - net.halo // 2].any()


def test_a_moved_image_gives_a_moved_answer() -> None:
    """Windows at multiples of the alignment are seen as in the whole, away from their edges."""
    net = thin()
    image = torch.rand(1, 3, 32, (net.halo // 32 + 3) * 64, dtype=torch.float64)
    with torch.inference_mode():
        whole, part = net(image)[..., net.alignment :], net(image[..., net.alignment :])
        unaligned = net(image[..., 1:-31])
    assert torch.allclose(whole[..., net.halo :], part[..., net.halo :], rtol=1e-9)
    assert not torch.allclose(whole[..., :32], part[..., :32])
    middle = slice(whole.shape[-1] // 2, whole.shape[-1] // 2 + 32)
    assert not torch.allclose(whole[..., middle], unaligned[..., 31:][..., middle])


@pytest.mark.parametrize("blur", [False, True])
def test_fresh_upsampling_leaves_no_checkerboard(blur: bool) -> None:
    up = ShuffleUp(8, 32, blur=blur)
    flat = torch.rand(1, 8, 1, 1).expand(1, 8, 4, 5)
    out = up(flat)
    assert torch.allclose(out, out[..., :1, :1].expand_as(out))
    assert out.std(dim=1).max() > 0
    if not blur:
        blocks = up(torch.rand(1, 8, 4, 5)).unflatten(3, (5, 2)).unflatten(2, (4, 2))
        assert torch.allclose(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks))


def test_spectral_projections_have_a_largest_singular_value_of_one() -> None:
    projection = SpectralProjection(32, 8)
    for _ in range(100):
        projection(torch.zeros(1, 32, 1))
    projection.eval()
    before = projection.left.clone()
    matrix = projection(torch.eye(32)[None])[0].detach()
    assert float(torch.linalg.svdvals(matrix)[0]) == pytest.approx(1, abs=1e-4)
    assert torch.equal(before, projection.left)


def test_attention_is_the_softmax_over_all_positions() -> None:
    attention = SelfAttention(16).eval()
    nn.init.constant_(attention.gamma, 0.5)
    x = torch.randn(2, 16, 3, 4)
    flat = x.flatten(2)
    weights = (attention.query(flat).transpose(1, 2) @ attention.key(flat)).softmax(dim=1)
    expected = x + 0.5 * (attention.value(flat) @ weights).reshape(x.shape)
    assert torch.allclose(attention(x), expected, atol=1e-5)
    assert not torch.allclose(expected, x, atol=1e-2)


@pytest.mark.parametrize("options", [{}, {"self_attention": True, "blur": True}])
def test_groups_hold_every_parameter_once(options: dict[str, bool]) -> None:
    net = network(**options)
    groups = [[id(p) for part in group for p in part.parameters()] for group in net.layer_groups()]
    assert len(groups) == 3
    held = [p for group in groups for p in group]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
    assert {id(p) for p in net.encoder.parameters()} == {*groups[0], *groups[1]}


@pytest.mark.parametrize("options", [{}, {"self_attention": True, "blur": True}])
def test_layouts_and_half_precision_agree(options: dict[str, bool]) -> None:
    net = network(**options).eval()
    RECIPE.fill(net)
    images = RECIPE.images(2, 3, (64, 96))
    with torch.inference_mode():
        expected = net(images)
        last = copy.deepcopy(net).to(memory_format=torch.channels_last)
        found = last(images.to(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            half = net(images)
    assert relative_error(found.numpy(), expected.numpy()) < 1e-4
    assert half.dtype == torch.bfloat16
    assert float((half - expected).abs().mean() / expected.std()) < 0.05


def test_it_trains_in_half_precision() -> None:
    net = network(self_attention=True)
    target = torch.zeros(2, 64, 64, dtype=torch.int64)
    target[:, 16:48, 32:] = 1
    images = target[:, None] + 0.1 * torch.randn(2, 3, 64, 64)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    losses = []
    for _ in range(6):
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(net(images).float(), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert losses[-1] < 0.9 * losses[0]


def test_skips_pass_the_last_block_unhalved_but_for_the_last() -> None:
    net = network(34)
    blocks: list[UpBlock] = list(net.up)  # type: ignore[arg-type]
    assert [block.outputs for block in blocks] == [512, 384, 256, 96]
    assert [block.norm.num_features for block in blocks] == [256, 128, 64, 64]


@pytest.mark.parametrize("inputs", [1, 3, 5])
def test_any_channels(inputs: int) -> None:
    def run(net: ResNetUNet, images: Tensor) -> Tensor:
        with torch.inference_mode():
            return net.eval()(images)

    net = network(inputs=inputs, outputs=4)
    images = torch.rand(1, inputs, 32, 64)
    out = run(net, images)
    assert out.shape == (1, 4, 32, 64)
    for channel in range(inputs):
        changed = images.clone()
        changed[:, channel] += 1
        assert not torch.allclose(run(net, changed), out)
