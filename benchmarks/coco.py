"""COCO metrics against pycocotools and faster-coco-eval, from the same run-length codes, by mask and by box.

    uv run --group peers python benchmarks/coco.py --data PATH/TO/shared/data

The truths are LIVECell's cells, the organelles of platelets, and generated crowds of 2,000 objects to the image; the
predictions are the truth moved by up to three pixels, with every tenth object missing, some of a wrong class, and
random scores. All get the same limits (2,000 predictions, LIVECell's ranges of areas). Each begins with run-length
codes, boxes and scores in memory and ends with all figures; so ours decodes the masks first. A second row begins with
the instances that cytomask holds anyway. They take turns, one warm-up each; medians are printed as a Markdown table,
and the largest difference between any two figures.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from turns import take_turns

from cytomask.evaluation.coco import coco_metrics
from cytomask.evaluation.coco_settings import CocoSettings
from cytomask.instances import Instances

Kind = Literal["segm", "bbox"]
SETTINGS = CocoSettings()
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR", "ARs", "ARm", "ARl")


def read_coco(path: Path) -> list[Instances]:
    """The annotated objects of each image of a COCO file."""
    data = json.loads(path.read_text())
    names = tuple(c["name"] for c in sorted(data["categories"], key=lambda c: c["id"]))
    number = {c["id"]: k for k, c in enumerate(sorted(data["categories"], key=lambda c: c["id"]), start=1)}
    found = []
    annotations = data["annotations"]
    annotations = list(annotations.values()) if isinstance(annotations, dict) else annotations
    for image in data["images"]:
        of_image = [a for a in annotations if a["image_id"] == image["id"]]
        classes = [number[a["category_id"]] for a in of_image]
        shape = (image["height"], image["width"])
        found.append(Instances.from_coco(shape, [a["segmentation"] for a in of_image], classes, class_names=names))
    return found


def generated(rng: np.random.Generator, n_images: int, n: int, classes: int) -> list[Instances]:
    """Crowds of discs."""
    found = []
    for _ in range(n_images):
        crops, origins = [], []
        for _ in range(n):
            r = float(rng.uniform(3, 18))
            side = int(2 * r + 1)
            rows, columns = np.mgrid[:side, :side] - r
            crops.append(rows**2 + columns**2 <= r**2)
            origins.append(tuple(rng.integers(0, 1500 - side, 2).tolist()))
        kinds = rng.integers(1, classes + 1, n)
        names = tuple(f"class {c}" for c in range(1, classes + 1))
        found.append(Instances.from_crops((1500, 1500), crops, origins, classes=kinds, class_names=names))
    return found


def perturbed(rng: np.random.Generator, truth: Instances) -> Instances:
    """Move objects by up to three pixels, drop every tenth, give some a wrong class, and score them by chance."""
    kept = truth.take(np.flatnonzero(rng.random(len(truth)) < 0.9))
    n, n_classes = len(kept), len(truth.class_names)
    wrong = rng.random(n) < 0.05
    classes = np.where(wrong, rng.integers(1, n_classes + 1, n), kept.classes)
    moved = kept.windows[:, :2] + rng.integers(-3, 4, (n, 2))
    return Instances.from_crops(
        truth.shape, [kept.mask(i) for i in range(n)], moved, classes=classes,
        scores=rng.random(n).astype(np.float32), class_names=truth.class_names,
    )  # fmt: skip


def annotations(images: list[Instances], scored: bool, crowds: list[set[int]]) -> list[dict[str, Any]]:
    """COCO's entries, with run-length codes, as a program would hold them after reading its files."""
    entries: list[dict[str, Any]] = []
    for k, objects in enumerate(images, start=1):
        areas = objects.areas()
        for i, rle in enumerate(objects.to_rle()):
            y0, x0, y1, x1 = objects.boxes[i].tolist()
            entry = {"id": len(entries) + 1, "image_id": k, "category_id": int(objects.classes[i]),
                     "segmentation": rle, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(areas[i]),
                     "iscrowd": int(not scored and int(objects.ids[i]) in crowds[k - 1])}  # fmt: skip
            entries.append({**entry, "score": float(objects.scores[i])} if scored else entry)
    return entries


def head(truths: list[Instances]) -> dict[str, Any]:
    return {
        "info": {},
        "images": [{"id": k, "height": t.shape[0], "width": t.shape[1]} for k, t in enumerate(truths, start=1)],
        "categories": [{"id": c, "name": name} for c, name in enumerate(truths[0].class_names, start=1)],
    }


def configure(evaluation: Any) -> Any:
    evaluation.params.maxDets = list(SETTINGS.max_dets)
    evaluation.params.areaRng = [[0, 1e10], *(list(limits) for limits in SETTINGS.ranges().values())]
    evaluation.params.areaRngLbl = ["all", *SETTINGS.ranges()]
    return evaluation


def summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else float("nan")

    figures = [mean(precision[:, :, :, 0, -1]), mean(precision[0, :, :, 0, -1]), mean(precision[5, :, :, 0, -1])]
    figures += [mean(precision[:, :, :, a, -1]) for a in (1, 2, 3)]
    figures += [mean(recall[:, :, a, -1]) for a in (0, 1, 2, 3)]
    return dict(zip(NAMES, figures))


def by_pycocotools(truths: list[Instances], true: list[Any], found: list[Any], kind: Kind) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {**head(truths), "annotations": [dict(one) for one in true]}
        data.createIndex()
        drop = {"segm": "bbox", "bbox": "segmentation"}[kind]
        results = data.loadRes([{k: v for k, v in one.items() if k != drop} for one in found])
        evaluation = configure(COCOeval(data, results, kind))
        evaluation.evaluate()
        evaluation.accumulate()
    return summary(evaluation.eval["precision"], evaluation.eval["recall"])


def by_faster(truths: list[Instances], true: list[Any], found: list[Any], kind: Kind) -> dict[str, float]:
    from faster_coco_eval import COCO, COCOeval_faster

    data = COCO({**head(truths), "annotations": [dict(one) for one in true]})
    # Of predictions compared by box, COCO takes the box for the area.
    own = [{**one, "area": one["bbox"][2] * one["bbox"][3]} if kind == "bbox" else dict(one) for one in found]
    results = COCO({**head(truths), "annotations": own})
    evaluation = configure(COCOeval_faster(data, results, iouType=kind))
    evaluation.evaluate()
    evaluation.accumulate()
    return summary(np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"]))


def decode(truths: list[Instances], entries: list[dict[str, Any]]) -> list[Instances]:
    by_image: dict[int, list[dict[str, Any]]] = {k: [] for k in range(1, len(truths) + 1)}
    for entry in entries:
        by_image[entry["image_id"]].append(entry)
    decoded = []
    for truth, of_image in zip(truths, by_image.values()):
        x, y, w, h = np.array([e["bbox"] for e in of_image], float).reshape(-1, 4).T
        decoded.append(
            Instances.from_rle(
                truth.shape,
                [e["segmentation"] for e in of_image],
                classes=[e["category_id"] for e in of_image],
                scores=[e.get("score", 1.0) for e in of_image],
                boxes=np.stack([y, x, y + h, x + w], axis=1),
                class_names=truth.class_names,
            )
        )
    return decoded


def largest_difference(one: dict[str, float], other: dict[str, float]) -> float:
    values = [(one[name], other[name]) for name in NAMES]
    if any(np.isnan(a) != np.isnan(b) for a, b in values):
        return float("inf")
    return max((abs(a - b) for a, b in values if not np.isnan(a)), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    sets = {
        "LIVECell": read_coco(options.data / "livecell" / "train.json"),
        "platelets": read_coco(options.data / "platelet_em" / "train.json"),
        "crowds, 1 class": generated(rng, 2, 2000, 1),
        "crowds, 3 classes and crowd regions": generated(rng, 2, 2000, 3),
    }
    print("| data | objects | kind | cytomask from codes | from instances | pycocotools | faster-coco-eval | largest "
          "difference |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name, truths in sets.items():
        predictions = [perturbed(rng, truth) for truth in truths]
        crowds = [set(t.ids[::50].tolist()) if "regions" in name else set() for t in truths]
        true, found = annotations(truths, False, crowds), annotations(predictions, True, crowds)
        for kind in ("segm", "bbox"):
            names = truths[0].class_names

            def ours(a: list[Instances], b: list[Instances], kind: Kind = kind) -> dict[str, Any]:
                return coco_metrics(a, b, kind, SETTINGS, names, crowds)  # noqa: B023

            functions: dict[str, Callable[[], Any]] = {
                "codes": lambda: ours(decode(truths, true), decode(truths, found)),  # noqa: B023
                "instances": lambda: ours(truths, predictions),  # noqa: B023
                "pycocotools": lambda: by_pycocotools(truths, true, found, kind),  # noqa: B023
                "faster": lambda: by_faster(truths, true, found, kind),  # noqa: B023
            }
            seconds = take_turns(options.repeats, **functions)
            figures = {k: np.nan if v is None else v for k, v in functions["codes"]().items() if k in NAMES}
            worst = max(largest_difference(figures, functions[peer]()) for peer in ("pycocotools", "faster"))
            times = " | ".join(f"{value:.3f} s ({value / seconds['codes']:.1f}x)" for value in seconds.values())
            print(f"| {name} | {sum(map(len, truths))} | {kind} | {times} | {worst:.1e} |", flush=True)


if __name__ == "__main__":
    main()
