"""Loss curves and times of a training in one process and in two that share each batch.

    uv run python benchmarks/two_processes.py NUCLEI --out /tmp/two

A star network learns nuclei, from a part of the data set's training images; all trainings have the same settings but
for the number of processes and, where two are not to share the statistics of batch norms, `training.sync_norms`. The
table tells each epoch's loss of training and validation, and what differs at the end.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import torch

from cytomask.workflows.train import train_experiment

SETTINGS = [
    "training.batch_size=8",
    "training.workers=0",
    "training.validate_every=1",
    "training.device=cpu",
    "training.precision=float32",
    "training.ema_decay=0.9",
    "training.schedule.warmup_steps=10",
    "training.optimiser.learning_rate=0.001",
    "patches.size=96",
    "model.rays=16",
    "model.backbone={kind: residual, widths: [8, 16, 32], blocks: [1, 1, 1], features: 32}",
    "tune.enabled=false",
]
RUNS = {
    "1 process": [],
    "2 processes": ["training.devices=2"],
    "2, each its own norms": ["training.devices=2", "training.sync_norms=false"],
}


def part_of(data: Path, folder: Path, train: int, validation: int) -> Path:
    """A data set of the first images of each split."""
    folder.mkdir(parents=True)
    left = {"train": train, "val": validation}
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames
    chosen = []
    for row in rows:
        if left.get(row["split"], 0) > 0:
            left[row["split"]] -= 1
            chosen.append(row)
            for kind in ("images", "labels"):
                (folder / kind).mkdir(exist_ok=True)
                shutil.copy(data / kind / f"{row['name']}.png", folder / kind)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or [])
        writer.writeheader()
        writer.writerows(chosen)
    return folder


def table_of(run: Path) -> list[dict[str, float]]:
    """The rows of a run's table of epochs."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of nuclei, with its manifest.csv")
    parser.add_argument("--out", type=Path, required=True, help="where the runs go")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="optimiser steps of an epoch")
    parser.add_argument("--images", type=int, default=24, help="training images; a quarter as many for validation")
    options = parser.parse_args()
    data = part_of(options.data, options.out / "data", options.images, options.images // 4)
    length = [f"training.epochs={options.epochs}", f"training.steps_per_epoch={options.steps}"]
    tables, weights = {}, {}
    for name, settings in RUNS.items():
        folder = options.out / name.replace(" ", "-").replace(",", "")
        train_experiment("nuclei", data=data, overrides=[*SETTINGS, *length, *settings], out=folder)
        tables[name] = table_of(folder)
        weights[name] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    print("| after epoch |" + "".join(f" {name}: loss | in validation |" for name in RUNS))
    print("|---|" + "---|---|" * len(RUNS))
    for epoch in range(options.epochs):
        rows = [table[epoch] for table in tables.values()]
        print(f"| {epoch + 1} |" + "".join(f" {row['train/loss']:.6g} | {row['val/loss']:.6g} |" for row in rows))
    print("| seconds per step |", end="")
    for table in tables.values():
        print(f" {sum(row['seconds'] for row in table[1:]) / (len(table) - 1) / options.steps:.2f} | |", end="")
    print()
    names = list(RUNS)
    for name in names[1:]:
        differences = [
            abs(row["train/loss"] - other["train/loss"]) / abs(row["train/loss"])
            for row, other in zip(tables[names[0]], tables[name], strict=True)
        ]
        one, two = weights[names[0]], weights[name]
        floats = [key for key, value in one.items() if value.is_floating_point()]
        apart = torch.cat([(one[key] - two[key]).flatten() for key in floats]).norm()
        largest = torch.cat([one[key].flatten() for key in floats]).norm()
        print(f"\n{name}: losses differ by {max(differences):.1e} at most, the last weights by {apart / largest:.1e}")


if __name__ == "__main__":
    main()
