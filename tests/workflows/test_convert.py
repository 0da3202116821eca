"""Converting annotations: every pair of formats, what is lost and said, and real annotations there and back."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytomask.errors import ConfigError, DataError, OutputError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS, FEATURES, AnnotationFormat
from cytomask.formats.annotations.losses import Losses
from cytomask.formats.annotations.open_annotations import open_annotations, recognise_format
from cytomask.formats.label_images import write_labels
from cytomask.instances import Instances
from cytomask.workflows.convert import convert_annotations

SIZES = {"a": (37, 50), "b": (24, 31)}
#: Features without which objects come back changed in a way that :func:`as_held` does not model.
SHAPES = {"pieces", "holes", "pixels"}


def blob(height: int, width: int, *corners: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of boxes."""
    mask = np.zeros((height, width), bool)
    for y0, x0, y1, x1 in corners:
        mask[y0:y1, x0:x1] = True
    return mask


def plain() -> list[Annotation]:
    """Objects that every format can hold: one piece, no holes, no overlap, one unnamed class, ids 1, 2, 3."""
    sets = []
    for name, (height, width) in SIZES.items():
        labels = np.zeros((height, width), np.int32)
        labels[2:9, 3:12], labels[9, 5:8] = 1, 1
        labels[2:9, 12:20] = 2
        labels[15:22, 0:9], labels[22:24, 4] = 3, 3
        sets.append(Annotation(name, Instances.from_labels(labels), file_name=f"{name}.tif"))
    return sets


def rich() -> list[Annotation]:
    """Objects with everything: overlap, pieces, a hole, two classes, scores, and an image without any."""
    height, width = SIZES["a"]
    ring = blob(height, width, (2, 3, 12, 15))
    ring[5:8, 6:10] = False
    crops = [ring, blob(height, width, (6, 7, 20, 18)), blob(height, width, (25, 2, 30, 8), (31, 12, 36, 20))]
    crops.append(blob(height, width, (9, 30, 30, 49)))
    full = Instances.from_crops(
        (height, width), crops, [(0, 0)] * 4, classes=[1, 2, 2, 1], scores=[0.5, 0.75, 1.0, 0.25],
        ids=[4, 9, 11, 30], class_names=("nucleus", "dead cell"),
    )  # fmt: skip
    return [
        Annotation("a", full, file_name="a.tif"),
        Annotation("b", Instances.empty(SIZES["b"], ("nucleus", "dead cell")), file_name="b.tif"),
    ]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size in SIZES.items():
        tifffile.imwrite(folder / f"{name}.tif", np.full(size, 9, np.uint8), photometric="minisblack")
    return folder


def target_of(row: AnnotationFormat, place: Path) -> Path:
    return place / f"{row.name}{row.suffix}"


def canonical(annotation: Annotation, holds: frozenset[str] | set[str]) -> list[tuple]:
    """What must come back of an image's objects, as far as features are held; in no order."""
    objects = annotation.instances
    rows = []
    for i in range(len(objects)):
        full = objects.full_mask(i)
        if not full.any():
            continue
        rows.append((
            full.tobytes(),
            objects.class_names[objects.classes[i] - 1] if "classes" in holds else "",
            round(float(objects.scores[i]), 4) if "scores" in holds else 1.0,
            int(objects.ids[i]) if "ids" in holds else 0,
            ("crowd" in holds) and int(objects.ids[i]) in annotation.crowd,
        ))  # fmt: skip
    return sorted(rows)


def as_held(annotation: Annotation, row: AnnotationFormat) -> Annotation:
    """The annotation as a format that cannot hold overlap keeps it."""
    if "overlap" in row.holds:
        return annotation
    objects = annotation.instances
    if "class-overlap" in row.holds:  # a label image for each class
        parts = [objects.take(objects.classes == c) for c in range(1, len(objects.class_names) + 1)]
    else:
        parts = [objects]
    kept = []
    for part in parts:
        ids = part.ids.tolist()
        flat = Instances.from_labels(
            part.to_labels(),
            classes=dict(zip(ids, part.classes.tolist())), scores=dict(zip(ids, part.scores.tolist())),
            class_names=objects.class_names,
        )  # fmt: skip
        kept.append(flat)
    return Annotation(annotation.name, Instances.concatenate(kept), annotation.crowd)


