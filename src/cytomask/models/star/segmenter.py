"""The star family against the Segmenter contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cytomask.geometry.polygon_mask import render_polygons
from cytomask.geometry.polygon_nms import settle_polygons
from cytomask.geometry.star import ray_directions, star_vertices
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter import Postprocess, Segmenter, SegmenterConfig
from cytomask.models.star.backbones import PlainUNet, ResidualUNet
from cytomask.models.star.config import StarConfig, StarPostprocess, UNetConfig
from cytomask.models.star.losses import star_losses
from cytomask.models.star.propose import propose_star
from cytomask.models.star.targets import star_targets

#: Rays shorter than this would make polygons without area.
MIN_DISTANCE = 1e-3


class StarSegmenter(Segmenter):
    """Star-convex objects: at every grid point a probability, ray distances and, with several classes, a class.

    Examples
    --------
    >>> model = StarSegmenter(StarConfig(in_channels=1))
    >>> sum(p.numel() for p in model.parameters())
    1425185
    >>> model.stride, model.halo
    (16, 122)
    """

    family = "star"
    config_class: ClassVar[type[SegmenterConfig]] = StarConfig
    postprocess_class: ClassVar[type[Postprocess]] = StarPostprocess
    #: A polygon is predicted from its centre alone and may reach beyond its tile.
    needs_whole_objects = False

    config: StarConfig

    def __init__(self, config: StarConfig) -> None:
        super().__init__(config)
        build = PlainUNet if isinstance(config.backbone, UNetConfig) else ResidualUNet
        self.backbone = build(config.backbone, config.in_channels, config.grid)  # type: ignore[arg-type]
        width = self.backbone.out_channels
        self.probability = nn.Conv2d(width, 1, 1)
        self.distances = nn.Conv2d(width, config.rays, 1)
        self.classes = nn.Conv2d(width, 1 + len(config.classes), 1) if len(config.classes) > 1 else None
        # Most pixels are background: begin with a probability of about 0.1, and with small round objects.
        nn.init.constant_(self.probability.bias, -2.0)  # type: ignore[arg-type]
        nn.init.constant_(self.distances.bias, 8.0)  # type: ignore[arg-type]

    @property
    def stride(self) -> int:
        return self.backbone.stride

    @property
    def halo(self) -> int:
        return self.backbone.halo

    def layer_groups(self) -> list[list[nn.Module]]:
        heads: list[nn.Module] = [
            self.probability,
            self.distances,
            *([self.classes] if self.classes is not None else []),
        ]
        return [[self.backbone], heads]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Probability logits ``(B, Yg, Xg)``, distances ``(B, R, Yg, Xg)``, class logits or None."""
        features = self.backbone(images)
        classes = self.classes(features) if self.classes is not None else None
        return self.probability(features)[:, 0], self.distances(features), classes

    def targets(self, layers: LabelLayers) -> dict[str, np.ndarray]:
        return star_targets(layers, self.config.rays, self.config.grid, self.classes is not None)

    def losses(self, images: Tensor, targets: dict[str, Any]) -> dict[str, Tensor]:
        probability, distances, classes = self(images)
        return star_losses(self.config.loss, probability, distances, classes, targets)

    @torch.inference_mode()
    def propose(
        self,
        images: Tensor,
        postprocess: Postprocess,
        sizes: Sequence[tuple[int, int]] | None = None,  # noqa: ARG002 (what is found in the padding is drawn nowhere)
    ) -> list[Proposals]:
        features = self.backbone(images)
        probability = torch.sigmoid(self.probability(features)[:, 0].float())
        return [self._candidates(features[i], probability[i], postprocess.score_threshold) for i in range(len(images))]

    def _candidates(self, features: Tensor, probability: Tensor, threshold: float) -> Proposals:
        """Rays are computed at candidates only: they are few, and the full map is the largest of all."""
        index = torch.nonzero(probability > threshold)
        at = features[:, index[:, 0], index[:, 1]].T.float()
        weight = self.distances.weight[:, :, 0, 0].float()
        distances = at @ weight.T + self.distances.bias.float()  # type: ignore[union-attr]
        classes = np.ones(len(index), np.int32)
        if self.classes is not None:
            logits = at @ self.classes.weight[:, :, 0, 0].float().T + self.classes.bias.float()  # type: ignore[union-attr]
            classes = (logits[:, 1:].argmax(dim=1) + 1).to(torch.int32).cpu().numpy()
        return Proposals(
            points=(index * self.config.grid).to(torch.float32).cpu().numpy(),
            scores=probability[index[:, 0], index[:, 1]].cpu().numpy(),
            classes=classes,
            data={"distances": distances.clamp_min(MIN_DISTANCE).cpu().numpy()},
        )

    def bounds(self, proposals: Proposals) -> np.ndarray:
        low, high = _extent(proposals)
        # Suppression truncates corners to whole pixels towards zero, pixels are drawn by their middles.
        return np.concatenate([np.floor(low) - 1, np.ceil(high) + 1], axis=1)

    def boxes(self, proposals: Proposals) -> np.ndarray:
        # Corners are told from the middles of pixels, boxes from their edges.
        return np.concatenate(_extent(proposals), axis=1).astype(np.float64) + 0.5

    def settle(
        self, proposals: Proposals, postprocess: Postprocess, fates: np.ndarray, foreign: np.ndarray
    ) -> np.ndarray:
        """By boxes as every family; polygons by the part of the smaller one that they share, as StarDist."""
        if postprocess.nms_by == "box":
            return super().settle(proposals, postprocess, fates, foreign)
        points, distances, scores = proposals.points, proposals.data["distances"], proposals.scores
        threshold = postprocess.nms_threshold
        if not postprocess.per_class:
            return settle_polygons(points, distances, scores, threshold, fates, foreign)
        told = np.empty(len(proposals), np.uint8)
        for number in np.unique(proposals.classes):
            of = proposals.classes == number
            told[of] = settle_polygons(points[of], distances[of], scores[of], threshold, fates[of], foreign[of])
        return told

    def render(
        self, proposals: Proposals, shape: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)
    ) -> Instances:
        vertices = star_vertices(proposals.points, proposals.data["distances"])
        if scale != (1.0, 1.0):
            # Pixel centres are at whole numbers, so the corner of the image is at -0.5 in both frames.
            vertices = ((vertices + 0.5) / np.asarray(scale, np.float32) - 0.5).astype(np.float32)
        windows, bits, offsets = render_polygons(vertices, shape)
        return Instances.from_packed(
            shape=shape,
            windows=windows,
            bits=bits,
            offsets=offsets,
            classes=proposals.classes,
            scores=proposals.scores,
            class_names=self.config.classes,
        )

    @classmethod
    def propose_from_data(cls, statistics: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        return propose_star(statistics)


def _extent(proposals: Proposals) -> tuple[np.ndarray, np.ndarray]:
    """First and last row and column of each polygon, ``(N, 2)`` each."""
    distances = proposals.data["distances"]
    directions = ray_directions(distances.shape[1])
    steps = [distances * directions[:, axis] for axis in range(2)]
    low, high = (np.stack([reach(step, axis=1) for step in steps], axis=1) for reach in (np.min, np.max))
    return proposals.points + low, proposals.points + high
