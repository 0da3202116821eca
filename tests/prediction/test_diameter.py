"""Estimating the object diameter with a model that knows one size only."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import FixedRange
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.prediction.diameter import SCALES, estimate_diameter
from cytomask.prediction.prepare import PreparedImage, prepare_image

MODEL_DIAMETER = 20.0


def discs(diameter: float, shape: tuple[int, int] = (900, 1100), seed: int = 0) -> np.ndarray:
    """Draw discs on a jittered lattice that fills the left half only."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    picture = np.zeros(shape, np.uint8)
    step = int(1.6 * diameter) + 2
    for y in range(step // 2, shape[0], step):
        for x in range(step // 2, shape[1] // 2, step):
            r = diameter / 2 * rng.uniform(0.9, 1.1)
            top, left = max(0, int(y - r) - 1), max(0, int(x - r) - 1)
            near = np.s_[top : int(y + r) + 2, left : int(x + r) + 2]
            picture[near][(rows[near] - y) ** 2 + (columns[near] - x) ** 2 <= r**2] = 200
    return picture


def segment(part: PreparedImage) -> Instances:
    """Find bright pieces, as a model that is surer of them the nearer they are to the size that it knows."""
    return find(part, reach=1.5)


def segment_all(part: PreparedImage) -> Instances:
    """Find bright pieces of every size alike, without any doubt."""
    return find(part, reach=9.0, doubt=0.0)


def find(part: PreparedImage, reach: float, doubt: float = 1.0) -> Instances:
    from scipy import ndimage

    pixels = part.window(0, 0, *part.shape)[0]
    labels, count = ndimage.label(pixels > 100)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    octaves = np.abs(np.log2(2 * np.sqrt(areas / math.pi) / MODEL_DIAMETER))
    wanted = np.flatnonzero(octaves < reach) + 1
    scale = np.array(part.scale)
    crops, origins, boxes = [], [], ndimage.find_objects(labels)
    for i in wanted:
        box = boxes[i - 1]
        start = (np.array([s.start for s in box]) / scale).round().astype(int)
        stop = np.maximum((np.array([s.stop for s in box]) / scale).round().astype(int), start + 1)
        stop = np.minimum(stop, part.native_shape)
        side = np.maximum(stop - start, 1)
        rows, columns = np.indices(side)
        middle = (side - 1) / 2
        crops.append(((rows - middle[0]) / side[0] * 2) ** 2 + ((columns - middle[1]) / side[1] * 2) ** 2 <= 1)
        origins.append(start)
    if not crops:
        return Instances.empty(part.native_shape)
    scores = np.exp(-doubt * octaves[wanted - 1]).astype(np.float32)
    ones = np.ones(len(crops), np.int32)
    return Instances.from_crops(part.native_shape, crops, np.array(origins), ones, scores, class_names=("object",))


def prepare(pixels: np.ndarray) -> PreparedImage:
    image = Image.from_array(pixels, axes="YX")
    return prepare_image(image, channels=ChannelExpectation(), normalisation=FixedRange(low=0, high=1))


@pytest.mark.parametrize("diameter", [6, 11, 20, 45, 90, 160])
def test_estimate(diameter):
    estimate, told = estimate_diameter(prepare(discs(diameter)), segment, MODEL_DIAMETER)
    assert estimate == pytest.approx(diameter, rel=0.15)
    assert f"{estimate:.3g} px" in told


@pytest.mark.parametrize("diameter", [11, 80])
def test_the_size_decides_where_the_model_is_sure_of_everything(diameter):
    scales = []

    def watched(part: PreparedImage) -> Instances:
        scales.append(part.scale[0])
        return segment_all(part)

    estimate, _ = estimate_diameter(prepare(discs(diameter)), watched, MODEL_DIAMETER)
    assert estimate == pytest.approx(diameter, rel=0.15)
    assert scales[-1] == pytest.approx(MODEL_DIAMETER / diameter, rel=0.2)
    assert len(scales) <= len(SCALES) + 1


def test_nothing_found():
    estimate, told = estimate_diameter(prepare(np.zeros((300, 300), np.uint8)), segment, MODEL_DIAMETER)
    assert estimate is None
    assert "nothing was found" in told


def test_a_tiny_image():
    estimate, _ = estimate_diameter(prepare(discs(20, (30, 60))), segment, MODEL_DIAMETER)
    assert estimate is None or estimate == pytest.approx(20, rel=0.3)
