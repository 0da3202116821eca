"""Small networks in detectron2's terms, whose weights follow from their names, so that none need be kept."""

from __future__ import annotations

import zlib

import numpy as np
import torch

#: Configurations as detectron2's users write them, one for each kind of network.
CONFIGURATIONS = {
    "mask_rcnn": """
_BASE_: ../Base-RCNN-FPN.yaml
MODEL:
  MASK_ON: True
  RESNETS: {DEPTH: 50, RES2_OUT_CHANNELS: 32, STEM_OUT_CHANNELS: 8, WIDTH_PER_GROUP: 8}
  FPN: {OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  ROI_HEADS: {NUM_CLASSES: 3}
  ROI_BOX_HEAD: {FC_DIM: 32}
  ROI_MASK_HEAD: {CONV_DIM: 16}
INPUT: {MIN_SIZE_TEST: 0}
TEST: {DETECTIONS_PER_IMAGE: 40}
""",
    "cascade": """
_BASE_: ../Base-RCNN-FPN.yaml
MODEL:
  MASK_ON: True
  PIXEL_MEAN: [120.0, 110.0, 100.0]
  PIXEL_STD: "(57.0, 58.0, 59.0)"
  RESNETS:
    DEPTH: 50
    STRIDE_IN_1X1: False
    RES2_OUT_CHANNELS: 32
    STEM_OUT_CHANNELS: 8
    NUM_GROUPS: 4
    WIDTH_PER_GROUP: 4
    DEFORM_ON_PER_STAGE: [False, True, True, True]
  FPN: {OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  ROI_HEADS: {NAME: CascadeROIHeads, NUM_CLASSES: 3}
  ROI_BOX_HEAD: {NUM_CONV: 1, NUM_FC: 1, CONV_DIM: 32, FC_DIM: 32, NORM: GN, CLS_AGNOSTIC_BBOX_REG: True}
  ROI_MASK_HEAD: {NUM_CONV: 2, CONV_DIM: 32, NORM: GN}
INPUT: {MIN_SIZE_TEST: 0, FORMAT: RGB}
TEST: {DETECTIONS_PER_IMAGE: 40}
""",
    "pointrend": """
_BASE_: Base-PointRend-RCNN-FPN.yaml
MODEL:
  RESNETS: {DEPTH: 50, RES2_OUT_CHANNELS: 32, STEM_OUT_CHANNELS: 8, WIDTH_PER_GROUP: 8}
  FPN: {OUT_CHANNELS: 16}
  ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}
  ROI_HEADS: {NUM_CLASSES: 3}
  ROI_BOX_HEAD: {FC_DIM: 32}
  ROI_MASK_HEAD: {CONV_DIM: 16, FC_DIM: 32}
  POINT_HEAD: {NUM_CLASSES: 3, FC_DIM: 16, SUBDIVISION_STEPS: 3}
INPUT: {MIN_SIZE_TEST: 0}
TEST: {DETECTIONS_PER_IMAGE: 40}
""",
}


def seeded(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The numbers of an array, which follow from its name in detectron2."""
    drawn = torch.from_numpy(np.random.default_rng(zlib.crc32(name.encode())).random(shape, "f4"))
    if name.endswith("running_var") or name.endswith("norm.weight"):
        return (0.3 if "conv3.norm.weight" in name else 1.0) * (0.8 + 0.4 * drawn)
    if len(shape) == 1:
        return 0.2 * (drawn - 0.5)
    offset = 0.3 if "conv2_offset" in name else 1.0
    return offset * (drawn - 0.5) * (24 / drawn[0].numel()) ** 0.5


def picture() -> np.ndarray:
    """Blobs of several sizes and colours, uint8 ``(90, 124, 3)``: sides that no stride divides."""
    generator = np.random.default_rng(3)
    rows, columns = np.mgrid[:90, :124]
    light = np.full((90, 124, 3), 30.0) + generator.normal(0, 4, (90, 124, 3))
    for _ in range(14):
        y, x, radius = generator.uniform(5, 85), generator.uniform(5, 119), generator.uniform(4, 14)
        inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        light[inside] += generator.uniform(40, 200, 3)
    return np.clip(light, 0, 255).astype(np.uint8)
