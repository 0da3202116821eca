"""Evaluating what does not belong together, or is something else than it is taken for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import cytomask.reporting.evaluation_page
from cytomask.errors import CytomaskError, DataError, LabelError, OutputError
from cytomask.evaluation.confidence import Bootstrap
from cytomask.formats.label_images import write_labels
from cytomask.instances import Instances
from cytomask.workflows.evaluate import evaluate_predictions

QUICK = Bootstrap(resamples=10)


def discs(*numbers: int, size: int = 48) -> np.ndarray:
    labels = np.zeros((size, size), np.int32)
    for k, number in enumerate(numbers):
        y, x = 8 + 16 * (k // 3), 8 + 16 * (k % 3)
        labels[np.hypot(*(np.mgrid[:size, :size] - [[[y]], [[x]]])) < 6] = number
    return labels


def write(folder: Path, **images: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for name, one in images.items():
        write_labels(folder / f"{name}.png", one)
    return folder


def failure(*places: Path, **more: object) -> CytomaskError:
    with pytest.raises(CytomaskError) as caught:
        evaluate_predictions(*places, bootstrap=QUICK, **more)  # type: ignore[arg-type]
    return caught.value


def notices(predictions: Path, truth: Path) -> list[str]:
    found = evaluate_predictions(predictions, truth, bootstrap=QUICK)
    return [str(one) for one in found.metrics["notices"]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    names = ("train_a", "val_b", "test_c")
    write(tmp_path / "data/images", **{name: discs(9, 9) for name in names})
    write(tmp_path / "data/labels", **{name: discs(1, 2) for name in names})
    return tmp_path / "data"


def test_predictions_of_another_split_are_told_as_such(tmp_path: Path, data: Path) -> None:
    predictions = write(tmp_path / "p", test_c=discs(1, 2))
    assert "--split test" in str(failure(predictions, data, split="val").fix)
    assert "--split" not in str(failure(write(tmp_path / "q", x=discs(1)), data, split="val").fix)


def test_one_file_and_a_data_set_of_one_image_belong_together(tmp_path: Path) -> None:
    write(tmp_path / "data/images", field=discs(9, 9))
    write(tmp_path / "data/labels", field=discs(1, 2))
    write_labels(tmp_path / "expert2.png", discs(1))
    found = evaluate_predictions(tmp_path / "expert2.png", tmp_path / "data", bootstrap=QUICK)
    assert found.metrics["matching"]["pooled"]["0.50"]["tp"] == 1


def test_sizes_that_differ_are_told_with_each_sides_own_file(tmp_path: Path) -> None:
    write_labels(tmp_path / "mine.png", discs(1, size=40))
    write_labels(tmp_path / "theirs.png", discs(1))
    error = failure(tmp_path / "mine.png", tmp_path / "theirs.png")
    assert isinstance(error, LabelError)
    assert error.found == "prediction mine.png: 40 x 40 pixels (height x width)"
    assert error.expected == "as truth theirs.png: 48 x 48"


def test_an_annotator_of_another_image_or_none(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.png", discs(1))
    write_labels(tmp_path / "other.png", discs(1, size=40))
    a = tmp_path / "a.png"
    error = failure(a, a, annotators=[tmp_path / "other.png"])
    assert error.what == "the annotator and the truth differ in size"
    assert str(error.where) == f"{tmp_path / 'other.png'} and {a}"
    error = failure(a, a, annotators=[tmp_path / "nowhere"])
    assert isinstance(error, DataError)
    assert "annotator" in str(error.what)


def test_a_mask_or_an_image_in_place_of_labels_is_told(tmp_path: Path) -> None:
    clouds = gaussian_filter(np.random.default_rng(0).random((48, 48)), 3)
    picture = np.round(60 * (clouds - clouds.min()) / np.ptp(clouds)).astype(np.int32)
    truth = write(tmp_path / "t", a=discs(1, 2, 3, 4), b=discs(1, 2, 3, 4))
    masks = write(tmp_path / "masks", a=discs(255, 255, 255, 255), b=discs(255, 255, 255))
    pictures = write(tmp_path / "pictures", a=picture, b=picture)
    told = notices(masks, truth)[0]
    assert "a.png: all 4 pieces have the number 255, so that it counts as one object" in told
    assert told.endswith("(and 1 more like it)")
    assert notices(truth, pictures)[0].startswith("truth ")
    assert "as in an image" in notices(truth, pictures)[0]
    assert not any("t/" in notice for notice in notices(truth, write(tmp_path / "fine", a=discs(1), b=discs(1, 2))))


def test_the_same_on_both_sides_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = write(tmp_path / "t", a=discs(1, 2))
    evaluate_predictions(both, both, bootstrap=QUICK)
    assert "predictions and truth are the same" in capsys.readouterr().err


def test_images_without_objects_are_told(tmp_path: Path) -> None:
    empty = discs()
    truth = write(tmp_path / "t", a=discs(1), b=empty, c=empty)
    some = write(tmp_path / "p", a=discs(1), b=empty, c=discs(1))
    none = write(tmp_path / "q", a=empty, b=empty, c=empty)
    found = evaluate_predictions(some, truth, bootstrap=QUICK).metrics
    assert found["notices"][0] == "1 of 3 images has no object on either side, and counts as 0 in means per image"
    assert found["matching"]["mean_per_image"]["0.50"]["accuracy"] == pytest.approx(1 / 3)
    assert notices(none, truth)[0] == "the predictions hold no object in any image"
    assert "nothing to find" in notices(some, none)[0]


def test_coco_results_take_their_names_from_a_data_sets_file(tmp_path: Path) -> None:
    objects = Instances.from_labels(discs(1, 2))
    rles = objects.to_rle()
    write(tmp_path / "data/images", a=discs(9, 9))
    annotations = [
        {"id": k, "image_id": 7, "category_id": 3, "iscrowd": 0, "segmentation": rle, "bbox": [0, 0, 1, 1], "area": 1}
        for k, rle in enumerate(rles, start=1)
    ]
    for split, number in (("train", 7), ("val", 8)):
        (tmp_path / "data" / f"{split}.json").write_text(json.dumps({
            "images": [{"id": number, "file_name": {7: "a.png", 8: "b.png"}[number], "height": 48, "width": 48}],
            "categories": [{"id": 3, "name": "cell"}],
            "annotations": annotations if split == "train" else [],
        }))  # fmt: skip
    write_labels(tmp_path / "data/images/b.png", discs(9))
    results = [{"image_id": 7, "category_id": 3, "segmentation": rle, "score": 0.5} for rle in rles]
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = evaluate_predictions(tmp_path / "results.json", tmp_path / "data", split="train", bootstrap=QUICK)
    assert found.images[0].name == "a"
    assert found.metrics["coco"]["segm"]["AP"] == pytest.approx(1)
    assert "the COCO file that they are of" in str(failure(tmp_path / "results.json", tmp_path / "data").fix)


def test_a_file_that_is_neither_labels_nor_annotations(tmp_path: Path) -> None:
    truth = write(tmp_path / "t", a=discs(1))
    (tmp_path / "run.json").write_text('{"images": []}')
    error = failure(tmp_path / "run.json", truth)
    assert "predictions.json" in str(error.fix)
    assert "--from" not in str(error)


def test_files_of_two_evaluations_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, out = write(tmp_path / "t", a=discs(1, 2), b=discs(1)), tmp_path / "out"
    evaluate_predictions(truth, truth, out, bootstrap=QUICK)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise OutputError("the file cannot be written", where=out)

    monkeypatch.setattr(cytomask.reporting.evaluation_page, "write_evaluation_page", fail)
    with pytest.raises(OutputError):
        evaluate_predictions(write(tmp_path / "p", a=discs(1), b=discs(1)), truth, out, bootstrap=QUICK)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
