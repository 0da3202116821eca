"""Training steps per second of dense networks: cytomask's training, a plain PyTorch loop, and fastai's Learner.

    uv run python benchmarks/dense_training.py --fastai PATH/TO/FASTAI/ENVIRONMENT/bin/python

All train on the same images in memory, in float32, with Adam, cross-entropy of two classes, and no worker processes.
The ResNet U-Nets of both sides compute the same. A step is the time from one pass through the network to the next,
with everything between; its median is told, without the first steps. Without --fastai that column is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from cytomask.label_layers import LabelLayers
from cytomask.models.dense.config import DensePostprocess
from cytomask.models.registry import build_segmenter
from cytomask.models.segmenter import Segmenter
from cytomask.progress import set_quiet
from cytomask.training.config import TrainingConfig
from cytomask.training.fit import fit

NETWORKS: dict[str, dict[str, Any]] = {
    "ResNet-34 U-Net": {"kind": "resnet_unet", "depth": 34},
    "Swin-UNet": {"kind": "swin_unet"},
}
#: Steps before timing begins.
WARM = 2
RATE = 1e-4
#: What runs in fastai's environment: images and labels in, seconds between passes out.
FASTAI = """
import sys, time, numpy as np, torch
from fastai.vision.all import *
from fastai.vision.learner import create_unet_model
path, batch, device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
data = np.load(path)
items = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in zip(data["images"], data["labels"])]
device = torch.device(device)
loaders = DataLoaders(
    DataLoader(items, bs=batch, shuffle=True, num_workers=0, device=device),
    DataLoader(items[:1], bs=1, num_workers=0, device=device),
)
size = data["images"].shape[-2:]
net = create_unet_model(resnet34, 2, size, pretrained=False).to(device)
times = []
class Watch(Callback):
    def before_batch(self):
        if self.training:
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())
learner = Learner(loaders, net, loss_func=CrossEntropyLossFlat(axis=1), opt_func=Adam, cbs=Watch())
with learner.no_bar(), learner.no_logging():
    learner.fit(1, 1e-4)
print(*np.diff(times))
"""


class InMemory(torch.utils.data.Dataset[dict[str, Any]]):
    """Training items that are ready."""

    def __init__(self, segmenter: Segmenter, images: np.ndarray, labels: np.ndarray) -> None:
        self.items = [
            {"image": image, **segmenter.targets(LabelLayers.from_labels(one))} for image, one in zip(images, labels)
        ]

    def set_epoch(self, epoch: int) -> None:
        """All epochs are the same."""

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


def watched(segmenter: Segmenter, device: str) -> list[float]:
    """Note the time whenever the loss is asked for."""
    times: list[float] = []
    losses: Callable[..., Any] = segmenter.losses

    def noted(*arguments: Any) -> Any:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        return losses(*arguments)

    segmenter.losses = noted  # type: ignore[method-assign]
    return times


def ours(segmenter: Segmenter, data: InMemory, batch: int, device: str) -> list[float]:
    """Seconds between passes in cytomask's training."""
    times = watched(segmenter, device)
    config = TrainingConfig.model_validate(
        {
            "epochs": 1,
            "steps_per_epoch": len(data) // batch,
            "batch_size": batch,
            "workers": 0,
            "precision": "float32",
            "device": device,
            "ema_decay": None,
            "early_stopping": None,
            "optimiser": {"name": "adamw", "learning_rate": RATE, "gradient_clip": None},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(segmenter, data, None, config, lambda *_: 0.0, DensePostprocess(), Path(folder))
    return np.diff(times).tolist()


def plain(segmenter: Segmenter, data: InMemory, batch: int, device: str) -> list[float]:
    """Seconds between passes in a loop that does nothing but the least."""
    times = watched(segmenter, device)
    segmenter.to(device).train()
    optimiser = torch.optim.AdamW(segmenter.parameters(), RATE)
    for items in DataLoader(data, batch, shuffle=True):
        moved = {name: value.to(device) for name, value in items.items()}
        loss = torch.stack(list(segmenter.losses(moved.pop("image"), moved).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return np.diff(times).tolist()


def fastais(python: str, images: np.ndarray, labels: np.ndarray, batch: int, device: str) -> list[float]:
    """Seconds between passes in fastai's Learner, in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        np.savez(path, images=images, labels=(labels > 0).astype(np.int64))
        done = subprocess.run(
            [python, "-W", "ignore", "-c", FASTAI, str(path), str(batch), device],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fastai", help="Python of an environment with fastai")
    parser.add_argument("--size", type=int, default=256, help="side of the images")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12, help="timed steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    set_quiet(True)
    size, batch, device = options.size, options.batch, options.device
    rng = np.random.default_rng(0)
    n = batch * (options.steps + WARM + 1)
    images = rng.random((n, 3, size, size), np.float32)
    labels = np.kron(rng.random((n, size // 32, size // 32)) < 0.3, np.ones((32, 32), np.int32)).astype(np.int32)

    print(f"{size} x {size}, batch {batch}, {device}, {torch.get_num_threads()} threads; load {os.getloadavg()[0]:.1f}")
    print("\n| steps per second | cytomask | plain loop | fastai | cytomask / fastai |\n|---|---|---|---|---|")
    for name, network in NETWORKS.items():
        settings = {"network": network, "output": "softmax", "in_channels": 3}
        rates = []
        for run in (ours, plain):
            torch.manual_seed(0)
            segmenter = build_segmenter("dense", settings)
            rates.append(
                1 / statistics.median(run(segmenter, InMemory(segmenter, images, labels), batch, device)[WARM:])
            )
        cells = [f"{rate:.2f}" for rate in rates]
        if options.fastai and network["kind"] == "resnet_unet":
            theirs = 1 / statistics.median(fastais(options.fastai, images, labels, batch, device)[WARM:])
            cells += [f"{theirs:.2f}", f"{rates[0] / theirs:.2f}x"]
        else:
            cells += ["", ""]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