def written(annotations: list[Annotation], row: AnnotationFormat, place: Path) -> Path:
    target = target_of(row, place)
    row.load().write_annotations(target, annotations, annotations[0].instances.class_names)
    return target


def read_again(path: Path, row: AnnotationFormat, images: Path) -> AnnotationSet:
    return open_annotations(path, row.name, [images])


@pytest.mark.parametrize("row", list(ANNOTATION_FORMATS.values()), ids=list(ANNOTATION_FORMATS))
def test_a_format_is_recognised_by_its_content(row, images, tmp_path):
    path = written(plain(), row, tmp_path)
    assert recognise_format(path) == row


@pytest.mark.parametrize("row", list(ANNOTATION_FORMATS.values()), ids=list(ANNOTATION_FORMATS))
def test_what_the_table_says_is_held_comes_back(row, images, tmp_path):
    given = rich()
    found = {a.name: a for a in read_again(written(given, row, tmp_path), row, images)}
    assert set(found) >= {a.name for a in given if len(a.instances) or "empty" in row.holds}
    if row.holds >= SHAPES:
        for annotation in given:
            if annotation.name in found:
                expected = as_held(annotation, row)
                assert canonical(found[annotation.name], row.holds) == canonical(expected, row.holds)


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.permutations(ANNOTATION_FORMATS.values(), 2)), ids=lambda row: row.name
)
def test_every_pair_of_formats_there_and_back(first, second, images, tmp_path):
    one = written(plain(), first, tmp_path)
    there, back = target_of(second, tmp_path / "there"), target_of(first, tmp_path / "back")
    there.parent.mkdir()
    back.parent.mkdir()
    convert_annotations(one, there, from_format=first.name, to_format=second.name, images=[images])
    convert_annotations(there, back, from_format=second.name, to_format=first.name, images=[images])
    before = {a.name: canonical(a, {"pixels"}) for a in read_again(one, first, images)}
    after = {a.name: canonical(a, {"pixels"}) for a in read_again(back, first, images)}
    assert before == {a.name: canonical(a, {"pixels"}) for a in plain()}
    assert after == before


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.permutations(ANNOTATION_FORMATS.values(), 2)), ids=lambda row: row.name
)
def test_every_pair_of_formats_there_and_back_on_real_organelles(first, second, shared_data, tmp_path):
    """Five classes; mitochondria and granules lie in cells, so objects overlap."""
    pictures = [shared_data / "platelet_em" / "tiles"]
    one = target_of(first, tmp_path)
    convert_annotations(shared_data / "platelet_em/val.json", one, to_format=first.name, images=pictures)
    there, back = target_of(second, tmp_path / "there"), target_of(first, tmp_path / "back")
    there.parent.mkdir()
    back.parent.mkdir()
    done = convert_annotations(one, there, from_format=first.name, to_format=second.name, images=pictures)
    convert_annotations(there, back, from_format=second.name, to_format=first.name, images=pictures)
    (before,) = open_annotations(one, first.name, pictures)
    (after,) = open_annotations(back, first.name, pictures)
    held = first.holds & second.holds - {"ids"}
    there_held = as_held(before, second)
    if "classes" not in second.holds:  # objects of one class may overlap no more where each class has its own image
        objects = there_held.instances
        merged = dataclasses.replace(objects, classes=np.ones(len(objects), np.int32), class_names=("object",))
        there_held = dataclasses.replace(there_held, instances=merged)
    assert canonical(after, held) == canonical(as_held(there_held, first), held)
    # Nothing is said to be lost only where nothing is.
    if not done.lost:
        assert canonical(after, held) == canonical(before, held)


