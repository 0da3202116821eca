"""Channel programs at work: in training items, in prediction by windows and views, and on a real field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cytomask.data.augment import AugmentConfig
from cytomask.data.channel_mix import before_mixing
from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import Maximum, MeanStd, MinMax, Normalisation, PercentileNormalisation, statistics
from cytomask.data.patch_dataset import PatchDataset, prepare_training_image, training_stack
from cytomask.data.patches import PatchSampler, SourceImage
from cytomask.data.sample import Sample
from cytomask.data.whole_images import WholeImageSampler
from cytomask.errors import ChannelError
from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.label_layers import LabelLayers
from cytomask.models.registry import build_segmenter
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.prepare import prepare_image
from cytomask.prediction.views import View, plan_views, show

NAMES = ("DAPI", "CD4", "CD8", "empty", "membrane")
PROGRAM: list[Any] = [
    "DAPI",
    {"random": ["CD8", "CD4", "empty"]},
    {"merge": ["DAPI", 1, "membrane"], "dropout": 0.3},
    110,
]
EXPECTED = ChannelExpectation(mode="program", program=PROGRAM)
METHODS = [
    PercentileNormalisation(),
    MinMax(),
    Maximum(),
    MeanStd(mean=(10.0, 20.0, 30.0, 40.0), std=(50.0, 60.0, 70.0, 80.0)),
]


def field(height: int = 70, width: int = 90, seed: int = 0) -> Image:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(50, 1000, (5, height, width)).astype(np.uint16)
    pixels *= np.array([1, 2, 3, 0, 5], np.uint16)[:, None, None]
    return Image.from_array(pixels, axes="CYX", channels=NAMES)


def annotation(image: Image) -> LabelLayers:
    labels = np.zeros(image.shape, np.int32)
    labels[10:20, 10:30], labels[40:55, 50:70] = 1, 2
    return LabelLayers.from_labels(labels)


def by_hand(image: Image, method: Normalisation) -> np.ndarray:
    """What the network gets without chance, from the definition of the program."""
    pixels = image.window(0, image.height, 0, image.width).astype(np.float64)
    planes = []
    for plane in pixels:
        if isinstance(method, Maximum):
            low, high = 0.0, plane.max()
        elif isinstance(method, MinMax):
            low, high = plane.min(), plane.max()
        else:
            low, high = np.percentile(plane, [method.low, method.high])
        planes.append((plane - low) / (high - low) if high > low else np.zeros_like(plane))
    dapi, cd4, _, empty, membrane = planes
    result = np.stack([dapi, cd4, (dapi + cd4 + membrane) / 3, np.zeros_like(empty)])
    if isinstance(method, MeanStd):
        mean, std = (np.reshape(v, (4, 1, 1)) for v in (method.mean, method.std))
        result = (255 * result - mean) / std
    return result


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.method)
def test_without_chance_training_and_prediction_see_the_same(method: Normalisation) -> None:
    image = field()
    prepared = prepare_image(image, channels=EXPECTED, normalisation=method)
    seen = prepared.window(0, 0, *image.shape)
    np.testing.assert_allclose(seen, by_hand(image, method), atol=2e-5)
    held_out, _ = prepare_training_image(image, annotation(image), channels=EXPECTED, normalisation=method)
    assert (held_out == seen).all()
    assert prepared.told == (
        "the network's channels: 1 DAPI, 2 CD4 (the middle one of 3), 3 mean of DAPI, CD4 and membrane, 4 black",
        "without contrast, so zeros for the network: empty",
    )


@pytest.mark.parametrize("view", plan_views("full", (1.0, 0.7)), ids=str)
def test_windows_and_views_have_the_bits_of_the_whole(view: View) -> None:
    image = field()
    prepared = show(prepare_image(image, channels=EXPECTED, normalisation=METHODS[3]), view)
    height, width = prepared.shape
    whole = prepared.window(0, 0, height, width)
    assert np.isfinite(whole).all()
    for y0, x0, y1, x1 in [(0, 0, 7, 9), (13, 21, 44, 40), (height - 5, width - 6, height, width)]:
        assert (prepared.window(y0, x0, y1, x1) == whole[:, y0:y1, x0:x1]).all()
    if view.scale == 1:
        plain = prepare_image(image, channels=EXPECTED, normalisation=METHODS[3]).window(0, 0, *image.shape)
        assert (whole == view.turn.array(plain)).all()


def test_tiles_come_to_the_result_of_the_whole() -> None:
    torch.manual_seed(0)
    config = {"in_channels": 4, "backbone": {"kind": "unet", "depth": 1, "base": 8, "features": 16}}
    network = build_segmenter("star", config)
    image = field(200, 230)
    pixels = prepare_image(image, channels=EXPECTED, normalisation=MinMax()).window(0, 0, 192, 224)
    with torch.no_grad():
        logits, _ = network(torch.from_numpy(pixels)[None])[:2]
        network.probability.weight *= 2 / logits.std()
        network.probability.bias[:] = 2 / logits.std() * (network.probability.bias - torch.quantile(logits, 0.95))
        network.distances.bias.fill_(3.0)
    options: dict[str, Any] = {"channels": EXPECTED, "normalisation": MinMax(), "device": "cpu", "precision": "float32"}
    whole = Predictor(network, tile=1024, **options).predict(image).to_labels()
    tiled = Predictor(network, tile=96, overlap=48, batch_size=2, **options).predict(image).to_labels()
    assert whole.max() > 20
    assert (tiled == whole).all()


def test_items_are_drawn_from_the_stack_and_their_chance_is_seed_epoch_and_index() -> None:
    image = field()
    one = Sample("one", Path("one.tif"), Path("labels.tif"))

    def load(sample: Sample) -> Any:
        pixels, mix = training_stack(image, channels=EXPECTED, normalisation=MinMax())
        return pixels, annotation(image), mix

    def items(seed: int, epoch: int) -> list[np.ndarray]:
        sampler = PatchSampler(32)
        dataset = PatchDataset([one], load=load, targets=lambda _: {}, sampler=sampler, length=40, seed=seed)
        dataset.set_epoch(epoch)
        found = {i: dataset[i]["image"].numpy() for i in (*range(20, 40), *range(20))}
        return [found[i] for i in range(40)]

    first, again, later = items(3, 1), items(3, 1), items(3, 2)
    assert all((a == b).all() for a, b in zip(first, again))
    assert not all((a == b).all() for a, b in zip(first, later))
    assert all(item.shape == (4, 32, 32) and np.isfinite(item).all() and not item[3].any() for item in first)
    # The second channel is one of three, of which one is all zeros; the third dims when a member is lost.
    empty = [not item[1].any() for item in first]
    assert 3 <= sum(empty) <= 25
    assert len({round(float(item[2].max()), 1) for item in first}) > 2


@pytest.mark.parametrize("sampler", [PatchSampler(48), WholeImageSampler((70,), 90)], ids=["patch", "image"])
def test_a_drawn_item_is_a_drawing_of_the_program(sampler: Any) -> None:
    image, layers = field(), annotation(field())
    stack, mix = training_stack(image, channels=EXPECTED, normalisation=MinMax())
    mixed_source = SourceImage.from_arrays(stack, layers, mix)
    plain_source = SourceImage.from_arrays(stack, layers)
    seen = set()
    for seed in range(30):
        pixels, moved = sampler.draw(mixed_source, np.random.default_rng(seed))
        planes, same = sampler.draw(plain_source, np.random.default_rng(seed))
        # Where and how the item is cut does not depend on there being a program.
        assert (moved.layers == same.layers).all()
        flat = planes.reshape(len(planes), -1).T.astype(np.float64)
        used = [i for i, name in enumerate(mix.names) if name != "empty"]
        weights, *_ = np.linalg.lstsq(flat[:, used], pixels.reshape(len(pixels), -1).T.astype(np.float64), rcond=None)
        weights = weights.round(3) + 0.0
        np.testing.assert_allclose(flat[:, used] @ weights, pixels.reshape(len(pixels), -1).T, atol=2e-3)
        names = [mix.names[i] for i in used]
        assert weights[:, 0].tolist() == [float(name == "DAPI") for name in names]
        assert weights[:, 3].tolist() == [0.0] * len(names)
        assert set(weights[:, 2]) <= {0.0, 0.333}
        seen.add((tuple(weights[:, 1]), tuple(weights[:, 2])))
    assert len(seen) > 8


def test_equal_channels_of_a_stack_are_not_taken_for_grey() -> None:
    pixels = np.repeat(np.arange(48, dtype=np.uint16).reshape(1, 6, 8), 3, axis=0)
    image = Image.from_array(pixels, axes="CYX", channels=["a", "b", "c"])
    stack, mix = training_stack(
        image,
        channels=ChannelExpectation(mode="program", program=["a", "c", {"merge": "all"}, 1]),
        normalisation=MinMax(),
    )
    layers = LabelLayers.from_labels(np.zeros((6, 8), np.int32))
    drawn, _ = PatchSampler(32).draw(SourceImage.from_arrays(stack, layers, mix, half=True), np.random.default_rng(0))
    assert drawn.shape == (4, 32, 32)
    np.testing.assert_allclose(drawn, drawn[:1].repeat(4, axis=0), atol=1e-3)


def test_intensities_change_after_the_channels_are_made() -> None:
    image, layers = field(), annotation(field())
    stack, mix = training_stack(image, channels=EXPECTED, normalisation=before_mixing(METHODS[3]))
    source = SourceImage.from_arrays(stack, layers, mix)
    pixels, _ = PatchSampler(64, augment=AugmentConfig()).draw(source, np.random.default_rng(1))
    assert pixels.shape == (4, 64, 64)
    assert np.isfinite(pixels).all()


def test_a_channel_of_zeros_stays_zeros() -> None:
    image = field()
    expected = ChannelExpectation(mode="program", program=["empty", {"merge": ["empty", "DAPI"]}])
    for method in (PercentileNormalisation(), MinMax(), Maximum()):
        seen = prepare_image(image, channels=expected, normalisation=method).window(0, 0, *image.shape)
        assert np.isfinite(seen).all()
        assert not seen[0].any()
        assert seen[1].max() <= 0.6


def test_the_largest_value_becomes_one_and_zero_stays() -> None:
    image = field()
    divided = statistics(image, Maximum()).apply(image.window(0, 70, 0, 90))
    pixels = image.window(0, 70, 0, 90).astype(np.float64)
    np.testing.assert_allclose(divided, pixels / np.maximum(pixels.max(axis=(1, 2), keepdims=True), 1), rtol=1e-6)
    negative = Image.from_array(np.full((1, 4, 4), -3.0, np.float32), axes="CYX")
    assert not statistics(negative, Maximum()).apply(negative.window(0, 4, 0, 4)).any()


def test_a_real_field(shared_data: Path) -> None:
    image = read_image(shared_data / "codex" / "field.ome.tif")
    markers = [name for name in image.channels if name.startswith("CH_")]
    expected = ChannelExpectation.model_validate(
        {
            "mode": "program",
            "layout": {"markers": markers},
            "program": ["nucleus", {"merge": ["membrane", "cytoplasm"]}, {"random": "markers"}],
        }
    )
    prepared = prepare_image(image, channels=expected, normalisation=PercentileNormalisation())
    window = prepared.window(300, 400, 400, 550)
    alone = ["nucleus", "membrane", "cytoplasm", markers[(len(markers) - 1) // 2]]
    planes = prepare_image(
        image,
        channels=ChannelExpectation(mode="select", count=4),
        normalisation=PercentileNormalisation(),
        chosen=alone,
    ).window(300, 400, 400, 550)
    np.testing.assert_allclose(window, np.stack([planes[0], planes[1:3].mean(axis=0), planes[3]]), atol=1e-6)
    with pytest.raises(ChannelError, match="did you mean 'nucleus'"):
        prepare_image(
            image,
            channels=ChannelExpectation(mode="program", program=["nucleos"]),
            normalisation=PercentileNormalisation(),
        )
