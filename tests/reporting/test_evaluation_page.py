"""The page of an evaluation."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from cytomask.errors import LabelError
from cytomask.evaluation.agreement import Agreement
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.error_kinds import error_kinds
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.metrics import evaluate_pairs
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.reporting.error_overlay import KIND_COLOURS
from cytomask.reporting.evaluation_page import EvaluationPicture, write_evaluation_page
from cytomask.reporting.evaluation_pictures import close_views
from cytomask.reporting.evaluation_words import headline, trust
from cytomask.reporting.page_pictures import PictureBudget

from .page_reader import NASTY, picture_of, read_page

SIZE = (96, 128)


def _grid(values):
    """A label image of squares of 12 pixels at a distance of 4, as numbered."""
    labels = np.zeros(SIZE, np.int32)
    for place, value in enumerate(values):
        y, x = 4 + place // 8 * 16, 2 + place % 8 * 16
        labels[y : y + 12, x : x + 12] = value
    return labels


def _example():
    """A truth and a prediction with one error of each kind, and hits; and the image."""
    truth = _grid(range(1, 21))
    prediction = _grid(range(1, 21))
    prediction[prediction == 20] = 0  # missed
    prediction[70:80, 90:100] = 50  # not real
    prediction[prediction == 2] = 1  # merged, the gap between filled
    prediction[4:16, 14:18] = 1
    prediction[4:9, 34:46], prediction[9:11, 34:46], prediction[11:16, 34:46] = 60, 0, 61  # 3 is split
    prediction[truth == 4] = 0  # 4 is poorly outlined
    prediction[4:8, 50:62] = 4
    image = Image.from_array((truth > 0).astype(np.uint8) * 150 + 20)
    return image, Instances.from_labels(truth), Instances.from_labels(prediction)


def _picture(name="a", image=True, **more):
    pixels, truth, prediction = _example()
    kinds = error_kinds(truth, prediction)
    return EvaluationPicture(
        name, pixels if image else None, truth, prediction, kinds.truth_kinds, kinds.prediction_kinds,
        {"f1": 0.9}, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found():
    _, truth, prediction = _example()
    pairs = [
        Pair(f"image {k}", truth, prediction if k % 2 else truth, {"stain": "HE" if k % 2 else "DAPI"})
        for k in range(6)
    ]
    return evaluate_pairs(pairs, class_names=("nucleus",), bootstrap=Bootstrap(50), n_worst=3)


@pytest.fixture
def metrics(found):
    return copy.deepcopy(found.metrics)


def _page(path, metrics, rows=(), pictures=(), **more):
    write_evaluation_page(path / "evaluation.html", metrics, rows, pictures, **more)
    return read_page(path / "evaluation.html")


# Words


def _metrics(tp, n_true, n_pred, iou=0.85, kinds=None, names=("nucleus",)):
    recall, precision = tp / n_true if n_true else 0.0, tp / n_pred if n_pred else 0.0
    at = {
        "tp": tp,
        "n_true": n_true,
        "n_pred": n_pred,
        "recall": recall,
        "precision": precision,
        "mean_matched_iou": iou,
    }
    found = {
        "n_images": 1,
        "n_true": n_true,
        "n_pred": n_pred,
        "class_names": list(names),
        "matching": {"pooled": {"0.50": at}},
    }
    return {**found, **({"error_kinds": kinds} if kinds else {})}


@pytest.mark.parametrize(
    ("metrics", "heading", "lead"),
    [
        (
            _metrics(93, 100, 97),
            "Of 100 true nuclei the model finds 93",
            "overlap the true ones by 85 % (good). Of 100 objects that it finds, 96 match a true one and 4 do not.",
        ),
        (
            _metrics(93, 100, 100, kinds={"prediction": {"hit": 93, "poor": 2, "split": 1, "spurious": 4}}),
            "Of 100 true nuclei the model finds 93",
            "93 are right, 3 are badly outlined, split or merged, and 4 are not real.",
        ),
        (
            _metrics(99, 100, 100, kinds={"prediction": {"hit": 99, "spurious": 1}}),
            "Of 100 true nuclei the model finds 99",
            "99 are right and 1 is not real.",
        ),
        (_metrics(999, 1000, 1000), "Of 100 true nuclei the model finds 99", "99 match a true one and 1 does not."),
        (
            _metrics(5, 5, 5, 0.95, names=("a", "b")),
            "Of 100 true objects the model finds 100",
            "95 % (excellent). Of 100 objects that it finds, all match a true one.",
        ),
        (_metrics(0, 5, 5, 0.0), "The model finds none of 5 true nuclei", "finds 5 objects: none of them matches"),
        (_metrics(0, 5, 0), "The model finds none of 5 true nuclei", "nothing"),
        (_metrics(0, 0, 3), "The truth holds no nuclei", "3 objects: none of them is real"),
        (_metrics(0, 0, 0), "The truth holds no nuclei", "Nor does the model"),
        ({"n_images": 2}, "Evaluation of 2 images", "No objects"),
    ],
)
def test_headline(metrics, heading, lead):
    first, second = headline(metrics)
    assert first == heading
    from html.parser import HTMLParser

    texts: list[str] = []
    reader = HTMLParser()
    reader.handle_data = texts.append
    reader.feed(str(second))
    reader.close()
    assert lead in "".join(texts)


@pytest.mark.parametrize(
    ("bounds", "n_images", "grade", "told"),
    [
        ((0.90, 0.93), 60, "fine", "well settled"), ((0.85, 0.93), 60, "note", "fairly settled"),
        ((0.7, 0.93), 60, "warning", "uncertain"), ((0.90, 0.93), 5, "note", "fairly settled"),
        ((0.90, 0.93), 4, "warning", "uncertain"),
        (None, 1, "warning", "not known"),
    ],
)  # fmt: skip
def test_trust(bounds, n_images, grade, told):
    metrics = {"n_images": n_images, "n_true": 100, "matching": {"pooled": {"0.50": {"f1": 0.91}}}}
    metrics["confidence_intervals"] = bounds and {"level": 0.95, "matching": {"pooled": {"0.50": {"f1": list(bounds)}}}}
    found, said = trust(metrics)
    assert found == grade
    assert told in " ".join(map(str, said))


# The page


def test_whole_page_of_a_real_evaluation(tmp_path, found, metrics):
    assert all(n for n in metrics["error_kinds"]["truth"].values()), "the example has every kind"
    page = _page(tmp_path, metrics, found.rows(), [_picture("image 1"), _picture("image 3")])
    titles = [heading.text for heading in page.all("h2")]
    assert titles == [
        "What goes wrong", "The images that went worst", "How strict may one be?", "Small and large objects",
        "Kinds of images", "Every image", "All figures",
    ]  # fmt: skip
    text = page.one("main").text
    at = metrics["matching"]["pooled"]["0.50"]
    for told in (f"{at['recall']:.3f}", f"{metrics['aji']:.3f}", "95 % interval"):
        assert told in text
    # Counts in the words are the counts of the metrics.
    missed = metrics["error_kinds"]["truth"]["missed"]
    assert f"{missed} of {at['n_true']} true nuclei" in text
    cards = [card for card in page.all("article") if card.all("div", "kind-head")]
    kinds = [card.one("h3").text for card in cards]
    assert kinds == ["Missed", "Not real", "Merged", "Split", "Poorly outlined"]
    assert all(card.all("img") for card in cards)


def test_dots_tell_the_counts(tmp_path, metrics):
    page = _page(tmp_path, metrics)
    for card, side, good in zip(page.all("div", "hundred"), ("truth", "prediction"), ("recall", "precision")):
        dots = card.all("circle")
        assert len(dots) == 100
        share = metrics["matching"]["pooled"]["0.50"][good]
        assert abs(sum("yes" in dot.classes for dot in dots) - 100 * share) <= 1
        kinds = metrics["error_kinds"][side]
        lost = kinds["missed" if side == "truth" else "spurious"] / sum(kinds.values())
        assert abs(sum("no" in dot.classes for dot in dots) - 100 * lost) <= 1


def test_table_of_images_has_the_worst_first_and_their_pictures(tmp_path, found, metrics):
    page = _page(tmp_path, metrics, found.rows(), [_picture("image 3")])
    (section,) = [section for section in page.all("section") if section.attributes["id"] == "images"]
    rows = section.one("tbody").all("tr")
    names = [row.one("th").text for row in rows]
    assert sorted(names) == [f"image {k}" for k in range(6)]
    assert set(names[:3]) == {"image 1", "image 3", "image 5"}
    assert [bool(row.all("img")) for row in rows] == [name == "image 3" for name in names]
    heads = [head.text for head in section.one("thead").all("th")]
    assert heads[:5] == ["image", "", "stain", "true", "predicted"]
    cells = dict(zip(heads[1:], (cell.text for cell in rows[0].all("td"))))
    assert (cells["stain"], cells["true"], cells["missed"], cells["split"]) == ("HE", "20", "1", "1")


def test_section_is_there_only_if_its_figures_are(tmp_path, metrics):
    page = _page(tmp_path, _metrics(1, 2, 1))
    assert [heading.text for heading in page.all("h2")] == ["All figures"]
    whole = len(_page(tmp_path, metrics).all("h2"))
    for key in ("error_kinds", "by_size", "by_group", "curves"):
        without = {name: value for name, value in metrics.items() if name != key}
        left = _page(tmp_path, without).all("h2")
        # Without its own curve the page draws that of the matching's thresholds.
        assert len(left) == whole - (key != "curves")


def test_one_image_without_intervals(tmp_path):
    _, truth, prediction = _example()
    metrics = evaluate_pairs([Pair("only", truth, prediction)], class_names=("nucleus",)).metrics
    text = _page(tmp_path, metrics).one("main").text
    assert "not known" in text
    assert "Confidence intervals need two images or more" in text


def test_figures_that_are_not_defined(tmp_path):
    empty = Instances.empty(SIZE)
    found = evaluate_pairs([Pair("a", empty, empty), Pair("b", empty, empty)], bootstrap=Bootstrap(20))
    page = _page(tmp_path, found.metrics, found.rows())
    assert page.one("h1").text == "The truth holds no objects"


def test_classes(tmp_path):
    labels = _grid([1, 2, 3, 4])
    two = [Instances.from_labels(labels, class_names=("cell", "<b>")) for _ in range(2)]
    objects = [
        Instances(one.shape, one.windows, one.bits, one.offsets, one.boxes, np.array([1, 1, 2, 2]), one.scores, one.ids,
                  one.class_names)
        for one in two
    ]  # fmt: skip
    found = evaluate_pairs(
        [Pair(name, objects[0], objects[1]) for name in "ab"], class_names=("cell", "<b>"), bootstrap=Bootstrap(20)
    )
    page = _page(tmp_path, found.metrics)
    (section,) = [section for section in page.all("section") if section.attributes["id"] == "classes"]
    assert [row.one("th").text for row in section.one("tbody").all("tr")] == ["cell", "<b>"]


def test_annotators(tmp_path, metrics):
    _, truth, prediction = _example()
    agreement = Agreement("model", ["Ann", "Ben"])
    for name in "ab":
        agreement.add(name, {"model": prediction, "Ann": truth, "Ben": truth})
    summary = agreement.summary(Bootstrap(20))
    page = _page(tmp_path, {**metrics, "annotators": summary})
    (section,) = [section for section in page.all("section") if section.attributes["id"] == "annotators"]
    rows = [row.one("th").text for row in section.one("tbody").all("tr")]
    assert rows == ["Ann and model", "Ben and model", "Ann and Ben"]
    assert "People agree with each other at an F1 of 1.000" in section.text
    assert "less well" in section.text


# Pictures


def test_layers_of_a_large_picture(tmp_path, metrics):
    page = _page(tmp_path, metrics, (), [_picture()])
    figure = page.one("figure", "layered")
    base, truth, prediction, errors = (picture_of(image) for image in figure.all("img"))
    scale = base.shape[0] // SIZE[0]
    assert base.shape == (SIZE[0] * scale, SIZE[1] * scale, 4)
    assert truth.shape == prediction.shape == errors.shape == base.shape
    keys = [label.text for label in figure.all("label")]
    assert keys == ["Image only", "Truth", "Prediction", "Errors"]
    shown = [
        image.attributes["data-layer"]
        for image in figure.all("img")
        if "layer" in image.classes and "hidden" not in image.attributes
    ]
    assert shown == ["errors"]

    def at(layer, y, x):
        return layer[int((y + 0.5) * scale), int((x + 0.5) * scale)].tolist()

    # In the middle of the missed object (20), of the one that is not real, and of a hit.
    assert at(errors, 42, 56)[:3] == list(KIND_COLOURS["missed"])
    assert at(errors, 74, 95)[:3] == list(KIND_COLOURS["spurious"])
    assert at(errors, 10, 120)[3] == 0
    assert at(truth, 42, 56)[3] == 0
    # The missed object has an outline in the truth, none in the prediction.
    window = np.s_[36 * scale : 48 * scale, 50 * scale : 62 * scale]
    assert (truth[window][..., 3] == 255).any()
    assert not (prediction[window][..., 3] == 255).any()
    assert at(base, 42, 56)[0] > at(base, 42, 48)[0] + 50


def test_window_shows_a_part(tmp_path, metrics):
    picture = _picture(window=(32, 48, 52, 64))
    page = _page(tmp_path, metrics, (), [picture])
    assert picture_of(page.one("figure", "layered").all("img")[0]).shape == (80, 64, 4)
    assert "shown: y 32 to 52, x 48 to 64" in page.one("ul", "chips").text
    part = picture.cut_to_window()
    assert part.truth.shape == (20, 16)
    assert part.image.shape == (20, 16)
    assert part.truth.ids.tolist() == [20]
    assert part.truth_kinds.tolist() == [4]
    assert len(part.prediction) == len(part.prediction_kinds) == 0


def test_close_views_show_every_kind():
    pictures = [_picture("a"), _picture("b", image=False)]
    for kind, told in (("missed", "missed, 144 px"), ("spurious", "not real, 100 px"), ("merged", "2 taken for one"),
                       ("split", "cut into 2"), ("poor", "overlap 0.33, 144 px")):  # fmt: skip
        views = close_views(pictures, kind, PictureBudget())
        assert len(views) == 2, kind
        assert told in views[0], kind
        assert ">a<" in views[0]
        assert ">b<" in views[1]
    assert close_views(pictures, "missed", PictureBudget(100)) == []
    assert len(close_views(pictures, "missed", PictureBudget(), most=1)) == 1


def test_merged_objects_are_shown_where_what_swallowed_them_is_a_hit():
    # As a missed organelle inside of a cell that is found.
    labels = np.zeros(SIZE, np.int32)
    labels[10:70, 10:70] = 1
    cell = Instances.from_labels(labels)
    labels[30:40, 30:40] = 2
    picture = EvaluationPicture("a", None, Instances.from_labels(labels), cell, np.array([0, 3]), np.array([0]))
    assert picture.truth_names[3] == "merged"
    (view,) = close_views([picture], "merged", PictureBudget())
    assert "merged, 100 px" in view


def test_classes_without_objects_have_no_figures_and_notices_are_sentences(tmp_path, metrics):
    at = {"tp": 0, "recall": 0.0, "precision": 0.0, "f1": 0.0, "mean_matched_iou": 0.0, "accuracy": 0.0}
    none = {"n_true": 0, "n_pred": 0, "matching": {"pooled": {"0.50": at}}}
    some = {"n_true": 4, "n_pred": 0, "matching": {"pooled": {"0.50": at}}}
    page = _page(tmp_path, {**metrics, "classes": {"a": some, "b": none}, "notices": ["mind this"]}, [], [])
    rows = [[cell.text for cell in row.children] for row in page.all("tr")]
    assert {row[0]: row[3:] for row in rows if row[0] in ("a", "b")} == {"a": ["0.000"] * 5, "b": ["–"] * 5}
    said = [part.text for part in page.all("p")]
    assert "Mind this." in said
    assert any("whatever its class" in text for text in said)


def test_close_views_are_of_several_images_and_not_of_one_place_twice():
    labels = _grid(range(1, 40))
    truth = Instances.from_labels(labels)
    pictures = [
        EvaluationPicture(str(k), None, truth, Instances.empty(SIZE), np.full(len(truth), 4), np.zeros(0, int))
        for k in range(4)
    ]
    views = close_views(pictures, "missed", PictureBudget())
    names = [view.split('class="name">')[1].split("<")[0] for view in views]
    assert len(names) == 6
    assert max(names.count(name) for name in names) == 2
    # Where there is one image only, all are of this.
    assert len(close_views(pictures[:1], "missed", PictureBudget())) == 6


def test_picture_of_another_size_than_its_objects():
    _, truth, prediction = _example()
    with pytest.raises(LabelError, match="differ in size"):
        EvaluationPicture(
            "a", Image.from_array(np.zeros((5, 5), np.uint8)), truth, prediction, np.zeros(20), np.zeros(20)
        )


def test_page_of_large_images_stays_small(tmp_path, metrics):
    rng = np.random.default_rng(0)
    labels = np.kron(np.arange(1, 1601).reshape(40, 40), np.pad(np.ones((24, 24), int), 3))
    truth = Instances.from_labels(labels)
    image = Image.from_array(rng.integers(0, 255, (*labels.shape, 3), np.uint8))
    kinds = rng.integers(0, 5, len(truth))
    pictures = [EvaluationPicture(f"i{k}", image, truth, truth, kinds, kinds, {}) for k in range(12)]
    page = _page(tmp_path, metrics, (), pictures)
    figures = page.all("figure", "layered")
    assert 4 <= len(figures) < 12
    assert all(len(figure.all("img")) == 4 for figure in figures)
    assert page.all("div", "small"), "there is room for close views, too"
    assert "left out, to keep this page small" in page.one("main").text


@pytest.mark.parametrize("nasty", NASTY)
def test_names_from_files_stay_text(tmp_path, nasty):
    _, truth, prediction = _example()
    pairs = [Pair(f"{nasty}{k}", truth, prediction, {nasty: nasty + str(k % 2), "b": nasty}) for k in range(4)]
    found = evaluate_pairs(pairs, class_names=(nasty,), bootstrap=Bootstrap(20))
    metrics = {**found.metrics, "notices": [nasty], "predictions": nasty, "truth": nasty, "split": nasty}
    picture = _picture(f"{nasty}1")
    page = _page(tmp_path, metrics, found.rows(), [picture])
    assert len(page.all("script")) == 1
    assert len(page.all("h1")) == 1
    assert {image.attributes["src"][:11] for image in page.all("img")} <= {"data:image/"}