@pytest.mark.parametrize("row", list(ANNOTATION_FORMATS.values()), ids=list(ANNOTATION_FORMATS))
def test_every_loss_is_said(row, images, tmp_path, capsys):
    source = written(rich(), ANNOTATION_FORMATS["coco"], tmp_path)
    (tmp_path / "out").mkdir()
    done = convert_annotations(source, target_of(row, tmp_path / "out"), to_format=row.name, images=[images])
    said = " ".join(done.lost)
    words = {
        "overlap": "overlap", "pieces": "pieces", "holes": "holes", "pixels": "simplified", "classes": "dead cell",
        "scores": "scores", "ids": "numbered anew", "empty": "images without objects",
    }  # fmt: skip
    if row.name == "class-labels":
        del words["overlap"]  # the two that overlap are of different classes
    for feature, word in words.items():
        assert (word in said) == (feature not in row.holds), (feature, said)
    err = capsys.readouterr().err
    assert all(sentence in " ".join(err.split()) for sentence in done.lost)


def test_losses_are_counted():
    objects = rich()[0]
    losses = Losses(frozenset())
    losses.add(objects)
    assert losses.counts == {
        "overlap": 2, "shared pixels": 48 - 6, "pieces": 1, "holes": 1, "scores": 3, "ids": 4, "pixels": 4, "classes": 4
    }  # fmt: skip
    assert Losses(frozenset(FEATURES)).sentences() == []


def test_a_covered_object_is_said_to_be_lost():
    inner, outer = blob(9, 9, (3, 3, 5, 5)), blob(9, 9, (1, 1, 8, 8))
    objects = Instances.from_crops((9, 9), [inner, outer], [(0, 0)] * 2, scores=[0.2, 0.9])
    losses = Losses({"scores", "ids"} | SHAPES)
    losses.add(Annotation("a", objects))
    assert "1 object wholly covered and lost" in losses.sentences()[0]


def test_lossless_writes_nothing_when_something_would_be_lost(images, tmp_path):
    source = written(rich(), ANNOTATION_FORMATS["coco"], tmp_path)
    with pytest.raises(DataError, match="without loss"):
        convert_annotations(source, tmp_path / "labels", images=[images], lossless=True)
    assert not (tmp_path / "labels").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_what_exists_is_never_overwritten(images, tmp_path):
    source = written(plain(), ANNOTATION_FORMATS["coco"], tmp_path)
    before = source.read_bytes()
    other = tmp_path / "other.json"
    other.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        convert_annotations(source, other, images=[images])
    with pytest.raises(OutputError, match="mix"):
        convert_annotations(source, source, images=[images], overwrite=True)
    full = tmp_path / "full"
    full.mkdir()
    (full / "a.txt").write_text("mine")
    with pytest.raises(OutputError):
        convert_annotations(source, full, images=[images])
    assert (source.read_bytes(), other.read_text(), (full / "a.txt").read_text()) == (before, "mine", "mine")
    convert_annotations(source, other, images=[images], overwrite=True)
    assert other.read_text() != "mine"


def test_results_get_their_images_names_from_the_truth(images, tmp_path):
    truth = written(plain(), ANNOTATION_FORMATS["coco"], tmp_path)
    mask = {"size": list(SIZES["b"]), "counts": [5, 3, 24 * 31 - 8]}
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{"image_id": 2, "category_id": 1, "segmentation": mask, "score": 0.5}]))
    convert_annotations(results, tmp_path / "named.json", truth=truth)
    found = {a.name: len(a.instances) for a in open_annotations(tmp_path / "named.json", "coco")}
    assert found == {"a": 0, "b": 1}
    with pytest.raises(ConfigError, match="only COCO results"):
        convert_annotations(truth, tmp_path / "again.json", truth=truth)


def test_a_wrong_format_names_the_nearest(tmp_path, images):
    source = written(plain(), ANNOTATION_FORMATS["coco"], tmp_path)
    with pytest.raises(ConfigError, match="'imagej-rois'"):
        convert_annotations(source, tmp_path / "x", to_format="imagej-roi")
    with pytest.raises(ConfigError, match="does not tell its format"):
        convert_annotations(source, tmp_path / "x.zebra")
    with pytest.raises(ConfigError, match="name a folder, and --to qupath"):
        convert_annotations(source, tmp_path / "x.geojson")


def test_annotations_of_no_format_are_described(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="no annotation format"):
        convert_annotations(tmp_path / "notes.txt", tmp_path / "x.json")


