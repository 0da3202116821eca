"""Overlays: which pixels are drawn, in which colours, and what is shown beneath."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.color import deltaE_cie76, rgb2lab
from skimage.io import imread
from skimage.segmentation import expand_labels

from cytomask.errors import ChannelError, ConfigError, LabelError, OutputError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.reporting.captions import draw_captions
from cytomask.reporting.colours import PALETTE, _alike, _lab, colour_of_objects
from cytomask.reporting.overlay import RIM_DARKNESS, draw_overlay, write_png


def grey(shape: tuple[int, int], value: int = 100) -> Image:
    """An even colour picture that the display shows as it is."""
    pixels = np.full((*shape, 3), value, np.uint8)
    pixels[0, 0], pixels[-1, -1] = 0, 255
    return Image.from_array(pixels, axes="YXS")


def as_shown(image: Image) -> np.ndarray:
    return draw_overlay(image, Instances.empty(image.shape))


def crossing(scores: tuple[float, float]) -> Instances:
    crops = [np.ones((5, 11), bool), np.ones((11, 5), bool)]
    return Instances.from_crops(
        (20, 20), crops, np.array([[6, 3], [3, 6]]), classes=np.array([1, 1]), scores=np.array(scores)
    )


def drawn(picture: np.ndarray, before: np.ndarray) -> str:
    """Name each pixel: # outline, : rim, . as before."""
    in_palette = (picture[:, :, None] == PALETTE).all(axis=-1).any(axis=-1)
    rim = (picture == (before * (1 - RIM_DARKNESS)).astype(np.uint8)).all(axis=-1) & (before > 0).any(axis=-1)
    same = (picture == before).all(axis=-1)
    assert (in_palette | rim | same).all()
    return "\n".join(
        "".join("#" if o else ":" if r else "." for o, r in zip(*row)) for row in zip(in_palette, rim & ~same)
    )


def test_outlines_lie_inside_and_rims_outside() -> None:
    labels = np.zeros((8, 11), np.int32)
    labels[2:6, 2:7] = 5
    image = grey((8, 11))
    picture = draw_overlay(image, Instances.from_labels(labels))
    assert drawn(picture, as_shown(image)) == (
        "...........\n..:::::....\n.:#####:...\n.:#...#:...\n.:#...#:...\n.:#####:...\n..:::::....\n..........."
    )


def test_a_wide_outline_grows_inwards() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[1:8, 1:8] = 1
    image = grey((9, 9))
    picture = draw_overlay(image, Instances.from_labels(labels), line_width=2)
    rows = drawn(picture, as_shown(image)).split("\n")
    assert [row.strip(".:") for row in rows] == ["", *["#######"] * 2, *["##...##"] * 3, *["#######"] * 2, ""]


def test_touching_objects_show_both_outlines_in_different_colours() -> None:
    labels = np.zeros((10, 12), np.int32)
    labels[2:8, 1:6], labels[2:8, 6:11] = 1, 2
    picture = draw_overlay(grey((10, 12)), Instances.from_labels(labels))
    assert (picture[4, 5] == PALETTE).all(axis=-1).any()
    assert (picture[4, 6] == PALETTE).all(axis=-1).any()
    assert (picture[4, 5] != picture[4, 6]).any()


def test_an_object_cut_off_by_the_edge_stays_open() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[0:4, 3:8] = 1
    image = grey((9, 9))
    picture = draw_overlay(image, Instances.from_labels(labels))
    assert drawn(picture, as_shown(image)).split("\n")[0] == "..:#...#:"


@pytest.mark.parametrize("scores", [(0.9, 0.3), (0.3, 0.9)])
def test_the_higher_score_lies_on_top(scores: tuple[float, float]) -> None:
    instances = crossing(scores)
    picture = draw_overlay(grey((20, 20)), instances)
    first, second = PALETTE[colour_of_objects(instances)]
    # At (6, 6) the outlines of both objects meet.
    assert picture[6, 6].tolist() == (first if scores[0] > scores[1] else second).tolist()


