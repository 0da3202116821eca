"""Which file is an image, and which images a command line names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from cytomask.errors import ImageError
from cytomask.formats.images import IMAGE_SUFFIXES, list_images, read_image


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"something")


def _names(folder: Path, *paths: str | Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(paths)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"These are my cells.\nAnd more.", "text that begins with 'These are my cells.'"),
        ("Zellen in Grün".encode(), "text that begins with 'Zellen in Grün'"),
        (bytes(100), "zeros"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
        (b"PK\x03\x04" + bytes(20), "ZIP"),
        (b"\x80\x04\x95" + bytes(20), "bytes 80 04 95"),
        (b"I", "text|bytes"),
    ],
)
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".bmp"])
def test_a_file_that_is_no_image(tmp_path: Path, suffix: str, content: bytes, words: str) -> None:
    path = tmp_path / f"cells{suffix}"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=words) as caught:
        read_image(path)
    assert caught.value.where == path
    assert caught.value.fix


def test_a_file_that_is_empty_missing_a_folder_or_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "cells.h5").write_bytes(b"\x89HDF")
    for name, words in [("empty.tif", "0 bytes"), ("folder.tif", "this is a folder"), ("none.tif", "does not exist")]:
        with pytest.raises(ImageError, match=words):
            read_image(tmp_path / name)
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "cells.h5")
    assert all(suffix in str(caught.value) for suffix in IMAGE_SUFFIXES)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything may be read by this user")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.zeros((4, 5), np.uint8))
    path.chmod(0)
    with pytest.raises(ImageError, match="permission"):
        read_image(path)


def test_a_wrong_suffix_is_said(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    PIL.Image.fromarray(np.eye(20, dtype=np.uint8)).save(path, "PNG")
    image = read_image(str(path))
    assert image.shape == (20, 20)
    assert "it is a PNG file in spite of its name" in image.resolved
    tifffile.imwrite(tmp_path / "a.png", np.zeros((4, 5), np.uint8))
    assert "a TIFF file in spite of its name" in read_image(tmp_path / "a.png").resolved


def test_a_folder_gives_its_images_in_natural_order(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        "img10.tif",
        "img2.tif",
        "Img1.PNG",
        "b.ome.tif",
        "notes.txt",
        ".hidden.tif",
        "._img2.tif",
        "sub/c.tif",
    )
    assert _names(tmp_path, tmp_path) == ["b.ome.tif", "Img1.PNG", "img2.tif", "img10.tif"]


def test_our_own_outputs_are_left_out_of_a_folder_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _touch(tmp_path, "a.tif", "a_labels.tif", "a_overlay.png", "my_labels_day1.tif")
    assert _names(tmp_path, tmp_path) == ["a.tif", "my_labels_day1.tif"]
    assert "2 label images or overlays of an earlier prediction are left out" in capsys.readouterr().err
    assert _names(tmp_path, str(tmp_path / "*")) == ["a.tif", "my_labels_day1.tif"]
    # Who names them, gets them.
    assert _names(tmp_path, tmp_path / "a_labels.tif") == ["a_labels.tif"]
    assert _names(tmp_path, str(tmp_path / "*_labels.tif")) == ["a_labels.tif"]
    (tmp_path / "a.tif").unlink()
    (tmp_path / "my_labels_day1.tif").unlink()
    with pytest.raises(ImageError, match="earlier prediction"):
        list_images([tmp_path])


def test_patterns(tmp_path: Path) -> None:
    _touch(tmp_path, "a.tif", "b.tif", "b.txt", "sub/c.tif", "sub/deep/d.png", "sub/.hid/e.tif", ".f.tif")
    assert _names(tmp_path, str(tmp_path / "*.tif")) == ["a.tif", "b.tif"]
    assert _names(tmp_path, str(tmp_path / "?.*")) == ["a.tif", "b.tif"]
    assert _names(tmp_path, str(tmp_path / "[b-z].tif")) == ["b.tif"]
    assert _names(tmp_path, str(tmp_path / "**" / "*")) == ["a.tif", "b.tif", "sub/c.tif", "sub/deep/d.png"]
    assert _names(tmp_path, str(tmp_path / "**" / "*.png")) == ["sub/deep/d.png"]


def test_a_name_with_brackets_is_a_name_first(tmp_path: Path) -> None:
    _touch(tmp_path, "a[1].tif", "a1.tif")
    assert _names(tmp_path, tmp_path / "a[1].tif") == ["a[1].tif"]


def test_everything_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "a.tif", "b.tif")
    monkeypatch.chdir(tmp_path)
    found = list_images(["b.tif", "a.tif", "./b.tif", tmp_path, str(tmp_path / "*.tif"), f"../{tmp_path.name}/a.tif"])
    assert [path.name for path in found] == ["a.tif", "b.tif"]


def test_a_file_is_listed_whatever_it_holds(tmp_path: Path) -> None:
    """What is empty or broken is found out when it is read, by each image for itself."""
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("no pixels")
    assert _names(tmp_path, tmp_path / "empty.tif", tmp_path / "text.tif") == ["empty.tif", "text.tif"]
    assert _names(tmp_path, tmp_path) == ["empty.tif", "text.tif"]
    with pytest.raises(ImageError, match="0 bytes"):
        read_image(tmp_path / "empty.tif")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.tif", "does not exist"),
        ("*.png", "nothing matches"),
        ("empty", "no image"),
        ("notes.txt", "not supported"),
        ("[", "does not exist|nothing matches"),
    ],
)
def test_what_names_no_image_is_an_error(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    _touch(tmp_path, "notes.txt", "a.tif")
    with pytest.raises(ImageError, match=words):
        list_images([tmp_path / "a.tif", str(tmp_path / name)])


def test_no_name_is_an_error() -> None:
    with pytest.raises(ImageError, match="no image was named"):
        list_images([])


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    # An array of objects can only be stored by pickling; such a file must not be opened as one.
    path = tmp_path / "cells.tif"
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match="NumPy"):
        read_image(path)
