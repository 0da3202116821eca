"""What is checked and looked up for each object of an image: its box, class, score and id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from cytomask.errors import LabelError


def label_dtype(ids: np.ndarray, dtype: DTypeLike | Literal["smallest"] | None) -> np.dtype[Any]:
    """Choose the type of a label image: int32 for None, the smallest unsigned one, or the given one if it suffices.

    Raises
    ------
    LabelError
        If it is no integer type, or does not hold all ids.

    Examples
    --------
    >>> label_dtype(np.array([3, 256]), "smallest")
    dtype('uint16')
    """
    largest = int(ids.max(initial=0))
    if isinstance(dtype, str) and dtype == "smallest":
        return np.dtype(np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.uint32)
    chosen = np.dtype(np.int32 if dtype is None else dtype)
    if chosen.kind not in "iu" or largest > np.iinfo(chosen).max:
        raise LabelError(
            "the type of the label image does not hold all ids", where="dtype",
            found=f"{chosen} for ids up to {largest}", expected=f"such as {label_dtype(ids, 'smallest')}",
            fix="ask for a larger type, or number the objects anew with renumbered()",
        )  # fmt: skip
    return chosen


def look_up(table: Mapping[int, Any], ids: np.ndarray, what: str) -> np.ndarray:
    """Find each id in a table such as id -> class.

    Raises
    ------
    LabelError
        If ids are missing, with the first of them.
    """
    missing = [i for i in ids.tolist() if i not in table]
    if missing:
        raise LabelError(
            f"{len(missing)} of {len(ids)} objects have no {what} in the table", where=f"table of id -> {what}",
            found="no entry for " + ", ".join(map(str, missing[:10])) + (" …" if len(missing) > 10 else ""),
            expected=f"a {what} for every id of the label image",
        )  # fmt: skip
    return np.array([table[i] for i in ids.tolist()])


def check_objects(boxes: np.ndarray, classes: np.ndarray, ids: np.ndarray, names: tuple[str, ...]) -> None:
    """Make sure that boxes are not turned, classes have names, and ids are above 0, no two alike.

    Raises
    ------
    LabelError
        With the first object for which that is not so.
    """
    turned = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    if turned.any():
        i = int(turned.argmax())
        raise LabelError(
            "a box ends before it begins", where=f"boxes[{i}]", found=boxes[i].tolist(),
            expected="(y0, x0, y1, x1) with y0 <= y1 and x0 <= x1",
        )  # fmt: skip
    strange = (classes < 1) | (classes > len(names))
    if strange.any():
        i = int(strange.argmax())
        raise LabelError(
            "an object has a class that has no name", where=f"classes[{i}]", found=int(classes[i]),
            expected=f"1 to {len(names)}: {', '.join(names)}", fix="name all classes in class_names",
        )  # fmt: skip
    if len(ids) and ids.min() < 1:
        i = int(ids.argmin())
        raise LabelError(
            "an object has an id that a label image cannot hold", where=f"ids[{i}]", found=int(ids[i]),
            expected="1 or more; 0 is the background",
        )  # fmt: skip
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise LabelError(
            "two objects have the same id", where="ids", found=f"{int(twice[0])}, at positions "
            + ", ".join(str(i) for i in np.flatnonzero(ids == twice[0])[:10]),
            expected="no two alike", fix="leave ids out to number the objects 1, 2, 3 …",
        )  # fmt: skip
