"""Tests of writing labels as OME-Zarr."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.errors import LabelError, OutputError
from cytomask.formats import ome_zarr_labels
from cytomask.formats.ome_zarr_labels import LabelZarrWriter

VERSIONS = ("0.4", "0.5")


def attributes(path: Path) -> dict:
    """The attributes as they are on disk, without the library that wrote them."""
    if (path / ".zattrs").exists():
        return json.loads((path / ".zattrs").read_text())
    attrs = json.loads((path / "zarr.json").read_text())["attributes"]
    return attrs.get("ome", attrs)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 2**32, (1100, 530), np.uint32)


def test_blocks_in_any_order_make_the_whole(tmp_path: Path, labels: np.ndarray, version: str) -> None:
    path = tmp_path / "a.ome.zarr"
    writer = LabelZarrWriter.create(path, labels.shape, chunk=128, version=version)
    corners = [(y, x) for y in range(0, 1100, 300) for x in range(0, 530, 77)]
    np.random.default_rng(0).shuffle(corners)
    for y, x in corners:
        writer.write(y, x, labels[y : y + 300, x : x + 77])
    np.testing.assert_array_equal(writer.read(0, 1100, 0, 530), labels)
    np.testing.assert_array_equal(writer.read(127, 700, 3, 4), labels[127:700, 3:4])
    writer.finish()
    group = zarr.open_group(str(path), mode="r")
    for level, step in enumerate((1, 2, 4)):
        np.testing.assert_array_equal(group[str(level)][:], labels[::step, ::step])
    assert "3" not in group
    assert group.metadata.zarr_format == {"0.4": 2, "0.5": 3}[version]


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    chunk=st.integers(16, 40),
    rectangles=st.lists(st.tuples(*[st.floats(0, 1)] * 4, st.integers(0, 255)), max_size=6),
)
def test_any_rectangles_are_as_in_memory(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, chunk: int, rectangles: list
) -> None:
    writer = LabelZarrWriter.create(tmp_path_factory.mktemp("z") / "a.zarr", (height, width), chunk=chunk, dtype="u1")
    expected = np.zeros((height, width), np.uint8)
    for a, b, c, d, label in rectangles:
        (y0, y1), (x0, x1) = (
            sorted((round(a * height), round(b * height))),
            sorted((round(c * width), round(d * width))),
        )
        writer.write(y0, x0, np.full((y1 - y0, x1 - x0), label, np.int64))
        expected[y0:y1, x0:x1] = label
    np.testing.assert_array_equal(LabelZarrWriter.open(writer.path).read(0, height, 0, width), expected)


def test_metadata_tell_scale_axes_and_that_these_are_labels(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.zarr"
    writer = LabelZarrWriter.create(path, (1100, 530), pixel_size=(0.5, 0.25), version=version, name="nuclei")
    writer.finish()
    found = attributes(path)
    (multiscale,) = found["multiscales"]
    assert multiscale["axes"] == [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    assert [d["path"] for d in multiscale["datasets"]] == ["0", "1", "2"]
    scales = [d["coordinateTransformations"][0]["scale"] for d in multiscale["datasets"]]
    assert scales == [[0.5, 0.25], [1.0, 0.5], [2.0, 1.0]]
    assert multiscale["name"] == "nuclei"
    assert found["image-label"] == {"version": version}
    assert (multiscale if version == "0.4" else found)["version"] == version
    if version == "0.5":
        assert json.loads((path / "1" / "zarr.json").read_text())["dimension_names"] == ["y", "x"]
    else:
        assert json.loads((path / "1" / ".zarray").read_text())["dimension_separator"] == "/"


def test_without_pixel_size_there_is_no_unit(tmp_path: Path) -> None:
    writer = LabelZarrWriter.create(tmp_path / "a.zarr", (40, 30))
    writer.finish()
    (multiscale,) = attributes(tmp_path / "a.zarr")["multiscales"]
    assert multiscale["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert multiscale["datasets"] == [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    ]


def test_readers_of_others_open_it(tmp_path: Path, labels: np.ndarray, version: str) -> None:
    reader = pytest.importorskip("ome_zarr.reader", reason="ome-zarr is not installed")
    from ome_zarr.io import parse_url

    writer = LabelZarrWriter.create(tmp_path / "a.zarr", labels.shape, version=version)
    writer.write(0, 0, labels)
    writer.finish()
    (node,) = reader.Reader(parse_url(str(tmp_path / "a.zarr")))()
    assert {type(spec).__name__ for spec in node.specs} == {"Label", "Multiscales"}
    np.testing.assert_array_equal(node.data[1], labels[::2, ::2])


def test_unfinished_has_no_ome_metadata_and_can_be_continued(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.zarr"
    writer = LabelZarrWriter.create(path, (50, 60), chunk=16, pixel_size=(0.3, 0.3), version=version)
    writer.write(0, 0, np.ones((20, 20), np.uint32))
    assert set(attributes(path)) == {"cytomask"}
    again = LabelZarrWriter.open(path)
    assert (again.shape, again.chunk, again.dtype, again.complete) == ((50, 60), 16, np.uint32, False)
    again.write(20, 0, np.full((20, 20), 2, np.uint32))
    again.finish()
    assert again.complete
    done = LabelZarrWriter.open(path)
    assert done.complete
    assert done.read(0, 50, 0, 60).sum() == 400 + 800
    done.finish()
    with pytest.raises(OutputError, match="finished"):
        done.write(0, 0, np.ones((1, 1), np.uint32))


def test_an_interrupted_finish_is_done_anew(
    tmp_path: Path, labels: np.ndarray, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    writer = LabelZarrWriter.create(path, labels.shape, chunk=128, version=version)
    writer.write(0, 0, np.full_like(labels, 5))
    halve, calls = ome_zarr_labels._halve, []

    def interrupted(*args: object) -> None:
        halve(*args)
        calls.append(args)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(ome_zarr_labels, "_halve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.finish()
    assert not LabelZarrWriter.open(path).complete
    (path / "0" / "0.0123456789abcdef.partial").write_bytes(b"half a chunk")
    again = LabelZarrWriter.open(path)
    again.write(0, 0, labels)
    again.finish()
    group = zarr.open_group(str(path), mode="r")
    np.testing.assert_array_equal(group["1"][:], labels[::2, ::2])
    np.testing.assert_array_equal(group["2"][:], labels[::4, ::4])
    assert not list(path.rglob("*.partial"))


def test_background_takes_no_room(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.zarr"
    writer = LabelZarrWriter.create(path, (200_000, 300_000), version=version)
    writer.write(100_000, 200_000, np.full((3, 3), 9, np.uint32))
    chunks = [p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr.json"))]
    assert len(chunks) == 1
    assert chunks[0].stat().st_size < 20_000


@pytest.mark.parametrize("corner", [(-1, 0), (0, -1), (45, 0), (0, 55)])
def test_writing_outside_is_refused(tmp_path: Path, corner: tuple[int, int]) -> None:
    writer = LabelZarrWriter.create(tmp_path / "a.zarr", (50, 60))
    with pytest.raises(IndexError, match="leaves"):
        writer.write(*corner, np.ones((6, 6), np.uint32))
    with pytest.raises(IndexError, match="leaves"):
        writer.read(corner[0], corner[0] + 6, corner[1], corner[1] + 6)
    assert not writer.read(0, 50, 0, 60).any()


@pytest.mark.parametrize(
    "block", [np.array([[-1]]), np.array([[70000]]), np.array([[1.5]])], ids=["negative", "too high", "fraction"]
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, block: np.ndarray) -> None:
    writer = LabelZarrWriter.create(tmp_path / "a.zarr", (50, 60), dtype=np.uint16)
    with pytest.raises(LabelError, match="do not fit"):
        writer.write(0, 0, block)


@pytest.mark.parametrize(
    "wrong", [{"dtype": np.float32}, {"chunk": 4}, {"version": "0.3"}, {"shape": (0, 5)}], ids=lambda w: next(iter(w))
)
def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(LabelError, match="cannot be written"):
        LabelZarrWriter.create(tmp_path / "a.zarr", **{"shape": (50, 60), **wrong})
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked_and_only_zarr_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    LabelZarrWriter.create(path, (50, 60)).write(0, 0, np.ones((5, 5), np.uint32))
    with pytest.raises(OutputError, match="in the place"):
        LabelZarrWriter.create(path, (50, 60))
    assert LabelZarrWriter.open(path).read(0, 5, 0, 5).all()
    assert not LabelZarrWriter.create(path, (50, 60), overwrite=True).read(0, 5, 0, 5).any()
    mine = tmp_path / "photos"
    mine.mkdir()
    (mine / "cat.jpg").write_text("cat")
    with pytest.raises(OutputError, match="in the place"):
        LabelZarrWriter.create(mine, (50, 60), overwrite=True)
    assert (mine / "cat.jpg").exists()


def test_opening_what_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no label image to continue"):
        LabelZarrWriter.open(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(OutputError, match="began"):
        LabelZarrWriter.open(tmp_path / "b.zarr")
    zarr.open_group(str(tmp_path / "c.zarr"), mode="w").create_array("0", shape=(5, 5), dtype="u1")
    with pytest.raises(OutputError, match="began"):
        LabelZarrWriter.open(tmp_path / "c.zarr")
