"""Look into a pickle without unpickling it: nothing that it names is imported, and nothing is called.

A pickle is a program for a small stack machine. Its instructions are followed here, but where Python's unpickler would
import a name or call something, only a note is made of what would have been called, with what. What comes out are
numbers, texts, lists, tuples and dictionaries, and notes: :class:`Named` for a name that would be imported,
:class:`Called` for a call with its arguments and the state given to its result. Arrays are made of these by
:mod:`cytomask.formats.pickled_arrays`.

So a hostile pickle can do no more than any other broken file. Time and memory follow the size of the file: what is kept
and recalled is never copied, and nothing that may be deep or shared is hashed, compared or printed.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, Any, Final, cast

#: More instructions than a file of segmentations can be meant to have; each may take some hundred bytes of memory.
MAX_INSTRUCTIONS = 5_000_000
#: Longest name of a key of a dictionary.
MAX_KEY = 256


@dataclass(frozen=True)
class Allowed:
    """What pickles of a kind of file are made of; one that has anything else is not what it says.

    Attributes
    ----------
    kind
        What the file is, for messages.
    names
        Modules and names that it may name.
    objects
        Whether objects are made by their class (``NEWOBJ``), parts stand outside of the pickle (``BINPERSID``, which
        gives a :class:`Called` of :data:`OUTSIDE`), and ordered dictionaries are given as dictionaries.
    """

    kind: str
    names: frozenset[tuple[str, str]]
    objects: bool = False


#: All names that files of arrays, texts and dates have.
ARRAYS = Allowed("file of arrays", frozenset({
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    ("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    ("builtins", "bytes"), ("__builtin__", "bytes"),
    *((module, f"{kind}Path") for module in ("pathlib", "pathlib._local")
      for kind in ("", "Pure", "Posix", "Windows", "PurePosix", "PureWindows")),
    ("collections", "OrderedDict"), *(("datetime", name) for name in ("date", "time", "datetime", "timedelta")),
}))  # fmt: skip


class PickleError(ValueError):
    """A pickle is broken, too large, or of a kind that is not read."""


@dataclass(frozen=True, eq=False)
class Named:
    """A function or class that would be imported."""

    module: str
    name: str


@dataclass(eq=False)
class Called:
    """A call that would be made, and the state that its result would get."""

    what: Any
    arguments: Any
    state: Any = None


#: Stands for what is kept outside of the pickle: its address is the only argument of the :class:`Called`.
OUTSIDE: Final = Named("", "outside of the pickle")


class _Mark:
    """Where a list of operands begins on the stack."""


_MARK: Final = _Mark()


class _Limited:
    """A file that gives no more than it has: lengths in a pickle are not believed before memory is taken for them."""

    def __init__(self, file: BufferedIOBase, size: int) -> None:
        self._file, self._size = file, size

    def tell(self) -> int:
        return self._file.tell()

    def read(self, n: int) -> bytes:
        if not 0 <= n <= self._size - self._file.tell():
            raise PickleError("it is cut off")
        return self._file.read(n)

    def readline(self) -> bytes:
        return self._file.readline(1 << 16)


def read_parts(file: BufferedIOBase, size: int, allowed: Allowed = ARRAYS) -> Any:
    """Follow a pickle's instructions from where the file stands, and leave the file behind the pickle.

    Parameters
    ----------
    file
        An open file.
    size
        Size of the file in bytes.
    allowed
        What the pickle may name.

    Returns
    -------
    object
        Numbers, texts, bytes, lists, tuples, dictionaries, :class:`Named` and :class:`Called`.

    Raises
    ------
    PickleError
        If the pickle is broken, or has an instruction or a name that is not allowed.

    Examples
    --------
    >>> import io, pickle
    >>> data = pickle.dumps({"a": [1, 2.5, "x", None]})
    >>> read_parts(io.BytesIO(data), len(data))
    {'a': [1, 2.5, 'x', None]}
    """
    machine = _Machine(allowed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of backslashes in broken texts
            _follow(machine, file, size)
        return machine.pop()
    except PickleError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, RecursionError) as error:
        raise PickleError(f"it is broken: {type(error).__name__}: {error}"[:200]) from error


def _follow(machine: _Machine, file: BufferedIOBase, size: int) -> None:
    for count, (instruction, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], _Limited(file, size)))):
        if count >= MAX_INSTRUCTIONS:
            raise PickleError(f"it has more than {MAX_INSTRUCTIONS} instructions")
        if instruction.name == "STOP":
            break
        step = _STEPS.get(instruction.name)
        if step is None and machine.allowed.objects:
            step = _OBJECT_STEPS.get(instruction.name)
        if step is None:
            raise PickleError(f"it has an instruction that a {machine.allowed.kind} need not have: {instruction.name}")
        step(machine, argument)


class _Machine:
    def __init__(self, allowed: Allowed) -> None:
        self.allowed = allowed
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("it takes more from the stack than is there")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("it takes more from the stack than is there")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while place >= 0 and self.stack[place] is not _MARK:
            place -= 1
        if place < 0:
            raise PickleError("it takes more from the stack than is there")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values


def _push(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value)


def _tuple_of(n: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        values = [machine.pop() for _ in range(n)]
        machine.push(tuple(reversed(values)))

    return step


def _tuple(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    machine.push(tuple(values))


def _list(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    machine.push(values)


def _append(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    _extend(machine.top(), [value])


def _appends(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    _extend(machine.top(), values)


def _extend(target: Any, values: list[Any]) -> None:
    # What is appended to anything but a list belongs to an object that is not made.
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Called):
        raise PickleError("it appends to what is no list")


def _dict(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    made: dict[Any, Any] = {}
    _set(made, values)
    machine.push(made)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _set(machine.top(), [key, value])


def _set_items(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    _set(machine.top(), values)


def _set(target: Any, values: list[Any]) -> None:
    if len(values) % 2:
        raise PickleError("a key is without a value")
    if isinstance(target, Called):
        return
    if not isinstance(target, dict):
        raise PickleError("it sets an item of what is no dictionary")
    for key, value in zip(values[::2], values[1::2]):
        # Only what is hashed at once: a tuple of tuples of … could take for ever.
        if isinstance(key, str | bytes) and len(key) <= MAX_KEY:
            target[key.decode("latin-1") if isinstance(key, bytes) else key] = value
        elif key is None or isinstance(key, float) or (isinstance(key, int) and key.bit_length() < 64):
            target[key] = value
        else:
            raise PickleError(f"a key of a dictionary is a {type(key).__name__}, or too long")


def _pop(machine: _Machine, _: Any) -> None:
    if machine.stack and machine.stack[-1] is _MARK:
        machine.stack.pop()
    else:
        machine.pop()


def _put(machine: _Machine, argument: Any) -> None:
    machine.memo[argument] = machine.top()


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _get(machine: _Machine, argument: Any) -> None:
    if argument not in machine.memo:
        raise PickleError("it recalls what was not kept")
    machine.push(machine.memo[argument])


def _name(machine: _Machine, module: Any, name: Any) -> Named:
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleError("a name is no text")
    if (module, name) not in machine.allowed.names:
        raise PickleError(f"it asks to run {module[:60]}.{name[:60]}, which no {machine.allowed.kind} needs")
    return Named(module, name)


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine.push(_name(machine, module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(_name(machine, module, name))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, what = machine.pop(), machine.pop()
    if not isinstance(what, Named) or not isinstance(arguments, tuple):
        raise PickleError("it calls what is no name")
    if machine.allowed.objects and (what.module, what.name) == ("collections", "OrderedDict"):
        machine.push(_ordered(arguments))
    else:
        machine.push(Called(what, arguments))


def _ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """The dictionary that an ordered one begins as: empty, or of pairs as Python 2 writes it."""
    made: dict[Any, Any] = {}
    pairs = arguments[0] if len(arguments) == 1 else []
    if len(arguments) > 1 or not isinstance(pairs, list):
        raise PickleError("an ordered dictionary is made of what are no pairs")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise PickleError("an ordered dictionary is made of what are no pairs")
        _set(made, list(pair))
    return made


def _outside(machine: _Machine, _: Any) -> None:
    machine.push(Called(OUTSIDE, (machine.pop(),)))


def _build(machine: _Machine, _: Any) -> None:
    state, target = machine.pop(), machine.top()
    if machine.allowed.objects and isinstance(target, dict):
        return  # attributes of an ordered dictionary
    if not isinstance(target, Called):
        raise PickleError("it gives a state to what is no object")
    target.state = state


def _nothing(machine: _Machine, _: Any) -> None:
    """An instruction that says how the pickle is packed."""


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _nothing, "FRAME": _nothing,
    "NONE": _constant(None), "NEWTRUE": _constant(True), "NEWFALSE": _constant(False),
    "MARK": _constant(_MARK), "POP": _pop, "DUP": lambda machine, _: machine.push(machine.top()),
    "POP_MARK": lambda machine, _: _drop(machine),
    "EMPTY_TUPLE": _constant(()), "TUPLE1": _tuple_of(1), "TUPLE2": _tuple_of(2), "TUPLE3": _tuple_of(3),
    "TUPLE": _tuple, "LIST": _list, "DICT": _dict,
    "EMPTY_LIST": lambda machine, _: machine.push([]), "EMPTY_DICT": lambda machine, _: machine.push({}),
    "APPEND": _append, "APPENDS": _appends, "SETITEM": _set_item, "SETITEMS": _set_items,
    "GET": _get, "BINGET": _get, "LONG_BINGET": _get,
    "PUT": _put, "BINPUT": _put, "LONG_BINPUT": _put, "MEMOIZE": _memoize,
    "GLOBAL": _global, "STACK_GLOBAL": _stack_global, "REDUCE": _reduce, "BUILD": _build,
} | dict.fromkeys((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
), _push)  # fmt: skip


def _drop(machine: _Machine) -> None:
    machine.pop_to_mark()


def _push_old_text(machine: _Machine, argument: Any) -> None:
    """A byte string of Python 2: what :mod:`pickletools` reads as latin-1 text."""
    machine.push(argument.encode("latin-1") if isinstance(argument, str) else argument)


_STEPS |= dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _push_old_text)

#: Instructions that only files with objects have.
_OBJECT_STEPS: dict[str, Callable[[_Machine, Any], None]] = {"NEWOBJ": _reduce, "BINPERSID": _outside}
