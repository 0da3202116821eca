"""The dense family against the Segmenter contract."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cytomask.errors import ConfigError
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers
from cytomask.models.assembling import AssemblingSegmenter
from cytomask.models.dense.config import DenseConfig, DensePostprocess, ResNetUNetConfig
from cytomask.models.dense.decode import decode
from cytomask.models.dense.encoder_weights import encoder_weights
from cytomask.models.dense.losses import dense_losses
from cytomask.models.dense.maps import BLOCK, MAPS, WEIGHT, activated, foreground, from_blocks, to_blocks
from cytomask.models.dense.native import drawn
from cytomask.models.dense.resnet_unet import ResNetUNet
from cytomask.models.dense.swin_unet import SwinUNet
from cytomask.models.dense.targets import dense_targets
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter import Postprocess, SegmenterConfig


class DenseSegmenter(AssemblingSegmenter):
    """Networks that say something of every pixel; objects are made of the map of the whole image.

    What tiles exchange are blocks of the map, not objects: see :mod:`cytomask.models.dense.maps`.

    Examples
    --------
    >>> model = DenseSegmenter(DenseConfig(network=ResNetUNetConfig(depth=18, width=16))).eval()
    >>> blocks = model.propose(torch.zeros(1, 1, 64, 64), DensePostprocess(score_threshold=0.0))[0]
    >>> len(blocks), blocks.data["maps"].shape[1:]
    (4, (2, 32, 32))
    """

    family = "dense"
    config_class: ClassVar[type[SegmenterConfig]] = DenseConfig
    postprocess_class: ClassVar[type[Postprocess]] = DensePostprocess

    config: DenseConfig

    def __init__(self, config: DenseConfig) -> None:
        super().__init__(config)
        build = ResNetUNet if isinstance(config.network, ResNetUNetConfig) else SwinUNet
        self.network = build(config.network, config.in_channels, config.channels_out)  # type: ignore[arg-type]

    @property
    def stride(self) -> int:
        # Both that of the network's grids and that of blocks begin at the first pixel.
        return math.lcm(BLOCK, self.network.stride)

    @property
    def alignment(self) -> int:
        return math.lcm(BLOCK, self.network.alignment)

    @property
    def halo(self) -> int:
        return self.network.halo

    @property
    def sees_all(self) -> bool:
        return isinstance(self.network, ResNetUNet) and self.network.config.self_attention

    def layer_groups(self) -> list[list[nn.Module]]:
        return self.network.layer_groups()

    @property
    def first_convolution(self) -> str:
        return f"network.{'encoder.conv1' if isinstance(self.network, ResNetUNet) else 'embed'}.weight"

    def from_checkpoint(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a ResNet of torchvision's to the encoder's names."""
        if not isinstance(self.network, ResNetUNet):
            raise ConfigError(
                "weights of other software are for ResNet encoders only",
                found=f"model.network.kind: {self.network.config.kind}",
                expected="model.network.kind: resnet_unet",
            )
        encoder = self.network.encoder
        return {f"network.encoder.{name}": value for name, value in encoder_weights(state, encoder).items()}

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """What the network says: ``(B, K, Y, X)``, see :class:`~cytomask.models.dense.config.DenseConfig`."""
        if isinstance(self.network, SwinUNet):
            return self.network(images, sizes)
        return self.network(images)

    def targets(self, layers: LabelLayers) -> dict[str, np.ndarray]:
        return dense_targets(layers, self.config)

    def losses(self, images: Tensor, targets: dict[str, Any]) -> dict[str, Tensor]:
        return dense_losses(self(images), targets, self.config)

    @torch.inference_mode()
    def propose(
        self,
        images: Tensor,
        postprocess: Postprocess,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[Proposals]:
        maps = activated(self(images, sizes), self.config)
        if sizes is not None:
            for one, (rows, columns) in zip(maps, sizes):
                one[:, rows:] = 0
                one[:, :, columns:] = 0
        return [to_blocks(one, self.config, postprocess.score_threshold) for one in maps]

    def boxes(self, proposals: Proposals) -> np.ndarray:
        starts = np.floor(proposals.points).astype(np.float64)
        return np.concatenate([starts, starts + BLOCK], axis=1)

    def bounds(self, proposals: Proposals) -> np.ndarray:
        return self.boxes(proposals)

    def render(
        self, proposals: Proposals, shape: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)
    ) -> Instances:
        """Draw the foreground of each block by itself, above a probability of one half."""
        maps = torch.from_numpy(proposals.data[MAPS]).float()
        masks: list[np.ndarray] = list((foreground(maps, self.config) > 0.5).numpy())
        starts = np.floor(proposals.points).astype(np.int64)
        ends = starts + BLOCK
        if scale != (1.0, 1.0):
            # A native pixel shows the block's pixel in which its centre lies.
            low, high = (np.ceil(edge / np.asarray(scale) - 0.5).astype(np.int64) for edge in (starts, ends))
            for k, (first, last) in enumerate(zip(low, high)):
                rows, columns = (
                    np.clip(((np.arange(a, b) + 0.5) * s).astype(np.int64) - start, 0, BLOCK - 1)
                    for a, b, s, start in zip(first, last, scale, starts[k])
                )
                masks[k] = masks[k][np.ix_(rows, columns)]
            starts = low
        return Instances.from_crops(
            shape, masks, starts, proposals.classes, proposals.scores, class_names=self.config.classes
        )

    def maps(self, proposals: Proposals, window: tuple[int, int, int, int]) -> np.ndarray:
        """What was said of the pixels of a window ``(y0, x0, y1, x1)`` of network pixels: float16 ``(K, Y, X)``."""
        n = len(self.config.classes)
        count = n if self.config.output in ("binary", "softmax") else 2 + (n if n > 1 else 0)
        return from_blocks(proposals, window, count)

    def assemble(
        self,
        proposals: Proposals,
        postprocess: Postprocess,
        window: tuple[int, int, int, int],
        shape: tuple[int, int],
        scale: tuple[float, float] = (1.0, 1.0),
    ) -> tuple[Instances, np.ndarray]:
        assert isinstance(postprocess, DensePostprocess)
        if WEIGHT not in proposals.data:
            # As if a higher threshold had been asked for at once: outlines at another size see the blocks around.
            proposals = proposals.take(proposals.scores > postprocess.score_threshold)
        y0, x0 = window[:2]
        parts, points = [], []
        for found in decode(self.maps(proposals, window), self.config, postprocess):
            part = drawn(
                found, postprocess.score_threshold, shape=shape, scale=scale, origin=(y0, x0),
                class_names=self.config.classes,
            )  # fmt: skip
            parts.append(part)
            points.append(found.points[part.ids - 1] + (y0, x0))
        return Instances.concatenate(parts), np.concatenate(points).astype(np.float32)

    def probabilities(self, proposals: Proposals, window: tuple[int, int, int, int]) -> np.ndarray:
        maps = self.maps(proposals, window).astype(np.float32)
        if self.config.output in ("binary", "softmax"):
            return maps
        return maps[:1] * maps[2:] if len(maps) > 2 else maps[:1]

    def foreground(
        self, proposals: Proposals, postprocess: Postprocess, window: tuple[int, int, int, int]
    ) -> np.ndarray:
        maps = torch.from_numpy(self.maps(proposals, window)).float()
        return (foreground(maps, self.config) > postprocess.score_threshold).numpy()
