"""Whole images: sized as asked, with labels that stay on their objects, and nothing drawn but by the generator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from cytomask.data.augment import AugmentConfig, draw_whole_warp
from cytomask.data.patches import SourceImage
from cytomask.data.short_edge import ShortestEdge
from cytomask.data.whole_images import WholeImageSampler
from cytomask.geometry.resample import resample_window
from cytomask.label_layers import LabelLayers

PLAIN = AugmentConfig.none()
GEOMETRY = AugmentConfig.model_validate(
    {
        **PLAIN.model_dump(),
        "flips": 0.5,
        "quarter_turns": 1.0,
        "rotation": {"probability": 0.4, "degrees": 30},
        "scale": {"probability": 0.5, "zoom": (0.6, 1.7)},
        "elastic": {"probability": 0.3},
    }
)
TURNS = AugmentConfig.model_validate({**PLAIN.model_dump(), "flips": 0.5, "quarter_turns": 1.0})


def scene(shape: tuple[int, int] = (60, 90)) -> SourceImage:
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for index, (cy, cx, radius) in enumerate([(15, 20, 8), (40, 30, 6), (30, 70, 10), (50, 85, 4)], start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 10 * index
    layers = LabelLayers.from_labels(labels, classes={10: 1, 20: 2, 30: 1, 40: 2}, class_names=("a", "b"))
    return SourceImage.from_arrays((labels > 0).astype(np.float32)[None], layers)


# Sizes that another implementation of the rule gave, some of them at a rounded half.
@pytest.mark.parametrize(
    ("shape", "shortest", "longest", "expected"),
    [
        ((800, 800), 640, 1333, (640, 640)),
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((100, 1000), 800, 1333, (133, 1333)),
        ((325, 2666), 1000, 1333, (162, 1333)),
        ((1, 4000), 800, 1333, (1, 1333)),
    ],
)
def test_the_rule_of_the_shorter_edge(
    shape: tuple[int, int], shortest: int, longest: int, expected: tuple[int, int]
) -> None:
    assert ShortestEdge(shortest=shortest, longest=longest).size(shape) == expected


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(16, 1400), st.integers(0, 1000))
def test_sizes_keep_their_limits(height: int, width: int, shortest: int, more: int) -> None:
    edge = ShortestEdge(shortest=shortest, longest=shortest + more)
    size = edge.size((height, width))
    assert max(size) <= edge.longest
    assert min(size) <= shortest
    assert min(size) == shortest or max(size) == edge.longest
    assert edge.size((width, height)) == size[::-1]
    # The scale is what it was before rounding.
    assert all(abs(n * edge.scale((height, width)) - m) <= 0.5 + 1e-6 or m == 1 for n, m in zip((height, width), size))


def test_the_longer_edge_is_not_the_shorter() -> None:
    with pytest.raises(ValidationError, match="longest"):
        ShortestEdge(shortest=800, longest=700)


def test_unchanged_where_the_size_is_right() -> None:
    source = scene()
    image, layers = WholeImageSampler((60,), 200).draw(source, np.random.default_rng(0))
    assert np.array_equal(image, source.pixels)
    assert np.array_equal(layers.layers, source.labels)
    assert layers.classes == {1: 1, 2: 2, 3: 1, 4: 2}
    assert not layers.crowd


@pytest.mark.parametrize("size", [30, 45, 60, 101, 150])
def test_pixels_are_those_that_prediction_will_see(size: int) -> None:
    noise = np.random.default_rng(0).random((2, 60, 90)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 4, 4)) * 20
    source = SourceImage.from_arrays(smooth, LabelLayers.from_labels(np.zeros((60, 90), np.int32)))
    image, _ = WholeImageSampler((size,), 1000).draw(source, np.random.default_rng(0))
    rows, columns = image.shape[1:]
    seen = resample_window(
        lambda y0, y1, x0, x1: smooth[:, y0:y1, x0:x1], (60, 90), (rows / 60, columns / 90), (0, rows, 0, columns)
    )
    # The borders differ: there the one mirrors, and the other leaves out.
    assert np.abs(image - seen)[:, 2:-2, 2:-2].max() < (1e-4 if size >= 60 else 0.08 * smooth.std())


@given(st.integers(0, 2**20))
@settings(max_examples=60, deadline=None)
def test_labels_lie_on_their_objects(seed: int) -> None:
    sampler = WholeImageSampler((40, 60, 120), 160, 0.7, GEOMETRY)
    image, layers = sampler.draw(scene(), np.random.default_rng(seed))
    assert image.shape[1:] == layers.layers.shape[1:]
    assert max(image.shape) <= 160
    assert layers.crowd <= set(layers.classes)
    assert (layers.layers[0][image[0] < 0.05] == 0).mean() > 0.97
    # Specks are taken out of the labels, and edges are blurred.
    assert (layers.layers[0][image[0] > 0.95] > 0).mean() > 0.9 or (image[0] > 0.95).sum() < 20


@given(st.integers(0, 2**20))
@settings(max_examples=40, deadline=None)
def test_flips_and_quarter_turns_keep_all_objects(seed: int) -> None:
    image, layers = WholeImageSampler((60,), 90, None, TURNS).draw(scene(), np.random.default_rng(seed))
    assert sorted(image.shape[1:]) == [60, 90]
    assert sorted(np.bincount(layers.layers.ravel())[1:]) == sorted(scene().areas)
    assert np.array_equal(image[0] > 0, layers.layers[0] > 0)
    assert not layers.crowd


def test_every_size_and_orientation_comes() -> None:
    sampler = WholeImageSampler((40, 60, 80), 100, None, TURNS)
    shapes = {sampler.draw(scene(), np.random.default_rng(seed))[0].shape[1:] for seed in range(60)}
    assert shapes == {(40, 60), (60, 40), (60, 90), (90, 60), (67, 100), (100, 67)}


@given(st.integers(0, 2**20), st.floats(0.3, 1.0))
@settings(max_examples=60, deadline=None)
def test_a_crop_stays_in_the_image_and_keeps_its_share(seed: int, share: float) -> None:
    edge = ShortestEdge(shortest=40, longest=400)
    warp, zoom = draw_whole_warp(
        PLAIN, np.random.default_rng(seed), edge=edge, crop=share, source_shape=(60, 90), diameter=None
    )
    y0, y1, x0, x1 = warp.bounds()
    rows, columns = (n * step for n, step in zip(warp.shape, np.diag(warp.matrix)))
    half_y, half_x = np.diag(warp.matrix) / 2
    assert y0 - half_y >= -0.5 - 1e-5
    assert y1 + half_y <= 59.5 + 1e-5
    assert x0 - half_x >= -0.5 - 1e-5
    assert x1 + half_x <= 89.5 + 1e-5
    assert int(60 * share + 0.5) <= round(rows) <= 60
    assert int(90 * share + 0.5) <= round(columns) <= 90
    assert zoom == pytest.approx(np.sqrt(warp.shape[0] * warp.shape[1] / (rows * columns)))


def test_zooming_in_shows_any_part_of_the_image() -> None:
    config = AugmentConfig.model_validate(
        {**PLAIN.model_dump(), "scale": {"probability": 1, "zoom": (2, 2), "stretch": 1}}
    )
    edge = ShortestEdge(shortest=60, longest=90)
    tops, lefts = [], []
    for seed in range(200):
        warp, zoom = draw_whole_warp(
            config, np.random.default_rng(seed), edge=edge, crop=None, source_shape=(60, 90), diameter=None
        )
        assert zoom == 2
        assert warp.shape == (60, 90)
        y0, y1, x0, x1 = warp.bounds()
        assert y0 >= -0.5
        assert x0 >= -0.5
        assert y1 <= 59.5
        assert x1 <= 89.5
        tops.append(y0)
        lefts.append(x0)
    assert min(tops) < 1
    assert max(tops) > 28
    assert min(lefts) < 1
    assert max(lefts) > 43


def test_a_diameter_is_meant_in_pixels_of_the_network() -> None:
    config = AugmentConfig.model_validate({**PLAIN.model_dump(), "scale": {"probability": 1, "diameter": (24, 24)}})
    edge = ShortestEdge(shortest=120, longest=1000)
    _, zoom = draw_whole_warp(
        config, np.random.default_rng(0), edge=edge, crop=None, source_shape=(60, 90), diameter=8.0
    )
    assert zoom * 8 == pytest.approx(24)


def test_the_generator_decides_all() -> None:
    sampler = WholeImageSampler(
        (40, 60), 100, 0.8, GEOMETRY.model_copy(update={"intensity": AugmentConfig().intensity})
    )
    one, two, other = (sampler.draw(scene(), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1].layers, two[1].layers)
    assert one[0].shape != other[0].shape or not np.array_equal(one[0], other[0])


def test_each_axis_can_have_its_own_chance_of_a_flip() -> None:
    across = AugmentConfig.model_validate({**PLAIN.model_dump(), "flips": (0.0, 1.0)})
    image, _ = WholeImageSampler((60,), 90, None, across).draw(scene(), np.random.default_rng(0))
    assert np.array_equal(image, scene().pixels[:, :, ::-1])
