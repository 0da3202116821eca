"""Read the tensors of files that ``torch.save`` or ``pickle.dump`` wrote, without unpickling them.

Three kinds of file are told apart by their first bytes, whatever their name: the zip archive that torch writes since
version 1.6, with a pickle and the numbers of every tensor beside it; the older kind, several pickles and the numbers
behind them; and one plain pickle with numpy's arrays in it. The pickles are followed by
:mod:`cytomask.formats.pickle_parts`, so nothing in them is run; and numbers are only read for the tensors asked for, so
an optimiser's state in a checkpoint costs nothing.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cytomask.formats.pickle_parts import ARRAYS, OUTSIDE, Allowed, Called, Named, PickleError, read_parts
from cytomask.formats.pickled_arrays import as_array

if TYPE_CHECKING:
    from torch import Tensor

#: Most bytes of the pickle within a zip archive; it holds names and shapes, but no numbers.
_MOST_PICKLE = 256 * 2**20
#: First number of the older kind of file.
_MAGIC = 0x1950A86A20F9469CFC6C
#: Type of a storage -> type of its numbers, by torch's names, and their bytes.
_STORAGES = {
    "FloatStorage": ("float32", 4), "DoubleStorage": ("float64", 8), "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1), "BoolStorage": ("bool", 1),
}  # fmt: skip
_SCHEDULES = (
    "CompositeParamScheduler", "ConstantParamScheduler", "CosineParamScheduler", "ExponentialParamScheduler",
    "LinearParamScheduler", "MultiStepParamScheduler", "PolynomialDecayParamScheduler", "StepParamScheduler",
    "StepWithFixedGammaParamScheduler",
)  # fmt: skip
#: What checkpoints name: tensors, numbers, and what a schedule of learning rates is made of.
CHECKPOINTS = Allowed(
    "checkpoint",
    ARRAYS.names
    | {("torch", name) for name in _STORAGES}
    | {("torch._utils", name) for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")}
    | {("torch", name) for name in ("Size", "device", *(dtype for dtype, _ in _STORAGES.values()))}
    | {("torch.serialization", "_get_layout"), ("torch.nn.parameter", "Parameter"), ("torch", "Tensor")}
    | {("collections", "Counter"), ("collections", "defaultdict")}
    | {(module, name) for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "list", "dict", "int")}
    | {("fvcore.common.param_scheduler", name) for name in _SCHEDULES}
    | {("detectron2.solver.lr_scheduler", "WarmupParamScheduler")},
    objects=True,
)


@dataclass(frozen=True)
class TorchFile:
    """The content of a file, in parts as :mod:`cytomask.formats.pickle_parts` gives them.

    Attributes
    ----------
    content
        What the file holds.
    """

    content: Any
    _storage: Callable[[Any, int, int], bytearray]

    def tensor(self, part: Any) -> Tensor | None:
        """Read the tensor or array that a part stands for; None if it stands for none.

        Raises
        ------
        PickleError
            If shape, type and numbers do not fit each other.
        """
        import torch

        if not isinstance(part, Called):
            return None
        if part.what.module != "torch._utils":
            array = as_array(part)
            if array is None:
                return None
            native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
            return torch.from_numpy(native)
        arguments = part.arguments
        if part.what.name == "_rebuild_parameter":
            return self.tensor(arguments[0]) if arguments else None
        if len(arguments) < 4:
            raise PickleError("a tensor is without a shape")
        storage, offset, shape, stride = arguments[:4]
        return self._tensor(storage, offset, _whole(shape), _whole(stride))

    def _tensor(self, storage: Any, offset: Any, shape: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        import torch

        kind, address, numbers = _stored(storage)
        dtype, size = _STORAGES[kind]
        n = math.prod(shape)
        last = sum((side - 1) * step for side, step in zip(shape, stride)) if n else -1
        # A small storage repeated by strides of zero would need any amount of memory.
        if type(offset) is not int or offset < 0 or len(shape) != len(stride) or n > max(numbers, 1):
            raise PickleError("the shape of a tensor does not fit its numbers")
        if offset + last >= numbers:
            raise PickleError(f"a tensor of shape {shape} has but {numbers} numbers")
        if not n:
            return torch.empty(shape, dtype=getattr(torch, dtype))
        data = self._storage(address, offset * size, (last + 1) * size)
        return torch.frombuffer(data, dtype=getattr(torch, dtype)).as_strided(shape, stride).contiguous()


@contextmanager
def open_torch_file(path: Path) -> Iterator[TorchFile]:
    """Open a checkpoint of any of the three kinds.

    Raises
    ------
    PickleError
        If it is broken, of another kind, or would run what no checkpoint needs; the message names that.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.pth"
    ...     torch.save({"model": {"weight": torch.arange(3)}}, path)
    ...     with open_torch_file(path) as file:
    ...         file.tensor(file.content["model"]["weight"])
    tensor([0, 1, 2])
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if file.read(4) == b"PK\x03\x04":
            file.seek(0)
            with _broken_archives_told():
                archive = zipfile.ZipFile(file)
                content = _read_archive(archive)
            yield content
            return
        file.seek(0)
        yield _read_pickles(cast(BufferedIOBase, file), size)


