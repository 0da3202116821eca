"""Cellpose's ``_seg.npy``: files of Cellpose itself, old and odd ones, and what is written."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings

from cytomask.errors import LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.cellpose_seg import ENDING, open_annotations, recognise, write_annotations
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.open_annotations import recognise_format
from cytomask.instances import Instances

from .annotation_examples import annotations
from .label_round_trips import assert_labels_come_back

FILES = Path(__file__).parent / "files"
HOLDS = ANNOTATION_FORMATS["cellpose"].holds
NO_IMAGES = ImageFinder([])


def two_and_a_ring() -> np.ndarray:
    """What is in the files that Cellpose made."""
    labels = np.zeros((16, 20), np.int32)
    labels[2:8, 3:9], labels[8:14, 3:9], labels[4:14, 11:19] = 1, 2, 3
    labels[7:10, 13:16] = 0
    return labels


def saved(path: Path, **entries: object) -> Path:
    np.save(path, entries, allow_pickle=True)  # as Cellpose does
    return path


def only(path: Path) -> Annotation:
    (annotation,) = open_annotations(path, NO_IMAGES)
    return annotation


# Made by Cellpose 4.2: one by cellpose.io.masks_flows_to_seg, one by its graphical program, in which a file that was
# written here was opened and saved.
@pytest.mark.parametrize("kind", ["functions", "gui"])
def test_files_of_cellpose_itself(kind):
    path = FILES / f"cellpose_{kind}_seg.npy"
    assert recognise(path)
    found = only(path)
    np.testing.assert_array_equal(found.instances.to_labels(), two_and_a_ring())
    assert (found.name, found.file_name) == (f"cellpose_{kind}", "cells.tif")
    assert found.instances.class_names == ("object",)


@settings(max_examples=60, deadline=None)
@given(given_=annotations(HOLDS))
def test_what_is_written_comes_back(given_, tmp_path_factory):
    place = tmp_path_factory.mktemp("cellpose") / "out"
    write_annotations(place, given_, ("object",))
    assert_labels_come_back(open_annotations(place, NO_IMAGES), given_, HOLDS)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_annotations(tmp_path / name, [Annotation("x", Instances.from_labels(two_and_a_ring()))], ("object",))
    written = (tmp_path / "a" / "x_seg.npy").read_bytes()
    assert written == (tmp_path / "b" / "x_seg.npy").read_bytes()
    assert b"numpy._core" not in written  # which numpy 1 does not have


def test_what_cellpose_looks_for_is_written(tmp_path):
    tifffile.imwrite(tmp_path / "cells.tif", np.zeros((16, 20), np.uint8), photometric="minisblack")
    image = tmp_path / "cells.tif"
    objects = Instances.from_labels(two_and_a_ring())
    write_annotations(tmp_path / "out", [Annotation("plate/x", objects, image=image)], ("object",))
    dat = np.load(tmp_path / "out" / "plate" / "x_seg.npy", allow_pickle=True).item()
    assert dat["masks"].dtype == np.uint16
    np.testing.assert_array_equal(dat["masks"], two_and_a_ring())
    # The outline of a block of 6 x 6 is its rim; the ring has one inside, too.
    assert [(dat["outlines"] == k).sum() for k in (1, 2, 3)] == [20, 20, 10 * 2 + 8 * 2 - 4 + 12]
    assert set(np.unique(dat["outlines"])) == {0, 1, 2, 3}
    assert dat["filename"] == "x.tif"
    assert (tmp_path / "out" / "plate" / "x.tif").read_bytes() == image.read_bytes()
    assert dat["colors"].shape == (3, 3)
    assert len({tuple(c) for c in dat["colors"].tolist()}) == 3
    assert dat["ismanual"].tolist() == [False] * 3
    assert dat["flows"] == [[], [], [], [], [[]]]
    assert dat["est_diam"] == pytest.approx(2 * np.sqrt(36 / np.pi))


def test_the_image_beside_the_file_is_found(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((16, 20), np.uint8), photometric="minisblack")
    objects = Instances.from_labels(two_and_a_ring())
    write_annotations(tmp_path / "out", [Annotation("x", objects, image=tmp_path / "x.tif")], ("object",))
    (found,) = open_annotations(tmp_path / "out", ImageFinder([tmp_path / "out"]))
    assert (found.image, found.file_name) == (tmp_path / "out" / "x.tif", "x.tif")
    assert found.facts == {"diameter": f"{2 * np.sqrt(36 / np.pi):g}"}


def test_folders_with_subfolders(tmp_path):
    for name in ("a_seg.npy", "plate 1/b.v2_seg.npy", ".hidden/c_seg.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        saved(tmp_path / name, masks=two_and_a_ring())
    np.save(tmp_path / "plain.npy", np.zeros(3))
    found = open_annotations(tmp_path, NO_IMAGES)
    assert found.names == ("a", "plate 1/b.v2")
    row = recognise_format(tmp_path)
    assert row is not None
    assert row.name == "cellpose"
    assert pickle.loads(pickle.dumps(found.read))("a").name == "a"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float64, ">u2", bool])
@pytest.mark.parametrize("order", ["C", "F"])
def test_masks_of_any_type(dtype, order, tmp_path):
    labels = np.asarray((two_and_a_ring() > 0) if dtype is bool else two_and_a_ring(), dtype, order=order)
    path = saved(tmp_path / "a_seg.npy", masks=labels[None], outlines=labels)
    np.testing.assert_array_equal(only(path).instances.to_labels(), labels.astype(int))


def test_a_background_of_minus_1_is_that_of_old_files(tmp_path):
    path = saved(tmp_path / "a_seg.npy", masks=two_and_a_ring() - 1)
    np.testing.assert_array_equal(only(path).instances.to_labels(), two_and_a_ring())


def test_old_outlines_paths_and_all_else_do_not_matter(tmp_path):
    path = saved(
        tmp_path / "a_seg.npy", masks=two_and_a_ring(), outlines=[np.zeros((5, 2)), np.zeros((9, 2))],
        filename=PurePosixPath("C:/x/y.tif"), zdraw=[None, np.int16(-1)], img=np.zeros((16, 20, 3), np.float32),
        est_diam=np.float64(17.5), flows=[np.zeros((1, 16, 20)), []], classes=np.array(["a", None], object),
    )  # fmt: skip
    found = only(path)
    assert len(found.instances) == 3
    assert found.file_name is None
    assert found.facts == {"diameter": "17.5"}


def test_only_the_last_part_of_a_path_is_told(tmp_path):
    for text in ("/home/me/x.tif", r"C:\data\x.tif", "x.tif", "../../x.tif"):
        assert only(saved(tmp_path / "a_seg.npy", masks=two_and_a_ring(), filename=text)).file_name == "x.tif"


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"masks": np.zeros((3, 4, 5), int)}, "volume"),
        ({"masks": np.zeros((0, 5), int)}, "empty"),
        ({"masks": np.full((4, 5), 0.5)}, "whole numbers"),
        ({"masks": np.full((4, 5), -3)}, "out of range"),
        ({"outlines": np.zeros((4, 5), int)}, "no label image 'masks'"),
        ({"masks": [[0, 1]]}, "no array of numbers"),
        ({"masks": np.array([["a"]])}, "not of numbers"),
        ({"masks": np.array([[None]])}, "not of numbers"),
    ],
)
def test_what_is_no_label_image_is_refused(entries, what, tmp_path):
    path = saved(tmp_path / "a_seg.npy", **entries)
    with pytest.raises(LabelError, match=what) as caught:
        only(path)
    assert caught.value.where == path


def test_files_that_are_something_else(tmp_path):
    np.save(tmp_path / "a_seg.npy", np.zeros((4, 5), int))
    with pytest.raises(LabelError, match="plain array"):
        only(tmp_path / "a_seg.npy")
    np.save(tmp_path / "a_seg.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(LabelError, match="one dictionary"):
        only(tmp_path / "a_seg.npy")
    np.save(tmp_path / "a_seg.npy", [3], allow_pickle=True)
    with pytest.raises(LabelError):
        only(tmp_path / "a_seg.npy")
    (tmp_path / "a_seg.npy").write_bytes(b"hello")
    assert not recognise(tmp_path / "a_seg.npy")
    with pytest.raises(LabelError, match="does not begin"):
        only(tmp_path / "a_seg.npy")
    shutil.copy(FILES / "cellpose_gui_seg.npy", tmp_path / "a_seg.npy")
    whole = (tmp_path / "a_seg.npy").read_bytes()
    for length in range(0, len(whole) - 1, 37):
        (tmp_path / "a_seg.npy").write_bytes(whole[:length])
        with pytest.raises(LabelError):
            only(tmp_path / "a_seg.npy")


class Attack:
    def __reduce__(self):
        return exec, ("raise SystemExit('the file was run')",)


def test_a_hostile_file_is_refused_and_not_run(tmp_path):
    path = saved(tmp_path / f"a{ENDING}", masks=two_and_a_ring(), extra=Attack())
    with pytest.raises(SystemExit):  # what it does where it is unpickled
        np.load(path, allow_pickle=True)
    with pytest.raises(LabelError, match=r"asks to run builtins\.exec"):
        only(path)