def test_the_picture_does_not_depend_on_the_order_of_the_objects(shared_data: Path) -> None:
    labels = imread(sorted((shared_data / "histology" / "labels").iterdir())[0]).astype(np.int32)[:300, :300]
    image, instances = grey((300, 300)), Instances.from_labels(labels)
    shuffled = instances.take(np.random.default_rng(0).permutation(len(instances)))
    np.testing.assert_array_equal(draw_overlay(image, instances), draw_overlay(image, shuffled))


@settings(max_examples=30, deadline=None)
@given(arrays(np.int32, (12, 12), elements=st.integers(0, 40)), st.sampled_from([1, 5]))
def test_any_objects_can_be_drawn(labels: np.ndarray, shrink: int) -> None:
    """Also ragged ones in many pieces; and only outlines and rims change."""
    large = np.kron(labels, np.ones((4, 4), np.int32))
    image = grey(large.shape)
    max_side = None if shrink == 1 else 16
    before = draw_overlay(image, Instances.empty(large.shape), max_side=max_side)
    drawn(draw_overlay(image, Instances.from_labels(large), max_side=max_side), before)


def test_neighbours_have_colours_that_anyone_can_tell_apart(shared_data: Path) -> None:
    labels = imread(sorted((shared_data / "histology" / "labels").iterdir())[0]).astype(np.int32)
    labels = expand_labels(labels, 6)
    instances = Instances.from_labels(labels)
    colour = np.zeros(labels.max() + 1, int)
    colour[instances.ids] = colour_of_objects(instances)
    pairs = np.stack([labels[1:], labels[:-1]], -1), np.stack([labels[:, 1:], labels[:, :-1]], -1)
    touching = np.concatenate([pair.reshape(-1, 2) for pair in pairs])
    touching = touching[(touching[:, 0] != touching[:, 1]) & (touching.min(axis=1) > 0)]
    alike = _alike(PALETTE, PALETTE)[colour[touching[:, 0]], colour[touching[:, 1]]]
    assert len(touching) > 500
    assert alike.max() < 0.5
    assert len(np.unique(colour)) == len(PALETTE)


def test_likeness_counts_what_the_colour_blind_see() -> None:
    yellow, lime, blue = np.array([[255, 222, 40], [200, 255, 60], [75, 125, 255]], np.uint8)
    difference = deltaE_cie76(rgb2lab(yellow / 255), rgb2lab(lime / 255))
    assert difference > 30  # plain to see for most people
    assert _alike(yellow[None], lime[None])[0, 0] > 0.6  # but not for all
    assert _alike(yellow[None], blue[None])[0, 0] < 0.05
    np.testing.assert_allclose(_lab((PALETTE / 255.0) ** 2.2), rgb2lab(PALETTE / 255), atol=2)


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (190, 160, 235), (220, 150, 190)])
def test_colours_stand_out_from_dark_bright_and_stained_grounds(ground: tuple[int, int, int]) -> None:
    labels = np.kron(np.arange(1, 101).reshape(10, 10), np.pad(np.ones((6, 6), int), 2)).astype(np.int32)
    colours = colour_of_objects(Instances.from_labels(labels), grounds=np.array([ground], np.uint8))
    assert _alike(PALETTE[np.unique(colours)], np.array([ground])).max() < 0.35
    assert len(np.unique(colours)) >= 5


def test_the_same_object_keeps_its_colour_when_others_leave() -> None:
    labels = np.kron(np.arange(1, 26).reshape(5, 5), np.pad(np.ones((6, 6), int), 20)).astype(np.int32)
    all_of_them = colour_of_objects(Instances.from_labels(labels))
    some = Instances.from_labels(labels).take(np.arange(0, 25, 3))
    np.testing.assert_array_equal(colour_of_objects(some), all_of_them[::3])


