"""Points inside boxes: by hand, and the shares that are kept."""

from __future__ import annotations

import pytest
import torch

from cytomask.models.region.point_sampling import (
    draw_training_points,
    grid_points,
    least_certain,
    points_in_image,
    sample_features,
    sample_maps,
)


def ramp(height: int, width: int) -> torch.Tensor:
    """Two channels that tell the x and the y of their cell's centre, in cells."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y])[None]


def test_a_ramp_tells_where_it_is_read() -> None:
    points = torch.tensor([[[0.25, 0.5], [0.5, 0.75]]])
    assert sample_maps(ramp(4, 8), points)[0].T.tolist() == [[2, 2], [4, 3]]
    # 4 pixels per cell; boxes of both images one after another.
    features = torch.cat([ramp(16, 16), ramp(16, 16) + 100])
    boxes = [torch.tensor([[8.0, 12, 40, 20]]), torch.tensor([[4.0, 4, 12, 60], [30, 10, 32, 11]])]
    found = sample_features(features, boxes, torch.tensor([[0.5, 0.5], [0.25, 1.0]]), 4)
    expected = torch.tensor([[[24, 16], [16, 20]], [[408, 432], [406, 460]], [[431, 410.5], [430.5, 411]]]) / 4
    torch.testing.assert_close(found.transpose(1, 2), expected)


def test_an_image_without_boxes_has_no_features() -> None:
    features = ramp(8, 8).expand(3, 2, 8, 8)
    boxes = [torch.zeros(0, 4), torch.tensor([[0.0, 0, 8, 8]]), torch.zeros(0, 4)]
    assert sample_features(features, boxes, grid_points(3), 1).shape == (1, 2, 9)


def test_a_grid_reads_a_box_of_its_own_cells_unchanged() -> None:
    features = torch.randn(1, 5, 12, 10)
    box = torch.tensor([[8.0, 4, 36, 32]])
    found = sample_features(features, [box], grid_points(7), 4).unflatten(2, (7, 7))
    torch.testing.assert_close(found[0], features[0, :, 1:8, 2:9])


def test_points_of_each_box_or_the_same_for_all() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 20], [5, 5, 6, 7]])
    shared = torch.tensor([[0.1, 0.5], [1.0, 1.0]])
    expected = [[[1, 10], [10, 20]], [[5.1, 6], [6, 7]]]
    torch.testing.assert_close(points_in_image(boxes, shared), torch.tensor(expected))
    torch.testing.assert_close(points_in_image(boxes, shared.expand(2, 2, 2)), torch.tensor(expected))


@pytest.mark.parametrize(("count", "oversample", "importance"), [(40, 3, 0.75), (40, 1, 1), (41, 2.5, 0), (1, 1, 0.5)])
def test_training_points_lie_where_the_mask_is_uncertain(count: int, oversample: float, importance: float) -> None:
    torch.manual_seed(0)
    # Uncertain only near the middle column.
    logits = torch.linspace(-20, 20, 7).expand(6, 7, 7)
    points = draw_training_points(logits, count, oversample, importance)
    assert points.shape == (6, count, 2)
    assert ((points >= 0) & (points <= 1)).all()
    kept = int(importance * count)
    if kept and oversample > 1:
        # The third that is least certain lies about the middle, up and down; the rest anywhere.
        assert (points[:, :kept, 0] - 0.5).abs().max() < 0.3
        assert points[:, :kept, 1].std() > 0.2
    if count - kept >= 10:
        assert (points[:, kept:, 0] - 0.5).abs().max() > 0.4


def test_certainty_is_read_between_cells_and_not_averaged() -> None:
    # Between sure background and a sure object nothing is certain, though every cell is.
    torch.manual_seed(0)
    logits = torch.tensor([[[-9.0, 9.0], [-9.0, 9.0]]])
    points = draw_training_points(logits, 30, 10, 1)
    assert (points[0, :, 0] - 0.5).abs().max() < 0.1


def test_least_certain_cells() -> None:
    logits = torch.tensor([[[3.0, -0.1], [-5.0, 1.0]], [[0.0, 7.0], [-0.5, 2.0]]])
    assert least_certain(logits, 2).tolist() == [[1, 3], [0, 2]]
    assert sorted(least_certain(logits, 9)[0].tolist()) == [0, 1, 2, 3]
