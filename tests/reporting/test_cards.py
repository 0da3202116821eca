"""Cards for notebooks."""

from __future__ import annotations

import base64
import re

import numpy as np
from imagecodecs import png_decode

from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.reporting.cards import backdrop, evaluation_card, image_card, instances_card, leaderboard_card


def _picture(card: str) -> np.ndarray:
    found = re.search(r"data:image/png;base64,([^\"']+)", card)
    assert found is not None
    return png_decode(base64.b64decode(found[1]))


def _cells(size: int = 60) -> Instances:
    labels = np.zeros((size, size), np.int32)
    labels[5:25, 5:25], labels[30:50, 20:50] = 1, 2
    return Instances.from_labels(labels, classes={1: 1, 2: 2}, class_names=("nucleus", "<b>")) if size == 60 else (
        Instances.from_labels(labels)
    )  # fmt: skip


def test_objects_are_drawn_on_their_image_and_counted_by_class() -> None:
    cells = _cells()
    image = Image.from_array(np.full((60, 60), 9, np.uint8))
    card = instances_card(cells, backdrop(image))
    assert "2 objects in 60 x 60 pixels: 1 nucleus, 1 &lt;b&gt;" in card
    drawn, bare = _picture(card).astype(int), backdrop(image).astype(int)
    changed = (drawn != bare).any(axis=2)
    assert changed[5, 10]
    assert not changed[15, 15]
    assert not changed[0, 59]


def test_without_an_image_objects_are_filled() -> None:
    picture = _picture(instances_card(_cells()))
    assert picture[15, 15].any()
    assert not picture[0, 59].any()


def test_large_images_are_shown_small() -> None:
    picture = _picture(image_card(Image.from_array(np.zeros((100, 2000), np.uint8))))
    assert picture.shape[:2] == (34, 667)
    labels = np.zeros((100, 2000), np.int32)
    labels[40:90, 900:1900] = 1
    assert _picture(instances_card(Instances.from_labels(labels))).shape[:2] == (34, 667)


def test_figures_without_intervals_and_with() -> None:
    card = evaluation_card({"aji": 0.71234, "confidence_intervals": {"aji": [0.6, 0.8]}, "pixels": {"dice": 0.5}})
    assert "0.712" in card
    assert "0.600 to 0.800" in card
    assert card.count("<tr>") == 3


def test_the_leaderboard_keeps_the_order() -> None:
    models = [
        {"name": "b", "figures": {"f": 0.9}, "confidence_intervals": {"f": [0.8, 1.0]}},
        {"name": "a", "figures": {}},
    ]
    card = leaderboard_card(models, "f", "F")
    assert card.index(">b<") < card.index(">a<")
    assert "0.800 to 1.000" in card
