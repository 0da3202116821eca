"""Checkpoints read without unpickling: every kind of tensor and file comes out as torch has it; hostile ones do not."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytomask.formats.pickle_parts import PickleError
from cytomask.formats.torch_files import open_torch_file

KINDS = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
]  # fmt: skip


def tensors(path: Path, *keys: str) -> dict[str, torch.Tensor]:
    with open_torch_file(path) as file:
        part = file.content
        for key in keys:
            part = part[key]
        found = {name: file.tensor(value) for name, value in part.items()}
    assert all(tensor is not None for tensor in found.values())
    return found  # type: ignore[return-value]


def refused(path: Path, *keys: str) -> str:
    with pytest.raises(PickleError) as told:
        tensors(path, *keys)
    return str(told.value)


def state() -> dict[str, torch.Tensor]:
    whole = torch.arange(24.0).reshape(4, 6)
    made = {str(kind): (torch.rand(3, 2) * 100).to(kind) for kind in KINDS}
    return made | {
        "transposed": whole.T, "part": whole[1:3, ::2], "shared": whole, "scalar": torch.tensor(7), "empty": whole[:0],
        "parameter": torch.nn.Parameter(whole * 2), "repeated": torch.ones(3, 1).expand(3, 1),
    }  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_tensors_come_out_as_torch_saves_them(tmp_path: Path, zipped: bool, ordered: bool) -> None:
    given = state()
    content = {"model": collections.OrderedDict(given) if ordered else given, "iteration": 3}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = tensors(tmp_path / "a.pth", "model")
    assert list(found) == list(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor.detach()), name


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_training_is_read_though_only_its_weights_are_wanted(tmp_path: Path, zipped: bool) -> None:
    weights = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
    momentum = {k: {"momentum_buffer": torch.rand(4)} for k in range(4)}
    content = {
        "model": weights,
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.1, "params": [0, 1, 2, 3]}]},
        "scheduler": {"milestones": collections.Counter([3, 5]), "base_lrs": [0.1], "gamma": np.float64(0.1)},
        "iteration": 7,
    }
    torch.save(content, tmp_path / "model_final.pth", _use_new_zipfile_serialization=zipped)
    found = tensors(tmp_path / "model_final.pth", "model")
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_in_a_plain_pickle(tmp_path: Path, protocol: int) -> None:
    given = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array([1, 2], ">i4"), "c": np.float64([])}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": given, "__author__": "someone"}, protocol))
    found = tensors(tmp_path / "a.pkl", "model")
    for name, array in given.items():
        np.testing.assert_array_equal(found[name].numpy(), array)


def test_the_text_of_pickles_of_python_2(tmp_path: Path) -> None:
    # What Python 2.7 with numpy 1.16 writes for {"conv1_w": np.zeros(2, "f4")} in protocol 2, but for the name's memo.
    numbers = struct.pack("<2f", 1.5, -2)
    data = (
        b"\x80\x02}q\x00U\x07conv1_wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04"
        b"U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f4q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03"
        b"U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U\x08" + numbers + b"q\x0ftq\x10bs."
    )
    (tmp_path / "a.pkl").write_bytes(data)
    assert tensors(tmp_path / "a.pkl")["conv1_w"].tolist() == [1.5, -2.0]


class Runs:
    """Unpickling it would run a command."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.what


@pytest.mark.parametrize("ending", ["pkl", "pth", "old.pth"])
def test_what_would_run_something_is_refused_by_name(tmp_path: Path, ending: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / f"a.{ending}"
    content = {"model": {"a": torch.zeros(2) if "pth" in ending else np.zeros(2), "b": Runs(os.mkdir, str(mark))}}
    if ending == "pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=ending == "pth")
    assert "mkdir" in refused(path, "model")
    assert not mark.exists()
    # The same file does run it where it is unpickled: so the refusal was needed.
    with path.open("rb") as file:
        pickle.load(file) if ending == "pkl" else torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, os.system, torch.load, pickle.loads])
def test_no_function_is_let_through(tmp_path: Path, function: Any) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": Runs(function, "1")}))
    assert function.__name__ in refused(tmp_path / "a.pkl")


def rezipped(path: Path, change: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with some of its files changed or left out."""
    target = path.with_name("changed.pth")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            data = change.get(name.split("/", 1)[1], old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save({"w": torch.arange(8.0)}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_broken_archives(saved: Path) -> None:
    assert "data/0" in refused(rezipped(saved, {"data/0": None}))
    assert "data/0" in refused(rezipped(saved, {"data/0": b"1234"}))
    assert "data.pkl" in refused(rezipped(saved, {"data.pkl": None}))
    assert "byte order" in refused(rezipped(saved, {"byteorder": b"big"}))
    assert "compressed" in refused(rezipped(saved, {}, zipfile.ZIP_DEFLATED))
    saved.write_bytes(saved.read_bytes()[:-60])
    assert "broken" in refused(saved)


def test_no_file_makes_another_kind_of_error(saved: Path, tmp_path: Path) -> None:
    """Bytes of good files changed at random: they are read, or refused as broken."""
    torch.save({"w": torch.arange(8.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"w": np.arange(8.0)}))
    generator = np.random.default_rng(0)
    refusals = 0
    for path in (saved, tmp_path / "old.pth", tmp_path / "a.pkl"):
        good = path.read_bytes()
        for _ in range(120):
            data = bytearray(good)
            for place in generator.integers(0, len(good), generator.integers(1, 4)):
                data[place] = generator.integers(256)
            path.write_bytes(data[: generator.integers(1, len(good) + 1)] if generator.random() < 0.2 else data)
            try:
                with open_torch_file(path) as file:
                    if isinstance(file.content, dict):
                        [file.tensor(part) for part in file.content.values()]
            except PickleError:
                refusals += 1
    assert 40 < refusals < 360


@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [((9,), (1,), 0), ((8,), (1,), 1), ((2, 5), (5, 1), 0), ((2**39, 8), (0, 1), 0), ((8,), (1,), -1), ((3,), (), 0),
     ((8,), (-1,), 7)],
)  # fmt: skip
def test_shapes_that_do_not_fit_the_numbers_take_no_memory(
    saved: Path, shape: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    class Storage:
        pass

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, shape, stride, False, {})  # type: ignore[attr-defined]

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 8) if isinstance(thing, Storage) else None

    made = io.BytesIO()
    Pickler(made, 2).dump({"w": Tensor()})
    said = refused(rezipped(saved, {"data.pkl": made.getvalue()}))
    assert "tensor" in said


def test_a_storage_that_says_more_than_it_has(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        data = archive.read("a/data.pkl")
    # 8 numbers are said twice: of the storage and of the tensor.
    assert data.count(b"K\x08") == 2
    assert "missing" in refused(rezipped(saved, {"data.pkl": data.replace(b"K\x08", b"K\x09")}))


def test_files_that_are_nothing(tmp_path: Path) -> None:
    for name, data in {"empty": b"", "text": b"hello", "zip": b"PK\x03\x04", "long": b"\x8a\xff" + bytes(300)}.items():
        (tmp_path / name).write_bytes(data)
        assert refused(tmp_path / name)
