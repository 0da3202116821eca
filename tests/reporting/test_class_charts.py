"""Charts of classes: the numbers are those of numpy, and what is drawn are these numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from cytomask.reporting.class_charts import ClassStatistics, draw_bars, write_area_chart, write_count_chart
from cytomask.reporting.colours import class_colours

OBJECTS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 10**6)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(OBJECTS, max_size=3), max_size=5))
def test_statistics_are_those_of_all_at_once(images):
    statistics = ClassStatistics(["a", "b", "c"])
    for parts in images:
        statistics.begin_image()
        for part in parts:
            statistics.add(np.array([c for c, _ in part], int), np.array([a for _, a in part], float))
    per_image = [[found for part in parts for found in part] for parts in images]
    counts, count_spread = statistics.counts()
    areas, area_spread = statistics.areas()
    for c in (1, 2, 3):
        n = [sum(k == c for k, _ in found) for found in per_image]
        own = [area for found in per_image for k, area in found if k == c]
        wanted = [
            np.mean(n) if n else np.nan, np.std(n, ddof=1) if len(n) > 1 else np.nan,
            np.mean(own) if own else np.nan, np.std(own, ddof=1) if len(own) > 1 else np.nan,
        ]  # fmt: skip
        got = [counts[c - 1], count_spread[c - 1], areas[c - 1], area_spread[c - 1]]
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-6)


def test_bars_are_the_numbers_in_the_colours_of_the_classes():
    figure = draw_bars(
        ["a", "b", "c"], np.array([2.0, 0.5, np.nan]), np.array([3.0, np.nan, np.nan]), "area (µm²)", "n"
    )
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [2.0, 0.5, 0.0]
    for bar, colour in zip(axes.patches, class_colours(3)):
        np.testing.assert_allclose(bar.get_facecolor()[:3], colour / 255)
    (segments,) = [line.get_segments() for line in axes.collections]
    # One class has a spread; its lower end is not below 0.
    assert len(segments) == 1
    assert segments[0][:, 1].tolist() == [0.0, 5.0]
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 5
    assert axes.get_ylabel() == "area (µm²)"
    assert [text.get_text() for text in axes.texts] == ["2", "0.5", "none"]


@pytest.mark.parametrize(
    "names", [[], ["one"], ["$x^", "a_b" * 30, "Alpha Granule"], [f"class {i}" for i in range(40)]]
)
@pytest.mark.parametrize("n_images", [0, 1, 2])
def test_charts_are_drawn_whatever_there_is(tmp_path, names, n_images):
    statistics = ClassStatistics(names, "µm²")
    for _ in range(n_images):
        statistics.begin_image()
    write_count_chart(tmp_path / "count.png", statistics)
    write_area_chart(tmp_path / "area.png", statistics)
    for name in ("count.png", "area.png"):
        with Picture.open(tmp_path / name) as picture:
            assert min(picture.size) > 200
