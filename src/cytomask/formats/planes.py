"""Which plane of a stack or movie is read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from cytomask.errors import ImageError


def choose_plane(
    letters: str, shape: tuple[int, ...], plane: int | None, clause: str, path: Path
) -> tuple[tuple[slice | int, ...], str]:
    """Find the plane that is meant.

    Parameters
    ----------
    letters, shape
        The axes, and their sizes.
    plane
        Number of the plane in the order of the file; None where there is only one.
    clause
        What was understood of the axes.
    path
        The file.

    Returns
    -------
    tuple
        For each axis a place, or all of it: all of rows, columns, channels and samples, one place of everything else.
    str
        The clause, with the plane.

    Raises
    ------
    ImageError
        If there is no such plane, or several and none was chosen.

    Examples
    --------
    >>> choose_plane("ZCYX", (5, 2, 40, 30), 3, "axes ZCYX", Path("a.tif"))
    ((3, slice(None, None, None), slice(None, None, None), slice(None, None, None)), 'axes ZCYX; plane 3 of 5')
    """
    stack = [i for i, letter in enumerate(letters) if letter not in "YXCS" and shape[i] > 1]
    n_planes = math.prod(shape[i] for i in stack)
    listing = ", ".join(f"{letters[i]}={shape[i]}" for i in stack)
    if plane is None and stack:
        raise ImageError(
            f"the file is a stack of {n_planes} planes",
            where=path,
            found=listing,
            expected="one plane",
            fix=f"choose one with --plane N, from 0 to {n_planes - 1}; if they are channels, say so with --axes CYX",
        )
    if plane is not None and not 0 <= plane < n_planes:
        raise ImageError(
            "the file has no such plane",
            where=path,
            found=f"--plane {plane}",
            expected=f"0 to {n_planes - 1} ({listing})" if stack else "0: there is only one plane",
        )
    index: list[slice | int] = [slice(None) if letter in "YXCS" else 0 for letter in letters]
    if stack and plane is not None:
        place = [int(i) for i in np.unravel_index(plane, [shape[i] for i in stack])]
        for i, number in zip(stack, place):
            index[i] = number
        told = ", ".join(f"{letters[i]}={number}" for i, number in zip(stack, place))
        clause += f"; plane {plane} of {n_planes}" + (f" ({told})" if len(stack) > 1 else "")
    return tuple(index), clause
