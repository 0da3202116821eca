"""The star networks: sizes, how far they look, what they propose and resolve."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cytomask.models.proposals import Proposals
from cytomask.models.star.config import ResidualConfig, StarConfig, StarPostprocess, UNetConfig
from cytomask.models.star.segmenter import StarSegmenter

SMALL = ResidualConfig(widths=(8, 12, 16), blocks=(1, 1, 1), features=8)


def build(backbone: UNetConfig | ResidualConfig, grid: int = 2, channels: int = 1) -> StarSegmenter:
    torch.manual_seed(0)
    model = StarSegmenter(StarConfig(in_channels=channels, grid=grid, backbone=backbone))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Fresh residual blocks are the identity; what is tested here must pass through all layers.
            torch.nn.init.ones_(module.weight)
    return model.eval()


def test_the_default_network_has_the_size_of_stardists() -> None:
    model = StarSegmenter(StarConfig(in_channels=1, rays=32, grid=2))
    assert sum(p.numel() for p in model.parameters()) == 1_425_185


@pytest.mark.parametrize("grid", [1, 2, 4])
@pytest.mark.parametrize("backbone", [UNetConfig(depth=2, base=8, features=16), SMALL])
def test_output_lies_on_the_grid(backbone: UNetConfig | ResidualConfig, grid: int) -> None:
    model = build(backbone, grid, channels=2)
    side = 2 * model.stride
    probability, distances, classes = model(torch.zeros(1, 2, side, side))
    assert probability.shape == (1, side // grid, side // grid)
    assert distances.shape == (1, 32, side // grid, side // grid)
    assert classes is None


@pytest.mark.parametrize("backbone", [UNetConfig(depth=2, base=8, features=16), SMALL])
def test_nothing_beyond_the_halo_matters_and_the_halo_is_not_generous(
    backbone: UNetConfig | ResidualConfig,
) -> None:
    model = build(backbone)
    side = 2 * (model.halo // model.stride + 2) * model.stride
    middle = side // 2
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 1, side, side, generator=generator)
    with torch.inference_mode():
        before = model(image)[1][0, :, middle // 2, middle // 2]
        furthest = 0
        for distance in range(model.halo // 2, side - middle):
            changed = image.clone()
            changed[:, :, :, middle + distance] += 50.0
            if not torch.equal(model(changed)[1][0, :, middle // 2, middle // 2], before):
                furthest = distance
    assert furthest <= model.halo
    assert furthest >= 0.6 * model.halo


def test_proposals_of_a_batch_are_those_of_its_images() -> None:
    model = build(SMALL)
    images = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    post = StarPostprocess(score_threshold=0.1)
    together = model.propose(images, post)
    for image, proposals in zip(images, together):
        alone = model.propose(image[None], post)[0]
        assert np.array_equal(alone.points, proposals.points)
        assert np.allclose(alone.data["distances"], proposals.data["distances"], atol=1e-5)


def test_rays_of_candidates_equal_those_of_the_full_map() -> None:
    model = build(SMALL)
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    proposals = model.propose(image, StarPostprocess(score_threshold=0.0))[0]
    with torch.inference_mode():
        full = model(image)[1][0].clamp_min(1e-3).permute(1, 2, 0).reshape(-1, 32).numpy()
    assert np.allclose(proposals.data["distances"], full, atol=1e-4)


def disc(y: float, x: float, radius: float, score: float) -> Proposals:
    return Proposals(
        np.array([[y, x]], np.float32),
        np.array([score], np.float32),
        np.ones(1, np.int32),
        {"distances": np.full((1, 32), radius, np.float32)},
    )


def test_of_two_that_cover_each_other_the_better_stays() -> None:
    model = build(SMALL)
    proposals = Proposals.concatenate([disc(20, 20, 8, 0.7), disc(22, 20, 8, 0.9), disc(50, 50, 5, 0.6)])
    found = model.resolve(proposals, StarPostprocess(), (64, 64))
    assert sorted(found.scores.tolist()) == pytest.approx([0.6, 0.9])
    labels = found.to_labels()
    assert labels[22, 20] == found.ids[found.scores.argmax()]
    assert set(np.unique(labels)) == {0, 1, 2}


def test_resolving_at_half_scale_draws_twice_as_large() -> None:
    model = build(SMALL)
    one = model.resolve(disc(16, 16, 6, 0.9), StarPostprocess(), (32, 32))
    double = model.resolve(disc(16, 16, 6, 0.9), StarPostprocess(), (64, 64), scale=(0.5, 0.5))
    assert double.areas()[0] == pytest.approx(4 * one.areas()[0], rel=0.1)
    rows, columns = np.nonzero(double.to_labels())
    # The centre of network pixel 16 is the corner between native pixels 32 and 33.
    assert (rows.mean(), columns.mean()) == pytest.approx((32.5, 32.5), abs=0.3)


def test_polygons_without_pixels_leave_no_instance() -> None:
    model = build(SMALL)
    proposals = Proposals.concatenate([disc(500, 500, 5, 0.9), disc(20, 20, 5, 0.8)])
    found = model.resolve(proposals, StarPostprocess(), (64, 64))
    assert len(found) == 1
    assert found.ids.tolist() == [1]


def test_an_empty_image_has_no_instances() -> None:
    model = build(SMALL)
    assert len(model.predict(torch.zeros(1, 1, 32, 32), StarPostprocess(score_threshold=1.0))[0]) == 0


def test_classes_are_predicted_when_there_are_several() -> None:
    torch.manual_seed(0)
    model = StarSegmenter(StarConfig(in_channels=1, classes=("a", "b"), backbone=SMALL)).eval()
    proposals = model.propose(torch.rand(1, 1, 32, 32), StarPostprocess(score_threshold=0.0))[0]
    assert set(np.unique(proposals.classes)) <= {1, 2}
    assert proposals.classes.dtype == np.int32
