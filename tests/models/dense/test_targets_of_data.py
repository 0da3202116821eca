"""What is learnt of real annotations, and what is not learnt of crowd regions, on the way through the data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from cytomask.data.augment import AugmentConfig
from cytomask.data.dataset import open_dataset
from cytomask.data.patch_dataset import PatchDataset
from cytomask.data.patches import PatchSampler
from cytomask.data.sample import Sample, load_sample
from cytomask.label_layers import LabelLayers
from cytomask.models.dense.config import DenseConfig, DenseLoss
from cytomask.models.dense.losses import dense_losses
from cytomask.models.dense.targets import dense_targets
from cytomask.models.segmenter import Segmenter

OUTPUTS = ("binary", "softmax", "boundary", "distance")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_foreground_of_polygons_is_their_union_as_pycocotools_draws_it(shared_data: Path) -> None:
    for file, every in (("train.json", 6), ("val.json", 2)):
        told = json.loads((shared_data / "livecell" / file).read_text())
        samples = {s.image_path.name: s for s in open_dataset(shared_data / "livecell" / file).samples}
        assert len(samples) == len(told["images"])
        for image in told["images"][::every]:
            shape = (image["height"], image["width"])
            pieces = [a["segmentation"] for a in told["annotations"] if a["image_id"] == image["id"]]
            union = coco.decode(coco.merge([coco.merge(coco.frPyObjects(p, *shape)) for p in pieces]))
            _, layers = load_sample(samples[image["file_name"]])
            targets = {o: dense_targets(layers, DenseConfig(output=o)) for o in OUTPUTS}
            assert targets["binary"]["present"].shape == (1, *shape)
            found = [targets["binary"]["present"][0], targets["softmax"]["labels"] > 0,
                     targets["boundary"]["parts"] > 0, targets["distance"]["foreground"]]  # fmt: skip
            for one in found:
                np.testing.assert_array_equal(one, union)
            assert (targets["distance"]["distance"] > 0).sum() == union.sum()
            assert all(one["valid"].all() for one in targets.values())


@pytest.mark.parametrize("output", OUTPUTS)
def test_no_gradient_where_a_crowd_is(output: str) -> None:
    rng = np.random.default_rng(0)
    layers = np.zeros((2, 96, 96), np.int32)
    for i in range(1, 30):
        y, x = rng.integers(0, 88, 2)
        if not layers[0, y : y + 9, x : x + 9].any():
            layers[0, y : y + 8, x : x + 8] = i
    layers[1, 20:50, 30:80] = 99
    ids = np.unique(layers)[1:]
    truth = LabelLayers(layers, {int(i): 1 + int(i) % 2 for i in ids}, frozenset({99}), ("a", "b"))
    single, crowd = layers[0] > 0, layers[1] > 0
    # The picture tells of each pixel what is known of it, however it is turned.
    image = np.stack([crowd & ~single, single]).astype(np.float32)
    turned = AugmentConfig.model_validate({**AugmentConfig.none().model_dump(), "flips": 0.5, "quarter_turns": 1.0})
    terms = dict.fromkeys(("cross_entropy", "dice", "focal", "tversky"), 1.0)
    config = DenseConfig(output=output, classes=("a", "b"), loss=DenseLoss(terms=terms, border_weight=10))
    patches = PatchDataset(
        [Sample("one", Path("one.tif"), Path("one.tif"))],
        load=lambda _: (image, truth),
        targets=lambda layers: dense_targets(layers, config),
        sampler=PatchSampler(64, 0.5, turned),
        length=8,
    )
    batch = Segmenter.collate([patches[i] for i in range(8)])
    unknown = batch.pop("image")[:, 0] > 0.5
    assert 0.05 < unknown.float().mean() < 0.8
    logits = torch.randn(8, config.channels_out, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sum(dense_losses(logits, batch, config).values()).backward()
    touched = (logits.grad != 0).any(dim=1)
    assert not touched[unknown].any()
    assert touched[~unknown].all()
