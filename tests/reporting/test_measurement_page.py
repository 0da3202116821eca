"""Pictures and charts of measurements show what was measured, where it is."""

from __future__ import annotations

import numpy as np
import pytest

from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.reporting.measurement_charts import Box, box_chart, cloud_chart, correlation_matrix
from cytomask.reporting.measurement_pictures import draw_relations
from cytomask.reporting.measurement_sections import _channel_names


def test_lines_of_every_layer_lie_where_they_should() -> None:
    objects = Instances.from_labels(np.pad(np.ones((40, 40), int), 80))
    ends = np.array([[30.0, 20, 30, 180]])
    lines = {"first": (ends, np.array([True])), "second": (np.add(ends, [50, 0, 50, 0]), np.array([False]))}
    layers = draw_relations("a", objects, None, lines).layers
    for row, codes, kind in ((30, layers["first"], 1), (80, layers["second"], 2)):
        rows, columns = np.nonzero(codes == kind)
        assert set(rows) == {row}
        assert 20 <= columns.min() < 26
        assert 174 < columns.max() <= 181
        assert (codes[row - 1 : row + 2, [20, 180]] == 3).any(axis=0).all()


def test_of_a_crowd_the_middle_is_drawn() -> None:
    labels = np.zeros((400, 600), int)
    for k, (y, x) in enumerate((y, x) for y in range(2, 398, 8) for x in range(2, 598, 8)):
        labels[y : y + 4, x : x + 4] = k + 1
    pixels = np.zeros((400, 600), np.uint8)
    pixels[190:200, 290:300] = 255
    ends = np.array([[195.0, 295, 195, 320]])
    drawn = draw_relations(
        "a", Instances.from_labels(labels), Image.from_array(pixels), {"n": (ends, np.array([True]))}
    )
    height, width = drawn.picture.shape[:2]
    assert (height, width) == (101, 135)
    top, left = (400 - height) // 2, (600 - width) // 2
    assert drawn.note == f"the middle: y {top} to {top + height}, x {left} to {left + width}"
    assert drawn.layers["n"][195 - top, 305 - left] == 1


def test_boxes_tell_their_numbers_and_images_are_dots() -> None:
    values = list(range(1, 101))
    chart = box_chart([Box("a", values, [20.0, 60.0]), Box("b", [np.nan])], title="t", x_label="x")
    assert chart is not None
    assert "a: median 50.5, middle half 25.8 to 75.2, 90 % 5.95 to 95, n = 100" in chart
    assert chart.count("<circle") == 2
    assert ">b<" not in chart
    assert box_chart([Box("b", [np.nan])], title="t", x_label="x") is None
    assert box_chart([Box("b", [0.0, 0.0])], title="t", x_label="x") is not None


@pytest.mark.parametrize("name", ['<script>alert("x")</script>', "a&b"])
def test_names_are_escaped(name: str) -> None:
    charts = [
        box_chart([Box(name, [1, 2])], title=name, x_label=name),
        cloud_chart([(name, [1], [2]), ("b", [1], [2])], title=name, x_label=name, y_label=name),
        correlation_matrix([name, "b"], [[1, 0.2], [0.2, 1]], title=name),
    ]
    for chart in charts:
        assert chart is not None
        assert name not in chart


def test_a_matrix_leaves_out_what_is_not_defined() -> None:
    values = [[1, np.nan, -0.5], [np.nan, 1, 0.25], [-0.5, 0.25, 1]]
    chart = correlation_matrix(["a", "b", "c"], values, title="t")
    assert chart.count("<rect") == 2
    assert chart.count('class="no"') == 1


def test_channels_are_told_from_the_names_of_pairs() -> None:
    for names in (["a", "b"], ["CH_7", "CH_11", "CH_19"], ["a", "a_b", "b", "b_c"]):
        titles = [f"{a}_{b}" for i, a in enumerate(names) for b in names[i + 1 :]]
        found = _channel_names(titles)
        assert [f"{a}_{b}" for i, a in enumerate(found) for b in found[i + 1 :]] == titles
