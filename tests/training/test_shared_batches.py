"""The gradient of a batch that two processes share is that of the whole batch, and so are trainings, for each family.

The file is also what the two processes run.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from cytomask.label_layers import LabelLayers
from cytomask.models.batch_part import part_of_batch
from cytomask.models.registry import build_segmenter
from cytomask.models.segmenter import Segmenter
from cytomask.models.shared_norms import batch_norms, share_norms
from cytomask.models.star.config import StarPostprocess
from cytomask.training.config import TrainingConfig
from cytomask.training.distributed import ALONE, Place
from cytomask.training.fit import fit
from cytomask.training.module import TrainingModule, _as_large_as_others, part_of, split_batch
from cytomask.training.process_callbacks import MeanStatistics
from cytomask.training.validation import ValidationImages

SMALL_REGION: dict[str, Any] = {
    "in_channels": 1,
    "classes": ["a", "b"],
    "backbone": {"depth": 18, "stem_width": 8, "width": 8, "norm": "batch"},
    "pyramid": {"width": 8, "norm": "batch"},
    "rpn": {"train_before": 100, "train_after": 60, "batch": 32},
    "sampling": {"batch": 16},
    "box": {"linear_width": 16, "convolutions": 1, "convolution_width": 8, "norm": "batch"},
}
RESIDUAL = {"kind": "residual", "widths": [6, 8], "blocks": [1, 1], "features": 8}
SMALL_UNET = {"kind": "resnet_unet", "depth": 18, "width": 8}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "star": ("star", {"in_channels": 1, "rays": 8, "classes": ["a", "b"], "backbone": RESIDUAL}),
    "star relative": ("star", {"in_channels": 1, "rays": 8, "backbone": RESIDUAL, "loss": {"distance": "relative"}}),
    "dense softmax": (
        "dense",
        {
            "in_channels": 1, "classes": ["a", "b"], "output": "softmax", "network": SMALL_UNET,
            "loss": {"terms": {"cross_entropy": 1.0, "focal": 0.5, "tversky": 1.0}, "class_weights": 4.0},
        },
    ),
    "dense distance": (
        "dense",
        {"in_channels": 1, "classes": ["a", "b"], "output": "distance", "network": SMALL_UNET,
         "loss": {"terms": {"cross_entropy": 1.0, "dice": 1.0}}},
    ),
    "dense swin": (
        "dense",
        {"in_channels": 1, "output": "binary",
         "network": {"kind": "swin_unet", "width": 8, "blocks": [2, 2], "heads": [2, 2], "drop_path": 0.5}},
    ),
    "region": ("region", {**SMALL_REGION, "mask": {"convolutions": 1, "width": 8, "norm": "batch"}}),
    "region cascade, pointrend": (
        "region",
        {**SMALL_REGION, "cascade": True,
         "mask": {"kind": "pointrend", "coarse_width": 16, "point_width": 8, "train_points": 20}},
    ),
    # The second process has no object, and so no mask to learn.
    "region, nothing in one half": ("region", {**SMALL_REGION, "mask": {"convolutions": 1, "width": 8}}),
}  # fmt: skip
BATCH = 4


def network(case: str) -> Segmenter:
    torch.manual_seed(5)
    family, settings = CASES[case]
    return build_segmenter(family, settings)


def item(segmenter: Segmenter, number: int, side: int, objects: bool) -> dict[str, Any]:
    """An image with as many objects as its number says, and a part of which nothing is known."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.int32)
    for name in range(1, (2 + 2 * number if objects else 0) + 1):
        y, x = rng.integers(8, side - 8, 2)
        labels[np.hypot(rows - y, columns - x) < rng.integers(4, 8)] = name
    present = {int(n) for n in np.unique(labels[labels > 0])}
    classes = {n: 1 + n % len(segmenter.config.classes) for n in present}
    crowd = frozenset(n for n in present if n % 5 == 4)
    layers = LabelLayers(labels[None], classes=classes, crowd=crowd, class_names=segmenter.config.classes)
    image = ((labels > 0) + rng.normal(0, 0.2, labels.shape)).astype(np.float32)[None]
    targets = {name: torch.from_numpy(value) for name, value in segmenter.targets(layers).items()}
    return {"image": torch.from_numpy(image), **targets}


