"""Prediction: tiles and batches give the whole image's result, bit for bit."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import PercentileNormalisation
from cytomask.errors import ConfigError, CytomaskError
from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.models.registry import build_segmenter
from cytomask.models.star.config import StarPostprocess
from cytomask.prediction.predictor import Predictor


def labels(predictor: Predictor, image: Any, **options: Any) -> np.ndarray:
    return predictor.predict(image, **options).to_labels()


def rectangles(rng: np.random.Generator, shape: tuple[int, int], largest: int, count: int = 40) -> np.ndarray:
    """Draw bright rectangles that do not touch."""
    picture = np.zeros(shape, np.uint8)
    for _ in range(count):
        h, w = rng.integers(1, largest + 1, 2)
        if h + 2 > shape[0] or w + 2 > shape[1]:
            continue
        y, x = rng.integers(0, shape[0] - h + 1), rng.integers(0, shape[1] - w + 1)
        if not picture[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1].any():
            picture[y : y + h, x : x + w] = 1
    return picture


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    core=st.integers(24, 80),
    overlap=st.integers(0, 40),
    batch=st.integers(1, 5),
)
def test_points_come_out_of_tiles_as_from_the_whole(spots, grey, seed, height, width, core, overlap, batch):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    image = grey(pixels)
    whole = labels(spots(tile=1000), image)
    tiled = labels(spots(tile=core + overlap, overlap=overlap, batch_size=batch), image)
    assert pixels.size < 100 or whole.max() > 0
    np.testing.assert_array_equal(tiled, whole)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    core=st.integers(4, 80),
    overlap=st.integers(2, 40),
)
def test_objects_smaller_than_the_overlap_come_out_exactly(blobs, grey, seed, height, width, core, overlap):
    image = grey(rectangles(np.random.default_rng(seed), (height, width), overlap - 1))
    whole = labels(blobs(tile=1000), image)
    tiled = labels(blobs(tile=core + overlap, overlap=overlap), image)
    np.testing.assert_array_equal(tiled, whole)
    np.testing.assert_array_equal(whole > 0, image.window(0, height, 0, width)[0] > 0)


def test_an_object_larger_than_the_overlap_is_warned_of(blobs, grey, capsys):
    picture = np.zeros((300, 300), np.uint8)
    picture[10:20, 40:240] = 1
    blobs(tile=128, overlap=32).predict(grey(picture))
    said = capsys.readouterr().err
    assert "use --overlap 160 --tile 640" in said
    # With what was named, all is well and nothing is said.
    found = blobs(tile=640, overlap=160).predict(grey(picture))
    assert len(found) == 1
    assert "overlap" not in capsys.readouterr().err


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(20, 120), overlap=st.integers(8, 30))
def test_no_object_is_cut_in_silence(blobs, grey, seed, length, overlap):
    """Whenever the tiles differ from the whole, something as long as the overlap comes out, so the warning is given."""
    picture = np.zeros((160, 160), np.uint8)
    y, x = np.random.default_rng(seed).integers(0, 160 - 8), np.random.default_rng(seed + 1).integers(0, 160 - length)
    picture[y : y + 8, x : x + length] = 1
    found = blobs(tile=64, overlap=overlap).predict(grey(picture))
    whole = blobs(tile=1000).predict(grey(picture))
    if not np.array_equal(found.to_labels(), whole.to_labels()):
        assert (found.windows[:, 3] - found.windows[:, 1]).max() >= overlap


def star() -> Any:
    """A small star network with random weights."""
    torch.manual_seed(0)
    return build_segmenter("star", {"backbone": {"kind": "unet", "depth": 2, "base": 8, "features": 16}})


def nonsense_star(pixels: np.ndarray) -> Any:
    """A star network that proposes objects all over such a picture, with scores well apart."""
    network = star()
    picture = torch.from_numpy(pixels.astype(np.float32) / pixels.max())[None, None]
    with torch.no_grad():
        logits = network(picture)[0]
        gain = 2 / logits.std()
        network.probability.weight *= gain
        network.probability.bias[:] = gain * (network.probability.bias - torch.quantile(logits[..., ::4], 0.97))
    return network


def star_predictor(network: Any, threshold: float, **options: Any) -> Predictor:
    return Predictor(
        network,
        channels=ChannelExpectation(),
        normalisation=PercentileNormalisation(),
        postprocess=StarPostprocess(score_threshold=threshold),
        **{"device": "cpu", **options},
    )


@pytest.fixture(scope="module")
def micrograph(shared_data) -> Any:
    """A real fluorescence field, larger than a tile."""
    folder = shared_data / "nuclei" / "images"
    images = [read_image(path) for path in sorted(folder.iterdir())[:60]]
    return max((i for i in images if not i.rgb), key=lambda i: i.height * i.width)


@pytest.fixture(scope="module")
def network(micrograph) -> Any:
    """The network that finds nonsense in the micrograph."""
    return nonsense_star(micrograph.window(0, 256, 0, 256)[0])


def test_star_whole_tiles_and_batches(micrograph, network):
    micrograph = Image.from_array(micrograph.window(0, 500, 0, 611), axes="CYX")
    whole = labels(star_predictor(network, 0.5, tile=4096), micrograph)
    assert whole.max() > 100
    for batch in (1, 4):
        tiled = labels(star_predictor(network, 0.5, tile=256, overlap=64, batch_size=batch), micrograph)
        np.testing.assert_array_equal(tiled, whole)


@pytest.mark.parametrize("tile", [100, 150])
def test_star_rescaled_in_tiles(micrograph, network, tile):
    height, width = 350, 301
    micrograph = Image.from_array(micrograph.window(0, height, 0, width), axes="CYX")
    whole = labels(star_predictor(network, 0.5, tile=4096, diameter=13.0), micrograph, diameter=20.0)
    assert whole.shape == micrograph.shape
    assert whole.max() > 20
    tiled = labels(star_predictor(network, 0.5, tile=tile, diameter=13.0), micrograph, diameter=20.0)
    np.testing.assert_array_equal(tiled, whole)


def test_memory_is_bounded_by_the_tile(spots, grey):
    pixels = np.zeros((3000, 3000), np.uint8)
    pixels[100:2900:200, 100:2900:200] = 255
    image, predictor = grey(pixels), spots(tile=256)
    predictor.predict(Image.from_array(pixels[:300, :300], axes="YX"))  # compiles
    tracemalloc.start()
    try:
        found = predictor.predict(image)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 196
    # The image as float32 alone would be 36 MB.
    assert peak < 6_000_000


def test_the_mode_of_the_network_is_left_as_it_was(spots, grey):
    predictor = spots()
    predictor.segmenter.train()
    predictor.predict(grey(np.zeros((8, 8), np.uint8)))
    assert predictor.segmenter.training


def test_an_empty_image_gives_no_objects(spots, grey):
    found = spots(tile=64).predict(grey(np.zeros((200, 150), np.uint8)))
    assert len(found) == 0
    assert found.shape == (200, 150)


def run_out_of_memory_above(predictor: Predictor, pixels: int) -> list[tuple[int, ...]]:
    propose, shapes = predictor.segmenter.propose, []

    def limited(images: torch.Tensor, postprocess: Any, sizes: Any) -> Any:
        shapes.append(tuple(images.shape))
        if images.numel() > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate much")
        return propose(images, postprocess, sizes)

    predictor.segmenter.propose = limited
    return shapes


def test_memory_runs_out(spots, grey, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    whole = labels(spots(), grey(pixels))
    predictor = spots(tile=200, batch_size=4)
    shapes = run_out_of_memory_above(predictor, 120 * 130)
    np.testing.assert_array_equal(labels(predictor, grey(pixels)), whole)
    said = capsys.readouterr().err
    assert "batches of 2" in said
    assert "batches of 1" in said
    assert "tiles of 80" in said
    # The next image begins with what fitted.
    shapes.clear()
    labels(predictor, grey(pixels))
    assert max(np.prod(s) for s in shapes) <= 120 * 130


def test_memory_runs_out_for_good(spots, grey):
    predictor = spots(tile=200)
    run_out_of_memory_above(predictor, 0)
    with pytest.raises(CytomaskError, match="memory ran out"):
        predictor.predict(grey(np.zeros((300, 300), np.uint8)))


def test_other_errors_are_not_swallowed(spots, grey):
    predictor = spots()

    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    predictor.segmenter.propose = broken
    with pytest.raises(RuntimeError, match="a bug"):
        predictor.predict(grey(np.zeros((30, 30), np.uint8)))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"device": "cuda:99"}, "no such device"),
        ({"device": "toaster"}, "no such device"),
        ({"precision": "int3"}, "no such precision"),
        ({"tile": 64, "overlap": 64}, "too small"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ConfigError, match=words):
        star_predictor(star(), 0.5, **options)


def test_float16_on_a_processor_is_refused_aloud(spots, capsys):
    assert spots(precision="float16").precision is torch.float32
    assert "float32 is used" in capsys.readouterr().err


def test_diameter_needs_a_model_that_knows_its_own(spots, grey):
    for diameter in (20.0, "auto"):
        with pytest.raises(ConfigError, match="does not know"):
            spots().predict(grey(np.zeros((30, 30), np.uint8)), diameter=diameter)


def test_pixel_size_rescales(blobs):
    picture = np.zeros((40, 60), np.uint8)
    picture[10:30, 20:40] = 1
    image = Image.from_array(picture, axes="YX", pixel_size=(0.25, 0.25))
    prepared = blobs(pixel_size=0.5).prepare(image)
    assert prepared.scale == (0.5, 0.5)
    assert prepared.shape == (20, 30)
    assert any("rescaled by 0.5" in sentence for sentence in prepared.told)
    found = blobs(pixel_size=0.5).predict(image)
    np.testing.assert_array_equal(found.to_labels() > 0, picture > 0)
