"""Tests of reading OME-Zarr and plain zarr."""

from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.errors import ImageError
from cytomask.formats import kept_pieces
from cytomask.formats.images import list_images, read_image
from cytomask.formats.ome_zarr_labels import LabelZarrWriter
from cytomask.formats.zarr_array import ZarrWindows
from cytomask.lazy_pixels import coarser_levels

RNG = np.random.default_rng(1)
TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def write(
    path: Path,
    array: np.ndarray,
    axes: str = "cyx",
    *,
    version: str = "0.4",
    chunks: tuple[int, ...] | None = None,
    n_levels: int = 1,
    scale: float = 0.5,
    unit: str | None = "micrometer",
    channels: list[dict] | None = None,
    **changes: Any,
) -> Path:
    """Write an OME-Zarr by zarr alone, to share no code with the reader; each level is one higher than before."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(n_levels):
        keys = {"name": "v2" if version == "0.4" else "default", "separator": "/"}
        names = None if version == "0.4" else list(axes)
        stored = group.create_array(
            str(level), shape=array.shape, dtype=array.dtype, chunks=chunks or array.shape, chunk_key_encoding=keys,
            dimension_names=names, **changes)  # fmt: skip
        stored[:] = array
        factors = [scale * 2**level if axis in "yx" else 1.0 for axis in axes]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": factors}]})
        array = array[..., ::2, ::2] + 1
    units = {"unit": unit} if unit else {}
    listed = [{"name": a, "type": TYPES[a], **(units if TYPES[a] == "space" else {})} for a in axes]
    metadata: dict[str, Any] = {"multiscales": [{"version": version, "axes": listed, "datasets": datasets}]}
    if channels is not None:
        metadata["omero"] = {"channels": channels}
    group.attrs.update(metadata if version == "0.4" else {"ome": {"version": version, **metadata}})
    return path


def pixels(*shape: int, dtype: str = "u2") -> np.ndarray:
    return RNG.integers(0, 200, shape).astype(dtype)


@pytest.fixture(params=["0.4", "0.5"])
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[0, 2**40], ids=["by windows", "at once"])
def lazy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr("cytomask.formats.ome_zarr.LAZY_FROM", request.param)
    return request.param == 0


def test_channels_axes_and_pixel_size_are_read(tmp_path: Path, version: str, lazy: bool) -> None:
    array = pixels(2, 50, 70)
    path = write(tmp_path / "a.ome.zarr", array, version=version, chunks=(1, 16, 32),
                 channels=[{"label": "DAPI", "color": "0000FF"}, {"label": "actin"}])  # fmt: skip
    image = read_image(path)
    assert image.lazy is lazy
    assert image.channels == ("DAPI", "actin")
    assert image.pixel_size == (0.5, 0.5)
    assert image.source == path
    assert "axes CYX: told by the OME metadata" in image.resolved
    np.testing.assert_array_equal(image.window(0, 50, 0, 70), array)
    np.testing.assert_array_equal(image.select([1]).window(15, 40, 31, 33), array[1:, 15:40, 31:33])
    np.testing.assert_array_equal(image.sampled(7), array[:, ::7, ::7])


@settings(max_examples=20, deadline=None)
@given(
    version=st.sampled_from(["0.4", "0.5"]),
    axes=st.sampled_from(["yx", "cyx", "zyx", "czyx", "tczyx", "yxc"]),
    dtype=st.sampled_from(["u1", "<u2", ">u2", "i4", "f4", "f8", "?"]),
    data=st.data(),
)
def test_any_window_of_any_array(
    tmp_path_factory: pytest.TempPathFactory, version: str, axes: str, dtype: str, data: st.DataObject
) -> None:
    sizes = {"t": 2, "c": 3, "z": 2, "y": 20, "x": 23}
    array = pixels(*[sizes[a] for a in axes], dtype=dtype)
    chunks = tuple(data.draw(st.integers(1, size)) for size in array.shape)
    path = write(tmp_path_factory.mktemp("z") / "a.zarr", array, axes, version=version, chunks=chunks)
    stack = [a for a in axes if a in "tz"]
    n_planes = 2 ** len(stack)
    plane = data.draw(st.integers(0, n_planes - 1)) if stack else None
    y0, y1 = sorted(data.draw(st.tuples(st.integers(0, 20), st.integers(0, 20))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytomask.formats.ome_zarr.LAZY_FROM", data.draw(st.sampled_from([0, 2**40])))
        image = read_image(path, plane=plane)
    expected = array
    if stack:
        index = dict(zip(stack, np.unravel_index(plane, [2] * len(stack))))
        expected = array[tuple(int(index[a]) if a in index else slice(None) for a in axes)]
    expected = np.moveaxis(expected, -1, 0) if axes == "yxc" else expected
    expected = expected[None] if expected.ndim == 2 else expected
    np.testing.assert_array_equal(image.window(y0, y1, 3, 20), expected[:, y0:y1, 3:20])
    assert image.dtype == (np.uint8 if dtype == "?" else np.dtype(dtype).newbyteorder("="))


def test_levels_serve_as_overviews(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytomask.formats.ome_zarr.LAZY_FROM", 0)
    array = pixels(3, 128, 96)
    path = write(tmp_path / "a.zarr", array, version=version, chunks=(1, 32, 32), n_levels=3)
    image = read_image(path).select([1])
    assert [level.shape for level in coarser_levels(image.pixels)] == [(1, 64, 48), (1, 32, 24)]
    shutil.rmtree(path / "0")
    np.testing.assert_array_equal(image.overview(32).pixels, array[1:2, ::4, ::4] + 2)


def test_only_the_chunks_of_a_window_are_unpacked_and_each_once(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytomask.formats.ome_zarr.LAZY_FROM", 0)
    array = pixels(2, 160, 160)
    image = read_image(write(tmp_path / "a.zarr", array, version=version, chunks=(1, 16, 16))).select([1])
    kept_pieces.kept.forget()
    asked: list[tuple] = []
    read = ZarrWindows._read
    monkeypatch.setattr(ZarrWindows, "_read", lambda self, index: (asked.append(index), read(self, index))[1])
    np.testing.assert_array_equal(image.window(15, 33, 64, 80), array[1:, 15:33, 64:80])
    assert [(c.start, y.start, x.start) for c, y, x in asked] == [(1, 0, 64), (1, 16, 64), (1, 32, 64)]
    np.testing.assert_array_equal(image.window(20, 34, 60, 80), array[1:, 20:34, 60:80])
    assert [(c.start, y.start, x.start) for c, y, x in asked[3:]] == [(1, 16, 48), (1, 32, 48)]
    # What would push everything else out is read in one go, and not kept.
    monkeypatch.setattr("cytomask.formats.zarr_array.KEPT", 2 * 16 * 16 * 2)
    np.testing.assert_array_equal(image.window(100, 160, 0, 160), array[1:, 100:, :])
    assert len(asked) == 6


def test_images_do_not_share_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytomask.formats.ome_zarr.LAZY_FROM", 0)
    arrays = pixels(2, 1, 20, 20)
    images = [read_image(write(tmp_path / f"{i}.zarr", array)) for i, array in enumerate(arrays)]
    images.append(pickle.loads(pickle.dumps(images[0])))
    for image, array in zip(images, (*arrays, arrays[0])):
        np.testing.assert_array_equal(image.window(0, 20, 0, 20), array)


def test_other_threads_and_processes_read_the_same(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytomask.formats.ome_zarr.LAZY_FROM", 0)
    array = pixels(1, 300, 300)
    image = read_image(write(tmp_path / "a.zarr", array, version=version, chunks=(1, 32, 32)))
    again = pickle.loads(pickle.dumps(image))
    places = [(int(y), int(x)) for y, x in RNG.integers(0, 240, (40, 2))]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda p: again.window(p[0], p[0] + 60, p[1], p[1] + 60), places))
    for (y, x), window in zip(places, found):
        np.testing.assert_array_equal(window, array[:, y : y + 60, x : x + 60])


@pytest.mark.parametrize(
    ("unit", "scale", "size"),
    [
        ("nanometer", 250.0, 0.25),
        ("millimeter", 0.001, 1.0),
        ("micrometer", 0.3, 0.3),
        (None, 0.3, None),
        (None, 1, None),
    ],
)
def test_units(tmp_path: Path, unit: str | None, scale: float, size: float | None) -> None:
    image = read_image(write(tmp_path / "a.zarr", pixels(1, 9, 9), unit=unit, scale=scale))
    assert image.pixel_size == (pytest.approx((size, size)) if size else None)
    assert ("without a unit" in image.resolved) == (unit is None and scale != 1)


def test_scales_of_level_and_image_are_multiplied(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9), scale=2.0)
    attrs = json.loads((path / ".zattrs").read_text())
    attrs["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [1, 0.25, 0.5]}]
    (path / ".zattrs").write_text(json.dumps(attrs))
    assert read_image(path).pixel_size == (0.5, 1.0)


def test_axes_of_the_time_before_they_were_listed(tmp_path: Path) -> None:
    array = pixels(1, 2, 1, 30, 20)
    path = write(tmp_path / "a.zarr", array, "tczyx")
    attrs = json.loads((path / ".zattrs").read_text())
    del attrs["multiscales"][0]["axes"]
    (path / ".zattrs").write_text(json.dumps(attrs))
    image = read_image(path)
    np.testing.assert_array_equal(image.window(0, 30, 0, 20), array[0, :, 0])
    assert image.pixel_size is None


def test_a_stack_needs_a_plane_and_axes_may_be_told(tmp_path: Path) -> None:
    array = pixels(5, 30, 20)
    path = write(tmp_path / "a.zarr", array, "zyx")
    with pytest.raises(ImageError, match=r"stack of 5 planes(.|\n)*--plane"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, plane=3).window(0, 30, 0, 20)[0], array[3])
    assert read_image(path, axes="CYX").n_channels == 5


def test_red_green_and_blue_of_eight_bits_are_a_colour_picture(tmp_path: Path) -> None:
    colours = [{"label": str(i), "color": c} for i, c in enumerate(("FF0000", "00FF00", "0000FF"))]
    picture = write(tmp_path / "a.zarr", pixels(3, 30, 20, dtype="u1"), channels=colours)
    assert read_image(picture).rgb
    assert not read_image(picture, axes="CYX").rgb
    deep = write(tmp_path / "b.zarr", pixels(3, 30, 20), channels=colours)
    assert not read_image(deep).rgb
    assert read_image(deep).channels == ("0", "1", "2")


def test_plain_arrays(tmp_path: Path) -> None:
    array = pixels(2, 30, 20)
    zarr.open_array(str(tmp_path / "v2.zarr"), mode="w", shape=array.shape, dtype="u2", zarr_format=2)[:] = array
    named = zarr.create_array(
        str(tmp_path / "named.zarr"), shape=(30, 20, 9), dtype="u2", dimension_names=["y", "x", "c"]
    )
    named[:] = 7
    group = zarr.open_group(str(tmp_path / "group.zarr"), mode="w")
    group.create_array("data", shape=array.shape, dtype="u2")[:] = array
    assert read_image(tmp_path / "v2.zarr").n_channels == 2
    assert read_image(tmp_path / "named.zarr").n_channels == 9
    assert "the array's own names" in read_image(tmp_path / "named.zarr").resolved
    np.testing.assert_array_equal(read_image(tmp_path / "group.zarr").pixels, array)
    np.testing.assert_array_equal(read_image(tmp_path / "v2.zarr", axes="ZYX", plane=1).pixels[0], array[1])
    group.create_array("other", shape=array.shape, dtype="u2")
    with pytest.raises(ImageError, match=r"several arrays(.|\n)*data, other"):
        read_image(tmp_path / "group.zarr")
    np.testing.assert_array_equal(read_image(tmp_path / "group.zarr" / "data").pixels, array)
    deep = zarr.create_array(str(tmp_path / "deep.zarr"), shape=(1, 1, 1, 30, 20), dtype="u2")
    deep[:] = 3
    assert read_image(tmp_path / "deep.zarr").shape == (30, 20)


def test_sharded_arrays(tmp_path: Path, lazy: bool) -> None:
    array = pixels(1, 64, 64)
    path = write(tmp_path / "a.zarr", array, version="0.5", chunks=(1, 16, 16), shards=(1, 32, 32))
    image = read_image(path)
    assert image.lazy is lazy
    np.testing.assert_array_equal(image.window(10, 50, 5, 60), array[:, 10:50, 5:60])


def test_written_labels_are_read_again(tmp_path: Path, version: str, lazy: bool) -> None:
    labels = pixels(700, 600, dtype="u4") + 70_000
    writer = LabelZarrWriter.create(
        tmp_path / "a.zarr", labels.shape, pixel_size=(0.5, 0.25), version=version, chunk=256
    )
    writer.write(0, 0, labels)
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.zarr", axes="CYX")
    writer.finish()
    image = read_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image.window(0, 700, 0, 600)[0], labels)
    assert image.pixel_size == (0.5, 0.25)


# Collections: what is named can be read.


def test_a_plate_names_its_fields(tmp_path: Path) -> None:
    plate = tmp_path / "p.zarr"
    root = zarr.open_group(str(plate), mode="w", zarr_format=2)
    root.attrs["plate"] = {"wells": [{"path": "A/1"}, {"path": "B/7"}]}
    for well in ("A/1", "B/7"):
        group = root.require_group(well)
        group.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
        for field in "01":
            write(plate / well / field, pixels(1, 9, 9))
    with pytest.raises(ImageError, match=r"plate of 2 wells: A/1/0, A/1/1, B/7/0(.|\n)*such as .*p.zarr/A/1/0"):
        read_image(plate)
    with pytest.raises(ImageError, match="a well of 2 fields: 0, 1"):
        read_image(plate / "A" / "1")
    assert read_image(plate / "A" / "1" / "0").shape == (9, 9)
    fields = list_images([str(plate / "*" / "*" / "*")])
    assert [f.relative_to(plate).as_posix() for f in fields] == ["A/1/0", "A/1/1", "B/7/0", "B/7/1"]


def test_a_collection_names_its_images(tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "c.zarr"), mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    for name in ("0", "1", "10", "2"):
        write(tmp_path / "c.zarr" / name, pixels(1, 9, 9))
    with pytest.raises(ImageError, match=r"collection of 4 images: 0, 1, 2, 10"):
        read_image(tmp_path / "c.zarr")
    assert read_image(tmp_path / "c.zarr" / "10").shape == (9, 9)


def test_folders_list_zarr_as_images_but_not_what_is_in_them(tmp_path: Path) -> None:
    write(tmp_path / "b.ome.zarr", pixels(1, 9, 9))
    write(tmp_path / "a.zarr", pixels(1, 9, 9))
    (tmp_path / "c.png").write_bytes(b"x")
    LabelZarrWriter.create(tmp_path / "a_labels.ome.zarr", (9, 9)).finish()
    (tmp_path / "a.zarr" / "thumbnail.png").write_bytes(b"x")
    names = [p.name for p in list_images([tmp_path])]
    assert names == ["a.zarr", "b.ome.zarr", "c.png"]
    assert [p.name for p in list_images([str(tmp_path / "**" / "*.*")])] == names
    assert [p.name for p in list_images([tmp_path / "a.zarr"])] == ["a.zarr"]


# What cannot be trusted.


def test_an_empty_folder_or_file_of_that_name_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(ImageError, match="empty or incomplete"):
        read_image(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").write_text("hello")
    with pytest.raises(ImageError, match="not a zarr image"):
        read_image(tmp_path / "b.zarr")
    zarr.open_group(str(tmp_path / "c.zarr"), mode="w")
    with pytest.raises(ImageError, match="without arrays or OME metadata"):
        read_image(tmp_path / "c.zarr")


@pytest.mark.parametrize("name", ["../other.zarr/0", "link", "/etc"])
def test_arrays_outside_of_the_folder_are_not_read(tmp_path: Path, name: str) -> None:
    write(tmp_path / "other.zarr", pixels(1, 9, 9))
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9))
    (path / "link").symlink_to(tmp_path / "other.zarr" / "0")
    attrs = json.loads((path / ".zattrs").read_text())
    attrs["multiscales"][0]["datasets"][0]["path"] = name
    (path / ".zattrs").write_text(json.dumps(attrs))
    with pytest.raises(ImageError, match="outside of the zarr folder"):
        read_image(path)


def test_a_chunk_that_leads_out_of_the_folder_is_not_read(tmp_path: Path, version: str) -> None:
    other = write(tmp_path / "other.zarr", pixels(1, 9, 9), version=version)
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9), version=version)
    chunk = Path("0/0/0/0") if version == "0.4" else Path("0/c/0/0/0")
    (path / chunk).unlink()
    (path / chunk).symlink_to(other / chunk)
    with pytest.raises(ImageError, match="leads out of the folder"):
        read_image(path)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_nothing_is_unpickled(tmp_path: Path, place: str) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9))
    metadata = json.loads((path / "0" / ".zarray").read_text())
    codec = {"id": "pickle", "protocol": 5}
    metadata |= {"compressor": None, place: codec if place == "compressor" else [codec]}
    (path / "0" / ".zarray").write_text(json.dumps(metadata))
    (path / "0" / "0" / "0" / "0").write_bytes(pickle.dumps(np.zeros((1, 9, 9), np.uint16)))
    with pytest.raises(ImageError, match="the packing 'pickle'"):
        read_image(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "|O"}, "values of the type"),
        ({"dtype": "<c16"}, "values of the type"),
        ({"dtype": [["a", "<u2"]]}, "values of the type"),
        ({"dtype": "<U9"}, "values of the type"),
        ({"chunks": [1, 100_000, 100_000], "shape": [1, 100_000, 100_000]}, "chunks that are too large"),
        ({"shape": [1, 9, -9]}, "shape"),
        ({"shape": [1, 9, 9.5]}, "shape"),
        ({"shape": [1, 9]}, "shape"),
        ({"shape": "many"}, "shape"),
        ({"shape": [1, 0, 9]}, "no pixels"),
        ({"compressor": {"id": "msgpack2"}}, "the packing"),
        ({"compressor": "blosc"}, "damaged"),
        ({"filters": [{}]}, "the packing"),
    ],
)
def test_old_arrays_of_other_things_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9))
    metadata = json.loads((path / "0" / ".zarray").read_text()) | changes
    (path / "0" / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(ImageError, match=words):
        read_image(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_type": "string"}, "values of the type"),
        ({"data_type": {"name": "struct"}}, "damaged|values of the type"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "the packing"),
        ({"codecs": [{"name": "vlen-bytes"}]}, "the packing"),
        ({"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 9, 9],
          "codecs": [{"name": "numcodecs.pickle"}]}}]}, "the packing"),
        ({"chunk_grid": {"name": "rectilinear"}}, "chunk grid"),
        ({"node_type": "group"}, "array"),
    ],
)  # fmt: skip
def test_new_arrays_of_other_things_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9), version="0.5")
    metadata = json.loads((path / "0" / "zarr.json").read_text()) | changes
    (path / "0" / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(ImageError, match=words):
        read_image(path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "null", '{"multiscales": [{"datasets": []}]}', '{"multiscales": [7]}',
                '{"multiscales": [{"datasets": [{"path": "9"}], "axes": []}]}', '{"plate": {"wells": 3}}',
                '{"a":' * 5000])  # fmt: skip
def test_damaged_metadata_are_an_error(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9))
    (path / ".zattrs").write_text(content)
    with pytest.raises(ImageError):
        read_image(path)


def test_metadata_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9))
    monkeypatch.setattr("cytomask.formats.ome_zarr._METADATA_BYTES", 100)
    with pytest.raises(ImageError, match="bytes of metadata"):
        read_image(path)


PACKINGS = {
    "0.4": [numcodecs.Blosc(), numcodecs.Blosc("zstd"), numcodecs.Zstd(), numcodecs.GZip(), numcodecs.Zlib(), None],
    "0.5": [zarr.codecs.BloscCodec(), zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec(), None],
}


@pytest.mark.parametrize(
    ("version", "packing"),
    [pytest.param(v, p, id=f"{v}-{type(p).__name__}-{k}") for v, all_ in PACKINGS.items() for k, p in enumerate(all_)],
)
def test_a_damaged_chunk_is_an_error_where_it_is_read(
    tmp_path: Path, version: str, packing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytomask.formats.ome_zarr.LAZY_FROM", 0)
    array = pixels(1, 900, 32, dtype="u1")
    path = write(tmp_path / "a.zarr", array, version=version, chunks=(1, 32, 32), compressors=packing)
    row = 9  # where the depth is not probed
    chunk = path / (f"0/0/{row}/0" if version == "0.4" else f"0/c/0/{row}/0")
    whole = chunk.read_bytes()
    for length in (len(whole) - 30, len(whole) // 2, 9, 0):
        chunk.write_bytes(whole[:length])
        image = read_image(path)
        np.testing.assert_array_equal(image.window(0, 32 * row, 0, 32), array[:, : 32 * row])
        with pytest.raises(ImageError, match=r"part of the zarr array is damaged(.|\n)*a.zarr"):
            image.window(32 * row, 32 * row + 1, 0, 1)


def test_a_shard_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 64, 64), version="0.5", chunks=(1, 16, 16), shards=(1, 64, 64))
    shard = path / "0/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-30])
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


def test_a_block_that_announces_more_than_its_pixels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9), compressors=numcodecs.Blosc())
    (path / "0/0/0/0").write_bytes(numcodecs.Blosc().encode(bytes(50_000_000)))
    with pytest.raises(ImageError, match="unpacks to 50000000 bytes"):
        read_image(path)


def test_a_chunk_far_larger_than_its_pixels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 9, 9))
    (path / "0" / "0" / "0" / "0").write_bytes(bytes(3_000_000))
    with pytest.raises(ImageError, match="3000000 bytes, of at most"):
        read_image(path)


def test_missing_chunks_are_background(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 32, 32) + 1, version=version, chunks=(1, 16, 16), fill_value=0)
    (path / ("0/0/1/0" if version == "0.4" else "0/c/0/1/0")).unlink()
    image = read_image(path)
    assert not image.window(16, 32, 0, 16).any()
    assert image.window(0, 16, 0, 32).all()


def test_a_missing_level_zero_is_an_error(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "a.zarr", pixels(1, 32, 32), version=version)
    shutil.rmtree(path / "0")
    with pytest.raises(ImageError, match="an array of the image is missing"):
        read_image(path)
