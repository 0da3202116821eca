"""COCO metrics against pycocotools."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cytomask.errors import ConfigError, LabelError
from cytomask.evaluation.coco import coco_metrics, precision_recall_curves
from cytomask.evaluation.coco_matching import box_overlaps, pair_scored
from cytomask.evaluation.coco_settings import AREAS, CocoSettings, notice_of_crowding, read_areas, with_limit
from cytomask.evaluation.confidence import Bootstrap
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
    evaluation.params.iouThrs = np.array(settings.thresholds)
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


def read_coco(path: Path) -> tuple[tuple[str, ...], list[Instances], list[set[int]]]:
    """The objects of a COCO file, in the file's order, masks only; and its crowds."""
    data = json.loads(path.read_text())
    annotations = data["annotations"]
    annotations = list(annotations.values()) if isinstance(annotations, dict) else annotations
    categories = sorted(data["categories"], key=lambda c: c["id"])
    number = {c["id"]: k for k, c in enumerate(categories, start=1)}
    names = tuple(c["name"] for c in categories)
    images, crowds = [], []
    for image in data["images"]:
        own = [a for a in annotations if a["image_id"] == image["id"]]
        classes = [number[a["category_id"]] for a in own]
        shape = (image["height"], image["width"])
        images.append(Instances.from_coco(shape, [a["segmentation"] for a in own], classes, class_names=names))
        crowds.append({k for k, a in enumerate(own, start=1) if a.get("iscrowd")})
    return names, images, crowds


