"""ImageJ's regions of interest: those that ImageJ wrote, with the masks that it makes of them, and there and back."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image as Picture
from roifile import ROI_TYPE, ImagejRoi

from cytomask.errors import DataError, LabelError, OutputError
from cytomask.formats.annotations import imagej_files
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.imagej_files import read_regions
from cytomask.formats.annotations.imagej_rois import open_annotations, recognise, write_annotations
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances

from .annotation_examples import annotations, assert_same

FILES = Path(__file__).parent / "files"
HOLDS = ANNOTATION_FORMATS["imagej-rois"].holds
#: What ImageJ 1.53t saved with `RoiEncoder` into imagej_rois.zip, in this order; behind them a line, a point, a text.
#: imagej_masks.png holds the pixels that it fills for each after reading the zip again, as one bit each.
DRAWN = (
    "rectangle", "rounded", "subpixel-rectangle", "oval", "subpixel-oval", "polygon", "subpixel-polygon", "freehand",
    "composite", "traced", "ellipse", "rotated-rectangle", "curves", "holes-nonzero", "spline",
    "large-oval",
)  # fmt: skip


def image_files(folder: Path, given: Sequence[Annotation]) -> ImageFinder:
    for annotation in given:
        path = folder / f"{annotation.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(np.zeros(annotation.instances.shape, np.uint8)).save(path)
    return ImageFinder([folder])


def one_image(folder: Path, name: str = "a", shape: tuple[int, int] = (20, 24)) -> ImageFinder:
    return image_files(folder, [Annotation(name, Instances.empty(shape))])


def rectangle(x: int, y: int, width: int, height: int, props: str = "") -> bytes:
    roi = ImagejRoi()
    roi.roitype, roi.props = ROI_TYPE.RECT, props
    roi.left, roi.top, roi.right, roi.bottom = x, y, x + width, y + height
    return roi.tobytes()


def roi_zip(path: Path, regions: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in regions.items():
            archive.writestr(name, content)
    return path


def test_every_kind_of_region_has_the_pixels_that_imagej_fills(tmp_path: Path) -> None:
    images = one_image(tmp_path, "imagej_rois", (36, 40))
    found = open_annotations(FILES / "imagej_rois.zip", images)
    objects = found.read("imagej_rois").instances
    with Picture.open(FILES / "imagej_masks.png") as picture:
        bits = np.array(picture)
    assert len(objects) == len(DRAWN)
    names = [region.name for region in read_regions(FILES / "imagej_rois.zip")]
    assert tuple(names[: len(DRAWN)]) == DRAWN
    for i, name in enumerate(DRAWN):
        wrong = int((objects.full_mask(i) != (bits >> i & 1).astype(bool)).sum())
        # A curve through four points is the one shape that is not quite ImageJ's.
        assert wrong <= (8 if name == "spline" else 0), name
    assert found.classes == ("object",)
    assert found.told == (
        "regions without area (lines, points, texts) are passed over: 3",
        "regions on one plane of a stack are taken for the image as a whole: 1",
        "groups of regions are not taken for classes: 1 regions have one",
        "curves through points may differ from ImageJ's mask by a pixel: 1 regions",
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=annotations(HOLDS))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, given: list[Annotation]) -> None:
    folder = tmp_path_factory.mktemp("rois")
    write_annotations(folder / "rois", iter(given), given[0].instances.class_names)
    found = open_annotations(folder / "rois", image_files(folder / "images", given))
    assert sorted(found.names) == sorted(annotation.name for annotation in given)
    read = pickle.loads(pickle.dumps(found.read))
    for annotation in given:
        back = read(annotation.name)
        assert_same(back, annotation, HOLDS)
        assert back.image == folder / "images" / f"{annotation.name}.png"
        assert back.instances.class_names == found.classes


def test_imagej_sees_class_score_and_label(tmp_path: Path) -> None:
    crops, classes = [np.ones((2, 3), bool), np.array([[1, 0, 1]], bool)], ("nucleus", r"Zelle ä\d 🦠: x")
    objects = Instances.from_crops(
        (9, 9), crops, [(1, 4), (5, 5)], classes=[1, 2], scores=[1, 0.3], ids=[7, 12], class_names=classes
    )
    write_annotations(tmp_path / "rois", [Annotation("a", objects)], classes)
    with zipfile.ZipFile(tmp_path / "rois" / "a.zip") as archive:
        assert archive.namelist() == ["0007 nucleus.roi", "0012 Zelle ä_d 🦠_ x 0.30.roi"]
        first, second = (ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist())
    assert (first.roitype, first.left, first.top, first.right, first.bottom) == (ROI_TYPE.TRACED, 4, 1, 7, 3)
    assert first.coordinates().tolist() == [[4, 1], [7, 1], [7, 3], [4, 3]]
    assert first.props == "class: nucleus\nlabel: 7\n"
    # As Java's properties write characters beyond ASCII, which is how ImageJ reads them.
    assert second.props == "class: Zelle \\u00E4\\u005Cd \\uD83E\\uDDA0: x\nlabel: 12\nscore: 0.3\n"
    assert second.composite
    assert (first.group, second.group) == (1, 2)
    # ImageJ saves the same properties without the escapes.
    plain = rectangle(0, 0, 2, 2, "class: Zelle ä\n")
    roi_zip(tmp_path / "plain.zip", {"x.roi": plain})
    assert [region.class_name for region in read_regions(tmp_path / "plain.zip")] == ["Zelle ä"]


def test_same_objects_same_bytes(tmp_path: Path) -> None:
    given = [Annotation("a", Instances.from_labels(np.array([[1, 1, 0, 2]])))]
    for name in ("x", "y"):
        write_annotations(tmp_path / name, given, ("object",))
    assert (tmp_path / "x" / "a.zip").read_bytes() == (tmp_path / "y" / "a.zip").read_bytes()


def test_objects_without_pixels_are_left_out(tmp_path: Path) -> None:
    crops = [np.zeros((2, 2), bool), np.ones((1, 1), bool)]
    objects = Instances.from_crops((4, 4), crops, [(0, 0), (3, 3)])
    write_annotations(tmp_path / "rois", [Annotation("a", objects)], ("object",))
    back = open_annotations(tmp_path / "rois", one_image(tmp_path, "a", (4, 4))).read("a").instances
    assert back.ids.tolist() == [2]
    np.testing.assert_array_equal(back.to_labels(), objects.to_labels())


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("a.zip", "a"),
        ("a.ZIP", "a"),
        ("a--ROI.zip", "a"),
        ("a_rois.zip", "a"),
        ("a-RoiSet.zip", "a"),
        ("a/RoiSet.zip", "a"),
        ("b/a_ROI.zip", "b/a"),
        ("cell_roi.zip", "cell_roi"),
        ("a.ome.tif.zip", "a"),
        ("RoiSet.zip", "a"),
    ],
)
def test_files_find_their_image(tmp_path: Path, file: str, image: str) -> None:
    images = one_image(tmp_path / "images", image)
    path = tmp_path / "rois" / file
    path.parent.mkdir(parents=True)
    roi_zip(path, {"0001.roi": rectangle(2, 3, 5, 4)})
    assert recognise(tmp_path / "rois")
    found = open_annotations(tmp_path / "rois", images)
    assert found.names == (image,)
    back = found.read(image)
    assert back.instances.windows.tolist() == [[3, 2, 7, 7]]
    assert back.file_name == f"{image.rsplit('/', 1)[-1]}.png"


def test_one_roi_file(tmp_path: Path) -> None:
    images = one_image(tmp_path)
    (tmp_path / "a.roi").write_bytes(rectangle(-2, 18, 5, 40, "Score: 0.25\nclass: x\n"))
    found = open_annotations(tmp_path / "a.roi", images)
    back = found.read("a").instances
    assert found.classes == ("x",)
    assert back.windows.tolist() == [[18, 0, 20, 3]]
    assert back.scores.tolist() == [0.25]
    outside = rectangle(100, 100, 5, 5)
    (tmp_path / "a.roi").write_bytes(outside)
    assert open_annotations(tmp_path / "a.roi", images).read("a").instances.areas().tolist() == [0]


def test_some_regions_without_a_class(tmp_path: Path) -> None:
    roi_zip(tmp_path / "a.zip", {"1.roi": rectangle(0, 0, 1, 1, "class: x\n"), "2.roi": rectangle(2, 2, 1, 1)})
    found = open_annotations(tmp_path / "a.zip", one_image(tmp_path))
    assert found.classes == ("object", "x")
    assert found.read("a").instances.classes.tolist() == [2, 1]
    assert found.told == ("regions without a class are called object: 1",)


def test_what_is_no_region_is_passed_over(tmp_path: Path) -> None:
    images = one_image(tmp_path / "images")
    (tmp_path / "rois").mkdir()
    roi_zip(tmp_path / "rois" / "other.zip", {"readme.txt": b"hello"})
    roi_zip(tmp_path / "rois" / "a.zip", {"x/1.ROI": rectangle(0, 0, 1, 1), "__MACOSX/._1.roi": b"junk", "b.txt": b""})
    found = open_annotations(tmp_path / "rois", images)
    assert found.told == ("zip files without regions of interest are passed over: 1",)
    assert len(found.read("a").instances) == 1


def test_two_files_of_one_image(tmp_path: Path) -> None:
    images = one_image(tmp_path / "images")
    (tmp_path / "rois").mkdir()
    for name in ("a.zip", "a--ROI.zip"):
        roi_zip(tmp_path / "rois" / name, {"1.roi": rectangle(0, 0, 1, 1)})
    with pytest.raises(DataError, match="two files hold regions of the same image") as caught:
        open_annotations(tmp_path / "rois", images)
    assert "a--ROI.zip and a.zip, for a" in str(caught.value)


def test_image_is_needed(tmp_path: Path) -> None:
    roi_zip(tmp_path / "a.zip", {"1.roi": rectangle(0, 0, 1, 1)})
    with pytest.raises(DataError, match="--images"):
        open_annotations(tmp_path / "a.zip", ImageFinder([])).read("a")


def test_no_regions(tmp_path: Path) -> None:
    assert not recognise(tmp_path)
    with pytest.raises(DataError, match="no regions of interest"):
        open_annotations(tmp_path, ImageFinder([]))


@pytest.mark.parametrize("cut", [3, 40, 66, 100])
def test_broken_region(tmp_path: Path, cut: int) -> None:
    with zipfile.ZipFile(FILES / "imagej_rois.zip") as archive:
        whole = archive.read("freehand.roi")
    (tmp_path / "a.zip").unlink(missing_ok=True)
    roi_zip(tmp_path / "a.zip", {"good.roi": rectangle(0, 0, 1, 1), "bad.roi": whole[:cut]})
    # Cut behind the outline, only the name is lost.
    if cut == 100:
        assert len(open_annotations(tmp_path / "a.zip", one_image(tmp_path)).read("a").instances) == 2
        return
    with pytest.raises(LabelError, match="region of interest is broken") as caught:
        open_annotations(tmp_path / "a.zip", one_image(tmp_path))
    assert "a.zip, bad" in str(caught.value)


@pytest.mark.parametrize("values", [[1, 2, 3], [0, 1], [0, 1, 1, 7], [0, 1, 1, np.nan, 1, 1], [2, 1, 1, 2, 2]])
def test_broken_composite(tmp_path: Path, values: list[float]) -> None:
    roi = ImagejRoi()
    roi.roitype, roi.shape_roi_size = ROI_TYPE.RECT, len(values)
    roi.multi_coordinates = np.array(values, np.float32)
    roi_zip(tmp_path / "a.zip", {"bad.roi": roi.tobytes()})
    with pytest.raises(LabelError, match="composite region's outline is broken"):
        open_annotations(tmp_path / "a.zip", one_image(tmp_path)).read("a")


def test_points_that_are_no_numbers(tmp_path: Path) -> None:
    roi = ImagejRoi.frompoints(np.array([[1.5, 1], [5, 1], [5, 5]]))
    assert roi.subpixel_coordinates is not None
    roi.subpixel_coordinates[1, 0] = np.nan
    roi_zip(tmp_path / "a.zip", {"bad.roi": roi.tobytes()})
    with pytest.raises(LabelError, match="no finite numbers"):
        open_annotations(tmp_path / "a.zip", one_image(tmp_path)).read("a")


def test_zip_that_is_damaged_or_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = one_image(tmp_path)
    path = roi_zip(tmp_path / "a.zip", {"1.roi": rectangle(0, 0, 1, 1), "2.roi": rectangle(1, 1, 1, 1)})
    whole = path.read_bytes()
    # The stored content no longer fits its checksum.
    path.write_bytes(whole[:45] + b"\xff" + whole[46:])
    with pytest.raises(LabelError, match="cannot be read"):
        open_annotations(path, images)
    path.write_bytes(whole)
    for limit in ("MAX_ENTRIES", "MAX_ENTRY", "MAX_TOTAL"):
        with monkeypatch.context() as patch:
            patch.setattr(imagej_files, limit, 1)
            with pytest.raises(LabelError, match=r"larger than any can be|more than regions can take"):
                open_annotations(path, images)
    assert len(open_annotations(path, images).read("a").instances) == 2


def test_names_that_lead_elsewhere(tmp_path: Path) -> None:
    nothing = Instances.empty((4, 4))
    for name in ("../a", "a/../../b", "", "a//b", "con", "a:b"):
        with pytest.raises(DataError, match="cannot be a file's name"):
            write_annotations(tmp_path / "rois", [Annotation(name, nothing)], ("object",))
    with pytest.raises(DataError, match="two images would have the same file"):
        write_annotations(tmp_path / "rois", [Annotation("a", nothing), Annotation("A", nothing)], ("object",))
    assert not list(tmp_path.iterdir())


def test_too_far_out_for_imagej(tmp_path: Path) -> None:
    far = Instances.from_crops((1, 70_000), [np.ones((1, 2), bool)], [(0, 60_000)])
    with pytest.raises(OutputError, match="farther out than ImageJ's files can tell"):
        write_annotations(tmp_path / "rois", [Annotation("a", far)], ("object",))
    assert not (tmp_path / "rois").exists()
    near = Instances.from_crops((1, 70_000), [np.ones((1, 2), bool), np.array([[1, 0, 1]], bool)], [(0, 59_998)] * 2)
    near = near.cropped(0, 0, 1, 60_000)
    write_annotations(tmp_path / "rois", [Annotation("a", near)], ("object",))
    back = open_annotations(tmp_path / "rois", one_image(tmp_path, "a", (1, 60_000))).read("a")
    assert back.instances.to_rle() == near.to_rle()


def test_real_nuclei(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "nuclei" / "labels").glob("*.png"))[:3]
    given = [Annotation(path.stem, Instances.from_labels(read_labels(path)), file_name=path.name) for path in paths]
    write_annotations(tmp_path / "rois", given, ("object",))
    found = open_annotations(tmp_path / "rois", ImageFinder([shared_data / "nuclei" / "images"]))
    for annotation in given:
        assert len(annotation.instances) > 0
        assert_same(found.read(annotation.name), annotation, HOLDS)
