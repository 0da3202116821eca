from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cytomask.errors import ConfigError
from cytomask.models.dense.config import DenseConfig, DenseLoss
from cytomask.models.dense.losses import class_weight_values, dense_losses

TERMS = ("cross_entropy", "dice", "focal", "tversky")
OUTPUTS = ("binary", "softmax", "boundary", "distance")
SHAPE = (2, 7, 9)


def configured(output: str, n: int = 2, **loss: object) -> DenseConfig:
    return DenseConfig(output=output, classes=tuple("abcd"[:n]), loss=DenseLoss(**loss))


def example(config: DenseConfig, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Random logits and targets; a fifth of the pixels is not valid, but those of distance and labels agree."""
    draw, n = torch.Generator().manual_seed(seed), len(config.classes)
    logits = 2 * torch.randn(2, config.channels_out, 7, 9, generator=draw)
    labels = torch.randint(0, n + 1, SHAPE, generator=draw).byte()
    targets = {
        "valid": (torch.rand(SHAPE, generator=draw) > 0.2).byte(),
        "labels": labels,
        "present": torch.randint(0, 2, (2, n, 7, 9), generator=draw).byte(),
        "parts": (labels > 0) * torch.randint(1, 3, SHAPE, generator=draw),
        "foreground": (labels > 0).byte(),
        "distance": (labels > 0) * torch.rand(SHAPE, generator=draw),
    }
    return logits, targets


def all_valid(targets: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**targets, "valid": torch.ones(SHAPE, dtype=torch.uint8)}


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 7.0)])
@pytest.mark.parametrize(("output", "name"), [("softmax", "labels"), ("boundary", "parts")])
def test_cross_entropy_is_torchs(output: str, name: str, weights: tuple[float, ...] | None) -> None:
    config = configured(output, terms={"cross_entropy": 1.0})
    logits, targets = example(config)
    tensor = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(logits[:, :3], targets[name].long(), weight=tensor)
    torch.testing.assert_close(dense_losses(logits, all_valid(targets), config, tensor)["cross_entropy"], expected)
    ignored = torch.where(targets["valid"] > 0, targets[name].long(), -100)
    expected = F.cross_entropy(logits[:, :3], ignored, weight=tensor)
    torch.testing.assert_close(dense_losses(logits, targets, config, tensor)["cross_entropy"], expected)


def test_binary_cross_entropy_is_torchs_with_a_weight_of_positives() -> None:
    config = configured("binary", terms={"cross_entropy": 1.0})
    logits, targets = example(config)
    truth = targets["present"].float()
    weights = torch.tensor([1.0, 3.0, 0.2])
    found = dense_losses(logits, all_valid(targets), config, weights)["cross_entropy"]
    expected = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=weights[1:, None, None])
    torch.testing.assert_close(found, expected)
    found = dense_losses(logits, targets, config)["cross_entropy"]
    valid = targets["valid"][:, None].expand_as(truth) > 0
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits[valid], truth[valid]))


def test_the_backgrounds_weight_is_that_of_negatives() -> None:
    config = configured("binary", 1)
    zero = torch.zeros(1, 1, 1, 4)
    targets = {"present": torch.tensor([[[[1, 0, 0, 0]]]]), "valid": torch.ones(1, 1, 4)}
    found = dense_losses(zero, targets, config, torch.tensor([0.5, 5.0]))["cross_entropy"]
    assert found.item() == pytest.approx(math.log(2) * (5 + 3 * 0.5) / 4)


def test_foreground_of_the_output_distance() -> None:
    config = configured("distance", terms={"cross_entropy": 2.0, "dice": 1.0})
    logits, targets = example(config)
    found = dense_losses(logits, all_valid(targets), config, torch.tensor([1.0, 4.0]))
    truth = targets["foreground"].float()
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], truth, pos_weight=torch.tensor(4.0))
    torch.testing.assert_close(found["cross_entropy"], 2 * expected)
    p = logits[:, 0].sigmoid()
    torch.testing.assert_close(found["dice"], 1 - (2 * (p * truth).sum() + 2) / (p.sum() + truth.sum() + 2))


def test_distances_and_classes_by_hand() -> None:
    config = configured("distance", distance_weight=3.0, object_class_weight=0.5)
    logits = torch.zeros(1, 4, 1, 5)
    logits[0, 1, 0] = torch.tensor([0.5, 1.0, 0.4, -0.2, 9.0])
    logits[0, 2:, 0] = torch.tensor([[0.0, 1.0, 9.0, 9.0, 5.0], [0.0, 3.0, 0.0, 0.0, 5.0]])
    row = {
        "foreground": [1, 1, 0, 0, 1], "distance": [1.0, 0.8, 0.0, 0.0, 0.3], "labels": [1, 2, 0, 0, 2],
        "valid": [1, 1, 1, 1, 0],
    }  # fmt: skip
    found = dense_losses(logits, {name: torch.tensor([[values]]) for name, values in row.items()}, config)
    assert found["distance"].item() == pytest.approx(3 * ((0.5 + 0.2) / 2 + 0.1 * (0.4 + 0.2) / 2))
    entropy = (math.log(2) + math.log1p(math.exp(-2))) / 2
    assert found["class"].item() == pytest.approx(0.5 * entropy)


def test_terms_without_weight_or_with_a_single_class_are_not_there() -> None:
    for output, n, expected in (
        ("distance", 1, {"cross_entropy", "distance"}), ("boundary", 1, {"cross_entropy"}),
        ("boundary", 2, {"cross_entropy", "class"}), ("softmax", 2, {"cross_entropy"}),
    ):  # fmt: skip
        config = configured(output, n)
        assert dense_losses(*example(config), config).keys() == expected
    config = configured("distance", distance_weight=0, object_class_weight=0)
    assert dense_losses(*example(config), config).keys() == {"cross_entropy"}


@pytest.mark.parametrize("output", OUTPUTS)
def test_focal_is_cross_entropy_without_gamma_and_less_with_it(output: str) -> None:
    config = configured(output, terms={"cross_entropy": 1.0, "focal": 1.0}, gamma=0.0)
    logits, targets = example(config)
    weights = torch.tensor((1.0, 2.0) if output == "distance" else (1.0, 2.0, 3.0))
    found = dense_losses(logits, targets, config, weights)
    torch.testing.assert_close(found["focal"], found["cross_entropy"])
    config = configured(output, terms={"focal": 1.0}, gamma=2.0)
    assert 0 < dense_losses(logits, targets, config, weights)["focal"] < found["focal"]


def test_focal_by_hand() -> None:
    logits = torch.tensor([[[[math.log(3.0)]], [[0.0]]]])
    targets = {"labels": torch.tensor([[[0]]]), "valid": torch.ones(1, 1, 1)}
    found = dense_losses(logits, targets, configured("softmax", 1, terms={"focal": 1.0}, gamma=2.0))
    assert found["focal"].item() == pytest.approx(0.25**2 * -math.log(0.75))
    targets = {"present": torch.tensor([[[[0]]]]), "valid": torch.ones(1, 1, 1)}
    found = dense_losses(logits[:, :1], targets, configured("binary", 1, terms={"focal": 1.0}, gamma=1.0))
    assert found["focal"].item() == pytest.approx(0.75 * -math.log(0.25))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("output", OUTPUTS)
def test_gradients_are_finite_where_the_network_is_certain(output: str, gamma: float) -> None:
    config = configured(output, terms=dict.fromkeys(TERMS, 1.0), gamma=gamma)
    logits, targets = example(config)
    logits = (1000 * logits).requires_grad_()
    sum(dense_losses(logits, targets, config).values()).backward()
    assert torch.isfinite(logits.grad).all()


def test_tversky_and_dice_by_hand() -> None:
    # Two images of two pixels and two classes: counts are of the batch, means of the classes without background.
    certain = 40.0
    logits = torch.full((2, 3, 1, 2), -certain)
    found = torch.tensor([[[1, 1]], [[2, 0]]])
    logits.scatter_(1, found[:, None], certain)
    targets = {"labels": torch.tensor([[[1, 0]], [[1, 0]]]), "valid": torch.ones(2, 1, 2)}
    config = configured("softmax", terms={"tversky": 2.0, "dice": 1.0}, alpha=0.3, beta=0.7)
    losses = dense_losses(logits, targets, config)
    # Class a: 1 right, 1 wrongly found, 1 missed; class b: 1 wrongly found.
    assert losses["tversky"].item() == pytest.approx(2 * ((1 - 2 / 3) + (1 - 1 / 1.3)) / 2, rel=1e-5)
    assert losses["dice"].item() == pytest.approx(((1 - 4 / 6) + (1 - 2 / 3)) / 2, rel=1e-5)


def test_overlap_losses_vanish_where_all_is_right_and_where_nothing_is() -> None:
    config = configured("binary", terms={"dice": 1.0, "tversky": 1.0})
    for there in (torch.zeros(2, 2, 7, 9), torch.ones(2, 2, 7, 9)):
        targets = {"present": there, "valid": torch.ones(SHAPE)}
        assert sum(dense_losses(80 * there - 40, targets, config).values()).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("output", OUTPUTS)
def test_pixels_that_are_not_valid_do_not_matter(output: str, border: bool) -> None:
    config = configured(output, terms=dict.fromkeys(TERMS, 1.0))
    logits, targets = example(config)
    if border:
        targets["border"] = 3 * torch.rand(SHAPE)
    logits.requires_grad_()
    total = sum(dense_losses(logits, targets, config).values())
    total.backward()
    unknown = (targets["valid"] == 0)[:, None].expand_as(logits)
    assert (logits.grad[unknown] == 0).all()
    assert (logits.grad[~unknown] != 0).any(dim=0)
    changed = dict(targets)
    for name in ("labels", "present", "parts", "foreground"):
        value = targets[name]
        known = targets["valid"] > 0 if value.ndim == 3 else targets["valid"][:, None] > 0
        changed[name] = torch.where(known, value, (value == 0).to(value))
    with torch.no_grad():
        again = dense_losses(torch.where(unknown, -logits, logits), changed, config)
    torch.testing.assert_close(sum(again.values()), total.detach())


@pytest.mark.parametrize("output", OUTPUTS)
def test_images_of_which_nothing_is_known_teach_nothing(output: str) -> None:
    config = configured(output, terms=dict.fromkeys(TERMS, 1.0))
    logits, targets = example(config)
    logits.requires_grad_()
    losses = dense_losses(logits, {**targets, "valid": torch.zeros(SHAPE), "border": torch.ones(SHAPE)}, config)
    assert [value.item() for value in losses.values()] == pytest.approx([0] * len(losses), abs=0)
    sum(losses.values()).backward()
    assert (logits.grad == 0).all()


def test_border_weights_are_added_to_those_of_classes() -> None:
    config = configured("softmax", 1)
    logits = torch.tensor([[[[0.0, 1.0, 2.0]], [[0.0, 0.0, 0.0]]]])
    targets = {"labels": torch.tensor([[[1, 0, 0]]]), "valid": torch.ones(1, 1, 3),
               "border": torch.tensor([[[0.0, 6.0, 0.0]]])}  # fmt: skip
    found = dense_losses(logits, targets, config, torch.tensor([0.5, 2.0]))["cross_entropy"].item()
    entropy = [math.log(2), math.log1p(math.exp(-1)), math.log1p(math.exp(-2))]
    assert found == pytest.approx((2 * entropy[0] + 6.5 * entropy[1] + 0.5 * entropy[2]) / 9)
    binary = {"present": targets["labels"][:, None], **targets}
    found = dense_losses(logits[:, :1], binary, configured("binary", 1), torch.tensor([0.5, 2.0]))["cross_entropy"]
    wrong = [math.log(2), math.log1p(math.exp(1)), math.log1p(math.exp(2))]
    assert found.item() == pytest.approx((2 * wrong[0] + 6.5 * wrong[1] + 0.5 * wrong[2]) / 3)


@pytest.mark.parametrize("output", OUTPUTS)
def test_losses_are_of_single_precision_under_autocast(output: str) -> None:
    config = configured(output, terms=dict.fromkeys(TERMS, 1.0))
    logits, targets = example(config)
    half = logits.bfloat16()
    expected = dense_losses(half.float(), targets, config)
    with torch.autocast("cpu", torch.bfloat16):
        found = dense_losses(half, targets, config)
    for name, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize(("output", "kinds"), [("binary", 2), ("softmax", 2), ("boundary", 2), ("distance", 1)])
def test_class_weights_are_those_of_the_settings(output: str, kinds: int) -> None:
    plain, weighted = configured(output), configured(output, class_weights=3.0)
    logits, targets = example(plain)
    found = dense_losses(logits, targets, weighted)
    expected = dense_losses(logits, targets, plain, torch.tensor([1.0, *[3.0] * kinds]))
    assert found == expected
    assert found["cross_entropy"] != dense_losses(logits, targets, plain)["cross_entropy"]


def test_class_weights_as_numbers() -> None:
    assert class_weight_values(configured("softmax")) is None
    assert class_weight_values(configured("softmax", class_weights=5)) == (1, 5, 5)
    assert class_weight_values(configured("distance", class_weights=5)) == (1, 5)
    assert class_weight_values(configured("binary", class_weights=(1, 2, 3))) == (1, 2, 3)
    with pytest.raises(ConfigError, match="without data"):
        class_weight_values(configured("softmax", class_weights="balanced"))


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_minimises_the_loss_is_the_truth(output: str, term: str) -> None:
    config = configured(output, terms={term: 1.0})
    _, targets = example(config)
    targets = all_valid(targets)
    logits = torch.zeros(2, config.channels_out, 7, 9, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimiser.zero_grad()
        sum(dense_losses(logits, targets, config).values()).backward()
        optimiser.step()
    found = logits.detach()
    if output == "binary":
        assert ((found > 0) == targets["present"]).all()
    elif output == "softmax":
        assert (found.argmax(dim=1) == targets["labels"]).all()
    elif output == "boundary":
        assert (found[:, :3].argmax(dim=1) == targets["parts"]).all()
    else:
        assert ((found[:, 0] > 0) == targets["foreground"]).all()
        assert (found[:, 1] - targets["distance"]).abs().max() < 0.3
    if output in ("boundary", "distance"):
        inside = targets["labels"] > 0
        assert (found[:, -2:].argmax(dim=1) + 1 == targets["labels"])[inside].all()
