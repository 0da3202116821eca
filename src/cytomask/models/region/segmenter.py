"""The region family against the Segmenter contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cytomask.geometry.mask_paste import paste_masks
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers
from cytomask.models.proposals import Proposals
from cytomask.models.region.box_branch import BoxBranch
from cytomask.models.region.config import RegionConfig, RegionPostprocess
from cytomask.models.region.detectron2_weights import to_cytomask
from cytomask.models.region.fit_anchors import propose_region
from cytomask.models.region.mask_branch import make_mask_branch
from cytomask.models.region.pyramid import Pyramid
from cytomask.models.region.resnet import ResNet
from cytomask.models.region.resnet_weights import torchvision_names
from cytomask.models.region.rpn import RegionProposalNetwork
from cytomask.models.region.structures import Detections, Truth
from cytomask.models.region.targets import region_batch, region_targets
from cytomask.models.segmenter import Postprocess, Segmenter, SegmenterConfig

#: Batches are filled up to multiples of this, the coarsest stride of any backbone.
STRIDE = 32
#: Where suppression itself is left for later (by masks, softly, or with thresholds to be tuned), masks are still made
#: only for boxes of which no better one of their class overlaps them more than this.
NEARLY_EQUAL = 0.8


class RegionSegmenter(Segmenter):
    """Objects found in boxes: proposals from a feature pyramid, refined and classified, then masked one by one.

    With ``cascade`` the boxes are refined several times; with ``mask: {kind: pointrend}`` masks are refined at points.

    Examples
    --------
    >>> config = {"backbone": {"depth": 18, "width": 64}, "pyramid": {"width": 64}, "in_channels": 1}
    >>> model = RegionSegmenter(RegionConfig.model_validate(config)).eval()
    >>> found = model.propose(torch.zeros(1, 1, 64, 64), RegionPostprocess(score_threshold=0.99))[0]
    >>> len(found), found.data["mask"].shape[1:]
    (0, (28, 28))
    """

    family = "region"
    config_class: ClassVar[type[SegmenterConfig]] = RegionConfig
    postprocess_class: ClassVar[type[Postprocess]] = RegionPostprocess
    needs_whole_objects = True

    config: RegionConfig

    def __init__(self, config: RegionConfig) -> None:
        super().__init__(config)
        self.pyramid = Pyramid(config.pyramid, ResNet(config.backbone, config.in_channels))
        strides, width = self.pyramid.strides, self.pyramid.width
        self.rpn = RegionProposalNetwork(config.rpn, config.anchors, strides, width)
        self.box_branch = BoxBranch(config, strides, width)
        self.mask_branch = make_mask_branch(config, strides, width)

    @property
    def stride(self) -> int:
        return STRIDE

    @property
    def halo(self) -> int:
        """What is further away may influence an object, but little: the receptive field is larger than any tile."""
        return self.config.context

    def layer_groups(self) -> list[list[nn.Module]]:
        pyramid = [part for name, part in self.pyramid.named_children() if name != "backbone"]
        return [[self.pyramid.backbone], [*pyramid, self.rpn, self.box_branch, self.mask_branch]]

    @property
    def first_convolution(self) -> str:
        return "pyramid.backbone.stem.conv1.weight"

    def from_checkpoint(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a whole network of detectron2's, or a backbone of torchvision's."""
        if "layer1.0.conv1.weight" not in state:
            return to_cytomask(state, self.config)
        backbone = torchvision_names(state, self.config.backbone)
        return {f"pyramid.backbone.{name}": value for name, value in backbone.items()}

    def targets(self, layers: LabelLayers) -> dict[str, np.ndarray]:
        return region_targets(layers)

    @classmethod
    def collate(cls, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return region_batch(items, STRIDE)

    def losses(self, images: Tensor, targets: dict[str, Any]) -> dict[str, Tensor]:
        truths = [Truth(**truth) for truth in targets["truths"]]
        sizes = targets["sizes"]
        features = self.pyramid(images)
        losses, proposals = self.rpn.losses(features, truths, sizes)
        box_losses, regions = self.box_branch.losses(features, proposals, truths, sizes)
        return {**losses, **box_losses, **self.mask_branch.losses(features, regions, truths)}

    @torch.inference_mode()
    def propose(
        self, images: Tensor, postprocess: Postprocess, sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Proposals]:
        assert isinstance(postprocess, RegionPostprocess)
        shape = (int(images.shape[-2]), int(images.shape[-1]))
        if sizes is None:
            sizes = [shape] * len(images)
        elif any(tuple(size) != shape for size in sizes):
            # Outside of the picture is nothing, not its repeated edge: so the network was trained.
            images = images.clone()
            for image, (rows, columns) in zip(images, sizes):
                image[:, rows:] = 0
                image[:, :, columns:] = 0
        final = postprocess.nms == "hard" and postprocess.nms_by == "box"
        # A large tile holds more objects than a small one, and none shall be lost to a limit.
        area = self.config.rpn.area
        share = 1.0 if area is None else max(1.0, shape[0] * shape[1] / area)
        features = self.pyramid(images)
        detections = self.box_branch.detect(
            features,
            self.rpn.propose(features, sizes, share),
            sizes,
            score_threshold=postprocess.score_threshold,
            nms_threshold=postprocess.nms_threshold if final else max(NEARLY_EQUAL, postprocess.nms_threshold),
            per_class=postprocess.per_class if final else True,
            max_objects=round(postprocess.max_objects * share),
        )
        masks = self.mask_branch.masks(features, [d.boxes for d in detections], [d.classes for d in detections])
        # Where the network itself computes in half precision, half floats keep all that its masks say.
        half = torch.is_autocast_enabled(images.device.type)
        return [_as_proposals(found, mask, half) for found, mask in zip(detections, masks)]

    def boxes(self, proposals: Proposals) -> np.ndarray:
        return proposals.data["box"] + np.tile(proposals.points, 2)

    def bounds(self, proposals: Proposals) -> np.ndarray:
        boxes = self.boxes(proposals)
        return np.concatenate([np.floor(boxes[:, :2]) - 1, np.ceil(boxes[:, 2:]) + 1], axis=1)

    def render(
        self, proposals: Proposals, shape: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)
    ) -> Instances:
        boxes = (self.boxes(proposals) / np.tile(np.asarray(scale, np.float64), 2)).astype(np.float32)
        windows, bits, offsets = paste_masks(proposals.data["mask"], boxes, shape)
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
    def generous(cls, postprocess: Postprocess, score_threshold: float, nms_threshold: float) -> Postprocess:
        loose = {"score_threshold": score_threshold, "nms_threshold": max(nms_threshold, NEARLY_EQUAL)}
        return postprocess.model_copy(update={**loose, "nms": "hard", "nms_by": "box", "per_class": True})

    @classmethod
    def propose_from_data(cls, statistics: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        return propose_region(statistics)


def _as_proposals(found: Detections, masks: Tensor, half: bool) -> Proposals:
    """A box's middle is its point; masks stay logits, which also as half floats keep small ones precisely."""
    boxes = found.boxes.float().cpu().numpy().reshape(-1, 4)[:, [1, 0, 3, 2]]
    points = (boxes[:, :2] + boxes[:, 2:]) / 2
    limit = float(np.finfo(np.float16).max)
    return Proposals(
        points=points.astype(np.float32),
        scores=found.scores.float().cpu().numpy(),
        classes=(found.classes + 1).to(torch.int32).cpu().numpy(),
        data={
            "box": (boxes - np.tile(points, 2)).astype(np.float32),
            "mask": (masks.float().clamp(-limit, limit).half() if half else masks.float()).cpu().numpy(),
        },
    )
