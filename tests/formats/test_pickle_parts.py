"""Looking into pickles without unpickling: what arrays say, and that hostile ones run nothing and take no memory."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import datetime
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from cytomask.formats import pickle_parts
from cytomask.formats.annotations.pickle_writing import pickle_in_array
from cytomask.formats.pickle_parts import Called, PickleError, read_parts
from cytomask.formats.pickled_arrays import as_array, as_number, object_in_array


def parts(data: bytes):
    return read_parts(io.BytesIO(data), len(data))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(-(2**60), 2**60), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(plain, st.integers(3, 5))
def test_plain_things_come_out_as_they_went_in(value, protocol):
    assert parts(pickle.dumps(value, protocol)) == value


@settings(deadline=None)
@given(plain)
def test_the_oldest_protocols_are_followed_too(value):
    def without_bytes(x):
        if isinstance(x, bytes):
            return None
        if isinstance(x, list | tuple):
            return type(x)(map(without_bytes, x))
        return {k: without_bytes(v) for k, v in x.items()} if isinstance(x, dict) else x

    value = without_bytes(value)
    for protocol in (1, 2):
        assert parts(pickle.dumps(value, protocol)) == value
    with contextlib.suppress(PickleError):  # numbers and texts as lines: some are longer than is believed
        assert parts(pickle.dumps(value, 0)) == value


@settings(deadline=None)
@given(
    st_numpy.arrays(
        st_numpy.integer_dtypes(endianness="<")
        | st_numpy.integer_dtypes(endianness=">")
        | st_numpy.unsigned_integer_dtypes(endianness=">")
        | st_numpy.boolean_dtypes()
        | st_numpy.floating_dtypes(sizes=(32, 64)),
        st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0),
    ),
    st.integers(2, 5),
    st.booleans(),
)
def test_arrays_come_out_as_they_went_in(array, protocol, turned):
    array = array.T if turned else array
    found = as_array(parts(pickle.dumps(array, protocol)))
    assert found is not None
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("number", [3, 2.5, np.float64(2.5), np.float32(0.5), np.int64(-7), np.uint8(9)])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numbers_of_all_kinds(number, protocol):
    assert as_number(parts(pickle.dumps(number, protocol))) == number


@pytest.mark.parametrize("value", [None, "3", True, [3], np.array([3]), np.array(["a"])])
def test_what_is_no_number(value):
    assert as_number(parts(pickle.dumps(value))) is None


def test_harmless_objects_are_noted_and_not_made():
    value = {
        "a": pathlib.PurePosixPath("/x/y"), "b": datetime.datetime(2020, 1, 2), "c": collections.OrderedDict(k=1),
        "d": 4,
    }  # fmt: skip
    found = parts(pickle.dumps(value))
    assert found["d"] == 4
    assert all(isinstance(found[key], Called) for key in "abc")


def test_what_numpy_saves_is_found(tmp_path):
    np.save(tmp_path / "a.npy", {"masks": np.eye(3, dtype=np.int16), "x": [None, "y"]})
    with (tmp_path / "a.npy").open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        found = object_in_array(read_parts(file, (tmp_path / "a.npy").stat().st_size))
    assert found["x"] == [None, "y"]
    np.testing.assert_array_equal(as_array(found["masks"]), np.eye(3))


class Attack:
    """Pickles to a call of ``os.system``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def call(path: Path) -> bytes:
    """The operands of a call of ``os.system``: a mark, and the command."""
    text = f"touch {path}".encode()
    return b"X" + struct.pack("<I", len(text)) + text


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def attacks(path: Path) -> dict[str, bytes]:
    command = call(path)
    name = b"\x8c\x05posix\x8c\x06system\x93"
    return {
        "dumped": pickle.dumps({"masks": Attack(path)}),
        "dumped in protocol 0": pickle.dumps(Attack(path), 0),
        "GLOBAL REDUCE": b"\x80\x02cposix\nsystem\n" + command + b"\x85R.",
        "GLOBAL by another module": b"\x80\x02cos\nsystem\n" + command + b"\x85R.",
        "STACK_GLOBAL REDUCE": b"\x80\x04" + name + command + b"\x85R.",
        "INST": b"(" + command + b"iposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\n" + command + b"o.",
        "NEWOBJ": b"\x80\x02cposix\nsystem\n" + command + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + name + command + b"\x85}\x92.",
        "BUILD": b"\x80\x02" + ARRAY + b"}X\x0c\x00\x00\x00__setstate__cposix\nsystem\nsb" + command + b"b.",
        "BUILD of what is no object": b"\x80\x02}}X\x01\x00\x00\x00acposix\nsystem\nsb.",
        "EXT1": b"\x80\x02\x82\xf0" + command + b"\x85R.",
        "EXT2": b"\x80\x02\x83\xf0\x00" + command + b"\x85R.",
        "PERSID": b"Pposix system\n.",
        "BINPERSID": b"\x80\x02" + command + b"Q.",
        "eval": b"c__builtin__\neval\n" + command + b"\x85R.",
        "builtins.exec": b"cbuiltins\nexec\n" + command + b"\x85R.",
        "getattr": b"cbuiltins\ngetattr\ncos\n\n.",
        "functools.partial": b"cfunctools\npartial\ncposix\nsystem\n" + command + b"\x86R.",
        "numpy runs texts": b"cnumpy.testing._private.utils\nrunstring\n" + command + b"}\x86R.",
        "numpy loads": b"cnumpy\nload\n" + command + b"\x85R.",
        "numpy finds functions": b"cnumpy.core.multiarray\nfrombuffer\n" + command + b"\x85R.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93" + command + b"\x85R.",
        "_reconstruct of another class": b"cnumpy.core.multiarray\n_reconstruct\ncsubprocess\nPopen\n"
        + command
        + b"\x86R.",
        "a class as type": ARRAY + b"(K\x01)cposix\nsystem\n" + command + b"\x85R\x89C\x00tb.",
        "dtype of os.system": b"cnumpy\ndtype\ncposix\nsystem\n\x85R.",
        "copyreg": b"ccopyreg\n_reconstructor\ncposix\nsystem\n" + command + b"\x86R.",
    }