@pytest.mark.parametrize(
    "kind, file, n_images",
    [("segm", "livecell/val.json", 1), ("segm", "platelet_em/train.json", 3), ("bbox", "platelet_em/train.json", 3)],
)
def test_real_cells_as_pycocotools(
    shared_data: Path, kind: Literal["segm", "bbox"], file: str, n_images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, truths, crowds = read_coco(shared_data / file)
    truths, crowds = truths[:n_images], crowds[:n_images]
    rng = np.random.default_rng(0)
    predictions = []
    for truth in truths:
        kept = truth.take(np.flatnonzero(rng.random(len(truth)) < 0.9))
        classes = np.where(rng.random(len(kept)) < 0.1, rng.integers(1, len(names) + 1, len(kept)), kept.classes)
        predictions.append(
            Instances.from_crops(
                truth.shape, [kept.mask(i) for i in range(len(kept))],
                kept.windows[:, :2] + rng.integers(-3, 4, (len(kept), 2)), classes=classes,
                scores=rng.integers(1, 50, len(kept)) / 50, class_names=names,
            )
        )  # fmt: skip
    monkeypatch.setattr(sys.modules[__name__], "NAMES", names)
    crowds[0] |= set(truths[0].ids[::9].tolist())
    settings = CocoSettings()
    found = coco_metrics(truths, predictions, kind, settings, names, crowds)
    expected = by_pycocotools((truths, predictions), kind, settings, len(names), crowds)
    precision, recall = expected["precision"], expected["recall"]
    assert 0.05 < found["AP"] < 0.95
    for name, value in {
        "AP": precision[:, :, :, 0, -1], "AP50": precision[0, :, :, 0, -1], "AP75": precision[5, :, :, 0, -1],
        "APs": precision[:, :, :, 1, -1], "APm": precision[:, :, :, 2, -1], "APl": precision[:, :, :, 3, -1],
        "AR": recall[:, :, 0, -1], "ARs": recall[:, :, 1, -1], "ARm": recall[:, :, 2, -1], "ARl": recall[:, :, 3, -1],
    }.items():  # fmt: skip
        assert found[name] == pytest.approx(mean(value), abs=1e-9), name
    for m, limit in enumerate(settings.max_dets):
        assert found["AR_by_max_dets"][str(limit)] == pytest.approx(mean(recall[:, :, 0, m]), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_crowded_image_as_pycocotools(kind: Literal["segm", "bbox"]) -> None:
    """2,000 objects in an image, of three classes, some of them crowd regions; more predictions than count."""
    rng = np.random.default_rng(7)
    crops, origins = [], []
    for _ in range(2000):
        side = int(rng.integers(3, 12))
        crops.append(rng.random((side, side)) < 0.9)
        origins.append(tuple(rng.integers(0, 600 - side, 2).tolist()))
    truth = Instances.from_crops((600, 600), crops, origins, classes=rng.integers(1, 4, 2000), class_names=NAMES)
    moved = np.clip(np.array(origins) + rng.integers(-1, 2, (2000, 2)), 0, 580)
    prediction = Instances.from_crops(
        (600, 600), crops, moved, classes=np.where(rng.random(2000) < 0.1, 1, truth.classes),
        scores=rng.random(2000).astype(np.float32), class_names=NAMES,
    )  # fmt: skip
    sides, crowds = ([truth], [prediction]), [set(truth.ids[::40].tolist())]
    settings = CocoSettings(max_dets=(10, 300, 600), areas={"s": (0, 30)}, thresholds=(0.5, 0.75))
    found = coco_metrics(*sides, kind, settings, NAMES, crowds)
    expected = by_pycocotools(sides, kind, settings, 3, crowds)
    assert found["AP"] == pytest.approx(mean(expected["precision"][:, :, :, 0, -1]), abs=1e-9)
    assert found["APs"] == pytest.approx(mean(expected["precision"][:, :, :, 1, -1]), abs=1e-9)
    assert found["ARs"] == pytest.approx(mean(expected["recall"][:, :, 1, -1]), abs=1e-9)
    assert found["AR_by_max_dets"]["300"] == pytest.approx(mean(expected["recall"][:, :, 0, 1]), abs=1e-9)
    assert 0.1 < found["AP"] < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_are_those_of_drawing_images_again(kind: Literal["segm", "bbox"]) -> None:
    rng = np.random.default_rng(3)
    truths = [discs(rng, int(n), (120, 140), 3) for n in (12, 5, 20, 9, 0)]
    predictions = []
    for truth in truths:
        other = changed(rng, truth, 3)
        # No two scores are alike, so that it does not matter which image of equal scores comes first.
        predictions.append(replace(other, scores=rng.random(len(other)).astype(np.float32)))
    bootstrap = Bootstrap(resamples=25, seed=2)
    found = coco_metrics(truths, predictions, kind, class_names=NAMES, bootstrap=bootstrap)
    again = []
    for weights in bootstrap.weights(5).astype(int):
        drawn = [k for k, times in enumerate(weights) for _ in range(times)]
        again.append(coco_metrics([truths[k] for k in drawn], [predictions[k] for k in drawn], kind, class_names=NAMES))
    intervals = found["confidence_intervals"]
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR", "ARs", "ARl"):
        values = [one[name] for one in again if one[name] is not None]
        np.testing.assert_allclose(intervals[name], np.percentile(values, (2.5, 97.5)), atol=1e-9, err_msg=name)
        assert intervals[name][0] <= found[name] <= intervals[name][1]
    values = [one["per_class"]["b"]["AP"] for one in again if one["per_class"]["b"]["AP"] is not None]
    np.testing.assert_allclose(intervals["per_class"]["b"]["AP"], np.percentile(values, (2.5, 97.5)), atol=1e-9)
    values = [one["AR_by_max_dets"]["500"] for one in again]
    np.testing.assert_allclose(intervals["AR_by_max_dets"]["500"], np.percentile(values, (2.5, 97.5)), atol=1e-9)
    assert intervals["resamples"] == 25


def test_precision_and_recall_by_score() -> None:
    labels = np.kron(np.arange(1, 6), np.ones((6, 6), int))
    truth = Instances.from_labels(labels)
    # Two right ones, a wrong one of the same score as the second, then the third right one.
    crops, origins = [np.ones((6, 6), bool)] * 4, [(0, 0), (0, 6), (0, 9), (0, 24)]
    prediction = Instances.from_crops((6, 30), crops, origins, scores=[0.9, 0.5, 0.5, 0.25])
    curves = precision_recall_curves([pair_scored(truth, prediction)], CocoSettings())
    assert curves.keys() == {"0.50", "0.75"}
    assert curves["0.50"] == {
        "score": [pytest.approx(0.9), 0.5, 0.25], "recall": [0.2, 0.4, 0.6], "precision": [1, 2 / 3, 3 / 4],
    }  # fmt: skip
    many = Instances.from_labels(np.arange(1, 901).reshape(30, 30), scores=np.arange(900) / 900)
    curve = precision_recall_curves([pair_scored(many, many)], CocoSettings())["0.75"]
    assert len(curve["score"]) == 201
    assert (curve["recall"][-1], curve["precision"][-1]) == (1, 1)


def test_ranges_of_areas() -> None:
    assert read_areas(" Quantiles ") == "quantiles"
    for wrong in ("", "3", "5,4", "0,4", "a,b", "1,2,3", "4,inf", "nan,3"):
        with pytest.raises(ConfigError, match="area ranges cannot be understood"):
            read_areas(wrong)
    with pytest.raises(ConfigError, match="of that name"):
        CocoSettings(areas="huge")
    settings = CocoSettings(areas="quantiles")
    areas = np.random.default_rng(0).integers(10, 5000, 300)
    found = settings.ranges(areas)
    for low, high in found.values():
        assert ((areas > low) & (areas <= high)).sum() == pytest.approx(100, abs=3)
    for few in ([7], [7, 7, 7], []):
        assert list(settings.ranges(np.array(few))) == ["s", "m", "l"]
    cells = [discs(np.random.default_rng(1), 60, (200, 200), 1)]
    as_found = coco_metrics(cells, cells, settings=settings)
    assert as_found["areas"]["s"][1] == np.sort(cells[0].areas())[19]
    assert with_limit(CocoSettings(), 5000).max_dets == (100, 500, 2000, 5000)
    assert with_limit(CocoSettings(), 50).max_dets == (50,)
    for wrong in ((), (0.0,), (0.5, 1.5)):
        with pytest.raises(ConfigError, match="IoU thresholds"):
            CocoSettings(thresholds=wrong)


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=8),
    st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=8),
)
@hypothesis_settings(deadline=None)
def test_boxes_that_overlap(a: list[tuple[int, ...]], b: list[tuple[int, ...]]) -> None:
    def boxes(corners: list[tuple[int, ...]]) -> np.ndarray:
        one = np.array(corners, float).reshape(-1, 4) / 3
        return np.concatenate([np.minimum(one[:, :2], one[:, 2:]), np.maximum(one[:, :2], one[:, 2:])], axis=1)

    first, second = boxes(a), boxes(b)
    expected = []
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            height, width = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
            if height > 0 and width > 0:
                expected.append((i, j, height * width))
    found = list(zip(*(x.tolist() for x in box_overlaps(first, second))))
    assert [f[:2] for f in found] == [e[:2] for e in expected]
    np.testing.assert_allclose([f[2] for f in found], [e[2] for e in expected])