def gradients(case: str, place: Place) -> dict[str, Tensor]:
    """Mean gradients, losses, and what norms remember, after this process's share of a batch."""
    segmenter = network(case).train()
    if place.processes > 1:
        share_norms(segmenter)
    share = BATCH // place.processes
    sizes = [64, 64, 96, 64] if case.startswith("region") else [64] * BATCH
    items = [
        item(segmenter, number, sizes[number], objects=number < 2 or "nothing" not in case) for number in range(BATCH)
    ]
    images, targets = split_batch(segmenter.collate(items[place.rank * share : (place.rank + 1) * share]))
    with part_of_batch(part_of(0, 1, 2, share, place)):
        if case.startswith("region"):
            images = _as_large_as_others(images)
        losses = segmenter.losses(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    found = {f"loss {name}": value.detach().clone() for name, value in losses.items()}
    found |= {n: p.grad if p.grad is not None else torch.zeros_like(p) for n, p in segmenter.named_parameters()}
    if place.processes > 1:
        for value in found.values():
            torch.distributed.all_reduce(value)
            value /= place.processes
    remembered = {f"buffer {n}": b.float().clone() for n, b in segmenter.named_buffers() if "running" in n}
    return {name: value.contiguous() for name, value in {**found, **remembered}.items()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which two processes have written what they found."""
    folder = tmp_path_factory.mktemp("shared")
    started: list[subprocess.Popen] = []
    try:
        for rank in (0, 1):
            with (folder / f"{rank}.txt").open("w") as said:
                started.append(subprocess.Popen([sys.executable, __file__, str(rank), str(folder)], stderr=said))
        for rank in (0, 1):
            assert started[rank].wait(300) == 0, (folder / f"{rank}.txt").read_text()
    finally:
        for process in started:
            process.kill()
            process.wait()
    return folder


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_two_processes_are_those_of_one(case: str, shared: Path) -> None:
    alone = gradients(case, ALONE)
    together = load_file(shared / f"{case}.safetensors")
    assert sorted(alone) == sorted(together)
    largest = max(float(value.abs().max()) for name, value in alone.items() if not name.startswith(("loss", "buffer")))
    assert largest > 1e-3
    for name, value in alone.items():
        scale = 1.0 if name.startswith(("loss", "buffer")) else largest
        torch.testing.assert_close(
            together[name], value, rtol=1e-4, atol=2e-5 * scale, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_what_norms_remember_is_the_mean_of_what_each_has_seen(shared: Path) -> None:
    """Without shared norms, the processes have statistics of 0 and of 1 each."""
    for rank in (0, 1):
        remembered = load_file(shared / f"remembered {rank}.safetensors")
        assert len(remembered) > 2
        assert all((value == 0.5).all() for value in remembered.values())


def remembered(place: Place) -> dict[str, Tensor]:
    """Statistics of a network's batch norms after a step, where each process had set them to its rank."""
    segmenter = network("star")
    for norm in batch_norms(segmenter):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.fill_(place.rank)
        norm.running_var.fill_(place.rank)
    module = TrainingModule(segmenter, TrainingConfig(), lambda *_: 0.0, StarPostprocess())
    MeanStatistics(place).on_train_batch_end(None, module)  # type: ignore[arg-type]
    return {name: value for name, value in segmenter.named_buffers() if "running" in name}


#: Trainings: a network of those above, and how it is trained.
TRAININGS: dict[str, tuple[str, dict[str, Any]]] = {
    "star": ("star", {"accumulate": 2, "schedule": {"name": "plateau", "patience": 0}, "monitor": "loss"}),
    "dense": (
        "dense softmax",
        {
            "phases": [
                {"epochs": 1, "freeze": True, "frozen_norms": "eval"},
                {"epochs": 2, "learning_rate": [1e-3, 1e-2]},
            ]
        },
    ),
    "region": ("region", {"early_stopping": {"patience": 1}, "ema_decay": None}),
}
COMMON = {
    "epochs": 3, "steps_per_epoch": 3, "batch_size": 2, "workers": 0, "precision": "float32", "device": "cpu",
    "ema_decay": 0.5, "optimiser": {"name": "sgd", "learning_rate": 0.01}, "early_stopping": None,
}  # fmt: skip


class Items(Dataset):
    """Items that depend on epoch and index, of different sizes for networks that take them."""

    def __init__(self, segmenter: Segmenter, length: int) -> None:
        self.segmenter, self.length, self.epoch = segmenter, length, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        side = 96 if self.segmenter.family == "region" and index % 3 == 1 else 64
        return item(self.segmenter, index % 5, side, objects=index != 2)


def train(name: str, folder: Path, place: Place) -> None:
    """Train as one of the processes, from three validation images, of which one has two and the other has one."""
    case, changes = TRAININGS[name]
    segmenter = network(case)
    config = TrainingConfig.model_validate({**COMMON, **changes})
    blobs = [np.pad(np.full((9, 9), 1, np.int32), ((20, 35 + 2 * n), (20, 35))) for n in range(3)]
    images = [(labels[None].astype(np.float32), LabelLayers.from_labels(labels)) for labels in blobs]
    numbers = place.share(range(3))
    fit(
        segmenter, Items(segmenter, 3 * 2 * config.accumulate),
        ValidationImages([images[n] for n in numbers], segmenter, numbers), config,
        lambda truths, found: sum(t.shape[0] * (1 + len(f)) for t, f in zip(truths, found, strict=True)),
        segmenter.postprocess_class(), folder / name, place=place,
    )  # fmt: skip


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one(name: str, shared: Path, tmp_path: Path) -> None:
    train(name, tmp_path, ALONE)
    one, two = rows(tmp_path / name), rows(shared / name)
    assert [list(row) for row in one] == [list(row) for row in two]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
    weights = load_file(tmp_path / name / "checkpoints" / "best.safetensors")
    others = load_file(shared / name / "checkpoints" / "best.safetensors")
    first = {key: value.detach() for key, value in network(TRAININGS[name][0]).named_parameters()}
    apart, moved = (
        float(torch.cat([(weights[key].double() - other[key]).flatten() for key in first]).norm())
        for other in (others, first)
    )
    assert apart < 2e-3 * moved


def main(rank: int, folder: Path) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for case in CASES:
        found = gradients(case, Place(rank, 2, rank, 2))
        if rank == 0:
            save_file(found, folder / f"{case}.safetensors")
    for name in TRAININGS:
        train(name, folder, Place(rank, 2, rank, 2))
    save_file(remembered(Place(rank, 2, rank, 2)), folder / f"remembered {rank}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), Path(sys.argv[2]))
