"""The region proposal network: what it learns from, and what it proposes."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import box_iou

from cytomask.errors import TrainingError
from cytomask.models.region import rpn_losses
from cytomask.models.region.config import AnchorConfig, RpnConfig
from cytomask.models.region.rpn import RegionProposalNetwork
from cytomask.models.region.rpn_losses import choose_anchors
from cytomask.models.region.structures import Truth

STRIDES = (4, 8, 16, 32, 64)
ANCHORS = AnchorConfig(sizes=((12.0,), (24.0,), (48.0,), (96.0,), (192.0,)))


def pyramid(images: int = 1, side: int = 128, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 16, side // s, side // s, generator=generator) for s in STRIDES]


def truth(boxes: list[list[float]], ignored: list[list[float]] | None = None) -> Truth:
    n = len(boxes)
    return Truth(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.zeros(n, dtype=torch.int64),
        torch.arange(1, n + 1, dtype=torch.int32),
        torch.zeros(n, dtype=torch.int64),
        torch.zeros(1, 128, 128, dtype=torch.int32),
        torch.tensor(ignored or [], dtype=torch.float32).reshape(-1, 4),
    )


def build(config: RpnConfig | None = None, seed: int = 0) -> RegionProposalNetwork:
    torch.manual_seed(seed)
    network = RegionProposalNetwork(config or RpnConfig(), ANCHORS, STRIDES, width=16)
    for parameter in network.parameters():
        # Fresh weights are so small that all boxes would be anchors.
        parameter.data = torch.randn_like(parameter) * 0.1
    return network


def test_a_fresh_network_begins_undecided() -> None:
    torch.manual_seed(0)
    network = RegionProposalNetwork(RpnConfig(convolutions=2), ANCHORS, STRIDES, width=64)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert float(parameter.detach().std()) == pytest.approx(0.01, rel=0.2)
    features = [torch.randn(1, 64, 128 // s, 128 // s) for s in STRIDES]
    losses, _ = network.losses(features, [truth([[10, 10, 30, 30]])], [(128, 128)])
    assert float(losses["rpn_objectness"].detach()) == pytest.approx(math.log(2), rel=0.05)


def test_proposals_are_the_best_that_do_not_repeat_each_other() -> None:
    network = build(RpnConfig(test_before=60, test_after=40))
    sizes = [(128, 128), (90, 70)]
    features = pyramid(2)
    with torch.no_grad():
        found = network.propose(features, sizes)
        objectness, _ = network(features)
    for boxes, (rows, columns) in zip(found, sizes, strict=True):
        assert 0 < len(boxes) <= 40
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= columns).all()
        assert (boxes[:, 3] <= rows).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    # Only those of one level compete: so few overlap that at most as many as levels agree.
    assert int((box_iou(found[0], found[0]) > 0.7).sum(dim=1).max()) <= len(STRIDES)
    assert len(objectness[0][0]) == 3 * 32 * 32


def test_of_equal_places_the_best_scored_comes_first() -> None:
    network = build()
    for parameter in network.parameters():
        parameter.data.zero_()
    # The network hands one channel through: where it is high, there is an object.
    network.convolutions[0].weight.data[0, 0, 1, 1] = 1.0
    network.objectness.weight.data[1, 0] = 1.0
    features = [torch.zeros_like(f) for f in pyramid()]
    features[0][0, 0, 5, 9] = 3.0
    features[1][0, 0, 8, 2] = 5.0
    with torch.no_grad():
        [boxes] = network.propose(features, [(128, 128)])
    # The square anchors (ratio 1 is the second) around (y 64, x 16) of size 24, and (y 20, x 36) of size 12.
    assert boxes[:2].tolist() == [[4, 52, 28, 76], [30, 14, 42, 26]]


def test_training_looks_at_the_share_of_objects_and_teaches_nothing_in_crowds() -> None:
    network = build()
    features = pyramid()
    anchors = torch.cat(network.anchors(features))
    config = RpnConfig(batch=64, positive=0.25)
    objects, others, matched = choose_anchors(config, anchors, truth([[10, 10, 34, 34], [60, 60, 84, 84]]))
    assert len(objects) + len(others) == 64
    assert 2 <= len(objects) <= 16
    assert set(matched[objects].tolist()) == {0, 1}

    crowd = truth([[10, 10, 34, 34]], ignored=[[0, 0, 128, 128]])
    objects, others, _ = choose_anchors(RpnConfig(batch=10_000), anchors, crowd)
    assert len(objects) >= 1
    inside = (anchors[others].clamp(0, 128) == anchors[others]).all(dim=1)
    assert not inside.any()
    assert len(others) > 0


def test_the_box_loss_teaches_what_decoding_needs() -> None:
    """Following the loss's gradient on the deltas alone leads the sampled anchors onto their objects."""
    network = build(RpnConfig(batch=4096, positive=1.0, beta=0.1))
    anchors = torch.cat(network.anchors(pyramid()))
    one = truth([[40, 40, 70, 60], [90, 10, 101, 21]])
    deltas = torch.zeros(1, len(anchors), 4, requires_grad=True)
    scores = torch.zeros(1, len(anchors), requires_grad=True)
    torch.manual_seed(0)
    for _ in range(400):
        losses = rpn_losses.rpn_losses(network.config, anchors, scores, deltas, [one])
        gradient_scores, gradient = torch.autograd.grad(losses["rpn_objectness"] + losses["rpn_box"], [scores, deltas])
        with torch.no_grad():
            deltas -= 50 * gradient
            scores -= 500 * gradient_scores
    from cytomask.models.region.box_coder import decode

    for box in one.boxes:
        best = decode(deltas[0].detach(), anchors, (1, 1, 1, 1))[scores[0] > 0]
        assert float(box_iou(box[None], best).max()) > 0.97
    assert (scores > 0).sum() < 100


