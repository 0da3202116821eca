"""The report of a run: what it says, that it keeps to itself, and that it does with what there is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cytomask.errors import DataError
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.metrics import evaluate_pairs
from cytomask.reporting.run_facts import RunFacts, StagePicture
from cytomask.reporting.run_page import write_run_page
from cytomask.reporting.run_words import verdict
from cytomask.workflows.report import write_report
from cytomask.workflows.stages.pictures import write_list, write_photo

from .page_reader import NASTY, Node, read_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DATA = {
    "name": "spots", "path": "data/spots", "fingerprint": "ab" * 32, "licence": "CC0", "classes": ["nucleus"],
    "how_split": "column 'split'", "images": 30, "objects": 300,
    "splits": [
        {"name": name, "role": role, "images": n, "objects": 10 * n, "objects_per_class": {"nucleus": 10 * n},
         "empty_images": 1, "groups": {"stain": {"DAPI": n - 2, "HE": 2}, "height": {"64": n}}}
        for name, role, n in (("train", "train", 20), ("val", "validation", 4), ("test", "test", 6))
    ],
    "sizes": {"diameter_p5": 4.0, "diameter_p50": 9.5, "diameter_p95": 20.0},
    "pixel_sizes": [{"pixel_size": [0.5, 0.5], "images": 30}], "channels": [{"names": ["DAPI"], "images": 30}],
    "image_sizes": {"smallest": [64, 64], "middle": [64, 64], "largest": [64, 96]},
}  # fmt: skip


def squares(places: list[int]) -> np.ndarray:
    """Squares of 8 pixels on a grid of eight by eight places."""
    labels = np.zeros((96, 96), np.int32)
    for k, place in enumerate(places, start=1):
        y, x = 2 + place // 8 * 12, 2 + place % 8 * 12
        labels[y : y + 8, x : x + 8] = k
    return labels


def evaluated(missed: dict[str, int], n: int = 12) -> dict[str, object]:
    """Metrics of images of two stains; of 40 squares in each image so many are not found."""
    pairs = []
    for k in range(n):
        stain = "HE" if k % 3 == 0 else "DAPI"
        pairs.append(Pair(f"i{k}", squares(list(range(40))), squares(list(range(missed[stain], 40))), {"stain": stain}))
    return evaluate_pairs(pairs, class_names=("nucleus",), bootstrap=Bootstrap(50)).metrics


@pytest.fixture(scope="module")
def good() -> dict[str, object]:
    return evaluated({"HE": 1, "DAPI": 1})


def told(facts: RunFacts) -> tuple[str, str]:
    grade, said = verdict(facts)
    return grade, " ".join(str(sentence) for sentence in said)


def test_what_the_verdict_rests_on(good: dict[str, object]) -> None:
    def facts(metrics: dict[str, object], held: float | None = None) -> RunFacts:
        model = {} if held is None else {"metrics": {"tuning": {"mean_accuracy_50_90": held}}}
        return RunFacts("spots", Path("runs/spots"), metrics=metrics, data=DATA, model=model)

    assert good["mean_accuracy_50_90"] == pytest.approx(0.975)
    grade, said = told(facts(good, 0.96))
    assert grade == "fine"
    assert "Test and validation agree" in said
    assert "Counts come out right: 468 for 480 nuclei." in said
    grade, said = told(facts(good, 0.99))
    assert (grade, "agree" in said) == ("fine", True)
    grade, said = told(facts(evaluated({"HE": 8, "DAPI": 8}), 0.95))
    assert grade == "warning"
    assert "less well on test images" in said
    assert "Counts come out 20 % too low: 384 for 480 nuclei." in said
    grade, said = told(facts(evaluated({"HE": 24, "DAPI": 0})))
    assert grade == "warning"
    assert "far worse where stain is <bdi>HE</bdi>: F1 0.57 (4 images)" in said
    grade, said = told(facts({**good, "notices": ["OPTIMISTIC: tuned on these"]}, 0.5))
    assert grade == "error"
    assert said.startswith("<strong>These figures are too good.</strong> Tuned on these.")
    assert "validation agree" not in said
    grade, said = told(facts(evaluated({"HE": 30, "DAPI": 30})))
    assert grade == "error"
    assert said.startswith("<strong>No.</strong> It misses or gets wrong more than it gets right (F1 0.40).")
    grade, said = told(facts(evaluated({"HE": 40, "DAPI": 40}), 0.0))
    assert grade == "error"
    assert said.startswith("<strong>No.</strong> It finds none of the nuclei.")
    assert "agree" not in said
    grade, said = told(RunFacts("spots", Path()))
    assert "Nothing is known of how good" in said


def run_folder(folder: Path, metrics: dict[str, object], name: str = "spots", group: str = "stain") -> Path:
    """All that a run leaves, made by hand."""
    for part in ("data/examples", "train", "bundle", "evaluation/pictures", "pictures", "predictions"):
        (folder / part).mkdir(parents=True)
    experiment = {"name": "spots", "description": name, "model": {"family": "star"}, "report": {"pictures": 2}}
    (folder / "experiment.yaml").write_text(json.dumps(experiment))
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    example = write_photo(folder / "data/examples", "01", picture)
    content = {**DATA, "name": name, "examples": [{"name": name, "file": f"examples/{example}"}]}
    (folder / "data/data.json").write_text(json.dumps(content))
    rows = [
        "epoch,step,learning_rate,train/loss,seconds,val/score",
        "0,10,0.001,2.0,1.5,0.3",
        "1,20,0.0005,1.0,1.4,0.5",
    ]
    (folder / "train/metrics.csv").write_text("\n".join(rows) + "\n")
    record = {"cytomask": "0.1.0", "python": "3.11.7", "torch": "2.9", "minutes": 3.5, "best_score": 0.5,
              "best_epoch": 2, "epochs": 2, "seed": 7}  # fmt: skip
    (folder / "train/run.yaml").write_text(json.dumps(record))
    model = {"family": "star", "postprocess": {"score_threshold": 0.6}, "weights_sha256": "c" * 64,
             "training": {"command": f"cytomask train '{name}'", "hardware": "x86_64"}}  # fmt: skip
    (folder / "bundle/model.yaml").write_text(json.dumps(model))
    tried = [{"score_threshold": t, "nms": "hard", "mean_accuracy_50_90": t / 2} for t in (0.4, 0.5, 0.6)]
    tuning = {"tuned": True, "split": "val", "images": 4, "metric": "accuracy", "before": {"score_threshold": 0.5},
              "after": {"score_threshold": 0.6}, "score_before": 0.25, "score_after": 0.3, "tried": tried}  # fmt: skip
    (folder / "tuning.json").write_text(json.dumps(tuning))
    (folder / "evaluation/metrics.json").write_text(json.dumps({**metrics, "split": "test"}))
    (folder / "evaluation/per_image.csv").write_text(f'name,n_true,n_pred,f1_50\n"a{group}",5,4,0.89\nb,5,5,\n')
    side = {"n": 20, "counts": [12, 8], "quartiles": [1.0, 2.0, 3.0]}
    other = {"n": 20, "counts": [10, 10], "quartiles": [1.0, 2.5, 3.0]}
    classes = {name: {"edges": [1.0, 2.0, 4.0], "true": side, "predicted": other}}
    measured = {"properties": [{"name": "area", "unit": "µm²", "logarithmic": True, "classes": classes}]}
    (folder / "evaluation/measurements.json").write_text(json.dumps(measured))
    places = folder / "evaluation/pictures"
    listed = []
    for group_of in ("worst", "best"):
        black = np.zeros((40, 60, 3), np.uint8)
        layers = [
            (key, key.title(), write_photo(places, f"{group_of}_{key}", black))
            for key in ("truth", "prediction", "errors")
        ]
        file, ground = (write_photo(places, f"{group_of}{end}", picture) for end in ("", "_image"))
        counts = {"true": 5, "hit": 4, "missed": 1}
        listed.append(StagePicture(name, group_of, file, 40, 60, "", ground, tuple(layers), {"f1": 0.9}, counts))
    write_list(places, listed)
    chosen = write_photo(folder / "pictures", "image_01", picture)
    write_list(folder / "pictures", [StagePicture(name, "chosen", chosen, 40, 60, "image, 4 predicted objects")])
    done = {"format": 1, "stages": {"train": {"status": "done", "minutes": 3.5, "version": "0.1.0", "said": [name]}}}
    (folder / "stages.json").write_text(json.dumps(done))
    predicted = {"cytomask": "0.1.0", "numpy": "2.4", "platform": "Linux", "device": "cpu", "precision": "float32",
                 "command": ["/somewhere/bin/cytomask", "predict", name], "thresholds": {}}  # fmt: skip
    (folder / "predictions/run.json").write_text(json.dumps(predicted))
    return folder


def section(page: Node, name: str) -> Node:
    return next(node for node in page.all("section") if node.attributes["id"] == name)


def test_everything_that_a_run_left_is_told(tmp_path: Path, good: dict[str, object]) -> None:
    target = write_report(run_folder(tmp_path / "run", good))
    assert target == tmp_path / "run/report.html"
    page = read_page(target)
    assert page.one("h1").text == "spots finds 98 of 100 nuclei"
    assert "trained for 2 epochs on 20 images with 200 annotated nuclei" in page.one("p", "lead").text
    assert "On 12 images that it has never seen it finds 98 % of the nuclei" in page.one("p", "lead").text
    names = [node.attributes["id"] for node in page.all("section")]
    assert names == ["data", "training", "settings", "errors", "worst", "best", "curves", "sizes", "groups",
                     "integrated", "measurements", "pictures", "images", "figures", "repeat"]  # fmt: skip
    data = section(page, "data").text
    for part in ("CC0", "ab" * 32, "64 × 64 to 64 × 96 px", "0.5 µm (30 images)", "half are smaller than"):
        assert part in data
    assert "stain" in data, "kinds of images"
    assert "height" not in [node.text for node in section(page, "data").all("th")], "a size is no kind"
    assert {n.one("figcaption").text for n in section(page, "training").all("figure", "chart")} >= {"Loss"}
    settings = section(page, "settings").text
    assert "3 settings were tried; the score (accuracy) went from 0.250 to 0.300" in settings
    assert len(section(page, "worst").all("img")) == len(section(page, "best").all("img")) == 4
    assert "+25.0 %" in section(page, "measurements").text
    assert "mean over stain" in section(page, "integrated").text
    repeat = section(page, "repeat").text
    for part in ("cytomask run spots.yaml", "cytomask predict spots", "x86_64", "c" * 64, "family"):
        assert part in repeat
    assert [c.text for c in section(page, "images").all("th") if c.attributes.get("scope") == "row"] == ["astain", "b"]


@pytest.mark.parametrize(("split", "words"), [("val", "chosen and tuned, it finds"), ("train", "trained it finds")])
def test_figures_that_are_too_good_come_after_the_warning(
    split: str, words: str, tmp_path: Path, good: dict[str, object]
) -> None:
    metrics = {**good, "split": split, "notices": ["OPTIMISTIC: not a test", "one more thing"]}
    write_run_page(tmp_path / "page.html", RunFacts("spots", tmp_path, metrics=metrics))
    page = read_page(tmp_path / "page.html")
    assert words in page.one("p", "lead").text
    box = page.one("div", "verdict")
    assert "error" in box.classes
    assert "Not a test." in box.text
    assert "One more thing." in box.text
    nodes = page.walk()
    assert nodes.index(box) < nodes.index(page.all("div", "tile")[0])


@pytest.mark.parametrize("nasty", NASTY)
def test_no_text_of_a_run_becomes_markup(nasty: str, tmp_path: Path, good: dict[str, object]) -> None:
    folder = run_folder(tmp_path / "run", good, nasty.encode("utf-8", "replace").decode())
    page = read_page(write_report(folder, tmp_path / "page.html"))
    assert not [node for node in page.walk() if node.attributes.get("src") == "x"]
    assert len(page.all("script")) == 1


def test_parts_that_are_not_there_are_left_out_or_told(tmp_path: Path, good: dict[str, object]) -> None:
    whole = run_folder(tmp_path / "run", good)
    for part in ("data", "train", "bundle", "evaluation", "pictures", "predictions", "tuning.json", "stages.json",
                 "experiment.yaml", "evaluation/measurements.json", "evaluation/pictures/pictures.json"):  # fmt: skip
        folder = tmp_path / part.replace("/", "-")
        shutil.copytree(whole, folder)
        gone = folder / part
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        page = read_page(write_report(folder))
        assert section(page, "repeat")
    page = read_page(tmp_path / "evaluation/report.html")
    assert "It was not evaluated." in page.one("div", "verdict").text
    assert "0.500" in page.one("div", "tile").text, "the validation score is known"
    assert "metrics.csv" in section(read_page(tmp_path / "train/report.html"), "training").text


def test_a_plain_training_gets_what_there_is(tmp_path: Path, good: dict[str, object]) -> None:
    whole = run_folder(tmp_path / "run", good)
    shutil.copytree(whole / "train", tmp_path / "plain")
    shutil.copytree(whole / "bundle", tmp_path / "plain/bundle")
    page = read_page(write_report(tmp_path / "plain"))
    assert [node.attributes["id"] for node in page.all("section")] == ["data", "training", "settings", "repeat"]
    assert "cytomask run" in page.one("div", "verdict").text


@pytest.mark.parametrize("broken", ["data/data.json", "evaluation/metrics.json", "bundle/model.yaml", "train/run.yaml",
                                    "evaluation/pictures/pictures.json", "stages.json", "tuning.json"])  # fmt: skip
@pytest.mark.parametrize("content", ["{", "[1, 2]", '"text"', "{}", "\x00"])
def test_broken_files_are_left_out(broken: str, content: str, tmp_path: Path, good: dict[str, object]) -> None:
    folder = run_folder(tmp_path / "run", good)
    (folder / broken).write_text(content)
    assert section(read_page(write_report(folder)), "repeat")


def test_pictures_outside_the_folder_are_not_shown(tmp_path: Path, good: dict[str, object]) -> None:
    folder = run_folder(tmp_path / "run", good)
    write_photo(tmp_path, "secret", np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    write_list(folder / "pictures", [StagePicture("x", "chosen", "../../secret.jpg", 40, 60)])
    page = read_page(write_report(folder))
    assert "pictures" not in [node.attributes["id"] for node in page.all("section")]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such run"):
        write_report(tmp_path / "none")
    with pytest.raises(DataError, match="not that of a run"):
        write_report(tmp_path)


def test_many_large_pictures_are_left_out_and_counted(tmp_path: Path, good: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (700, 800, 3), np.uint8)
    listed = [
        (tmp_path, StagePicture(f"p{k}", "chosen", write_photo(tmp_path, f"p{k}", noise), 700, 800)) for k in range(8)
    ]
    write_run_page(tmp_path / "page.html", RunFacts("spots", tmp_path, metrics=good, pictures=listed))
    page = read_page(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 5_000_000
    shown = len(section(page, "pictures").all("img"))
    assert 0 < shown < 8
    assert f"{8 - shown} pictures left out, to keep this page small." in section(page, "pictures").text


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium to open the page with")
def test_a_browser_asks_nobody_for_anything(tmp_path: Path, good: dict[str, object]) -> None:
    sync = pytest.importorskip("playwright.sync_api")
    target = write_report(run_folder(tmp_path / "run", good))
    asked, wrong = [], []
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(target.as_uri())
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, (
            "a phone shows it without sideways scrolling"
        )
        assert all(page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)"))
        for one in page.query_selector_all("details > summary"):
            one.click()
        page.query_selector("#worst .zoom").click()  # type: ignore[union-attr]
        assert page.query_selector("dialog[open]") is not None
        browser.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:")] == [target.as_uri()]
