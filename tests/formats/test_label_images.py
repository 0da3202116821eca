"""Label images: there and back, and what is no label image."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytomask.errors import LabelError, OutputError
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels, write_labels
from cytomask.formats.ome_zarr_labels import LabelZarrWriter


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    data=st.data(),
    highest=st.sampled_from([1, 255, 256, 65535, 65536, 2**31 - 1]),
    suffix=st.sampled_from([".tif", ".TIFF", ".png"]),
    pixel_size=st.sampled_from([None, (0.5, 0.25), (1.0, 1.0), (0.1033, 0.1033), (7.5, 7.5)]),
)
def test_labels_come_back(tmp_path: Path, data: Any, highest: int, suffix: str, pixel_size: Any) -> None:
    path = tmp_path / f"a{suffix}"
    shape = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30)
    labels = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, highest)))
    labels.flat[0] = highest
    if suffix == ".png" and highest > 65535:
        with pytest.raises(LabelError, match="PNG holds at most 65535"):
            write_labels(path, labels, pixel_size)
        return
    write_labels(path, labels, pixel_size)
    back = read_labels(path)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, labels)
    image = read_image(path)
    assert image.dtype == (np.uint8 if highest < 256 else np.uint16 if highest < 65536 else np.uint32)
    assert image.pixel_size == (pixel_size and pytest.approx(pixel_size, rel=1e-4))


def test_other_programs_read_the_pixel_size(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", np.eye(20, dtype=int), (0.5, 0.25))
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.imagej_metadata is not None
        assert tif.imagej_metadata["unit"] == "um"
        assert tif.pages.first.tags["XResolution"].value == (4, 1)
        assert tif.pages.first.tags["YResolution"].value == (2, 1)
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    write_labels(tmp_path / "b.tif", np.eye(20, dtype=int) * 70_000, (0.5, 0.25))
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.ome_metadata is not None
        assert 'PhysicalSizeX="0.25"' in tif.ome_metadata


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((3, 4), np.float32),
        np.zeros((2, 3, 4), np.int32),
        np.zeros((0, 4), np.int32),
        np.full((3, 4), -1),
        np.full((3, 4), 2**32),
    ],
)
def test_what_is_no_label_image_is_not_written(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(LabelError):
        write_labels(tmp_path / "a.tif", labels)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabelError, match=r"\.tif, \.tiff, \.png"):
        write_labels(tmp_path / "a.jpg", np.eye(4, dtype=int))
    with pytest.raises(LabelError):
        write_labels(tmp_path / "a.png", np.full((4, 4), 70_000))
    with pytest.raises(OutputError):
        write_labels(tmp_path / "no folder" / "a.tif", np.eye(4, dtype=int))
    write_labels(tmp_path / "a.tif", np.eye(4, dtype=int))

    def break_off(path: Path, *_: Any, **__: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(tifffile, "imwrite", break_off)
    with pytest.raises(OutputError, match="disk full"):
        write_labels(tmp_path / "a.tif", np.zeros((4, 4), int))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), np.eye(4))


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", ">u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", ">f8"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_any_type_of_whole_numbers_is_read(tmp_path: Path, dtype: str, compression: str | None) -> None:
    labels = np.array([[0, 1, 1], [0, 0, 100]]).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", labels, compression=compression)
    back = read_labels(tmp_path / "a.tif")
    assert back.dtype == np.int32
    assert back.dtype.isnative
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, labels)


def test_numbers_are_taken_as_they_are_stored(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="miniswhite")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)
    colours = np.random.default_rng(0).integers(0, 65535, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)
    for suffix in (".png", ".bmp"):
        picture = PIL.Image.fromarray(labels).convert("P")
        picture.putpalette((colours.T >> 8).astype(np.uint8).ravel().tolist())
        picture.save(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(read_labels(tmp_path / f"a{suffix}"), labels)
    PIL.Image.fromarray(labels).save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)
    PIL.Image.fromarray(labels > 5).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels > 5)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_wrong_checksum_is_an_error(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    PIL.Image.fromarray(np.eye(20, dtype=np.uint8)).convert(mode).save(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"IEND") - 5] ^= 1  # the last byte of the checksum of the pixels
    path.write_bytes(data)
    with pytest.raises(LabelError, match="checksum"):
        read_labels(path)


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (np.array([[0, 1.5], [2, 3]]), {}, r"whole numbers[^!]*1 fractions, such as 1\.5"),
        (np.array([[0, np.nan], [2, 3]]), {}, "1 NaN"),
        (np.array([[0, -1]]), {}, "-1 to 0"),
        (np.array([[0, 2**31]]), {}, "0 to 2147483648"),
        (np.array([[0, 3e9]]), {}, "0 to 3000000000"),
        (np.zeros((9, 8, 3), np.uint8), {"photometric": "rgb"}, "a colour picture"),
        (np.zeros((2, 9, 8), np.uint8), {"metadata": {"axes": "CYX"}}, "2 channels"),
        (np.zeros((2, 9, 8), np.uint8), {"metadata": {"axes": "ZYX"}}, "stack of 2"),
    ],
)
def test_what_holds_no_labels_is_an_error(tmp_path: Path, array: np.ndarray, options: Any, words: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, **{"photometric": "minisblack", **options})
    with pytest.raises(LabelError, match=words) as caught:
        read_labels(path)
    assert caught.value.where == path


def test_files_that_cannot_hold_labels_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("labels")
    PIL.Image.new("L", (8, 8)).save(tmp_path / "a.jpg")
    shutil.copy(tmp_path / "a.jpg", tmp_path / "b.png")
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "c.png")
    for name, words in [
        ("a.jpg", "jpg"),
        ("b.png", "JPEG"),
        ("c.png", "colour picture"),
        ("empty.tif", "0 bytes"),
        ("text.tif", "'labels'"),
        ("missing.tif", "does not exist"),
        ("labels.npy", "not exist|not supported"),
    ]:
        with pytest.raises(LabelError, match=words):
            read_labels(tmp_path / name)


def test_labels_in_a_zarr_folder_are_read(tmp_path):
    labels = np.zeros((70, 90), np.uint32)
    labels[3:40, 5:60], labels[50:, 70:] = 7, 70_000
    path = tmp_path / "a_labels.ome.zarr"
    writer = LabelZarrWriter.create(path, labels.shape, chunk=32)
    writer.write(0, 0, labels)
    writer.finish()
    assert (read_labels(path) == labels).all()
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(LabelError, match="empty or incomplete"):
        read_labels(tmp_path / "empty.zarr")
