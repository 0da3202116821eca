"""What became of every object, in colours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.errors import LabelError
from cytomask.evaluation.error_kinds import PREDICTION_KINDS, TRUTH_KINDS
from cytomask.instances import Instances
from cytomask.reporting import error_overlay
from cytomask.reporting.colours import _DEUTERANOPIA, _lab
from cytomask.reporting.error_overlay import KIND_COLOURS, LAYER_PALETTE, Grid, error_layer, lay_over, side_layer

#: Linear RGB as seen with protanopia (Machado et al. 2009, severity 1).
_PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
NOTHING = np.zeros(0, np.uint8)


def _squares(*corners, size=20, shape=(100, 120)):
    labels = np.zeros(shape, np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + size, x : x + size] = number
    return Instances.from_labels(labels)


def _colours(layer):
    return LAYER_PALETTE[layer]


def _has(layer, name, where=(slice(None), slice(None))):
    """Which pixels are an opaque line in the colour of a kind."""
    return (_colours(layer) == (*KIND_COLOURS[name], 255)).all(axis=-1)[where]


def test_names_are_those_of_the_evaluation():
    assert error_overlay.TRUTH_KINDS == TRUTH_KINDS
    assert error_overlay.PREDICTION_KINDS == PREDICTION_KINDS
    assert set(KIND_COLOURS) == {*TRUTH_KINDS, *PREDICTION_KINDS}


def test_kinds_differ_for_all_eyes():
    for sight in (np.eye(3), _DEUTERANOPIA, _PROTANOPIA):
        seen = _lab(np.clip((np.array(list(KIND_COLOURS.values())) / 255) ** 2.2 @ sight.T, 0, 1))
        for a, b in itertools.combinations(range(len(seen)), 2):
            assert np.linalg.norm(seen[a] - seen[b]) > 24, (list(KIND_COLOURS)[a], list(KIND_COLOURS)[b])


@pytest.mark.parametrize(("code", "name"), list(enumerate(TRUTH_KINDS)))
def test_true_object(code, name):
    truth = _squares((30, 40))
    layer = error_layer(truth, Instances.empty(truth.shape), np.array([code]), NOTHING, line_width=1)
    edge = np.zeros(truth.shape, bool)
    edge[30:50, 40:60] = True
    edge[31:49, 41:59] = False
    if name == "hit":
        # Its prediction shows it.
        assert not layer.any()
        return
    line = _has(layer, name)
    assert not line[~edge].any()
    assert 0.4 < line[edge].mean() < 0.85  # dashed
    assert (_colours(layer)[32:48, 42:58] == LAYER_PALETTE[layer[40, 50]]).all()
    assert LAYER_PALETTE[layer[40, 50]].tolist()[:3] == list(KIND_COLOURS[name])
    assert 0 < LAYER_PALETTE[layer[40, 50], 3] < 128
    assert not layer[:28].any()


@pytest.mark.parametrize(("code", "name"), list(enumerate(PREDICTION_KINDS)))
def test_predicted_object(code, name):
    prediction = _squares((30, 40))
    layer = error_layer(Instances.empty(prediction.shape), prediction, NOTHING, np.array([code]), line_width=1)
    line = _has(layer, name)
    assert line.sum() == 76  # the whole edge of a square of 20
    filled = layer[40, 50] != 0
    assert filled == (name != "hit")


def test_codes_may_be_in_another_order():
    truth = _squares((30, 40))
    layer = error_layer(
        truth, Instances.empty(truth.shape), np.array([1]), NOTHING, truth_names=("hit", "missed"), line_width=1
    )
    assert _has(layer, "missed").any()


def test_dashes_are_even():
    """On each side of a square there are dashes and gaps, about as long as each other."""
    truth = _squares((10, 10), size=80)
    layer = error_layer(truth, Instances.empty(truth.shape), np.array([4]), NOTHING, line_width=1)
    line = _has(layer, "missed")
    for side in (line[10, 10:90], line[89, 10:90], line[10:90, 10], line[10:90, 89]):
        assert 0.5 < side.mean() < 0.75
        runs = [len(list(run)) for drawn, run in itertools.groupby(side) if not drawn]
        assert max(runs) <= 5


def test_touching_true_objects_both_keep_their_dashes():
    truth = _squares((30, 40), (30, 60))
    alone = [
        error_layer(truth.take([k]), Instances.empty(truth.shape), np.array([4]), NOTHING, line_width=1) for k in (0, 1)
    ]
    both = error_layer(truth, Instances.empty(truth.shape), np.array([4, 4]), NOTHING, line_width=1)
    for one in alone:
        assert _has(both, "missed")[_has(one, "missed")].all()


def test_dashes_of_an_object_do_not_cut_one_in_its_notch():
    labels = np.zeros((100, 120), np.int32)
    labels[10:90, 10:30] = labels[70:90, 10:110] = 1
    labels[20:60, 40:100] = 2
    truth = Instances.from_labels(labels)
    alone = [
        error_layer(truth.take([k]), Instances.empty(truth.shape), np.array([4]), NOTHING, line_width=1) for k in (0, 1)
    ]
    both = error_layer(truth, Instances.empty(truth.shape), np.array([4, 4]), NOTHING, line_width=1)
    assert np.array_equal(_has(both, "missed"), _has(alone[0], "missed") | _has(alone[1], "missed"))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 4), st.integers(0, 4))
def test_order_of_objects_does_not_matter(order, first, second):
    truth = _squares((5, 5), (5, 40), (40, 5), (40, 40), (70, 80))
    kinds = np.array([first, second, 4, 2, 1])
    prediction = truth.shifted(6, 4, truth.shape)
    expected = error_layer(truth, prediction, kinds, kinds)
    shuffled = error_layer(truth.take(order), prediction.take(order), kinds[list(order)], kinds[list(order)])
    assert np.array_equal(expected, shuffled)


@pytest.mark.parametrize("grid", [Grid(), Grid(enlarge=3), Grid(shrink=2), Grid(shrink=7)])
def test_layer_has_the_pixels_of_the_grid(grid):
    truth = _squares((30, 40), (70, 2))
    kinds = np.array([4, 3])
    layer = error_layer(truth, truth, kinds, kinds, grid=grid, line_width=1)
    assert layer.shape == grid.size(truth.shape)
    scale = grid.enlarge / grid.shrink
    at = layer[int(40 * scale), int(50 * scale)]
    assert LAYER_PALETTE[at].tolist()[:3] in (list(KIND_COLOURS["missed"]), list(KIND_COLOURS["spurious"]))
    assert layer[int(10 * scale), int(100 * scale)] == 0
    # Outlines lie where the image's do, to a pixel of the picture.
    there = np.argwhere(_has(layer, "spurious") | _has(layer, "merged"))
    low, high = there.min(axis=0) / scale, (there.max(axis=0) + 1) / scale
    assert np.abs(low - [30, 2]).max() <= 1 / scale
    assert np.abs(high - [90, 60]).max() <= 1 / scale


def test_objects_smaller_than_a_pixel_are_seen():
    labels = np.zeros((400, 400), np.int32)
    labels[203, 301] = 1
    truth = Instances.from_labels(labels)
    layer = error_layer(truth, Instances.empty(truth.shape), np.array([4]), NOTHING, grid=Grid(shrink=20))
    assert layer[10, 15] > 1


def test_many_objects_keep_their_own_colours():
    """More than 255 objects: each gap is cut out of the object that it belongs to."""
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.pad(np.ones((9, 9), int), (2, 1)))
    truth = Instances.from_labels(labels)
    kinds = np.full(400, 4)
    layer = error_layer(truth, Instances.empty(truth.shape), kinds, np.zeros(0, int), line_width=1)
    tiles = _has(layer, "missed").reshape(20, 12, 20, 12).transpose(0, 2, 1, 3).reshape(400, 12, 12)
    assert (tiles == tiles[210]).all()
    assert 8 <= tiles[0].sum() <= 30


def test_side_layer_shows_every_outline_whole():
    truth = _squares((30, 40), (30, 60))
    layer = side_layer(truth, "truth", line_width=1)
    colours = _colours(layer)
    assert len(np.unique(colours[(colours[..., 3] == 255)], axis=0)) == 1
    assert (colours[..., 3] == 255).sum() == 2 * 76
    assert not side_layer(Instances.empty((10, 12)), "prediction").any()


def test_lay_over_mixes_by_opacity():
    picture = np.full((1, 3, 3), 200, np.uint8)
    layer = np.array([[0, 1, 2]], np.uint8)
    over = lay_over(picture, layer)
    assert over[0, 0].tolist() == [200, 200, 200]
    assert over[0, 1].tolist() == [200 - round(200 * int(LAYER_PALETTE[1, 3]) / 255)] * 3
    assert over[0, 2].tolist() == list(KIND_COLOURS["hit"])


def test_grids():
    assert Grid.fitting((256, 320), 1024, most=4) == Grid(enlarge=3)
    assert Grid.fitting((1024, 1024), 1024) == Grid()
    assert Grid.fitting((1025, 20), 1024) == Grid(shrink=2)
    assert Grid.fitting((10, 10), 1024, most=4) == Grid(enlarge=4)


def test_what_does_not_belong_together():
    truth = _squares((30, 40))
    with pytest.raises(LabelError, match="differ in size"):
        error_layer(truth, Instances.empty((10, 10)), np.array([0]), NOTHING)
    with pytest.raises(LabelError, match="one kind per true object"):
        error_layer(truth, truth, np.array([0, 0]), np.array([0]))
    with pytest.raises(LabelError, match="one kind per predicted object"):
        error_layer(truth, truth, np.array([0]), NOTHING)
