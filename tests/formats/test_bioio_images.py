"""Tests of reading the files of microscopes' own software.

Where the extra ``bioio`` is installed a real CZI is written and read; elsewhere a stand-in plays its part.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cytomask.errors import ImageError
from cytomask.formats.images import list_images, read_image

CZI = b"ZISRAWFILE" + bytes(50)


class _Chunked:
    """What a dask array offers, and is asked for, here."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, index: Any) -> _Chunked:
        return _Chunked(self._array[index])

    def compute(self, scheduler: str) -> np.ndarray:
        assert scheduler == "synchronous"
        return self._array


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Modules of bioio's names; their one image is what the test puts into the dictionary."""
    told: dict[str, Any] = {
        "array": np.arange(2 * 3 * 4 * 20 * 30, dtype=np.uint16).reshape(2, 3, 4, 20, 30),
        "axes": "TCZYX",
        "names": ["DAPI", "actin", "tubulin"],
        "sizes": SimpleNamespace(Z=1.0, Y=0.25, X=0.25),
        "scenes": ("first",),
    }

    def open_image(path: Path, reader: object) -> SimpleNamespace:
        if "error" in told:
            raise told["error"]
        return SimpleNamespace(
            scenes=told["scenes"],
            dask_data=_Chunked(told["array"]),
            dims=SimpleNamespace(order=told["axes"]),
            channel_names=told["names"],
            physical_pixel_sizes=told["sizes"],
        )

    for name in ("bioio", "bioio_nd2", "bioio_czi", "bioio_lif"):
        module = ModuleType(name)
        module.__dict__.update(BioImage=open_image, Reader=object())
        monkeypatch.setitem(sys.modules, name, module)
    return told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cells.czi"
    path.write_bytes(CZI)
    return path


def test_channels_pixel_size_and_planes(path: Path, stand_in: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match=r"stack of 8 planes(.|\n)*T=2, Z=4"):
        read_image(path)
    image = read_image(path, plane=6)
    np.testing.assert_array_equal(image.pixels, stand_in["array"][1, :, 2])
    assert image.channels == ("DAPI", "actin", "tubulin")
    assert image.pixel_size == (0.25, 0.25)
    assert "axes TCZYX: told by the CZI file; plane 6 of 8 (T=1, Z=2)" in image.resolved
    assert "the pixel size is told by the CZI file" in image.resolved


def test_one_plane_needs_no_choice_and_scenes_are_told(path: Path, stand_in: dict[str, Any]) -> None:
    stand_in |= {"array": stand_in["array"][:1, :, :1], "scenes": ("A1", "A2"), "sizes": SimpleNamespace(Y=None, X=0.0)}
    image = read_image(path)
    assert image.pixels.shape == (3, 20, 30)
    assert image.pixel_size is None
    assert "the first of 2 scenes in the file (A1)" in image.resolved


def test_a_size_along_one_axis_counts_for_both(path: Path, stand_in: dict[str, Any]) -> None:
    stand_in |= {"array": stand_in["array"][:1, :, :1], "sizes": SimpleNamespace(Y=None, X=0.5)}
    assert read_image(path).pixel_size == (0.5, 0.5)


def test_a_colour_picture(path: Path, stand_in: dict[str, Any]) -> None:
    array = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(1, 1, 1, 20, 30, 3)
    stand_in |= {"array": array, "axes": "TCZYXS", "names": ["Channel:0:0"]}
    image = read_image(path)
    assert image.rgb
    np.testing.assert_array_equal(image.pixels, np.moveaxis(array[0, 0, 0], -1, 0))


def test_names_that_do_not_fit_are_left_out(path: Path, stand_in: dict[str, Any]) -> None:
    stand_in |= {"array": stand_in["array"][:1, :, :1], "names": ["DAPI"]}
    assert read_image(path).channels == ("channel 0", "channel 1", "channel 2")


def test_a_plane_too_large_for_memory_is_refused_before_it_is_read(path: Path, stand_in: dict[str, Any]) -> None:
    stand_in["array"] = np.broadcast_to(np.uint16(0), (1, 1, 1, 80_000, 80_000))
    with pytest.raises(ImageError, match="at most 8 GiB"):
        read_image(path)


def test_a_damaged_file_is_an_error_of_the_file(path: Path, stand_in: dict[str, Any]) -> None:
    stand_in["error"] = RuntimeError("bad directory")
    with pytest.raises(ImageError, match=r"CZI file is damaged(.|\n)*cells.czi(.|\n)*RuntimeError: bad directory"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "start", "module"),
    [
        ("a.nd2", b"\xda\xce\xbe\x0a", "bioio_nd2"),
        ("a.nd2", b"\0\0\0\x0cjP  \r\n", "bioio_nd2"),
        ("a.czi", CZI, "bioio_czi"),
        ("a.lif", b"\x70\0\0\0\x2a", "bioio_lif"),
        ("a.tif", CZI, "bioio_czi"),
    ],
)
def test_the_kind_is_told_by_the_first_bytes(
    tmp_path: Path, stand_in: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, start: bytes, module: str
) -> None:
    stand_in["array"] = stand_in["array"][:1, :, :1]
    asked: list[str] = []
    load = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: (asked.append(name), load(name))[1])
    (tmp_path / name).write_bytes(start)
    image = read_image(tmp_path / name)
    assert asked == ["bioio", module]
    assert ("in spite of its name" in image.resolved) == (name == "a.tif")


@pytest.mark.parametrize("missing", ["bioio", "bioio_czi"])
def test_without_the_packages_the_error_names_the_extra(
    path: Path, stand_in: dict[str, Any], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImageError, match=r'CZI needs packages(.|\n)*cells.czi(.|\n)*pip install "cytomask\[bioio\]"'):
        read_image(path)


@pytest.mark.parametrize("content", [b"hello, this is text", b"\x89HDF\r\n\x1a\n"])
def test_other_files_of_that_name_are_not_handed_to_the_readers(
    path: Path, stand_in: dict[str, Any], content: bytes
) -> None:
    stand_in["error"] = AssertionError("was opened")
    path.write_bytes(content)
    with pytest.raises(ImageError, match="not a CZI image"):
        read_image(path)


def test_they_are_listed_as_images(tmp_path: Path) -> None:
    for name in ("a.nd2", "b.czi", "c.LIF", "d.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in list_images([tmp_path])] == ["a.nd2", "b.czi", "c.LIF"]


def test_the_packages_are_loaded_only_when_needed() -> None:
    script = "import sys, cytomask.formats.images; print([m for m in sys.modules if m.startswith(('bioio', 'zarr'))])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_real_czi(tmp_path: Path) -> None:
    pytest.importorskip("bioio_czi", reason="the extra bioio is not installed")
    writer = pytest.importorskip("pylibCZIrw.czi")
    array = np.random.default_rng(0).integers(0, 4000, (2, 3, 60, 80)).astype(np.uint16)
    path = tmp_path / "real.czi"
    with writer.create_czi(str(path)) as czi:
        for c in range(2):
            for z in range(3):
                czi.write(array[c, z][..., None], plane={"C": c, "Z": z, "T": 0})
        czi.write_metadata("cells", channel_names={0: "DAPI", 1: "actin"}, scale_x=0.5e-6, scale_y=0.25e-6)
    with pytest.raises(ImageError, match="stack of 3 planes"):
        read_image(path)
    image = read_image(path, plane=1)
    np.testing.assert_array_equal(image.pixels, array[:, 1])
    assert image.channels == ("DAPI", "actin")
    assert image.pixel_size == pytest.approx((0.25, 0.5))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match="damaged"):
        read_image(path, plane=1)