@pytest.mark.parametrize("kind", attacks(Path("/")))
def test_a_hostile_pickle_runs_nothing(kind, tmp_path, monkeypatch):
    copyreg.add_extension("posix", "system", 240)
    try:
        mark = tmp_path / "mark"
        data = attacks(mark)[kind]
        with pytest.raises(PickleError):
            parts(data)
        assert not mark.exists()
    finally:
        copyreg.remove_extension("posix", "system", 240)


def test_the_attacks_are_real(tmp_path):
    # Most of them, unpickled as Python does, run the command; else their refusal would mean nothing.
    ran = []
    for kind, data in attacks(tmp_path / "mark").items():
        code = f"import copyreg, pickle\ncopyreg.add_extension('posix', 'system', 240)\npickle.loads({data!r})"
        if kind in ("dumped", "dumped in protocol 0", "GLOBAL REDUCE", "INST", "OBJ", "EXT1"):
            (tmp_path / "mark").unlink(missing_ok=True)
            subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False)
            ran.append((tmp_path / "mark").exists())
    assert ran == [True] * 6


def test_nothing_is_imported(monkeypatch):
    def refuse(*_):
        raise AssertionError("something was imported")

    data = pickle.dumps({"masks": np.eye(2), "path": pathlib.PurePosixPath("x"), "n": np.float64(3)})
    monkeypatch.setattr("builtins.__import__", refuse)
    try:
        found = parts(data)
    finally:
        monkeypatch.undo()
    assert as_array(found["masks"]) is not None


def array_of(shape: bytes, dtype: bytes, data: bytes, order: bytes = b"\x89") -> bytes:
    return ARRAY + b"(K\x01" + shape + dtype + order + data + b"tb."