def test_images_without_objects_teach_background_only() -> None:
    network = build()
    losses, _ = network.losses(pyramid(2), [truth([]), truth([])], [(128, 128)] * 2)
    assert float(losses["rpn_box"].detach()) == 0
    assert float(losses["rpn_objectness"].detach()) > 0
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in network.parameters())


def test_numbers_that_are_none_stop_training_and_are_dropped_in_prediction() -> None:
    network = build()
    features = pyramid()
    features[0][0, 0, 3, 3] = math.nan
    with pytest.raises(TrainingError, match="diverged"):
        network.losses(features, [truth([[10, 10, 30, 30]])], [(128, 128)])
    with torch.no_grad():
        [boxes] = network.propose(features, [(128, 128)])
    assert len(boxes) > 0
    assert torch.isfinite(boxes).all()


def test_half_precision_gives_float_boxes() -> None:
    network = build()
    with torch.autocast("cpu", torch.bfloat16):
        losses, proposals = network.losses(pyramid(), [truth([[10, 10, 30, 30]])], [(128, 128)])
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values())
    assert proposals[0].dtype == torch.float32


def test_large_tiles_may_hold_more_objects() -> None:
    from cytomask.models.registry import build_segmenter
    from cytomask.models.segmenter import Segmenter

    def found(area: int | None) -> int:
        torch.manual_seed(0)
        rpn = {"test_before": 40, "test_after": 20, "area": area, "nms": 1.0}
        small = {"backbone": {"depth": 18, "width": 16, "stem_width": 16}, "pyramid": {"width": 16}}
        model: Segmenter = build_segmenter("region", {**small, "rpn": rpn, "mask": {"convolutions": 0, "width": 8}})
        everything = model.postprocess_class.model_validate(
            {"score_threshold": 0, "nms_threshold": 1, "max_objects": 15}
        )
        return len(model.eval().propose(torch.rand(1, 1, 128, 128), everything)[0])

    assert found(None) == found(128 * 128) == found(256 * 256) == 15
    assert found(64 * 64) == 60
