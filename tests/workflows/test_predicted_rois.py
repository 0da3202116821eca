"""Predicted objects as ImageJ's regions, and crops around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytomask.data.dataset import open_dataset
from cytomask.formats.annotations.imagej_files import read_regions, write_regions
from cytomask.formats.ome_tiff import write_ome_tiff
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.workflows.predicting.outputs import Outputs
from cytomask.workflows.subimages import cut_subimages


def found() -> Instances:
    labels = np.zeros((50, 60), np.int32)
    labels[5:15, 5:25], labels[30:45, 40:50] = 3, 8
    return Instances.from_labels(labels, classes={3: 1, 8: 2}, scores={3: 0.5, 8: 0.9}, class_names=("cell", "debris"))


def test_predictions_become_regions_and_crops(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 60_000, (50, 60), dtype=np.uint16)
    (tmp_path / "in").mkdir()
    write_ome_tiff(tmp_path / "in/a.ome.tif", Image.from_array(pixels))
    (tmp_path / "found").mkdir()
    outputs = Outputs(tmp_path / "found", ("rois",))
    assert outputs.of_image("a") == {"rois": tmp_path / "found/a_rois.zip"}
    outputs.write("a", found(), Image.from_array(pixels), None)
    assert [path.name for path in (tmp_path / "found").iterdir()] == ["a_rois.zip"]
    regions = list(read_regions(tmp_path / "found/a_rois.zip"))
    told = [(one.label, one.class_name, round(one.score, 3)) for one in regions]
    assert told == [(3, "cell", 0.5), (8, "debris", 0.9)]
    done = cut_subimages([tmp_path / "in"], tmp_path / "crops", regions=tmp_path / "found")
    assert (done.crops, done.data_set) == (2, True)
    dataset = open_dataset(tmp_path / "crops")
    dataset.verify()
    kept = [dataset.load_layers(sample).to_instances() for sample in dataset.samples]
    assert [(objects.ids.tolist(), objects.classes.tolist(), objects.areas().tolist()) for objects in kept] == [
        ([3], [1], [200]), ([8], [2], [150]),
    ]  # fmt: skip


def test_objects_in_parts_give_the_same_regions(tmp_path: Path) -> None:
    whole = found()
    write_regions(tmp_path / "whole.zip", whole, whole.class_names)
    write_regions(tmp_path / "parts.zip", (whole.take([i]) for i in range(len(whole))), whole.class_names)
    assert (tmp_path / "whole.zip").read_bytes() == (tmp_path / "parts.zip").read_bytes()
