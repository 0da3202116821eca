"""Legends: they hide nothing, show every class, and fit whatever the picture's size."""

from __future__ import annotations

import numpy as np
import pytest

from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.reporting.colours import PALETTE, class_colours
from cytomask.reporting.legend import add_legend
from cytomask.reporting.overlay import OverlayStyle, draw_overlay

NAMES = ("Cells", "Mitochondria", "Alpha Granule", "Canalicular Vessels")


def noise(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (33, 35), (400, 100), (100, 900), (2000, 1500)])
def test_the_picture_stays_and_every_class_is_shown(shape):
    before = noise(shape)
    after = add_legend(before, NAMES, class_colours(4), [3, 0, 12_345, 1])
    np.testing.assert_array_equal(after[: shape[0], : shape[1]], before)
    strip = after[shape[0] :]
    for colour in class_colours(4):
        patch = (strip == colour).all(axis=-1)
        rows, columns = np.nonzero(patch)
        side = rows.max() - rows.min() + 1
        # A whole square.
        assert side == columns.max() - columns.min() + 1 >= 11
        assert patch.sum() == side**2
    # Letters do not run off the right edge.
    assert (strip[:, -2:] < 60).all()
    assert (strip > 200).all(axis=-1).any()


def test_wide_pictures_have_one_row_and_narrow_ones_several():
    heights = [len(add_legend(noise((50, width)), NAMES, class_colours(4), size=12)) - 50 for width in (900, 300, 40)]
    assert heights[0] < heights[1] < heights[2]


def test_without_classes_there_is_no_legend():
    picture = noise((20, 30))
    assert add_legend(picture, [], class_colours(0)) is picture


def objects() -> tuple[Image, Instances]:
    pixels = np.full((120, 160, 3), (120, 60, 180), np.uint8)
    pixels[0, 0], pixels[-1, -1] = 0, 255
    labels = np.zeros((120, 160), np.int32)
    yy, xx = np.ogrid[:120, :160]
    for number, x in enumerate((30, 80, 130), start=1):
        labels[(yy - 60) ** 2 + (xx - x) ** 2 < 400] = number
    found = Instances.from_labels(
        labels, classes={1: 1, 2: 2, 3: 1}, scores={1: 0.9, 2: 0.8, 3: 0.7}, class_names=("a", "b", "c")
    )
    return Image.from_array(pixels, axes="YXS"), found


def test_grey_leaves_colours_to_the_objects():
    image, found = objects()
    assert np.ptp(draw_overlay(image, found.take([])).astype(int), axis=-1).any()
    plain = draw_overlay(image, found.take([]), grey=True)
    assert not np.ptp(plain.astype(int), axis=-1).any()
    drawn = draw_overlay(image, found, grey=True, colour_by="class")
    coloured = np.ptp(drawn.astype(int), axis=-1) > 0
    assert coloured.any()
    assert (drawn[coloured][:, None] == PALETTE[:2]).all(axis=-1).any(axis=1).all()


def test_boxes_are_the_objects_own():
    image, found = objects()
    drawn = draw_overlay(image, found, colour_by="class", boxes=True, line_width=1)
    for (y0, x0, y1, x1), c in zip(found.windows, found.classes):
        colour = PALETTE[c - 1]
        for edge in (drawn[y0, x0:x1], drawn[y1 - 1, x0:x1], drawn[y0:y1, x0], drawn[y0:y1, x1 - 1]):
            assert (edge == colour).all()
        assert not (drawn[y0 - 3, x0:x1] == colour).all(axis=-1).any()
        # The corner of the box is no part of the disc.
        assert (draw_overlay(image, found, colour_by="class", line_width=1)[y0, x0] != colour).any()
    assert draw_overlay(image, found, boxes=True, max_side=40).shape == (30, 40, 3)


def test_boxes_beyond_the_image_are_cut():
    image = Image.from_array(np.zeros((20, 20), np.uint8))
    boxes = np.array([[-5, -5, 30, 30]], np.float32)
    found = Instances.from_crops((20, 20), [np.ones((4, 4), bool)], [(8, 8)], boxes=boxes)
    drawn = draw_overlay(image, found, boxes=True, line_width=2)
    assert drawn[0].any(axis=-1).all()
    assert drawn[-1].any(axis=-1).all()


@pytest.mark.parametrize("by", ["object", "class"])
@pytest.mark.parametrize("text", ["id", "score", "class", "class-score"])
def test_every_text_is_drawn(by, text):
    image, found = objects()
    plain = OverlayStyle(by=by).draw(image, found)
    assert (OverlayStyle(by=by, text=text).draw(image, found) != plain).any()


def test_legend_counts_are_those_of_the_objects_unless_told():
    image, found = objects()
    style = OverlayStyle(by="class")
    np.testing.assert_array_equal(style.draw(image, found), style.draw(image, found, counts=[2, 1, 0]))
    assert (style.draw(image, found) != style.draw(image, found, counts=[3, 1, 0])).any()
    assert OverlayStyle().draw(image, found).shape == (120, 160, 3)
