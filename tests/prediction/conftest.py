"""Two small segmenters with exact arithmetic, one of each kind that tiling knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import FixedRange
from cytomask.geometry.fate import KEPT
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter import Postprocess, Segmenter, SegmenterConfig
from cytomask.prediction.predictor import Predictor


class _Boxes(Segmenter):
    """What both share: an object is a centre and a size, drawn as a rectangle."""

    config_class = SegmenterConfig
    postprocess_class = Postprocess
    stride = 4  # type: ignore[assignment]
    halo = 0  # type: ignore[assignment]

    def targets(self, layers: Any) -> dict[str, np.ndarray]:
        return {}

    def losses(self, images: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}

    def propose(self, images: Tensor, postprocess: Postprocess, sizes: object = None) -> list[Proposals]:
        assert images.shape[-1] % 4 == 0
        assert images.shape[-2] % 4 == 0
        return [self._find(image, postprocess.score_threshold) for image in images]

    def _find(self, image: Tensor, threshold: float) -> Proposals:
        raise AssertionError

    def bounds(self, proposals: Proposals) -> np.ndarray:
        halves = proposals.data["size"] / 2 + 1
        return np.concatenate([proposals.points - halves, proposals.points + halves], axis=1)

    def boxes(self, proposals: Proposals) -> np.ndarray:
        halves = proposals.data["size"] / 2
        return np.concatenate([proposals.points + 0.5 - halves, proposals.points + 0.5 + halves], axis=1)

    def settle(
        self, proposals: Proposals, postprocess: Postprocess, fates: np.ndarray, foreign: np.ndarray
    ) -> np.ndarray:
        return np.full(len(proposals), KEPT, np.uint8)

    def render(
        self, proposals: Proposals, shape: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)
    ) -> Instances:
        centres = (proposals.points + 0.5) / np.array(scale)
        halves = proposals.data["size"] / 2 / np.array(scale)
        starts = np.floor(centres - halves + 0.5).astype(int).clip(0, np.array(shape) - 1)
        stops = np.floor(centres + halves + 0.5).astype(int).clip(starts + 1, np.array(shape))
        crops = [np.ones(stop - start, bool) for start, stop in zip(starts, stops)]
        return Instances.from_crops(
            shape, crops, starts.reshape(-1, 2), proposals.classes, proposals.scores, class_names=self.config.classes
        )


class Spots(_Boxes):
    """Local maxima of a smoothed image; sees no object whole. All sums are exact in float32 for whole-number pixels."""

    family: ClassVar[str] = "spots"
    needs_whole_objects = False
    halo = 8  # type: ignore[assignment]

    def _find(self, image: Tensor, threshold: float) -> Proposals:
        kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        x = F.conv2d(image[None, :1], (kernel[:, None] * kernel)[None, None], padding=2)
        # A pooled path, so that windows off the stride's grid would differ.
        x = x + F.interpolate(F.max_pool2d(x, 4), scale_factor=4.0)
        peaks = (F.max_pool2d(x, 5, stride=1, padding=2) == x) & (x > threshold)
        points = torch.nonzero(peaks[0, 0])
        values = x[0, 0][points[:, 0], points[:, 1]]
        size = (1 + torch.floor(values / 64))[:, None].repeat(1, 2)
        return Proposals(
            points.numpy().astype(np.float32),
            np.minimum(0.5 + values.numpy() / 1024, 1).astype(np.float32),
            np.ones(len(points), np.int32),
            {"size": size.numpy().astype(np.float32)},
        )


class Blobs(_Boxes):
    """Connected bright pixels, each proposed with the middle of its extent as its point; must be seen whole."""

    family: ClassVar[str] = "blobs"
    needs_whole_objects = True

    def _find(self, image: Tensor, threshold: float) -> Proposals:
        labels, _ = ndimage.label(image[0].numpy() > threshold)
        boxes = [(s[0].start, s[1].start, s[0].stop, s[1].stop) for s in ndimage.find_objects(labels)]
        corners = np.array(boxes, np.float32).reshape(-1, 4)
        size = corners[:, 2:] - corners[:, :2]
        return Proposals(
            corners[:, :2] + (size - 1) / 2,
            np.full(len(size), 0.9, np.float32),
            np.ones(len(size), np.int32),
            {"size": size},
        )


def _predictor(segmenter: type[_Boxes], **options: Any) -> Predictor:
    return Predictor(
        segmenter(SegmenterConfig()),
        channels=ChannelExpectation(),
        normalisation=FixedRange(low=0, high=1),
        device="cpu",
        # The boxes' sums are exact in float32 only.
        **{"precision": "float32", **options},
    )


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small are slower with several threads, much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def spots() -> Callable[..., Predictor]:
    """Make a predictor of local maxima."""
    return lambda **options: _predictor(Spots, **options)


@pytest.fixture(scope="session")
def blobs() -> Callable[..., Predictor]:
    """Make a predictor of connected bright pixels."""
    return lambda **options: _predictor(Blobs, **options)


@pytest.fixture(scope="session")
def grey() -> Callable[[np.ndarray], Image]:
    """Make a one-channel image of an array."""
    return lambda array: Image.from_array(array, axes="YX")