@contextmanager
def _broken_archives_told() -> Iterator[None]:
    try:
        yield
    except PickleError:
        raise
    except (
        zipfile.BadZipFile,
        OSError,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        struct.error,
    ) as error:
        raise PickleError(f"the archive is broken: {error}"[:200]) from error


def _read_archive(archive: zipfile.ZipFile) -> TorchFile:
    names = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise PickleError("the archive holds no data.pkl: it is not of torch.save")
    folder = pickles[0].removesuffix("data.pkl")
    if any(info.compress_type != zipfile.ZIP_STORED for info in names.values()):
        raise PickleError("the archive is compressed, which torch.save does not do")
    order = names.get(f"{folder}byteorder")
    if order is not None and (order.file_size > 16 or archive.read(order) != b"little"):
        raise PickleError("its numbers are not in little-endian byte order")
    info = names[pickles[0]]
    if info.file_size > _MOST_PICKLE:
        raise PickleError(f"its data.pkl has {info.file_size} bytes")
    with archive.open(info) as file:
        content = read_parts(cast(BufferedIOBase, file), info.file_size, CHECKPOINTS)

    def storage(address: Any, start: int, length: int) -> bytearray:
        member = names.get(f"{folder}data/{address}")
        if member is None or start + length > member.file_size:
            raise PickleError(f"the numbers of a tensor are missing: data/{str(address)[:40]}")
        with _broken_archives_told(), archive.open(member) as file:
            file.seek(start)
            return _exactly(cast(BufferedIOBase, file), length)

    return TorchFile(content, storage)


def _read_pickles(file: BufferedIOBase, size: int) -> TorchFile:
    content = read_parts(file, size, CHECKPOINTS)
    if type(content) is not int or content != _MAGIC:
        return TorchFile(content, _no_storage)
    read_parts(file, size, CHECKPOINTS)  # a number of the version
    system = read_parts(file, size, CHECKPOINTS)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleError("its numbers are not in little-endian byte order")
    content = read_parts(file, size, CHECKPOINTS)
    keys = read_parts(file, size, CHECKPOINTS)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise PickleError("it has no list of storages")
    sizes = dict(_widths(content))
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        numbers = int.from_bytes(_exactly(file, 8), "little", signed=True)
        length = numbers * sizes.get(key, 0)
        if key not in sizes or not 0 <= length <= size - file.tell():
            raise PickleError("it is cut off")
        places[key] = (file.tell(), length)
        file.seek(length, 1)

    def storage(address: Any, start: int, length: int) -> bytearray:
        place, available = places.get(str(address), (0, -1))
        if start + length > available:
            raise PickleError(f"the numbers of a tensor are missing: {str(address)[:40]}")
        file.seek(place + start)
        return _exactly(file, length)

    return TorchFile(content, storage)


def _no_storage(*_: Any) -> bytearray:
    raise PickleError("the numbers of a tensor are missing")


def _exactly(file: BufferedIOBase, length: int) -> bytearray:
    data = bytearray(length)
    view, done = memoryview(data), 0
    while done < length:
        n = file.readinto(view[done:])
        if not n:
            raise PickleError("it is cut off")
        done += n
    return data


def _stored(part: Any) -> tuple[str, str, int]:
    """Type, address and number of numbers of a storage outside of the pickle."""
    place = part.arguments[0] if isinstance(part, Called) and part.what is OUTSIDE else None
    if isinstance(place, tuple) and len(place) in (5, 6) and place[0] == "storage" and isinstance(place[1], Named):
        kind, address, numbers = place[1], place[2], place[4]
        known = kind.module == "torch" and kind.name in _STORAGES
        if place[5:] not in ((), (None,)):
            raise PickleError("a tensor is a part of another's storage")
        if known and isinstance(address, str) and type(numbers) is int and 0 <= numbers < 2**40:
            return kind.name, address, numbers
    raise PickleError("a tensor has no storage that is known")


def _whole(sides: Any) -> tuple[int, ...]:
    if isinstance(sides, Called) and sides.what.name == "Size" and len(sides.arguments) == 1:
        sides = sides.arguments[0]
    if isinstance(sides, tuple) and len(sides) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in sides):
        return sides
    raise PickleError("the shape of a tensor is no list of numbers")


def _widths(content: Any) -> Iterator[tuple[str, int]]:
    """Every storage that is named anywhere, with the bytes of one of its numbers."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict | list | tuple | Called) or id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Called):
            if part.what is OUTSIDE:
                kind, address, _ = _stored(part)
                yield address, _STORAGES[kind][1]
            else:
                waiting += [part.arguments, part.state]
        else:
            waiting += part.values() if isinstance(part, dict) else part
