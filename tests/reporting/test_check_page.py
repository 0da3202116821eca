"""The page of a data check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytomask.data.check.finding import CheckReport, Finding
from cytomask.data.check.kinds import TITLES, finding
from cytomask.reporting.check_page import write_check_page

from .page_reader import NASTY, picture_of, read_page

STATISTICS = {
    "images": {"all": 664, "train": 532, "val": 132},
    "objects": {"all": 28_986, "train": 20_000, "val": 8_986},
    "classes": {
        "nucleus": {"all": 28_000, "train": 19_500, "val": 8_500},
        "cell": {"all": 986, "train": 500, "val": 486},
    },
    "objects_per_image": {"min": 1, "median": 27.0, "max": 375},
    "diameter": {"p5": 7.2, "p50": 19.6, "p95": 48.6, "edges": [0.0, 10.0, 20.0], "counts": [3, 7]},
    "dtypes": {"uint8": 664},
    "shapes": {f"{n} x {n}": n for n in range(1, 15)},
    "how_split": "drawn",
}  # fmt: skip


def _report(*findings, statistics=STATISTICS, kinds=TITLES):
    return CheckReport("set", Path("/data/set"), findings, kinds, statistics)


def _page(path, report, pictures=lambda finding: None, **more):
    write_check_page(path / "check.html", report, pictures, **more)
    return read_page(path / "check.html")


def _specks(image, value=1.0, **more):
    return finding("specks", "2 objects of at most 3 px", image=image, value=value, **more)


def _mismatch(image):
    return finding("size-mismatch", "the labels are smaller", image=image, file=Path(f"labels/{image}.png"))


@pytest.mark.parametrize(
    ("findings", "heading", "lead"),
    [
        ([], "Nothing wrong in 664 images", "Training can start."),
        ([finding("crowded", "m")], "Nothing wrong in 664 images", "There is 1 note."),
        ([_specks("a")], "No errors, 1 warning in 664 images", "Look at the warnings first"),
        (
            [_mismatch("a"), _mismatch("b"), _mismatch("b"), _specks("a")],
            "3 errors and 1 warning in 664 images",
            "wrong on 2 images. Mend the errors",
        ),
        ([_mismatch("a")], "1 error in 664 images", "wrong on 1 image. Mend the errors"),
    ],
)
def test_verdict(tmp_path, findings, heading, lead):
    page = _page(tmp_path, _report(*findings))
    assert page.one("h1").text == heading
    assert lead in page.one("p", "lead").text


def test_groups_come_gravest_first_with_what_to_do(tmp_path):
    page = _page(tmp_path, _report(_specks("a"), _specks("b"), _mismatch("c")))
    groups = page.all("article", "finding")
    titles = ["Labels of another size than their image", "Specks: objects of a few pixels"]
    assert [group.one("h3").text for group in groups] == titles
    assert [group.one("span", "badge").text for group in groups] == ["error", "warning"]
    assert "Export the labels at the image's size; do not stretch them by hand." in groups[0].text
    assert "cytomask check --fix drops them." in groups[1].text
    assert "--fix" not in groups[0].text
    assert groups[1].one("span", "count").text == "2 findings"
    # What was not found is said to be fine; what was found is not.
    fine = {item.text for item in page.one("ul", "fine-list").all("li")}
    assert fine == set(TITLES.values()) - {TITLES["specks"], TITLES["size-mismatch"]}


def test_list_names_files_ids_and_places(tmp_path):
    one = _specks("deep/a", split="train", objects=range(1, 20), window=(1, 2, 30, 40), file=Path("/labels/a.png"))
    odd = finding("specks", "unlike others", image="b", todo="something else")
    items = _page(tmp_path, _report(one, _specks("c"), odd)).one("article", "finding").all("li")
    item, other = (next(i for i in items if i.one("bdi").text == name) for name in ("deep/a", "b"))
    assert item.attributes["title"] == "/labels/a.png"
    assert "deep/a" in item.text
    assert "ids 1, 2, 3, 4, 5, 6, 7, 8 …; at y 1 to 30, x 2 to 40 (train)" in item.text
    assert "To do: something else." in other.text


def test_worst_of_a_kind_have_pictures(tmp_path):
    asked = []

    def pictures(finding):
        asked.append(finding.image)
        if finding.image == "i9":
            return None
        return np.full((30, 40, 3), (255, int(finding.value), 0), np.uint8)

    findings = [_specks(f"i{n}", float(n)) for n in range(10)]
    page = _page(tmp_path, _report(*findings), pictures, max_pictures_per_kind=3)
    assert asked == ["i9", "i8", "i7", "i6"]
    images = page.one("div", "gallery").all("img")
    assert [picture_of(image)[0, 0].tolist() for image in images] == [[255, n, 0, 255] for n in (8, 7, 6)]
    assert [(i.attributes["height"], i.attributes["width"]) for i in images] == [("30", "40")] * 3
    assert images[0].attributes["alt"] == "specks: objects of a few pixels in i8"


def test_long_lists_are_folded_and_bounded(tmp_path):
    findings = [_specks(f"i{n:04}", -float(n)) for n in range(1000)]
    group = _page(tmp_path, _report(*findings)).one("article", "finding")
    assert group.one("summary").text == "995 more"
    assert [item.one("bdi").text for item in group.all("li")] == [f"i{n:04}" for n in range(400)]
    assert "600 more: check.json lists all" in group.text


def test_large_pictures_are_shrunk_and_the_page_stays_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    findings = [
        Finding(f"kind {k}", "warning", "m", "t", image=f"i{n}", value=float(n)) for k in range(12) for n in range(6)
    ]
    page = _page(tmp_path, _report(*findings, kinds={f"kind {k}": f"kind {k}" for k in range(12)}), lambda f: noise)
    images = page.all("img")
    assert picture_of(images[0]).shape == (498, 640, 4)
    assert 10 < len(images) < 72
    assert "left out, to keep this page small" in page.one("main").text


def test_overview_of_the_data(tmp_path):
    text = _page(tmp_path, _report()).one("main").text
    for told in (
        "train53220,000",
        "together66428,986",
        "nucleus19,5008,50028,000",
        "Objects in an image: 1 to 375",
        "half of them below 19.6 px",
        "5 % below 7.2 px, 95 % below 48.6 px",
        "and 2 more",
        "drawn",
    ):
        assert told in text, told


@pytest.mark.parametrize(
    "statistics",
    [
        {},
        {"images": {"all": 0}, "objects": {"all": 0}, "classes": {}, "objects_per_image": {}, "diameter": {}},
        {"images": 3, "objects": 1, "diameter": {"p50": 3.0, "edges": [1, 2], "counts": [1]}, "shapes": ["a"]},
    ],
)
def test_little_is_known(tmp_path, statistics):
    page = _page(tmp_path, _report(_specks("a"), statistics=statistics))
    assert "warning" in page.one("h1").text


@pytest.mark.parametrize("nasty", NASTY)
def test_names_from_files_stay_text(tmp_path, nasty):
    def pictures(_):
        return np.zeros((5, 5, 3), np.uint8)

    kinds = {nasty: nasty, "b": "b"}
    one = Finding(nasty, "error", nasty, nasty, nasty, Path(nasty.replace("\0", "")), nasty, fix=nasty)
    statistics = {
        "images": {"all": 2, nasty: 2},
        "objects": {"all": 2, nasty: 2},
        "classes": {nasty: {"all": 1, nasty: 1}, "b": {}},
        "channels": {nasty: 1},
        "shapes": {nasty: 2},
        "dtypes": {nasty: 2},
        "pixel_size": {nasty: 2},
        "how_split": nasty,
    }
    report = CheckReport(nasty, Path(nasty.replace("\0", "")), (one,), kinds, statistics)
    page = _page(tmp_path, report, pictures)
    assert len(page.all("script")) == 1
    assert len(page.all("img")) == 1
    assert len(page.all("h1")) == 1
