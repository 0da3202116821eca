"""The frame of pages: nothing gets in, nothing goes out, and it fits."""

from __future__ import annotations

import html
import importlib.resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytomask.errors import OutputError
from cytomask.reporting.figures_svg import (
    Interval,
    Line,
    bar_chart,
    histogram,
    interval_chart,
    line_chart,
)
from cytomask.reporting.markup import Html, element, escape, join
from cytomask.reporting.page import Section, write_page
from cytomask.reporting.page_pictures import PictureBudget, encode_layer, encode_photo, layered_figure, picture_figure
from cytomask.reporting.page_tables import Cell, Column, number_cell, table
from cytomask.reporting.parts_svg import hundred_dots, percent, shares_of_hundred, stacked_bar

from .page_reader import NASTY, read_page


def _page(path, body="", **changes):
    arguments = {
        "title": "T", "kicker": "k", "heading": "H", "lead": "L", "top": Html(""),
        "sections": [Section("one", "One", Html(body))], "command": "cytomask check x",
    }  # fmt: skip
    write_page(path, **{**arguments, **changes})
    return read_page(path)


# Markup


@given(st.text())
def test_printable_text_comes_back_from_markup(text):
    written = escape(text)
    assert not set(written) & set("<>\"'")
    if text.isprintable():
        assert html.unescape(written) == text
    written.encode("utf-8")
    assert all(c.isprintable() or c in "\n\t\u00a0" for c in written)


@pytest.mark.parametrize("nasty", NASTY)
def test_nothing_nasty_gets_into_a_page(tmp_path, nasty):
    body = join([
        nasty, element("p", nasty, title=nasty),
        table([Column(nasty, help=nasty)], [[Cell(nasty, nasty)]], caption=nasty),
        line_chart([Line(nasty, [0, 1], [0, 1]), Line("b", [0, 1], [1, 0])], title=nasty, x_label=nasty, y_label=nasty,
                   x_range=(0, 1)),
        bar_chart([nasty], [(nasty, [0.5])], title=nasty, x_label=nasty, y_label=nasty, notes=[nasty]),
        interval_chart([Interval(nasty, 0.5, 0.1, 0.9, nasty)], title=nasty, x_label=nasty),
        histogram([0, 1], [1], title=nasty, x_label=nasty, y_label=nasty),
        stacked_bar([(nasty, 1, "kind-hit")], title=nasty), hundred_dots([(nasty, 1.0, "yes")], title=nasty),
        picture_figure("data:image/png;base64,AA", (1, 1), nasty, nasty, group=nasty),
        layered_figure("data:image/png;base64,AA", [("a", nasty, "data:image/png;base64,AA")], (1, 1), nasty, name="x",
                       shown="a", group=nasty),
    ])  # fmt: skip
    page = _page(tmp_path / "a.html", body, title=nasty, heading=nasty, lead=nasty, kicker=nasty, command=nasty)
    # Read by a browser's rules, it is text again (or its spelling, where it cannot be shown), and no element more.
    assert page.one("h1").text == html.unescape(escape(nasty))
    assert page.one("thead").one("th").attributes["title"] == html.unescape(escape(nasty))
    plain = _page(tmp_path / "b.html", Html(body.replace(escape(nasty), "x")))
    tags = [node.tag for node in plain.walk()]
    assert [node.tag for node in page.walk()] == tags


@pytest.mark.parametrize(
    ("tag", "attributes"),
    [
        ("p", {"style": "color:red"}), ("p", {"onclick": "alert(1)"}), ("a", {"href": "https://x"}),
        ("a", {"href": "javascript:alert(1)"}), ("img", {"src": "a.png"}), ("img", {"src": "data:text/html,x"}),
    ],
)  # fmt: skip
def test_an_element_cannot_point_out_of_the_page(tag, attributes):
    with pytest.raises(ValueError, match=r"must not carry|points out of the page"):
        element(tag, **attributes)


def test_a_script_cannot_end_its_element():
    with pytest.raises(ValueError, match="would end"):
        element("script", "x = '</SCRIPT>'")


# The page


def test_page_is_whole_and_names_what_made_it(tmp_path):
    sections = [Section("one", "One", element("p", "1")), Section("two", "Two", element("p", "2"), "about two")]
    page = _page(tmp_path / "a.html", sections=sections, heading="A < B")
    assert [link.attributes["href"] for link in page.one("nav").all("a")] == ["#one", "#two"]
    assert page.one("h1").text == "A < B"
    assert "cytomask check x" in page.all("footer")[-1].text
    assert not list(tmp_path.glob("*.part*"))


def test_page_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        _page(tmp_path / "none" / "a.html")


@pytest.mark.parametrize(
    ("argv", "expected"), [(["/x/bin/cytomask", "check", "a b"], "cytomask check 'a b'"), (["pytest", "x"], None)]
)
def test_command_of_this_process(tmp_path, monkeypatch, argv, expected):
    monkeypatch.setattr("sys.argv", argv)
    footer = _page(tmp_path / "a.html", command=None).all("footer")[-1]
    assert [code.text for code in footer.all("code")] == ([expected] if expected else [])


def test_style_and_script_are_in_the_package():
    for name in ("page.css", "page.js"):
        assert importlib.resources.files("cytomask.reporting").joinpath(name).is_file()


