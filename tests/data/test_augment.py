"""Drawing geometry: repeatable, within its limits, and inside the image where that is possible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cytomask.data.augment import AugmentConfig, draw_warp
from cytomask.geometry.warp import Warp

NONE = AugmentConfig.none()


def only(**changes: object) -> AugmentConfig:
    return AugmentConfig.model_validate({**NONE.model_dump(), **changes})


def drawn(config: AugmentConfig, seed: int = 0, diameter: float | None = 20.0, **options: object) -> tuple[Warp, float]:
    settings_: dict = {"size": 32, "source_shape": (100, 120), "focus": (50, 60), **options}
    return draw_warp(config, np.random.default_rng(seed), diameter=diameter, **settings_)


def test_without_augmentation_a_window_is_cut() -> None:
    for seed in range(20):
        warp, zoom = drawn(NONE, seed)
        assert zoom == 1
        assert np.array_equal(warp.matrix[:, :2], np.eye(2))
        assert np.array_equal(warp.matrix[:, 2], np.round(warp.matrix[:, 2]))


def test_the_same_generator_draws_the_same() -> None:
    config = AugmentConfig(elastic={"probability": 1})
    for seed in range(5):
        one, two = (drawn(config, seed)[0] for _ in range(2))
        assert np.array_equal(one.matrix, two.matrix)
        assert np.array_equal(one.elastic, two.elastic)
    assert not np.array_equal(drawn(config, 1)[0].matrix, drawn(config, 2)[0].matrix)


def test_flips_and_turns_give_all_eight_symmetries_and_copy_pixels() -> None:
    config = only(flips=0.5, quarter_turns=1.0)
    matrices = [drawn(config, seed)[0].matrix for seed in range(100)]
    assert all(np.array_equal(m, np.round(m)) for m in matrices)
    assert len({m[:, :2].tobytes() for m in matrices}) == 8
    turns = [drawn(only(quarter_turns=1.0), seed)[0].matrix[:, :2] for seed in range(60)]
    assert len({m.tobytes() for m in turns}) == 4
    assert all(np.linalg.det(m) > 0 for m in turns)


@given(st.integers(0, 2**20), st.floats(3, 150))
@settings(max_examples=60, deadline=None)
def test_the_diameter_drawn_sets_the_zoom(seed: int, diameter: float) -> None:
    config = only(scale={"probability": 1, "diameter": (8, 100), "stretch": 1, "min_zoom": 0.2, "max_zoom": 3})
    warp, zoom = drawn(config, seed, diameter)
    assert 0.2 <= zoom <= 3
    assert warp.shrinkage == pytest.approx(1 / zoom)
    if 0.2 < zoom < 3:
        assert 8 - 1e-6 <= zoom * diameter <= 100 + 1e-6


def test_diameters_are_drawn_log_uniformly() -> None:
    config = only(scale={"probability": 1, "diameter": (8, 128), "stretch": 1})
    diameters = [drawn(config, seed, 32.0)[1] * 32 for seed in range(400)]
    shares = np.histogram(np.log2(diameters), bins=[3, 4, 5, 6, 7])[0] / 400
    np.testing.assert_allclose(shares, 0.25, atol=0.07)


def test_an_image_without_objects_is_zoomed_by_factors() -> None:
    config = only(scale={"probability": 1, "diameter": (8, 100), "zoom": (0.9, 1.1)})
    assert all(0.9 <= drawn(config, seed, None)[1] <= 1.1 for seed in range(50))


def test_stretch_stays_within_its_ratio_and_keeps_areas() -> None:
    config = only(scale={"probability": 1, "zoom": (1, 1), "stretch": 1.3})
    ratios = []
    for seed in range(100):
        values = np.linalg.svd(drawn(config, seed)[0].matrix[:, :2], compute_uv=False)
        assert values[0] * values[1] == pytest.approx(1)
        ratios.append(values[0] / values[1])
    assert 1.2 < max(ratios) <= 1.3


@given(st.integers(0, 2**20), st.floats(0, 99), st.floats(0, 119), st.integers(8, 60))
@settings(max_examples=80, deadline=None)
def test_patches_stay_inside_where_they_fit_and_hold_the_focus(seed: int, y: float, x: float, size: int) -> None:
    config = AugmentConfig(scale={"zoom": (0.9, 1.5)}, rotation={"probability": 0.5})
    warp, _ = drawn(config, seed, size=size, focus=(y, x))
    low_y, high_y, low_x, high_x = warp.bounds()
    # A hair of rounding, and half a pixel where whole pixels are copied.
    if high_y - low_y < 99:
        assert low_y > -0.6
        assert high_y < 99.6
    if high_x - low_x < 119:
        assert low_x > -0.6
        assert high_x < 119.6


@given(st.integers(0, 2**20), st.floats(0, 99), st.floats(0, 119), st.integers(8, 60))
@settings(max_examples=60, deadline=None)
def test_patches_hold_the_focus(seed: int, y: float, x: float, size: int) -> None:
    # A turned patch cannot hold a corner of the image without reaching beyond it.
    config = only(flips=0.5, quarter_turns=1, scale={"probability": 1, "zoom": (0.5, 2), "stretch": 1})
    warp, zoom = drawn(config, seed, size=size, focus=(y, x))
    rows, cols = warp.coordinates()
    assert np.hypot(rows - y, cols - x).min() < 1 + 1 / zoom


def test_elastic_bends_but_does_not_fold() -> None:
    config = only(elastic={"probability": 1, "strength": (0.25, 0.25), "spacing": (8, 8)})
    for seed in range(30):
        warp, _ = drawn(config, seed, size=64, source_shape=(300, 300))
        assert np.abs(warp.elastic).max() <= 2 * 0.25 * 8
        rows, cols = warp.coordinates()
        area = np.diff(rows, axis=0)[:, :-1] * np.diff(cols, axis=1)[:-1]
        area -= np.diff(rows, axis=1)[:-1] * np.diff(cols, axis=0)[:, :-1]
        assert (area > 0).mean() > 0.995
        assert np.abs(rows - rows.mean(axis=1, keepdims=True)).max() > 0.3


def test_diameter_range() -> None:
    sizes = {"diameter_p5": 10.0, "diameter_p95": 40.0}
    assert NONE.diameter_range(sizes) == (10, 40)
    assert only(scale={"probability": 0.5, "zoom": (0.5, 2)}).diameter_range(sizes) == (5, 80)
    assert only(scale={"probability": 0.5, "diameter": (8, 120)}).diameter_range(sizes) == (8, 120)
    # Four times the largest object is the largest that can be shown.
    assert only(scale={"probability": 0.5, "diameter": (1, 500)}).diameter_range(sizes) == (2.5, 160)


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 0.5},
        {"flips": 2},
        {"scale": {"diameter": [0, 10]}},
        {"scale": {"diameter": [20, 10]}},
        {"scale": {"min_zoom": 3, "max_zoom": 2}},
        {"scale": {"stretch": 0.5}},
        {"elastic": {"strength": [0.1, 0.9]}},
        {"intensity": {"blur": {"sigmas": [1, 2]}}},
    ],
)
def test_wrong_settings_are_told(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        AugmentConfig.model_validate(wrong)


def test_settings_survive_yaml() -> None:
    config = AugmentConfig(scale={"diameter": [8, 120]})
    assert AugmentConfig.model_validate(config.model_dump(mode="json")) == config
