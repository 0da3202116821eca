"""Where the reference boxes lie, and what is proposed for a data set's objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cytomask.data.object_sizes import box_shapes
from cytomask.models.region.anchors import Anchors
from cytomask.models.region.boxes import pairwise_iou
from cytomask.models.region.config import AnchorConfig, RegionConfig
from cytomask.models.region.fit_anchors import propose_region

STRIDES = (4, 8, 16, 32, 64)


def maps(rows: int, columns: int, strides: tuple[int, ...] = STRIDES) -> list[torch.Tensor]:
    return [torch.zeros(1, 1, -(-rows // s), -(-columns // s)) for s in strides]


def test_each_place_has_all_sizes_and_of_each_size_all_ratios() -> None:
    config = AnchorConfig(sizes=tuple((s, 2 * s) for s in (8.0, 16.0, 32.0, 64.0, 128.0)), ratios=(0.25, 1.0))
    anchors = Anchors(config, STRIDES)
    assert anchors.per_place == 4
    level = anchors(maps(64, 128))[1].reshape(8, 16, 4, 4)
    # (width, height) of sizes 16 and 32: ratio is height over width.
    shapes = torch.tensor([[32.0, 8.0], [16.0, 16.0], [64.0, 16.0], [32.0, 32.0]])
    assert torch.equal(level[..., 2:] - level[..., :2], shapes.expand(8, 16, 4, 2))
    y, x = torch.meshgrid(torch.arange(8) * 8.0, torch.arange(16) * 8.0, indexing="ij")
    centres = (level[..., 2:] + level[..., :2]) / 2
    assert torch.equal(centres, torch.stack([x, y], -1)[:, :, None].expand(8, 16, 4, 2))


def test_the_offset_is_a_share_of_the_stride() -> None:
    first = [level[1] for level in Anchors(AnchorConfig(offset=0.5), STRIDES)(maps(64, 64))]
    assert [float(box[0] + box[2]) / 2 for box in first] == [2.0, 4.0, 8.0, 16.0, 32.0]


def test_what_is_remembered_belongs_to_its_shape() -> None:
    anchors = Anchors(AnchorConfig(), STRIDES)
    with torch.inference_mode():
        once = anchors(maps(64, 64))
    assert anchors(maps(64, 64))[0] is once[0]
    assert not once[0].is_inference()
    for rows in range(64, 1024, 64):
        assert len(anchors(maps(rows, 128))[0]) == 3 * rows // 4 * 32
    assert torch.equal(anchors(maps(64, 64))[0], once[0])
    assert len(anchors._remembered) <= 8


def test_small_objects_keep_the_resolution_and_large_ranges_get_more_sizes() -> None:
    def propose(small: float, large: float, elongation: float = 2.0) -> RegionConfig:
        settings, reasons = propose_region(
            {"box_side_p5": small, "box_side_p50": small, "box_side_p95": large, "elongation_p90": elongation}
        )
        assert len(reasons) == len(settings)
        return RegionConfig.model_validate(settings)

    assert propose(10, 40).backbone.stem_stride == 2
    large = propose(40, 120)
    assert large.backbone.stem_stride == 4
    assert large.anchors.sizes == ((40.0,), (80.0,), (160.0,), (320.0,), (640.0,))
    assert large.context == 128
    wide = propose(10, 400)
    assert {len(level) for level in wide.anchors.sizes} == {2}
    assert wide.anchors.sizes[4][0] == pytest.approx(400, rel=0.02)
    assert propose(3, 400).anchors.sizes[0][0] == 4.0
    assert propose(20, 40, elongation=1.0).anchors.ratios == (0.71, 1.0, 1.4)
    assert propose(20, 40, elongation=99.0).anchors.ratios == (0.25, 1.0, 4.0)


def recall(config: RegionConfig, images: list[tuple[tuple[int, int], np.ndarray]]) -> float:
    """Share of boxes (``x0, y0, x1, y1``) whose best anchor has an IoU of at least a half."""
    first = config.backbone.stem_stride
    strides = tuple(first * 2**level for level in range(5))
    anchors = Anchors(config.anchors, strides)
    hits = []
    for shape, boxes in images:
        some = torch.from_numpy(boxes[:: max(1, len(boxes) // 40)].astype(np.float32))
        best = torch.zeros(len(some))
        for level in anchors(maps(*shape, strides)):
            for part in level.split(50_000):
                best = torch.maximum(best, pairwise_iou(some, part).amax(dim=1))
        hits.append(best >= 0.5)
    return float(torch.cat(hits).float().mean())


def statistics(images: list[tuple[tuple[int, int], np.ndarray]]) -> dict[str, float]:
    boxes = np.concatenate([b for _, b in images])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    sides = np.percentile(np.sqrt(width * height), [5, 50, 95])
    elongation = np.percentile(np.maximum(width, height) / np.minimum(width, height), 90)
    return dict(zip(("box_side_p5", "box_side_p50", "box_side_p95"), sides, strict=True), elongation_p90=elongation)


def coco_boxes(folder: Path) -> list[tuple[tuple[int, int], np.ndarray]]:
    told = json.loads((folder / "train.json").read_text())
    images = []
    for image in told["images"]:
        boxes = np.array([a["bbox"] for a in told["annotations"] if a["image_id"] == image["id"]], float)
        boxes[:, 2:] += boxes[:, :2]
        images.append(((image["height"], image["width"]), boxes))
    return images


@pytest.mark.parametrize(("name", "least", "gain"), [("platelet_em", 0.9, 0.25), ("livecell", 0.97, 0.25)])
def test_the_proposed_anchors_fit_real_objects(name: str, least: float, gain: float, shared_data: Path) -> None:
    images = coco_boxes(shared_data / name)
    fitted = recall(RegionConfig.model_validate(propose_region(statistics(images))[0]), images[:2])
    assert fitted >= least
    assert fitted >= recall(RegionConfig(), images[:2]) + gain


def test_boxes_are_measured_as_they_lie_in_a_label_image(shared_data: Path) -> None:
    path = sorted((shared_data / "nuclei/labels").iterdir())[0]
    labels = np.array(Image.open(path)).astype(np.int32)
    sides, elongations = box_shapes(labels)
    expected = []
    for value in np.unique(labels[labels > 0]):
        rows, columns = np.nonzero(labels == value)
        expected.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
    height, width = np.array(expected, float).T
    np.testing.assert_allclose(sides, np.sqrt(height * width))
    np.testing.assert_allclose(elongations, np.maximum(height / width, width / height))
