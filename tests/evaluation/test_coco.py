"""COCO metrics against pycocotools."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cytomask.errors import ConfigError, LabelError
from cytomask.evaluation.coco import coco_metrics
from cytomask.evaluation.coco_settings import AREAS, CocoSettings, notice_of_crowding
from cytomask.instances import Instances

NAMES = ("a", "b", "c")
KINDS: tuple[Literal["segm", "bbox"], ...] = ("segm", "bbox")


def discs(rng: np.random.Generator, n: int, shape: tuple[int, int], classes: int) -> Instances:
    """Overlapping discs of very different sizes, with scores of which some are alike."""
    crops, origins = [], []
    for _ in range(n):
        r = float(np.exp(rng.uniform(np.log(2), np.log(60))))
        side = int(2 * r + 1)
        rows, columns = np.mgrid[:side, :side] - r
        crops.append(rows**2 + columns**2 <= r**2)
        origins.append((int(rng.integers(0, shape[0] - side // 2)), int(rng.integers(0, shape[1] - side // 2))))
    return Instances.from_crops(
        shape, crops, origins, classes=rng.integers(1, classes + 1, n), scores=rng.integers(1, 30, n) / 30,
        class_names=NAMES[:classes],
    )  # fmt: skip


def changed(rng: np.random.Generator, truth: Instances, classes: int) -> Instances:
    """A prediction: most objects a little moved, some missing, some of a wrong class, some that are not there."""
    kept = truth.take(rng.random(len(truth)) < 0.85)
    crops = [kept.mask(i) for i in range(len(kept))]
    moved = kept.windows[:, :2] + rng.integers(-2, 3, (len(kept), 2))
    wrong = rng.random(len(kept)) < 0.1
    labels = np.where(wrong, rng.integers(1, classes + 1, len(kept)), kept.classes)
    hits = Instances.from_crops(
        truth.shape, crops, moved, classes=labels, scores=rng.integers(1, 30, len(kept)) / 30,
        class_names=truth.class_names,
    )  # fmt: skip
    return Instances.concatenate([hits, discs(rng, 6, truth.shape, classes)])


Sides = tuple[list[Instances], list[Instances]]


def example(classes: int) -> Sides:
    rng = np.random.default_rng(classes)
    truths = [discs(rng, int(n), (200 + 10 * k, 250), classes) for k, n in enumerate((40, 12, 90, 1, 0))]
    predictions = [changed(rng, truth, classes) for truth in truths]
    empty = Instances.empty((64, 80), NAMES[:classes])
    return [*truths, discs(rng, 5, (64, 80), classes)], [*predictions, empty]


def by_pycocotools(
    sides: Sides, kind: str, settings: CocoSettings, classes: int, crowds: list[set[int]] | None = None
) -> dict[str, Any]:
    """The same figures by COCO's own code, from full masks; results have a mask or a box, as COCO has it."""
    truths, predictions = sides
    images = [{"id": k, "height": t.shape[0], "width": t.shape[1]} for k, t in enumerate(truths, start=1)]
    true: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for k, (truth, prediction) in enumerate(zip(truths, predictions), start=1):
        for i in range(len(truth)):
            rle = coco_mask.encode(np.asfortranarray(truth.full_mask(i)))
            box = coco_mask.toBbox(rle).tolist()
            crowd = int(crowds is not None and int(truth.ids[i]) in crowds[k - 1])
            true.append({
                "id": len(true) + 1, "image_id": k, "category_id": int(truth.classes[i]), "segmentation": rle,
                "bbox": box, "area": float(coco_mask.area(rle)), "iscrowd": crowd,
            })  # fmt: skip
        for i in range(len(prediction)):
            rle = coco_mask.encode(np.asfortranarray(prediction.full_mask(i)))
            shape = {"segmentation": rle} if kind == "segm" else {"bbox": coco_mask.toBbox(rle).tolist()}
            score = float(prediction.scores[i])
            found.append({"image_id": k, "category_id": int(prediction.classes[i]), "score": score, **shape})
    data = COCO()
    data.dataset = {
        "info": {}, "images": images, "annotations": true,
        "categories": [{"id": c, "name": NAMES[c - 1]} for c in range(1, classes + 1)],
    }  # fmt: skip
    data.createIndex()
    evaluation = COCOeval(data, data.loadRes(found), kind)
    evaluation.params.maxDets = list(settings.max_dets)
    evaluation.params.areaRng = [[0, 1e10], *(list(limits) for limits in settings.ranges().values())]
    evaluation.params.areaRngLbl = ["all", *settings.ranges()]
    evaluation.evaluate()
    evaluation.accumulate()
    return {"precision": evaluation.eval["precision"], "recall": evaluation.eval["recall"]}


def mean(values: np.ndarray) -> float | None:
    return float(values[values > -1].mean()) if (values > -1).any() else None


