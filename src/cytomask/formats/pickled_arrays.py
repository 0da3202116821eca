"""Arrays and numbers that stand in a pickle, made without unpickling it.

:mod:`cytomask.formats.pickle_parts` tells what would be called to make an array, and with what; here the
array is made of it: of a type of numbers, a shape, and bytes in the file, which must fit each other. Arrays of objects
or records are never made.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from cytomask.formats.pickle_parts import Called, PickleError

_DTYPE = re.compile(r"[<>|=]?([biuf])([1248])")
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


def as_array(part: Any) -> np.ndarray | None:
    """Make the array that a part of a pickle stands for; None if it stands for none of numbers.

    Raises
    ------
    PickleError
        If shape, type and bytes do not fit each other.

    Examples
    --------
    >>> import io, pickle
    >>> from cytomask.formats.pickle_parts import read_parts
    >>> data = pickle.dumps(np.array([[1, 2], [3, 4]], np.uint16))
    >>> as_array(read_parts(io.BytesIO(data), len(data)))
    array([[1, 2],
           [3, 4]], dtype=uint16)
    """
    if not isinstance(part, Called):
        return None
    what = part.what
    if what.name == "_reconstruct" and what.module in _MULTIARRAY:
        state = part.state
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise PickleError("an array has no state")
        shape, dtype, fortran, data = state[-4:]
        return _array(shape, dtype, "F" if fortran is True else "C", data)
    if what.name == "_frombuffer" and what.module in _NUMERIC:
        if len(part.arguments) != 4:
            raise PickleError("an array has no state")
        data, dtype, shape, order = part.arguments
        return _array(shape, dtype, "F" if order == "F" else "C", data)
    return None


def as_number(part: Any) -> float | None:
    """The number that a part stands for, also where it is one of numpy's; None if it is none."""
    if isinstance(part, int | float) and not isinstance(part, bool):
        return float(part) if abs(part) < 1e300 or part != part else None
    if isinstance(part, Called) and part.what.name == "scalar" and part.what.module in _MULTIARRAY:
        if len(part.arguments) != 2:
            return None
        dtype, data = part.arguments
        return float(_array((1,), dtype, "C", data)[0])
    return None


def object_in_array(part: Any) -> Any:
    """The single thing in an array of objects without axes, which is how ``numpy.save`` writes a dictionary.

    Raises
    ------
    PickleError
        If it is anything else.
    """
    if isinstance(part, Called) and part.what.name == "_reconstruct" and part.what.module in _MULTIARRAY:
        state = part.state
        if isinstance(state, tuple) and len(state) in (4, 5):
            shape, _, _, data = state[-4:]
            if shape == () and isinstance(data, list) and len(data) == 1:
                return data[0]
    raise PickleError("it does not hold one dictionary")


def _array(shape: Any, dtype: Any, order: str, data: Any) -> np.ndarray:
    kind, data = _dtype(dtype), _as_bytes(data)
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise PickleError("the shape of an array is no list of numbers")
    if math.prod(shape) * kind.itemsize != len(data):
        raise PickleError(f"an array of {' x '.join(map(str, shape))} {kind} has {len(data)} bytes")
    flat = np.frombuffer(data, np.uint8) != 0 if kind.kind == "b" else np.frombuffer(data, kind)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _as_bytes(data: Any) -> bytes | bytearray:
    if isinstance(data, bytes | bytearray):
        return data
    if isinstance(data, Called) and data.what.name == "bytes" and data.arguments == ():
        return b""
    if isinstance(data, Called) and (data.what.module, data.what.name) == ("_codecs", "encode"):
        # Bytes as Python 3 writes them for Python 2: a text of the first 256 characters.
        text, *coding = data.arguments or ("",)
        if isinstance(text, str) and len(coding) == 1 and coding[0] in ("latin1", "latin-1"):
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError as error:
                raise PickleError("the bytes of an array are none") from error
    raise PickleError("an array has no bytes")


def _dtype(part: Any) -> np.dtype:
    """The type of numbers that a part stands for; no other type is made."""
    if not (isinstance(part, Called) and (part.what.module, part.what.name) == ("numpy", "dtype")):
        raise PickleError("the type of an array is not known")
    code = _text(part.arguments[0]) if part.arguments else None
    found = _DTYPE.fullmatch(code) if code is not None else None
    if code is None or found is None:
        raise PickleError("an array is not of numbers" + (f", but {code[:20]!r}" if code else ""))
    order = code[0] if code[0] in "<>|=" else "="
    if isinstance(part.state, tuple) and len(part.state) > 1:
        order = _text(part.state[1]) or "?"
    if order not in ("<", ">", "|", "="):
        raise PickleError("the byte order of an array is not known")
    try:
        return np.dtype((">" if order == ">" else "<") + found[1] + found[2])
    except TypeError as error:
        raise PickleError(f"an array is of an unknown type {code}") from error


def _text(part: Any) -> str | None:
    return part.decode("latin-1") if isinstance(part, bytes) else part if isinstance(part, str) else None
