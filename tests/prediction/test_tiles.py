"""Tiles: cores partition the image, windows hold what matters and stay on the grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.errors import ConfigError
from cytomask.prediction.tiles import equal_batches, plan_tiles


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    stride=st.sampled_from([1, 2, 8, 16]),
    core=st.integers(16, 300),
    overlap=st.integers(0, 100),
    halo=st.integers(0, 60),
    whole_objects=st.booleans(),
)
def test_plan(height, width, stride, core, overlap, halo, whole_objects):
    tile = core + overlap
    tiles = plan_tiles(
        (height, width), tile=tile, overlap=overlap, stride=stride, halo=halo, needs_whole_objects=whole_objects
    )
    padded = [-(-size // stride) * stride for size in (height, width)]
    points = np.stack(np.meshgrid(np.arange(-1, padded[0] + 1), np.arange(-1, padded[1] + 1), indexing="ij"), -1)
    points = points[:: max(1, stride // 2), :: max(1, stride // 2)].reshape(-1, 2)
    owners = np.zeros(len(points), int)
    margin = halo + (overlap / 2 if whole_objects else 0)
    for t in tiles:
        owners += t.owns(points)
        for axis in range(2):
            start, stop = t.read[axis], t.read[axis + 2]
            assert start % stride == 0
            assert stop % stride == 0
            assert 0 <= start < stop <= padded[axis]
            first, last = max(0, t.core[axis]), min(padded[axis], t.core[axis + 2])
            assert first % stride == 0
            assert start <= max(0, first - margin)
            assert stop >= min(padded[axis], last + margin)
            if (height, width)[axis] > tile:
                assert last - first <= core
    np.testing.assert_array_equal(owners, 1)
    assert sum(len(b) for b in equal_batches(tiles, 3)) == len(tiles)


def test_an_image_no_larger_than_the_tile_is_one_tile():
    (tile,) = plan_tiles((256, 250), tile=256, overlap=64, stride=16, halo=40)
    assert tile.read == (0, 0, 256, 256)


def test_one_long_axis_is_cut_alone():
    tiles = plan_tiles((100, 1000), tile=256, overlap=0, stride=4, halo=8)
    assert {t.read[::2] for t in tiles} == {(0, 100)}
    assert len(tiles) == 4


def test_overlap_is_only_read_where_objects_must_be_whole():
    plain = plan_tiles((512, 512), tile=256, overlap=64, stride=8, halo=16)
    whole = plan_tiles((512, 512), tile=256, overlap=64, stride=8, halo=16, needs_whole_objects=True)
    assert [t.core for t in plain] == [t.core for t in whole]
    assert plain[4].read[0] - whole[4].read[0] == 32


def test_batches_hold_one_shape_each():
    tiles = plan_tiles((600, 600), tile=128, stride=8, halo=8)
    batches = list(equal_batches(tiles, 4))
    assert max(map(len, batches)) == 4
    for batch in batches:
        assert len({t.shape for t in batch}) == 1
    assert sorted(t.read for b in batches for t in b) == sorted(t.read for t in tiles)


@pytest.mark.parametrize(
    "tile, overlap, words", [(64, 64, "too small"), (32, 31, "too small"), (64, -1, "negative"), (8, 0, "too small")]
)
def test_no_core(tile, overlap, words):
    with pytest.raises(ConfigError, match=words):
        plan_tiles((100, 100), tile=tile, overlap=overlap, stride=16)
