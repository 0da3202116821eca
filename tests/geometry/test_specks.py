"""Specks: small connected parts go, larger parts keep their label."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cytomask.geometry.specks import drop_specks


def slowly(labels: np.ndarray, min_pixels: int) -> np.ndarray:
    out = labels.copy()
    for label in np.unique(labels[labels > 0]):
        parts, _ = ndimage.label(labels == label, np.ones((3, 3)))
        sizes = np.bincount(parts.ravel())
        out[(parts > 0) & (sizes[parts] < min_pixels)] = 0
    return out


@given(st.integers(0, 2**20), st.integers(1, 15), st.integers(1, 15), st.integers(0, 6), st.integers(1, 4))
@settings(max_examples=120, deadline=None)
def test_as_labelling_each_object_by_itself(seed: int, height: int, width: int, least: int, top: int) -> None:
    labels = np.random.default_rng(seed).integers(0, top + 1, (height, width)).astype(np.int32)
    assert np.array_equal(drop_specks(labels, least), slowly(labels, least))


def test_pieces_keep_their_common_label() -> None:
    labels = np.array([[3, 3, 0, 3, 3], [0, 0, 0, 0, 3], [3, 0, 0, 0, 0]], np.int32)
    assert drop_specks(labels, 2).tolist() == [[3, 3, 0, 3, 3], [0, 0, 0, 0, 3], [0, 0, 0, 0, 0]]


def test_the_input_is_left_alone() -> None:
    labels = np.array([[1]], np.int32)
    drop_specks(labels, 5)
    assert labels[0, 0] == 1
