"""Curves, plots and pages of trainings' logs: what they show is what was recorded."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cytomask.cli.app import app
from cytomask.errors import DataError
from cytomask.formats.training_logs import TrainingLog, read_training_log
from cytomask.reporting.log_chart import Curve, log_chart, running_mean
from cytomask.reporting.log_curves import compared_charts, distinct_names, log_charts
from cytomask.reporting.log_page import write_compared_page, write_log_page
from cytomask.workflows.report_logs import report_logs

from ..formats.training_log_examples import write_cascade_log, write_metrics_json, write_run


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    write_cascade_log(folder / "cascade.log", steps=1100)
    (folder / "mask").mkdir()
    write_metrics_json(folder / "mask" / "metrics.json")
    write_run(folder / "nuclei" / "train")
    return folder


def told(drawing: str) -> list[str]:
    return re.findall(r"<title>([^<]*)</title>", drawing)


def points(drawing: str, style: str) -> list[list[tuple[float, float]]]:
    found = re.findall(rf'<polyline points="([^"]*)" class="{style} s\d"', drawing)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in found]  # type: ignore[misc]


def test_points_lie_where_their_numbers_say() -> None:
    drawing = log_chart([Curve("a", [10, 20, 30], [0.0, 1.0, 2.0])], title="t", y_label="y")
    ((first, middle, last),) = points(drawing, "line")
    assert first[0] < middle[0] < last[0]
    assert middle[0] == pytest.approx((first[0] + last[0]) / 2, abs=0.1)
    assert middle[1] == pytest.approx((first[1] + last[1]) / 2, abs=0.1)
    assert first[1] > last[1]  # upwards
    assert told(drawing) == ["step 10: 0", "step 20: 1", "step 30: 2"]


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    drawing = log_chart([Curve("a", [1, 2, 3], [1e-4, 1e-2, 1.0])], title="t", y_label="y", logarithmic=True)
    ((_, a), (_, b), (_, c)) = points(drawing, "line")[0]
    assert a - b == pytest.approx(b - c, abs=0.2)
    # There is no logarithm of 0: the axis is linear then.
    drawing = log_chart([Curve("a", [1, 2, 3], [0.0, 1.0, 2.0])], title="t", y_label="y", logarithmic=True)
    ((_, a), (_, b), (_, c)) = points(drawing, "line")[0]
    assert a - b == pytest.approx(b - c, abs=0.2)


def test_many_points_keep_their_spikes_beneath_a_running_mean() -> None:
    values = np.ones(20_000)
    values[12_345] = 9.0
    drawing = log_chart([Curve("a", list(range(20_000)), values.tolist())], title="t", y_label="y")
    (raw,), (bold,) = points(drawing, "raw"), points(drawing, "line")
    assert len(raw) <= 700
    assert min(y for _, y in raw) < 60 < min(y for _, y in bold)


def test_the_running_mean_keeps_a_straight_line() -> None:
    line = np.linspace(3, 7, 500)
    assert running_mean(line) == pytest.approx(line)
    assert len(running_mean(np.array([2.0]))) == 1


@pytest.mark.parametrize(
    "curves",
    [
        [],
        [Curve("a", [], [])],
        [Curve("a", [5], [1.0])],
        [Curve("a", [1, 2], [np.nan, 3.0])],
        [Curve("a", [1, 2], [0.0, 0.0])],
    ],
)
def test_little_data_is_drawn_too(curves: list[Curve]) -> None:
    for logarithmic in (False, True):
        drawing = log_chart(curves, title="t", y_label="y", logarithmic=logarithmic)
        assert "nan" not in drawing
        assert drawing.startswith("<figure")


def test_the_charts_of_each_kind_of_log(logs: Path) -> None:
    cascade = [(c.name, c.title) for c in log_charts(read_training_log(logs / "cascade.log"))]
    assert cascade == [
        ("loss", "Loss"),
        ("terms", "Terms of the loss: classes"),
        ("terms", "Terms of the loss: boxes"),
        ("terms", "Terms of the loss: masks"),
        ("terms", "Terms of the loss: proposals"),
        ("precision", "Average precision: boxes"),
        ("precision", "Average precision: masks"),
        ("learning-rate", "Learning rate"),
        ("time", "Time for one iteration"),
        ("memory", "Memory"),
    ]
    run = {c.name: c.drawing for c in log_charts(read_training_log(logs / "nuclei"))}
    assert set(run) == {"loss", "terms", "validation", "learning-rate", "time", "memory"}
    assert 'class="mark"' in run["loss"]  # where the second phase begins
    # The learning rate spans four decades.
    assert ">1e-5</text>" in run["learning-rate"]


def test_what_logs_have_in_common(logs: Path) -> None:
    both = [read_training_log(logs / name) for name in ("cascade.log", "mask", "nuclei")]
    charts = {c.title: c.drawing for c in compared_charts(both)}
    assert list(charts) == [
        "Loss in training", "AP, masks", "AP50, masks", "Learning rate", "Time for one step", "Memory",
    ]  # fmt: skip
    assert len(points(charts["Loss in training"], "line")) == 3
    # A log keeps its colour where another one has nothing.
    assert re.findall(r'class="line (s\d)"', charts["Memory"]) == ["s1", "s2", "s3"]
    assert len(compared_charts(both * 4)) >= 6


def test_names_are_told_apart() -> None:
    logs = [TrainingLog("a", Path("x/a"), "cytomask")] * 2 + [TrainingLog("b", Path("b"), "cytomask")]
    assert len(set(distinct_names(logs))) == 3


def test_a_report_of_several_logs(logs: Path, tmp_path: Path) -> None:
    sources = [logs / "cascade.log", logs / "mask", logs / "nuclei"]
    result = report_logs(sources, tmp_path, command="cytomask report")
    assert {path.name for path in result.plots} == {
        *(f"cascade_{name}.png" for name in ("losses", "lr", "max_mem", "iteration_time")),
        *(f"cascade_{task}_AP_metrics.png" for task in ("bbox", "segm")),
        *(f"cascade_{task}_per_category_AP_iter_999.png" for task in ("bbox", "segm")),
        *(f"mask_{name}.png" for name in ("losses", "lr", "iteration_time", "segm_AP_metrics")),
        *(f"mask_segm_per_category_AP_iter_{at}.png" for at in (999, 1999)),
        *(f"nuclei_{name}.png" for name in ("losses", "lr", "max_mem", "iteration_time", "validation")),
    }
    with Image.open(tmp_path / "cascade" / "cascade_losses.png") as picture:
        assert picture.size == (1500, 1000)
        assert len(picture.convert("RGB").getcolors(2**20)) > 50
    page = (tmp_path / "cascade" / "training.html").read_text()
    assert "Best AP of masks" in page
    assert re.search(r"(?:src|href)=\"(?!#|data:)", page) is None
    assert result.compared is not None
    assert result.compared.is_file()
    assert result.lines()[-1].endswith("comparison.html")


def test_nothing_is_written_if_one_log_cannot_be_read(logs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        report_logs([logs / "mask", tmp_path / "none.log"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_page_says_what_was_odd(tmp_path: Path) -> None:
    log = TrainingLog("<b>odd</b>", Path("a"), "detectron2 log", earlier_runs=1, unread=2)
    for step, value in ((19, 2.0), (39, 1.0)):
        log.add("total_loss", "losses", step, value)
    log.go_back(39)
    log.add("total_loss", "losses", 39, 1.5)
    write_log_page(tmp_path / "a.html", log)
    page = (tmp_path / "a.html").read_text()
    assert "<b>odd</b>" not in page
    for words in ("1 earlier run", "went on at iteration 39", "2 lines could not be read"):
        assert words in page


def test_the_command(logs: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["report", str(logs / "mask" / "metrics.json"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "metrics" / "training.html").is_file()
    assert not (tmp_path / "out" / "comparison.html").exists()
    # The folder of one run gives the report of that run.
    run = tmp_path / "nuclei"
    shutil.copytree(logs / "nuclei" / "train", run)
    result = runner.invoke(app, ["report", str(run), "--out", str(tmp_path / "report.html")])
    assert result.exit_code == 0, result.output
    assert "Loss" in (tmp_path / "report.html").read_text()


def test_the_page_in_a_browser(logs: Path, tmp_path: Path) -> None:
    browser_path = shutil.which("chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    if browser_path is None:
        pytest.skip("there is no chromium here")
    page_path = tmp_path / "comparison.html"
    write_compared_page(page_path, [read_training_log(logs / name) for name in ("nuclei", "mask")])
    said: list[str] = []
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="dark")
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
        page.goto(page_path.as_uri())
        strip = page.locator("g:has(.guide) >> nth=5")
        strip.hover(force=True)
        page.wait_for_function("getComputedStyle(document.querySelectorAll('.guide')[5]).opacity === '1'")
        wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert said == []
    assert wide
