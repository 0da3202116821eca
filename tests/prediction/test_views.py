"""Views: what a network sees of a turned image, and what comes back."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import FixedRange, PercentileNormalisation
from cytomask.errors import ConfigError
from cytomask.geometry.turns import Turn
from cytomask.image import Image
from cytomask.lazy_pixels import ChannelView
from cytomask.prediction.ensemble import Ensemble, Member
from cytomask.prediction.fusion import Fusion
from cytomask.prediction.prepare import PreparedImage, prepare_image
from cytomask.prediction.views import AUGMENTS, View, plan_views, segment_views, show

ALL = [Turn(*steps) for steps in product((False, True), repeat=3)]


def prepared(seed: int, height: int, width: int, channels: int = 1) -> PreparedImage:
    pixels = np.random.default_rng(seed).integers(0, 200, (channels, height, width), np.uint8)
    image = Image.from_array(pixels, axes="CYX")
    expectation = (
        ChannelExpectation(mode="stack", channels=tuple("abc"[:channels])) if channels > 1 else ChannelExpectation()
    )
    return prepare_image(image, channels=expectation, normalisation=FixedRange(low=0, high=1))


def whole(view: PreparedImage) -> np.ndarray:
    return view.window(0, 0, *view.shape)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    turn=st.sampled_from(ALL),
    data=st.data(),
)
def test_a_view_shows_the_turned_image(seed, height, width, turn, data):
    image = prepared(seed, height, width)
    view = show(image, View(turn))
    expected = turn.array(whole(image))
    assert view.shape == view.native_shape == expected.shape[1:]
    np.testing.assert_array_equal(whole(view), expected)
    # A window of it, which may reach into the padding, is that part of it, and its edge repeated.
    y0, x0 = (data.draw(st.integers(0, n - 1)) for n in view.shape)
    y1, x1 = data.draw(st.integers(y0 + 1, view.shape[0] + 5)), data.draw(st.integers(x0 + 1, view.shape[1] + 5))
    padded = np.pad(expected, ((0, 0), (0, 5), (0, 5)), mode="edge")
    np.testing.assert_array_equal(view.window(y0, x0, y1, x1), padded[:, y0:y1, x0:x1])


@pytest.mark.parametrize("first", ALL)
@pytest.mark.parametrize("second", ALL)
def test_a_view_of_a_view(first, second):
    image = prepared(3, 7, 12)
    both = show(show(image, View(first, 2.0)), View(second, 0.5))
    np.testing.assert_array_equal(whole(both), second.array(first.array(whole(image))))
    assert both.scale == (1.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    turn=st.sampled_from(ALL),
    scale=st.sampled_from([0.5, 0.8, 1.0, 1.3]),
    stretch=st.sampled_from([1.0, 0.7]),
)
def test_a_scaled_view_is_the_turned_image_scaled(seed, turn, scale, stretch):
    image = prepared(seed, 23, 31)
    view = show(image.at_scale((1.0, stretch)), View(turn, scale))
    turned = Image.from_array(turn.array(image.image.pixels), axes="CYX")
    y, x = turn.size((1.0, stretch))
    expected = PreparedImage(turned, image.statistics, (scale * y, scale * x))
    np.testing.assert_array_equal(whole(view), whole(expected))


@pytest.mark.parametrize("turn", ALL)
def test_a_part_of_a_view_and_a_view_of_a_part(turn):
    image = prepared(5, 20, 30)
    part = image.cropped(2, 3, 12, 18)
    np.testing.assert_array_equal(whole(show(part, View(turn))), turn.array(whole(part)))
    view = show(image, View(turn))
    np.testing.assert_array_equal(whole(view.cropped(4, 5, 15, 17)), whole(view)[:, 4:15, 5:17])


def test_a_view_of_lazy_pixels_reads_windows_only():
    pixels = np.random.default_rng(0).integers(0, 255, (1, 400, 600), np.uint8)
    read = []

    class Watched:
        shape, dtype, ndim = pixels.shape, pixels.dtype, 3

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index):
            found = pixels[index]
            read.append(found.size)
            return found

    image = Image.from_array(ChannelView(Watched(), "CYX"), axes="CYX")
    statistics = prepared(0, 4, 4).statistics
    view = show(PreparedImage(image, statistics), View(Turn.quarter(1)))
    read.clear()
    found = view.window(100, 50, 120, 90)
    np.testing.assert_array_equal(found[0], np.rot90(pixels[0])[100:120, 50:90])
    assert sum(read) == 20 * 40


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000), height=st.integers(8, 90), width=st.integers(8, 90), augment=st.sampled_from(AUGMENTS)
)
def test_objects_come_back_to_where_they_are(blobs, grey, seed, height, width, augment):
    """Blobs see whole objects, so each view finds the very same rectangles."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width), np.uint8)
    for _ in range(6):
        y, x = rng.integers(0, (height - 3, width - 3))
        h, w = rng.integers(1, 12, 2)
        if not picture[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1].any():
            picture[y : y + h, x : x + w] = 1
    predictor = blobs(tile=64, overlap=32)
    image = predictor.prepare(grey(picture))
    views = segment_views(predictor, image, plan_views(augment))
    assert len(views) == {"none": 1, "flips": 4, "turns": 4, "full": 8}[augment]
    for found in views:
        np.testing.assert_array_equal(found.to_labels() > 0, picture > 0)
        assert sorted(map(tuple, found.windows)) == sorted(map(tuple, views[0].windows))
    fused = Ensemble([Member(predictor, predictor.postprocess)], views=plan_views(augment)).find(grey(picture))
    np.testing.assert_array_equal(fused.instances.to_labels() > 0, picture > 0)
    np.testing.assert_allclose(fused.instances.scores, 0.9, rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), core=st.integers(24, 60), method=st.sampled_from(["wbf", "nms", "soft-nms"]))
