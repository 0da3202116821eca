from __future__ import annotations

import pytest
from pydantic import ValidationError

from cytomask.models.dense.config import DenseConfig, DenseLoss, DensePostprocess, SwinUNetConfig


@pytest.mark.parametrize(
    ("output", "classes", "channels"),
    [
        ("binary", 1, 1), ("binary", 3, 3), ("softmax", 1, 2), ("softmax", 3, 4),
        ("boundary", 1, 3), ("boundary", 2, 5), ("distance", 1, 2), ("distance", 4, 6),
    ],
)  # fmt: skip
def test_channels_of_the_output(output: str, classes: int, channels: int) -> None:
    config = DenseConfig(output=output, classes=tuple("abcd"[:classes]))
    assert config.channels_out == channels


def test_class_weights_must_be_as_many_as_classes_of_pixels() -> None:
    with pytest.raises(ValidationError, match="2 class_weights are given for 3 classes of pixels: background, a, b"):
        DenseConfig(output="softmax", classes=("a", "b"), loss=DenseLoss(class_weights=(1.0, 2.0)))
    with pytest.raises(ValidationError, match="interior"):
        DenseConfig(output="boundary", loss=DenseLoss(class_weights=(1.0, 2.0)))
    assert DenseConfig(output="softmax", loss=DenseLoss(class_weights=10)).loss.class_weights == 10
    with pytest.raises(ValidationError, match="negative"):
        DenseLoss(class_weights=-1.0)
    with pytest.raises(ValidationError, match="leave out"):
        DenseLoss(terms={"dice": 0.0})


def test_heads_must_divide_the_features_of_their_level() -> None:
    assert SwinUNetConfig().heads_per_level == (4, 4, 4, 4)
    with pytest.raises(ValidationError, match="no multiple of 5 heads"):
        SwinUNetConfig(heads=5)
    with pytest.raises(ValidationError, match="must agree"):
        SwinUNetConfig(heads=(1, 2))


def test_objects_of_a_dense_network_do_not_compete() -> None:
    with pytest.raises(ValidationError):
        DensePostprocess(nms="linear")
