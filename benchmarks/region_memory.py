"""Peak memory of a region network: training with few and with many objects in view, and predicting a crowd.

    uv run python benchmarks/region_memory.py

Every row is a process of its own, whose peak memory the operating system reports. The pictures are discs on noise; the
two trainings differ in nothing but how many there are. Prediction goes the ordinary way, by tiles; the network is
untrained, so with the thresholds open it finds as many objects as it is allowed to, and draws a mask for each.
On a GPU its own peak is told, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

RADIUS = 10


def discs(side: int, n: int, seed: int = 0) -> np.ndarray:
    """Labels of discs of one size, int32 ``(side, side)``: at random places of a grid, so that they never touch."""
    rng = np.random.default_rng(seed)
    pitch = 3 * RADIUS
    places = side // pitch
    if n > places**2:
        raise SystemExit(f"{n} discs do not fit into {side} x {side} pixels, {places**2} do")
    disc = np.hypot(*np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]) <= RADIUS
    labels = np.zeros((side, side), np.int32)
    for number, place in enumerate(rng.permutation(places**2)[:n].tolist(), start=1):
        y, x = (pitch * k + rng.integers(0, pitch - 2 * RADIUS) for k in divmod(place, places))
        labels[y : y + len(disc), x : x + len(disc)][disc] = number
    return labels


def picture(labels: np.ndarray) -> np.ndarray:
    """Bright discs on a dark ground, with noise, uint8."""
    noise = np.random.default_rng(1).normal(0, 12, labels.shape)
    return np.clip(np.where(labels > 0, 160, 60) + noise, 0, 255).astype(np.uint8)


def network(depth: int, mask: str, device: str):
    """A region network with fresh weights, the same in every process."""
    import torch

    from cytomask.models.registry import build_segmenter

    torch.manual_seed(0)
    config = {
        "backbone": {"depth": depth, "width": 64 if depth <= 34 else 256},
        "anchors": {"sizes": [[16], [32], [64], [128], [256]]},
        "mask": {"kind": mask},
    }
    return build_segmenter("region", config).to(device, memory_format=torch.channels_last)


def train(options: argparse.Namespace) -> dict[str, object]:
    """Take some training steps on one picture."""
    import torch

    from cytomask.label_layers import LabelLayers

    labels = discs(options.side, options.objects)
    segmenter = network(options.depth, options.mask, options.device).train()
    optimiser = torch.optim.SGD((p for p in segmenter.parameters() if p.requires_grad), lr=1e-4, momentum=0.9)
    pixels = torch.from_numpy(picture(labels)[None].astype(np.float32) / 255)
    losses = []
    for _ in range(options.steps):
        targets = segmenter.targets(LabelLayers.from_labels(labels))
        item = {"image": pixels, **{name: torch.from_numpy(value) for name, value in targets.items()}}
        batch = segmenter.collate([item])
        batch["truths"] = [{k: v.to(options.device) for k, v in truth.items()} for truth in batch["truths"]]
        images = batch.pop("image").to(options.device, memory_format=torch.channels_last)
        total = sum(segmenter.losses(images, batch).values())
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
        losses.append(float(total.detach()))
    if not np.isfinite(losses).all():
        raise SystemExit(f"the losses are not finite: {losses}")
    return {"objects": int(labels.max())}


def predict(options: argparse.Namespace) -> dict[str, object]:
    """Segment one picture, with thresholds that let everything pass."""
    from cytomask.data.channels import ChannelExpectation
    from cytomask.data.normalise import PercentileNormalisation
    from cytomask.image import Image
    from cytomask.models.region.config import RegionPostprocess
    from cytomask.prediction.predictor import Predictor

    labels = discs(options.side, options.objects)
    predictor = Predictor(
        network(options.depth, options.mask, options.device).eval(),
        channels=ChannelExpectation(),
        normalisation=PercentileNormalisation(),
        postprocess=RegionPostprocess(score_threshold=0.0, nms_threshold=1.0, max_objects=options.max_objects),
        device=options.device,
        tile=options.tile,
    )
    found = predictor.predict(Image.from_array(picture(labels)))
    tiles = len(predictor.tiles(labels.shape))
    return {"objects": len(found), "tiles": tiles, "mask pixels": int(found.areas().sum())}


def measure(options: argparse.Namespace, work: str, side: int, objects: int) -> dict[str, float]:
    """Run one piece of work in a process; seconds and peak memory in GB of the whole process."""
    arguments = ["--work", work, "--side", str(side), "--objects", str(objects)]
    for name in ("depth", "mask", "device", "steps", "max_objects", "tile"):
        value = getattr(options, name)
        arguments += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{work} with {objects} objects failed, exit code {process.returncode}")
    return {**json.loads(told), "seconds": time.perf_counter() - start, "peak": usage.ru_maxrss / 2**20}


def work_here(options: argparse.Namespace) -> None:
    """Do one piece of work, and print what came of it."""
    import torch

    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    told = {"train": train, "predict": predict}[options.work](options)
    if options.device.startswith("cuda"):
        told["gpu"] = torch.cuda.max_memory_allocated() / 1e9
    print(json.dumps(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=50, help="of the ResNet")
    parser.add_argument("--mask", choices=["convolution", "pointrend"], default="convolution")
    parser.add_argument("--steps", type=int, default=2, help="training steps")
    parser.add_argument("--few", type=int, default=50)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--max-objects", type=int, default=2000, help="that a tile may have")
    parser.add_argument("--tile", type=int, help="default: the ordinary one")
    parser.add_argument("--device", default="auto")
    for name in ("--work", "--side", "--objects"):
        parser.add_argument(name, type=int if name != "--work" else str, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work_here(options)
        return

    print("| work | image | objects | time | peak memory |\n|---|---|---|---|---|")

    def row(work: str, side: int, found: dict[str, float]) -> None:
        gpu = f", GPU {found['gpu']:.2f} GB" if "gpu" in found else ""
        print(
            f"| {work} | {side}² | {found['objects']:.0f} | {found['seconds']:.0f} s | {found['peak']:.2f} GB{gpu} |",
            flush=True,
        )

    runs = []
    for objects in (options.few, options.many):
        runs.append(measure(options, "train", 1024, objects))
        row(f"training, {options.steps} steps", 1024, runs[-1])
    found = measure(options, "predict", 2048, 2000)
    row(f"prediction, {found['tiles']:.0f} tiles", 2048, found)
    for name in ("peak", "gpu") if "gpu" in runs[0] else ("peak",):
        ratio = runs[1][name] / runs[0][name]
        print(f"\n{options.many} objects against {options.few} ({name}): {ratio:.2f}x")


if __name__ == "__main__":
    main()