def some_of(data: Path, folder: Path, names: list[str]) -> Path:
    for name in names:
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            path = next((data / kind).glob(f"{name}.*"))
            shutil.copy(path, folder / kind / path.name)
    return folder


@pytest.mark.parametrize("row", list(ANNOTATION_FORMATS.values()), ids=list(ANNOTATION_FORMATS))
@pytest.mark.parametrize("data", ["nuclei", "phase", "histology", "livecell", "platelet_em", "nuclei_kaggle_layout"])
def test_real_annotations_there_and_back(data, row, shared_data, tmp_path):
    folder = shared_data / data
    if (folder / "labels").is_dir():
        names = sorted(p.stem for p in (folder / "labels").iterdir())[:2]
        source = some_of(folder, tmp_path / "source", names)
        pictures, kept = source / "images", None
        source = source / "labels"
    elif (folder / "val.json").is_file():
        source, pictures, kept = folder / "val.json", folder, "coco"
    else:
        source, pictures, kept = folder, folder, "masks"
    there = target_of(row, tmp_path / "there")
    there.parent.mkdir()
    done = convert_annotations(source, there, from_format=kept, to_format=row.name, images=[pictures])
    before = {a.name: a for a in open_annotations(source, kept, [pictures])}
    after = {a.name: a for a in read_again(there, row, pictures)}
    assert set(before) == set(after)
    assert done.objects == sum(len(a.instances) for a in before.values())
    for name, annotation in before.items():
        expected = as_held(annotation, row)
        if row.holds >= SHAPES:
            assert canonical(after[name], row.holds - {"ids"}) == canonical(expected, row.holds - {"ids"})
        else:
            assert len(after[name].instances) >= len(expected.instances)
    said = any("overlap" in sentence for sentence in done.lost)
    # Cells of LIVECell overlap one another; organelles lie in their cell, which is of another class.
    kept = "overlap" if data == "livecell" else "class-overlap"
    assert said == (data in ("livecell", "platelet_em") and kept not in row.holds)


def test_results_of_a_model_that_found_nothing(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "height": 5, "width": 4}], '
        '"categories": [{"id": 1, "name": "cell"}], "annotations": []}'
    )
    (tmp_path / "results.json").write_text("[]")
    converted = convert_annotations(tmp_path / "results.json", tmp_path / "labels", truth=tmp_path / "truth.json")
    assert (converted.images, converted.objects) == (1, 0)
    assert tifffile.imread(tmp_path / "labels/a_labels.tif").shape == (5, 4)


def test_a_folder_that_predict_wrote_is_converted_with_its_scores(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    write_labels(folder / "b_labels.tif", np.zeros(SIZES["b"], np.int32))
    mask = {"size": list(SIZES["b"]), "counts": [5, 3, 24 * 31 - 8]}
    entry = {"image_id": 1, "category_id": 1, "segmentation": mask, "score": 0.5, "bbox": [0, 5, 1, 3]}
    (folder / "predictions.json").write_text(json.dumps([entry]))
    image = {"image_id": 1, "file": "b.tif", "name": "b", "height": 24, "width": 31, "objects": {"object": 1}}
    record = {"categories": [{"id": 1, "name": "object"}], "images": [image]}
    (folder / "run.json").write_text(json.dumps(record))
    convert_annotations(folder, tmp_path / "all.json")
    (found,) = open_annotations(tmp_path / "all.json")
    assert found.instances.scores.tolist() == [0.5]
    (folder / "predictions.json").unlink()
    (folder / "run.json").unlink()
    (folder / "only.json").write_text(json.dumps([entry]))  # results are no annotations of the images beside them
    assert convert_annotations(folder, tmp_path / "labels", images=[folder]).objects == 0


def test_other_images_of_the_same_name_do_no_harm_where_the_annotations_tell_the_size(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", np.zeros((9, 9), np.uint8), photometric="minisblack")
    source = written(plain(), ANNOTATION_FORMATS["coco"], tmp_path)
    assert convert_annotations(source, tmp_path / "labels").objects == 6
