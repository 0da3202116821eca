"""The Swin-UNet: its parts, and that neither canvas nor tiles change what it says."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cytomask.models.dense.config import DenseConfig, SwinUNetConfig
from cytomask.models.dense.swin_unet import SwinUNet


def small(seed: int = 0, channels: int = 1, **settings: object) -> SwinUNet:
    """A network whose every part counts: small, and with large weights."""
    torch.manual_seed(seed)
    chosen = {"patch": 2, "width": 8, "blocks": (2, 2), "heads": 2, "window": 3, "mlp_ratio": 2.0, **settings}
    net = SwinUNet(SwinUNetConfig(**chosen), channels, 2).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(0, 0.4)
    return net


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_parameters_of_the_reference_part_by_part() -> None:
    net = SwinUNet(SwinUNetConfig(), 1, 1)
    assert count(net.embed) == 544
    assert count(net.down, net.merge) == 703_384
    assert count(net.bottleneck) == 1_584_968
    assert count(net.expand, net.join, net.up) == 745_272
    assert count(net.final, net.norm) == 16_448
    assert count(net.head) == 33
    assert count(net) == 3_050_649
    assert net(torch.zeros(1, 1, 224, 224)).shape == (1, 1, 224, 224)
    assert (net.stride, net.alignment) == (32, 224)


@pytest.mark.parametrize(
    ("size", "width", "heads", "deep"),
    [
        ("reference", 32, (4, 4, 4, 4), 2),
        ("tiny", 96, (3, 6, 12, 24), 6),
        ("small", 96, (3, 6, 12, 24), 18),
        ("base", 128, (4, 8, 16, 32), 18),
    ],
)
def test_sizes_of_the_family(size: str, width: int, heads: tuple[int, ...], deep: int) -> None:
    config = DenseConfig.model_validate({"network": {"kind": "swin_unet", "size": size}}).network
    assert isinstance(config, SwinUNetConfig)
    assert (config.width, config.heads_per_level, config.blocks) == (width, heads, (2, 2, deep, 2))
    # What is written into a model's settings reads back as the same.
    assert SwinUNetConfig.model_validate(config.model_dump()) == config
    # Narrower, as that is faster: what is given stands, the rest is the size's.
    narrow = SwinUNetConfig.model_validate({"size": size, "width": width // 4})
    assert (narrow.width, narrow.heads_per_level, narrow.blocks) == (width // 4, heads, (2, 2, deep, 2))
    net = SwinUNet(narrow, 1, 1)
    assert [len(level) for level in [*net.down, net.bottleneck]] == [2, 2, deep, 2]
    assert [len(level) for level in net.up] == [2, 2, 2]
    assert net.bottleneck[0].attention.bias_table.shape == (169, heads[-1])


def test_there_are_no_other_sizes() -> None:
    with pytest.raises(ValidationError, match="reference"):
        SwinUNetConfig.model_validate({"size": "huge"})


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (13, 8), (36, 29), (12, 12)])
def test_any_size_goes_in_and_comes_out(shape: tuple[int, int]) -> None:
    net = small(channels=3)
    out = net(torch.randn(2, 3, *shape))
    assert out.shape == (2, 2, *shape)
    assert out.isfinite().all()


@pytest.mark.parametrize("canvas", [(20, 15), (24, 24), (36, 31), (60, 60)])
def test_canvas_does_not_matter_where_sizes_tell_the_picture(canvas: tuple[int, int]) -> None:
    net = small()
    image = torch.randn(1, 1, 19, 14)
    expected = net(image)
    wide = torch.randn(1, 1, *canvas) * 100
    wide[..., :19, :14] = image
    assert not torch.allclose(net(wide)[..., :19, :14], expected, atol=1e-2)
    got = net(wide, [(19, 14)])
    assert got.shape[-2:] == canvas
    assert torch.allclose(got[..., :19, :14], expected, atol=1e-5)


def test_images_of_different_sizes_in_one_batch() -> None:
    net = small()
    sizes = [(19, 14), (5, 40), (24, 24), (1, 1)]
    canvas = torch.randn(4, 1, 24, 40) * 100
    together = net(canvas, sizes)
    for index, (rows, columns) in enumerate(sizes):
        alone = net(canvas[index : index + 1, :, :rows, :columns])
        assert torch.allclose(together[index : index + 1, :, :rows, :columns], alone, atol=1e-5)


@pytest.mark.parametrize("canvas", [224, 256, 288])
def test_the_reference_across_canvases(canvas: int) -> None:
    torch.manual_seed(1)
    net = SwinUNet(SwinUNetConfig(), 1, 1).eval()
    image = torch.randn(2, 1, 200, 224)
    wide = torch.randn(2, 1, canvas, canvas)
    wide[..., :200, :224] = image
    with torch.inference_mode():
        assert torch.allclose(net(wide, [(200, 224)] * 2)[..., :200, :224], net(image), atol=1e-5)
        cut = image[:, :, :97, :65]
        wide[0, :, :97, :65] = cut[0]
        together = net(wide, [(97, 65), (200, 224)])[0, :, :97, :65]
        assert torch.allclose(together, net(cut)[0], atol=1e-5)


def reach_of(net: SwinUNet, places: range, side: int) -> int:
    """The furthest pixel along x that changes an output at one of these places, found by gradients."""
    furthest = 0
    for place in places:
        image = torch.randn(1, 1, 3, side, requires_grad=True)
        net(image)[..., place].sum().backward()
        assert image.grad is not None
        seen = torch.nonzero(image.grad.abs().sum(dim=(0, 1, 2)) > 0)
        furthest = max(furthest, place - int(seen.min()), int(seen.max()) - place)
    return furthest


@pytest.mark.parametrize(
    "settings", [{}, {"window": 4}, {"patch": 1, "window": 2, "blocks": (1, 2, 1)}, {"blocks": (3, 1)}]
)
def test_halo_is_exactly_how_far_an_output_looks(settings: dict[str, object]) -> None:
    net = small(**settings)
    middle = (net.halo // net.alignment + 1) * net.alignment
    found = reach_of(net, range(middle, middle + net.alignment), 2 * middle + net.alignment)
    assert found == net.halo


def test_what_lies_beyond_the_halo_changes_nothing() -> None:
    net = small(window=2)
    image = torch.randn(1, 1, 96, 96)
    expected = net(image)
    changed = image.clone()
    changed[..., 60:, :] += 5
    changed[..., 60:] += 5
    reach = 60 - net.halo
    assert reach > 20
    assert torch.equal(net(changed)[..., :reach, :reach], expected[..., :reach, :reach])
    assert not torch.allclose(net(changed)[..., : reach + 24, :], expected[..., : reach + 24, :], atol=1e-3)


def test_an_aligned_tile_says_what_the_whole_says() -> None:
    net = small(window=2)
    assert net.alignment == 8
    image = torch.randn(1, 1, 130, 117)
    whole, inner = net(image), net.halo
    for y, x in ((0, 0), (16, 24), (40, 32)):
        tile = net(image[..., y : y + 80, x : x + 80])
        top, left = (inner if start else 0 for start in (y, x))
        expected = whole[..., y + top : y + 80 - inner, x + left : x + 80 - inner]
        assert expected.numel() > 100
        assert torch.allclose(tile[..., top : 80 - inner, left : 80 - inner], expected, atol=1e-4)
    # A tile that begins between windows does not.
    off = net(image[..., 4:84, 4:84])[..., inner : 80 - inner, inner : 80 - inner]
    assert not torch.allclose(off, whole[..., 4 + inner : 84 - inner, 4 + inner : 84 - inner], atol=1e-2)


def test_layer_groups_hold_every_parameter_once() -> None:
    net = small()
    groups = net.layer_groups()
    held = [id(p) for group in groups for module in group for p in module.parameters()]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
    assert groups[0][0] is net.embed
    assert net.head in groups[-1]


def test_drop_path_grows_with_depth_and_rests_in_prediction() -> None:
    net = small(drop_path=0.6, blocks=(2, 1, 3))
    rates = [block.drop_path for level in [*net.down, net.bottleneck] for block in level]
    assert rates == pytest.approx([0, 0.12, 0.24, 0.36, 0.48, 0.6])
    assert [[block.drop_path for block in level] for level in net.up] == [[rates[2]], rates[:2]]
    image = torch.randn(1, 1, 24, 24)
    assert torch.equal(net(image), net(image))
    net.train()
    torch.manual_seed(0)
    assert not torch.equal(net(image), net(image))


def test_a_dropped_branch_is_made_up_for_by_the_kept() -> None:
    block = small(drop_path=0.5, blocks=(1, 1)).bottleneck[0].train()
    torch.manual_seed(0)
    branch = block._dropped(torch.ones(4000, 1, 1, 1))
    assert set(branch.flatten().tolist()) == {0.0, 2.0}
    assert branch.mean() == pytest.approx(1, abs=0.1)


def test_trains_after_it_has_predicted_and_can_be_copied() -> None:
    net = small()
    image = torch.randn(2, 1, 20, 24)
    with torch.inference_mode():
        before = net(image, [(20, 24), (9, 10)])
    net.train()
    net(image, [(20, 24), (9, 10)]).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    after = copy.deepcopy(net).eval()(image, [(20, 24), (9, 10)])
    assert torch.allclose(after[0], before[0], atol=1e-5)
    assert torch.allclose(after[1, :, :9, :10], before[1, :, :9, :10], atol=1e-5)
    assert not any("mask" in name or "index" in name for name in net.state_dict())


def test_bfloat16_is_finite_and_close() -> None:
    net = SwinUNet(SwinUNetConfig(blocks=(2, 2), width=16), 1, 1).eval()
    image = torch.randn(2, 1, 50, 61)
    sizes = [(50, 61), (20, 30)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        got = net(image, sizes)
    assert got.isfinite().all()
    deviation = got[1, :, :20, :30].float() - net(image, sizes)[1, :, :20, :30]
    assert deviation.abs().mean() < 0.02