# Pictures


def test_pictures_of_few_colours_keep_them_and_others_are_small():
    rng = np.random.default_rng(0)
    flat = np.zeros((40, 50, 3), np.uint8)
    flat[5:9] = (255, 0, 10)
    data, kind = encode_photo(flat)
    assert kind == "png"
    noise = rng.integers(0, 255, (300, 400, 3), np.uint8)
    data, kind = encode_photo(noise, 100)
    assert kind == "jpeg"
    assert len(data) < 30_000
    from io import BytesIO

    from PIL import Image as Pillow

    assert Pillow.open(BytesIO(data)).size == (100, 75)


def test_layer_keeps_colours_and_opacity():
    from io import BytesIO

    from PIL import Image as Pillow

    palette = np.array([(0, 0, 0, 0), (0, 0, 0, 140), (255, 40, 90, 255), (70, 190, 255, 66)], np.uint8)
    codes = np.random.default_rng(0).integers(0, 4, (30, 41)).astype(np.uint8)
    picture = Pillow.open(BytesIO(encode_layer(codes, palette)))
    assert np.array_equal(np.asarray(picture.convert("RGBA")), palette[codes])


def test_budget_is_kept_and_smaller_pictures_may_follow():
    budget = PictureBudget(10_000)
    assert budget.link(bytes(6000), "png") is not None
    assert budget.link(bytes(3000), "png") is None
    assert budget.link(bytes(1000), "png") is not None
    assert (budget.left_out, budget.used <= 10_000) == (1, True)


# Tables


def test_numbers_of_tables_sort_by_their_values():
    listing = table(
        [Column("a"), Column("n", number=True)],
        [[Cell("x"), number_cell(1234)], [Cell("y"), number_cell(float("nan"))], [Cell("z"), number_cell(0.123456)]],
        caption="c",
        searchable=True,
    )
    assert 'data-value="1234.0">1,234<' in listing
    assert 'data-value="">–<' in listing
    assert 'data-value="0.123456">0.123<' in listing
    assert number_cell(True).content == "–"


# Charts


def test_lines_run_where_the_numbers_are():
    chart = line_chart(
        [Line("a", [0.0, 0.5, 1.0], [0.0, 1.0, 0.5])], title="t", x_label="x", y_label="y", x_range=(0, 1)
    )
    # The plot reaches from (62, 254) to (464, 14).
    assert 'points="62,254 263,14 464,134"' in chart


def test_bands_and_gaps_of_lines():
    nan = float("nan")
    line = Line("a", [0.0, 0.5, 1.0], [0.2, None, 0.4], [0.1, nan, 0.3], [0.3, nan, 0.5])
    chart = line_chart([line], title="t", x_label="x", y_label="y", x_range=(0, 1))
    assert chart.count("<circle") == 4  # a dot and its surroundings, for each of two points
    assert "<title>a at 1: 0.4 (0.3 to 0.5)</title>" in chart
    (band,) = chart.split("<polygon")[1:]
    assert len(band.split('"')[1].split()) == 4


def test_bars_are_as_tall_as_their_counts():
    chart = histogram([0, 10, 20], [5, 10], title="t", x_label="x", y_label="y")
    heights = [float(part.split('height="')[1].split('"')[0]) for part in chart.split("<rect")[1:] if "bar s1" in part]
    assert heights[1] == pytest.approx(2 * heights[0])
    assert histogram([1, 10, 100], [0, 0], title="t", x_label="x", y_label="y", logarithmic=True)
    assert histogram([3, 3], [4], title="t", x_label="x", y_label="y")


def test_interval_chart_says_what_is_not_defined():
    chart = interval_chart([Interval("a", None), Interval("b" * 60, 0.5)], title="t", x_label="x")
    assert "not defined" in chart
    assert "b" * 23 + "…" in chart


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda v: sum(v) > 0))
def test_hundred_dots_are_a_hundred(values):
    parts = [value / sum(values) for value in values]
    counts = shares_of_hundred(parts)
    assert sum(counts) == 100
    assert all(count >= 1 for count, part in zip(counts, parts) if part > 1e-8)
    assert all(count == 0 for count, part in zip(counts, parts) if part == 0)
    assert shares_of_hundred([0.99, 0.01, 1 - 0.99 - 0.01]) == [99, 1, 0]
    assert all(abs(count - 100 * part) <= len(parts) for count, part in zip(counts, parts))


@given(st.floats(0, 1))
def test_percent_never_says_all_or_nothing_wrongly(part):
    said = percent(part)
    assert (said == "0 %") <= (part < 5e-5)
    assert (said == "100 %") <= (part > 1 - 5e-5)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6).filter(any))
def test_parts_of_a_bar_fill_it(counts):
    bar = stacked_bar([("a", count, "kind-hit") for count in counts], title="t")
    ends = [
        float(part.split('x="')[1].split('"')[0]) + float(part.split('width="')[1].split('"')[0])
        for part in bar.split("<rect")[1:]
    ]
    assert len(ends) == sum(count > 0 for count in counts)
    assert ends[-1] == pytest.approx(958, abs=0.3)
    assert ends == sorted(ends)