def assert_equal_to_coco(sides: Sides, kind: Literal["segm", "bbox"], settings: CocoSettings, classes: int) -> None:
    found = coco_metrics(*sides, kind, settings, NAMES[:classes])
    expected = by_pycocotools(sides, kind, settings, classes)
    precision, recall = expected["precision"], expected["recall"]
    figures = {
        "AP": mean(precision[:, :, :, 0, -1]),
        "AP50": mean(precision[0, :, :, 0, -1]),
        "AP75": mean(precision[5, :, :, 0, -1]),
        "AR": mean(recall[:, :, 0, -1]),
    }
    for k, name in enumerate(settings.ranges(), start=1):
        figures[f"AP{name}"] = mean(precision[:, :, :, k, -1])
        figures[f"AR{name}"] = mean(recall[:, :, k, -1])
    for name, value in figures.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    assert 0.2 < found["AP"] < 0.9
    for k, limit in enumerate(settings.max_dets):
        assert found["AR_by_max_dets"][str(limit)] == pytest.approx(mean(recall[:, :, 0, k]), abs=1e-9)
    for c in range(classes):
        of_class = found["per_class"][NAMES[c]]
        assert of_class["AP"] == pytest.approx(mean(precision[:, :, c, 0, -1]), abs=1e-9)
        assert of_class["AR"] == pytest.approx(mean(recall[:, c, 0, -1]), abs=1e-9)
        assert of_class["n_true"] == sum((t.classes == c + 1).sum() for t in sides[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 3])
def test_as_pycocotools(kind: Literal["segm", "bbox"], classes: int) -> None:
    assert_equal_to_coco(example(classes), kind, CocoSettings(), classes)


@pytest.mark.parametrize("kind", KINDS)
def test_other_limits_as_pycocotools(kind: Literal["segm", "bbox"]) -> None:
    settings = CocoSettings(max_dets=(2, 15, 40, 60), areas={"s": (0, 100), "l": (100, 1e10)})
    assert_equal_to_coco(example(1), kind, settings, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_crowds_as_pycocotools(kind: Literal["segm", "bbox"]) -> None:
    truths, predictions = sides = example(1)
    crowds = [{int(i) for i in t.ids[::4]} for t in truths]
    found = coco_metrics(truths, predictions, kind, crowds=crowds)
    expected = by_pycocotools(sides, kind, CocoSettings(), 1, crowds)
    assert found["AP"] == pytest.approx(mean(expected["precision"][:, :, :, 0, -1]), abs=1e-9)
    assert found["AR"] == pytest.approx(mean(expected["recall"][:, :, 0, -1]), abs=1e-9)
    assert found["AP"] != coco_metrics(truths, predictions, kind)["AP"]


def test_nothing_to_find_and_nothing_found() -> None:
    empty, one = Instances.empty((64, 64)), discs(np.random.default_rng(0), 1, (64, 64), 1)
    for kind in KINDS:
        assert coco_metrics([empty], [one], kind)["AP"] is None
        assert coco_metrics([one], [empty], kind)["AP"] == 0
        assert coco_metrics([one], [empty], kind)["AR"] == 0
        assert coco_metrics([one], [one], kind)["AP"] == pytest.approx(1)
    assert coco_metrics([], [])["AP"] is None


def test_the_limit_counts_only_the_best() -> None:
    rng = np.random.default_rng(0)
    labels = np.kron(np.arange(1, 101, dtype=np.int32).reshape(10, 10), np.ones((5, 5), np.int32))
    cells = Instances.from_labels(labels, scores=rng.random(100))
    found = coco_metrics([cells], [cells], settings=CocoSettings(max_dets=(1, 10, 50)))
    assert found["AR_by_max_dets"] == {"1": pytest.approx(0.01), "10": pytest.approx(0.1), "50": pytest.approx(0.5)}
    assert found["AR"] == pytest.approx(0.5)
    assert found["max_dets"] == [1, 10, 50]


def test_one_class_name_takes_all_objects_for_one_class() -> None:
    truths, predictions = example(3)
    one_class = [[t.take(slice(None)) for t in side] for side in (truths, predictions)]
    found = coco_metrics(*one_class, class_names=("object",))
    assert found["per_class"].keys() == {"object"}
    assert found["per_class"]["object"]["n_true"] == sum(map(len, truths))


def test_notices() -> None:
    settings = CocoSettings(max_dets=(1, 10, 100))
    assert notice_of_crowding(["a", "b"], [3, 100], settings) is None
    text = notice_of_crowding(list("abcde"), [101, 5, 900, 102, 103], settings)
    assert text is not None
    assert "4 images hold more objects than the 100" in text
    assert "c: 900, e: 103, d: 102 …" in text


def test_wrong_settings() -> None:
    for wrong in ((), (0, 5), (10, 1), (5, 5)):
        with pytest.raises(ConfigError, match="max_dets"):
            CocoSettings(max_dets=wrong)
    with pytest.raises(ConfigError, match="area range"):
        CocoSettings(areas={"s": (10, 5)})
    assert CocoSettings().ranges() == AREAS["cells"]


def test_wrong_instances() -> None:
    one = discs(np.random.default_rng(0), 3, (64, 64), 3)
    with pytest.raises(LabelError, match="differ in size"):
        coco_metrics([one], [Instances.empty((64, 65))])
    with pytest.raises(LabelError, match="class without a name"):
        coco_metrics([one], [one], class_names=("a", "b"))
    with pytest.raises(ValueError, match="1 truths"):
        coco_metrics([one], [])