def test_fillings_are_translucent_and_classes_have_colours() -> None:
    labels = np.zeros((20, 40), np.int32)
    labels[3:12, 3:12], labels[3:12, 15:24], labels[3:12, 27:36] = 1, 2, 3
    instances = Instances.from_labels(labels, classes={1: 1, 2: 2, 3: 1}, class_names=("cell", "debris"))
    picture = draw_overlay(grey((20, 40)), instances, fill=0.25, colour_by="class")
    expected = np.floor(100 + 0.25 * (PALETTE[:2].astype(float) - 100) + 0.5)
    assert picture[7, 7].tolist() == picture[7, 31].tolist() == expected[0].tolist()
    assert picture[7, 19].tolist() == expected[1].tolist()
    assert picture[3, 3].tolist() == PALETTE[0].tolist()


@pytest.mark.parametrize("text", ["id", "score", "class"])
def test_captions_are_written_onto_the_objects(text: str) -> None:
    labels = np.zeros((80, 260), np.int32)
    labels[10:70, 20:240] = 7
    instances, image = Instances.from_labels(labels, class_names=("nucleus",)), grey((80, 260))
    plain, written = draw_overlay(image, instances), draw_overlay(image, instances, text=text)  # type: ignore[arg-type]
    changed = np.argwhere((plain != written).any(axis=-1))
    assert np.abs((changed.min(axis=0) + changed.max(axis=0)) / 2 - [40, 130]).max() < 3
    assert 100 < len(changed) < 3000


def test_captions_stay_inside_the_picture() -> None:
    picture = np.zeros((12, 30, 3), np.uint8)
    colours = np.full((2, 3), 255, np.uint8)
    draw_captions(picture, ["0.93", "a class with a long name"], np.array([[-5, 40], [6, 15]]), colours, 14)
    assert picture.any()


def test_a_preview_is_small_and_keeps_every_object() -> None:
    labels = np.zeros((400, 600), np.int32)
    labels[50:250, 100:300] = 1
    labels[331, 553] = 2  # one pixel, which no pixel of the preview samples
    image = grey((400, 600))
    picture = draw_overlay(image, Instances.from_labels(labels), max_side=100)
    assert picture.shape == (67, 100, 3)
    in_palette = (picture[:, :, None] == PALETTE).all(axis=-1).any(axis=-1)
    assert in_palette[331 // 6, 553 // 6]
    ys, xs = np.nonzero(in_palette[:50])
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (8, 41, 17, 49)


def test_memory_beside_the_picture_is_a_byte_per_pixel_and_bands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cytomask.shrinking._BAND", 50_000)
    monkeypatch.setattr("cytomask.reporting.display._SAMPLE", 10_000)
    pixels = np.memmap(tmp_path / "pixels", np.uint16, "w+", shape=(1, 1500, 2000))
    pixels[:] = np.arange(2000)
    image = Image.from_array(pixels, axes="CYX")
    labels = np.zeros((1500, 2000), np.int32)
    labels[100:140, 200:250], labels[900:980, 1700:1760] = 1, 2
    instances = Instances.from_labels(labels)
    draw_overlay(image, instances)  # compiled
    tracemalloc.start()
    draw_overlay(image, instances)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1500 * 2000 * (3 + 1) + 2_500_000


def test_what_does_not_fit_is_refused() -> None:
    image, instances = grey((20, 20)), Instances.empty((20, 20))
    with pytest.raises(LabelError, match="differ in size"):
        draw_overlay(image, Instances.empty((20, 21)))
    for options in ({"fill": 1.5}, {"fill": float("nan")}, {"line_width": 0}, {"max_side": 3}):
        with pytest.raises(ConfigError, match="out of its range"):
            draw_overlay(image, instances, **options)  # type: ignore[arg-type]
    with pytest.raises(ChannelError):
        draw_overlay(image, instances, channels=["DAPI"])


def test_a_png_holds_the_picture_or_is_not_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for shape in ((7, 9), (7, 9, 3), (7, 9, 4)):
        picture = rng.integers(0, 256, shape).astype(np.uint8)
        write_png(tmp_path / "a.png", picture[:, ::-1])
        np.testing.assert_array_equal(imread(tmp_path / "a.png"), picture[:, ::-1])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(OutputError):
        write_png(tmp_path / "nowhere" / "a.png", picture)
    with pytest.raises(ValueError, match="uint8"):
        write_png(tmp_path / "b.png", picture.astype(float))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
