"""Logs as detectron2 and our own trainings write them, made by hand."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

#: The losses of a cascade with three stages and a point head.
CASCADE = (
    *(f"loss_{what}_stage{k}" for k in range(3) for what in ("cls", "box_reg")),
    "loss_mask", "loss_mask_point", "loss_rpn_cls", "loss_rpn_loc",
)  # fmt: skip


def training_line(step: int, last: int, losses: dict[str, float], *, rate: float, colour: bool = False) -> str:
    """One line of detectron2's printer."""
    left = (last - step) * 2
    days, left = divmod(left, 86400)
    eta = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
    eta = f"{days} day{'s' if days > 1 else ''}, {eta}" if days else eta
    told = "  ".join(f"{name}: {value:.4g}" for name, value in losses.items())
    head = "\x1b[32m[05/04 10:11:12 d2.utils.events]: \x1b[0m" if colour else "[05/04 10:11:12] d2.utils.events INFO: "
    return (
        f"{head} eta: {eta}  iter: {step}  {told}    time: 0.4{step % 7}  last_time: 0.41  data_time: 0.0{step % 5}1  "
        f"last_data_time: 0.0032   lr: {rate:.5g}  max_mem: {1900 + step // 10}M"
    )


def tables(task: str, figures: dict[str, str], classes: list[tuple[str, str]], columns: int = 3) -> list[str]:
    """Both tables of an evaluation, several classes in a row."""
    head = "[05/04 10:20:00] d2.evaluation.coco_evaluation INFO: "
    lines = [
        f"{head}Evaluation results for {task}: ",
        "|" + "|".join(f" {name} " for name in figures) + "|",
        "|" + "|".join(":------:" for _ in figures) + "|",
        "|" + "|".join(f" {value} " for value in figures.values()) + "|",
        f"{head}Per-category {task} AP: ",
        "|" + " category   | AP     |" * columns,
        "|" + ":-----------|:-------|" * columns,
    ]
    for k in range(0, len(classes), columns):
        row = [*classes[k : k + columns], *[("", "")] * columns][:columns]
        lines.append("|" + "|".join(f" {name}  | {value}  " for name, value in row) + "|")
    return lines


def write_cascade_log(path: Path, *, steps: int = 4000, colour: bool = False, seed: int = 0, start: int = 0) -> None:
    """A whole training: a line every twenty iterations, an evaluation every thousand."""
    lines = ["[05/04 10:00:00] detectron2 INFO: Rank of current process: 0. World size: 1"]
    random_ = random.Random(seed)
    for step in range(start + 19, steps, 20):
        falling = math.exp(-step / 1500)
        parts = {n: (0.05 + 0.5 * falling) * random_.uniform(0.7, 1.3) / (1 + k % 3) for k, n in enumerate(CASCADE)}
        losses = {"total_loss": sum(parts.values()), **parts}
        rate = 0.0025 * min(1.0, (step + 1) / 1000) * (0.1 if step > 3000 else 1.0)
        lines.append(training_line(step, 200_000, losses, rate=rate, colour=colour))
        if (step + 1) % 1000 == 0:
            good = 45 * (1 - math.exp(-step / 1000)) + seed
            for task, less in (("bbox", 0.0), ("segm", 3.0)):
                ap = good - less
                figures = {"AP": ap, "AP50": ap * 1.5, "AP75": ap * 0.9, "APs": ap * 0.6, "APm": ap * 1.1, "APl": None}
                told = {name: "nan" if value is None else f"{value:.3f}" for name, value in figures.items()}
                classes = [(f"class{k}", f"{ap + 3 * k:.3f}") for k in range(1, 5)] + [("absent", "nan")]
                lines += tables(task, told, classes)
    path.write_text("\n".join(lines) + "\n")


def write_metrics_json(path: Path, *, steps: int = 2000) -> None:
    """``metrics.json`` of a Mask R-CNN."""
    lines = []
    for step in range(19, steps, 20):
        row = {
            "data_time": 0.01, "eta_seconds": 2.0 * (steps - step), "fast_rcnn/cls_accuracy": 0.9, "iteration": step,
            "loss_box_reg": 0.2, "loss_cls": 0.3, "loss_mask": 0.4 * math.exp(-step / 900), "lr": 0.001,
            "time": 0.5, "total_loss": 0.5 + math.exp(-step / 900),
        }  # fmt: skip
        if (step + 1) % 1000 == 0:
            row |= {"segm/AP": step / 100, "segm/AP50": step / 50, "segm/APl": math.nan, "segm/AP-a b/c": step / 100}
        lines.append(json.dumps(row, sort_keys=True))
    path.write_text("\n".join(lines) + "\n")


def write_run(folder: Path, *, epochs: int = 12, per_epoch: int = 50, seed: int = 0) -> None:
    """The tables of a run of ours."""
    folder.mkdir(parents=True, exist_ok=True)
    random_ = random.Random(seed)
    rows = ["step,epoch,learning_rate,train/prob,train/dist,train/loss,seconds_per_step,seconds_waiting,memory_mb"]
    for step in range(10, epochs * per_epoch + 1, 10):
        a, b = (math.exp(-step / 200) * random_.uniform(0.8, 1.2) + 0.1 for _ in range(2))
        rate = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / (epochs * per_epoch))) + 1e-7
        epoch = (step - 1) // per_epoch
        rows.append(f"{step},{epoch},{rate:.6g},{a:.6g},{b:.6g},{a + b:.6g},{0.2 + a / 20:.4g},0.02,{800 + step // 5}")
    (folder / "steps.csv").write_text("\n".join(rows) + "\n")
    rows = [
        "epoch,step,phase,learning_rate,train/dist,train/loss,train/prob,val/dist,val/loss,val/prob,val/score,seconds"
    ]
    for epoch in range(epochs):
        loss = 2 * math.exp(-epoch / 4) + 0.3
        found = f"{loss / 2:.4g},{loss:.4g},{loss / 2:.4g},{0.8 * (1 - math.exp(-epoch / 4)):.4g}"
        rows.append(
            f"{epoch},{(epoch + 1) * per_epoch},{1 + (epoch > 5)},0.001,{loss / 2:.4g},{loss:.4g},{loss / 2:.4g},"
            f"{found if epoch % 2 else ',,,'},12.5"
        )
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