U1 = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R"
U1 += b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
BAD_ARRAYS = {
    "huge shape": array_of(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", U1, b"C\x01a"),
    "immense shape": array_of(b"\x8a\x09" + b"\xff" * 8 + b"\x7f\x85", U1, b"C\x01a"),
    "product wraps round": array_of(b"\x8a\x05\0\0\0\0\x01" * 2 + b"\x86", U1, b"C\x00"),  # 2**32 times 2**32
    "negative shape": array_of(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", U1, b"C\x01a"),
    "shape of floats": array_of(b"G" + struct.pack(">d", 1) + b"\x85", U1, b"C\x01a"),
    "shape of bools": array_of(b"\x88\x85", U1, b"C\x01a"),
    "shape a list": array_of(b"]K\x01a", U1, b"C\x01a"),
    "many axes": array_of(b"(" + b"K\x01" * 70 + b"t", U1, b"C\x01a"),
    "too few bytes": array_of(b"K\x02\x85", U1, b"C\x01a"),
    "too many bytes": array_of(b"K\x02\x85", U1, b"C\x03abc"),
    "text for bytes": array_of(b"K\x01\x85", U1, b"X\x01\x00\x00\x00a"),
    "a list for bytes": array_of(b"K\x01\x85", U1, b"]K\x01a"),
    "objects": array_of(b"K\x01\x85", U1.replace(b"u1", b"O8"), b"C\x08" + b"a" * 8),
    "records": array_of(b"K\x01\x85", U1.replace(b"u1", b"V8"), b"C\x08" + b"a" * 8),
    "texts": array_of(b"K\x01\x85", U1.replace(b"u1", b"S1"), b"C\x01a"),
    "type of two letters more": array_of(b"K\x01\x85", U1.replace(b"u1", b"u3"), b"C\x03abc"),
    "byte order unknown": array_of(b"K\x01\x85", U1.replace(b"|", b"!"), b"C\x01a"),
    "no state": ARRAY + b".",
    "a state of text": ARRAY + b"X\x01\x00\x00\x00ab.",
    "type is a number": array_of(b"K\x01\x85", b"K\x01", b"C\x01a"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_an_array_that_contradicts_itself_is_refused(kind):
    with pytest.raises(PickleError):
        as_array(parts(BAD_ARRAYS[kind]))


def test_the_array_itself_would_be_fine():
    np.testing.assert_array_equal(as_array(parts(array_of(b"K\x01\x85", U1, b"C\x01a"))), [97])


def nested(n: int, begin: bytes, end: bytes) -> bytes:
    return b"\x80\x04" + begin * n + b"N" + end * n + b"."


BROKEN = {
    "nothing": b"",
    "cut off": pickle.dumps({"a": [1, 2, 3]})[:-4],
    "not a pickle": b"hello",
    "stack is empty": b"R.",
    "tuple of nothing": b"\x87.",
    "mark is missing": b"t.",
    "recalls nothing": b"h\x07.",
    "appends to a number": b"K\x01K\x02a.",
    "item of a list": b"]K\x01K\x02s.",
    "key without a value": b"}(K\x01u.",
    "list as a key": b"}]K\x01s.",
    "tuple as a key": b"})K\x01s.",
    "long text as a key": b"}X" + struct.pack("<I", 300) + b"a" * 300 + b"K\x01s.",
    "long number as a key": b"}\x8a\x20" + b"\x7f" * 32 + b"K\x01s.",
    "calls a number": b"K\x01)R.",
    "arguments are no tuple": b"cnumpy\ndtype\nK\x01R.",
    "name is a number": b"\x80\x04K\x01K\x02\x93.",
    "text of 2 GiB": b"\x80\x04X\xff\xff\xff\x7fabc.",
    "bytes of 8 EiB": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "bytearray of 8 EiB": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "number of 2 GiB": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "number of negative length": b"\x80\x02\x8b\xff\xff\xff\xffabc.",
    "text that is none": b"\x80\x04X\x02\x00\x00\x00\xff\xfe.",
    "set": b"\x80\x04\x8f.",
    "frozen set": b"\x80\x04(\x91.",
    "other buffer": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_pickle_is_refused_and_takes_no_memory(kind, tmp_path):
    # In a real file: one in memory never gives more than it has, but a file's reader takes the memory first.
    path = tmp_path / "a"
    path.write_bytes(BROKEN[kind])
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            with pytest.raises(PickleError):
                read_parts(file, path.stat().st_size)
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()


def test_what_is_shared_is_never_spread_out():
    # A tuple of two of a tuple of two …: hashing, comparing or printing it would take for ever.
    shared = b"\x80\x04)" + b"\x942\x86" * 200
    assert isinstance(parts(shared + b"."), tuple)
    with pytest.raises(PickleError, match="key"):
        parts(b"\x80\x04}" + shared[2:] + b"Ns.")
    with pytest.raises(PickleError):
        as_array(parts(array_of(b"K\x01\x85", b"cnumpy\ndtype\n" + shared[2:] + b"\x85R", b"C\x01a")))
    with pytest.raises(PickleError):
        as_array(parts(array_of(shared[2:], U1, b"C\x01a")))
    with pytest.raises(PickleError):
        as_array(parts(array_of(b"K\x01\x85", U1, shared[2:])))


def test_recalled_bytes_are_not_copied():
    # 2000 times the bytes of one text of 1 MB: 2 GB, if each were made.
    text = (
        b"\x80\x02X"
        + struct.pack("<I", 2**20)
        + b"a" * 2**20
        + b"q\x00c_codecs\nencode\nq\x01h\x00X\x06\x00\x00\x00latin1\x86q\x02"
    )
    data = text + b"](" + b"h\x01h\x02R" * 2000 + b"e."
    tracemalloc.start()
    try:
        assert len(parts(data)) == 2000
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("wrap", [(b"]", b"a"), (b"", b"\x85"), (b"cnumpy\ndtype\n", b"\x85R"), (b"}K\x01", b"s")])
def test_deep_nesting_is_survived(wrap):
    found = parts(nested(100_000, *wrap))
    assert found is not None
    del found


def test_too_many_instructions_are_refused(monkeypatch):
    monkeypatch.setattr(pickle_parts, "MAX_INSTRUCTIONS", 100)
    with pytest.raises(PickleError, match="100 instructions"):
        parts(b"](" + b"N" * 200 + b"e.")


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    for whole in (data, b"\x80\x04" + data + b"."):
        try:
            found = parts(whole)
            as_array(found)
            as_number(found)
            object_in_array(found)
        except PickleError:
            pass


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(place, value):
    data = bytearray(
        b"".join(pickle_in_array({"masks": np.arange(12, dtype=np.uint16).reshape(3, 4), "a": [1.5, "x"]}))
    )
    data[place % len(data)] = value
    try:
        found = object_in_array(parts(bytes(data)))
        if isinstance(found, dict) and "masks" in found:
            as_array(found["masks"])
    except PickleError:
        pass


@pytest.mark.parametrize("value", [1, -5, 2.5, "ü\U0001f52c", None, True, [], [[1, "a"], None], {"k": {}}])
def test_what_is_written_is_what_python_reads(value):
    data = b"".join(pickle_in_array({"value": value}))
    assert pickle.loads(data).item() == {"value": value}
    assert object_in_array(parts(data)) == {"value": value}


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.uint32])
def test_arrays_are_written_as_python_reads_them(dtype):
    array = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    data = b"".join(pickle_in_array({"a": array[:, ::-1]}))
    found = pickle.loads(data).item()["a"]
    assert found.dtype == dtype
    assert found.flags.writeable
    np.testing.assert_array_equal(found, array[:, ::-1])
    np.testing.assert_array_equal(as_array(object_in_array(parts(data))["a"]), array[:, ::-1])


@pytest.mark.parametrize("value", [np.zeros(2), {1}, np.array(["a"])])
def test_what_cannot_be_written_is_refused(value):
    with pytest.raises(TypeError, match="not written"):
        list(pickle_in_array({"a": value}))
