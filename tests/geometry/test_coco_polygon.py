"""COCO's polygons against pycocotools, pixel for pixel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from cytomask.errors import LabelError
from cytomask.geometry.bit_mask_checks import check_masks
from cytomask.geometry.coco_polygon import fill_coco_polygons, read_segmentations
from cytomask.geometry.rle import encode_masks

coordinate = st.one_of(
    st.floats(-6, 22, allow_nan=False), st.integers(-4, 20), st.sampled_from([0.5, 3.3, 9.9, 10.1, 11.0])
)
piece = st.lists(coordinate, min_size=6, max_size=16).map(lambda flat: flat[: len(flat) // 2 * 2])
#: On a coarse grid: points on top of each other, edges on edges.
coarse = st.lists(st.sampled_from([0, 1, 2, 2.5, 5]), min_size=6, max_size=14).map(lambda f: f[: len(f) // 2 * 2])


def codes(shape: tuple[int, int], polygons: list) -> list[str]:
    masks = fill_coco_polygons(shape, polygons)
    check_masks(shape, *masks)
    return [code["counts"] for code in encode_masks(*masks, shape)]


pieces = st.lists(piece | coarse, min_size=1, max_size=3)


@given(st.tuples(st.integers(1, 16), st.integers(1, 16)), st.lists(pieces, max_size=3))
@settings(deadline=None, max_examples=300)
def test_every_pixel_is_that_of_pycocotools(shape: tuple[int, int], polygons: list[list[list[float]]]) -> None:
    expected = [coco.merge(coco.frPyObjects(pieces, *shape))["counts"].decode() for pieces in polygons]
    assert codes(shape, polygons) == expected


def test_real_annotations(shared_data: Path) -> None:
    data = json.loads((shared_data / "livecell" / "val.json").read_text())
    image = data["images"][0]
    shape = (image["height"], image["width"])
    annotations = data["annotations"]
    if isinstance(annotations, dict):
        annotations = list(annotations.values())
    polygons = [a["segmentation"] for a in annotations if a["image_id"] == image["id"]]
    assert len(polygons) > 100
    expected = [coco.merge(coco.frPyObjects(pieces, *shape))["counts"].decode() for pieces in polygons]
    assert codes(shape, polygons) == expected


def test_codes_and_polygons_mixed() -> None:
    code = {"size": [4, 5], "counts": [2, 1, 17]}
    square = [[1, 1, 3, 1, 3, 3, 1, 3]]
    masks = read_segmentations((4, 5), [square, code, [], code, square])
    check_masks((4, 5), *masks)
    both = read_segmentations((4, 5), [square])[0].tolist() + read_segmentations((4, 5), [code])[0].tolist()
    assert masks[0][[0, 1]].tolist() == masks[0][[4, 3]].tolist() == both
    assert [sum(c["counts"][1::2]) for c in encode_masks(*masks, (4, 5), compressed=False)] == [4, 1, 0, 1, 4]
    assert len(read_segmentations((4, 5), [])[0]) == 0


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ([[1, 1, 3, 1]], "segmentations[1][0]"),
        ([[1, 1, 3, 1, 3, 3], [1, 1, 3, 1, 3, 3, 4]], "segmentations[1][1]"),
        ([[(1, 1), (3, 1), (3, 3)]], "segmentations[1][0]"),
        ([1, 1, 3, 1, 3, 3], "segmentations[1][0]"),
        ([["a", 1, 3, 1, 3, 3]], "segmentations[1][0]"),
        ([[1, 1, 3, 1, 3, float("nan")]], "segmentations[1][0]"),
        ([[1, 1, 3, 1, 3, 1e9]], "segmentations[1][0]"),
        ("text", "segmentations[1]"),
        (None, "segmentations[1]"),
        ({"size": [4, 5], "counts": [1]}, "segmentations[1]"),
    ],
)
def test_what_is_no_segmentation_is_told(wrong: object, where: str) -> None:
    with pytest.raises(LabelError) as error:
        read_segmentations((4, 5), [[[1, 1, 3, 1, 3, 3]], wrong])
    assert error.value.where == where
