"""Write dictionaries of arrays as pickles that every version of Python 3 and of numpy reads.

The same content gives the same bytes, whatever version of Python and numpy writes it: ``pickle.dump`` would name
functions of the numpy at hand, which older ones do not have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_DTYPES = ("|b1", "|u1", "<u2", "<u4")


def pickle_in_array(content: Mapping[str, Any]) -> Iterator[bytes]:
    """Pickle a dictionary as ``numpy.save`` does: in an array of objects without axes.

    Parameters
    ----------
    content
        Values are None, bool, int, float, text, lists of these, and arrays of bool, uint8, uint16 or uint32.

    Yields
    ------
    bytes
        The parts of the pickle, without the header of the ``.npy`` file.

    Examples
    --------
    >>> import pickle
    >>> pickle.loads(b"".join(pickle_in_array({"a": [1, None], "b": np.array([True])}))).item()
    {'a': [1, None], 'b': array([ True])}
    """
    yield b"\x80\x04"
    yield from _array_begin()
    yield b"(K\x01)" + _dtype("O8", "|") + b"\x89]("
    yield from _value(dict(content))
    yield b"etb."


def _value(value: Any) -> Iterator[bytes]:
    if value is None or isinstance(value, bool):
        yield {None: b"N", True: b"\x88", False: b"\x89"}[value]
    elif isinstance(value, int):
        yield b"J" + struct.pack("<i", value)
    elif isinstance(value, float):
        yield b"G" + struct.pack(">d", value)
    elif isinstance(value, str):
        yield _text(value)
    elif isinstance(value, list):
        yield b"]("
        for item in value:
            yield from _value(item)
        yield b"e"
    elif isinstance(value, dict):
        yield b"}("
        for key, item in value.items():
            yield _text(key)
            yield from _value(item)
        yield b"u"
    elif isinstance(value, np.ndarray):
        yield from _array(value)
    else:
        raise TypeError(f"a {type(value).__name__} is not written")


def _array(array: np.ndarray) -> Iterator[bytes]:
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    code = array.dtype.str
    if code not in _DTYPES:
        raise TypeError(f"arrays of {array.dtype} are not written")
    yield from _array_begin()
    shape = b"".join(b"J" + struct.pack("<i", size) for size in array.shape)
    yield b"(K\x01(" + shape + b"t" + _dtype(code[1:], code[0]) + b"\x89"
    yield b"\x8e" + struct.pack("<Q", array.nbytes)
    yield array.tobytes()
    yield b"tb"


def _array_begin() -> Iterator[bytes]:
    # numpy 1 does not know numpy._core; numpy 2 still knows numpy.core.multiarray for the sake of old pickles.
    yield b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def _dtype(code: str, order: str) -> bytes:
    flags = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK" + (b"\x3f" if code == "O8" else b"\x00")
    return b"cnumpy\ndtype\n" + _text(code) + b"\x89\x88\x87R(K\x03" + _text(order) + b"NNN" + flags + b"tb"


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded
