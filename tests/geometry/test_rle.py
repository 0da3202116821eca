"""COCO's run-length codes against pycocotools."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from cytomask.errors import LabelError
from cytomask.geometry.bit_mask_checks import check_masks
from cytomask.geometry.bit_masks import byte_offsets
from cytomask.geometry.rle import decode_masks, encode_masks

# pycocotools is not yet made for numpy 2 in all places.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def pack(masks: list[np.ndarray], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pack whole images, the loosest windows there are."""
    windows = np.array([[0, 0, *shape]] * len(masks), np.int32).reshape(-1, 4)
    return windows, np.concatenate([np.zeros(0, np.uint8), *map(np.packbits, masks)]), byte_offsets(windows)


def unpack(packed: tuple[np.ndarray, np.ndarray, np.ndarray], shape: tuple[int, int]) -> list[np.ndarray]:
    check_masks(shape, *packed)
    out = []
    for i, (y0, x0, y1, x1) in enumerate(packed[0]):
        flat = np.unpackbits(packed[1][packed[2][i] : packed[2][i + 1]], count=(y1 - y0) * (x1 - x0))
        out.append(np.zeros(shape, bool))
        out[-1][y0:y1, x0:x1] = flat.reshape(y1 - y0, x1 - x0)
    return out


@st.composite
def some_masks(draw: st.DrawFn) -> tuple[tuple[int, int], list[np.ndarray]]:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16))
    return shape, draw(st.lists(hnp.arrays(bool, shape), max_size=3))  # type: ignore[return-value]


@given(some_masks())
@settings(deadline=None)
def test_codes_are_those_of_pycocotools(case: tuple[tuple[int, int], list[np.ndarray]]) -> None:
    shape, masks = case
    codes = encode_masks(*pack(masks, shape), shape)
    for code, mask in zip(codes, masks):
        expected = coco.encode(np.asfortranarray(mask, np.uint8))
        assert code == {"size": list(shape), "counts": expected["counts"].decode()}
    json.dumps(codes)


@given(some_masks())
@settings(deadline=None)
def test_there_and_back(case: tuple[tuple[int, int], list[np.ndarray]]) -> None:
    shape, masks = case
    codes: list[dict[str, Any]] = encode_masks(*pack(masks, shape), shape)
    numbers = encode_masks(*pack(masks, shape), shape, compressed=False)
    as_bytes = [{**code, "counts": code["counts"].encode()} for code in codes]
    for given_codes in (codes, numbers, as_bytes):
        for mask, back in zip(masks, unpack(decode_masks(given_codes, shape), shape), strict=True):
            np.testing.assert_array_equal(back, mask)
    for code, mask in zip(numbers, masks):
        assert sum(code["counts"]) == mask.size
        np.testing.assert_array_equal(coco.decode(coco.frPyObjects(code, *shape)), mask)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=8).filter(lambda runs: sum(runs) < 2**31))
@settings(deadline=None, max_examples=50)
def test_long_runs_are_compressed_as_by_pycocotools(runs: list[int]) -> None:
    height = sum(runs)
    if height == 0:
        return
    compressed = coco.frPyObjects({"size": [height, 1], "counts": runs}, height, 1)
    if height < 10**6:
        masks = decode_masks([compressed], (height, 1))
        np.testing.assert_array_equal(unpack(masks, (height, 1))[0], coco.decode(compressed))


def test_runs_of_no_length_and_a_run_over_several_columns() -> None:
    codes = [{"size": [2, 4], "counts": counts} for counts in ([0, 8], [8], [8, 0], [3, 4, 1], [1, 0, 2, 1, 4])]
    masks = unpack(decode_masks(codes, (2, 4)), (2, 4))
    expected = ["11111111", "00000000", "00000000", "00011110", "00010000"]
    assert ["".join(map(str, mask.T.ravel().astype(int))) for mask in masks] == expected
    assert decode_masks(codes, (2, 4))[0].tolist()[3] == [0, 1, 2, 4]


def test_an_image_without_pixels() -> None:
    windows, bits, offsets = decode_masks([{"size": [0, 3], "counts": [0]}], (0, 3))
    assert encode_masks(windows, bits, offsets, (0, 3), compressed=False) == [{"size": [0, 3], "counts": [0]}]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"counts": [6]}, "not as COCO writes it"),
        ({"size": [2, 3]}, "not as COCO writes it"),
        ({"size": 6, "counts": [6]}, "not as COCO writes it"),
        ({"size": [2, 3], "counts": [1.5, 4.5]}, "not as COCO writes it"),
        ({"size": [2, 3], "counts": None}, "not as COCO writes it"),
        ({"size": [3, 2], "counts": [6]}, "another size"),
        ({"size": [2, 3], "counts": [2, 3]}, "does not fill"),
        ({"size": [2, 3], "counts": [2, 5]}, "does not fill"),
        ({"size": [2, 3], "counts": [7, -1]}, "impossible length"),
        ({"size": [2, 3], "counts": [2**62, 2**62, 2**62, 2**62, 6]}, "impossible length"),
        ({"size": [2, 3], "counts": "2111\n"}, "broken"),
        ({"size": [2, 3], "counts": "211a"}, "broken"),
        ({"size": [2, 3], "counts": "é"}, "broken"),
        ({"size": [2, 3], "counts": "o" * 40}, "broken"),
        ({"size": [2, 3], "counts": "o" * 15 + "06"}, "broken"),
        ({"size": [2, 3], "counts": "21"}, "does not fill"),
        ({"size": [2, 3], "counts": ""}, "does not fill"),
    ],
)
def test_broken_codes_are_told(code: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelError, match=message) as error:
        decode_masks([{"size": [2, 3], "counts": [6]}, code], (2, 3), where="rles")
    assert error.value.where == "rles[1]"


@given(st.binary(max_size=30))
@settings(deadline=None, max_examples=300)
def test_any_text_is_read_or_told(text: bytes) -> None:
    with suppress(LabelError):
        decode_masks([{"size": [5, 7], "counts": text}], (5, 7))


def test_real_annotations(shared_data: Path) -> None:
    annotations = json.loads((shared_data / "platelet_em" / "train.json").read_text())
    codes = [a["segmentation"] for a in annotations["annotations"] if isinstance(a["segmentation"], dict)]
    assert len(codes) > 50
    shape = tuple(codes[0]["size"])
    codes = [code for code in codes if tuple(code["size"]) == shape]
    packed = decode_masks(codes, shape)
    np.testing.assert_array_equal(np.stack(unpack(packed, shape), axis=-1), coco.decode(codes))
    assert [code["counts"] for code in encode_masks(*packed, shape)] == [code["counts"] for code in codes]