def test_tiles_and_the_whole_give_the_same_with_augmentation(spots, grey, seed, core, method):
    pixels = np.random.default_rng(seed).integers(0, 256, (70, 90), np.uint8)
    results = []
    for tile in (1000, core):
        predictor = spots(tile=tile)
        ensemble = Ensemble(
            [Member(predictor, predictor.postprocess)], views=plan_views("full", (1, 1.25)), fusion=Fusion(method)
        )
        results.append(ensemble.find(grey(pixels)).instances)
    whole, tiled = results
    assert len(whole) > 0
    for name in ("windows", "bits", "boxes", "scores", "ids"):
        np.testing.assert_array_equal(getattr(tiled, name), getattr(whole, name))


def test_models_prepare_the_image_each_in_its_own_way(blobs, grey):
    """One model sees the image at half the size, one normalises by percentiles; both find the rectangle."""
    picture = np.zeros((80, 120), np.uint8)
    picture[20:40, 30:60] = 200
    image = Image.from_array(picture, axes="YX", pixel_size=(0.5, 0.5))
    small, plain = blobs(pixel_size=1.0), blobs()
    small.normalisation = plain.normalisation = PercentileNormalisation()
    ensemble = Ensemble([Member(m, m.postprocess) for m in (small, plain)], weights=[2, 1], views=plan_views("flips"))
    found = ensemble.find(image)
    np.testing.assert_array_equal(found.instances.to_labels() > 0, picture > 0)
    assert found.scale == (0.5, 0.5)
    assert any("rescaled by 0.5" in sentence for sentence in found.told)
    assert found.told[-1] == "1 object fused by wbf of 8 predictions with 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1"


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: plan_views("rotate"), "no such augmentation"),
        (lambda: plan_views("none", ()), "scales"),
        (lambda: plan_views("none", (0.0,)), "scales"),
        (lambda: plan_views("none", (float("nan"),)), "scales"),
        (lambda: plan_views("none", (100.0,)), "scales"),
    ],
)
def test_wrong_views(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


def test_wrong_weights(spots):
    member = Member(spots(), spots().postprocess)
    for weights in ([1, 2], [0], [-1], [float("inf")]):
        with pytest.raises(ConfigError, match="weights"):
            Ensemble([member], weights=weights)


def test_a_scale_given_twice_counts_once():
    assert plan_views("none", (1, 1.0, 2)) == (View(), View(scale=2.0))
