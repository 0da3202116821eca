"""Shapes of SVG drawings: path data, curves, transforms, styles, sizes, and what is refused."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.errors import LabelError
from cytomask.formats.annotations.svg_paths import PathError, flatten, read_path
from cytomask.formats.annotations.svg_shapes import read_svg


def points(data: str) -> list[list[list[float]]]:
    return [flatten(part).tolist() for part in read_path(data)]


@pytest.mark.parametrize(
    ("data", "same"),
    [
        ("M1 2L3 4L5 0Z", "M 1,2 L 3,4 L 5,0 z"),
        ("M1 2 3 4 5 0z", "M1 2L3 4L5 0Z"),
        ("m1 2 2 2 2-4z", "M1 2L3 4L5 0Z"),
        ("M1 2h4v3H0V9z", "M1 2L5 2L5 5L0 5L0 9Z"),
        ("M1 2H5 7 9", "M1 2L5 2L7 2L9 2"),
        ("M1-2.5L.5.25-3e1 4E-1,+6-5", "M1 -2.5L.5 .25L-30 .4L6 -5"),
        ("M1 1l1 0 0 1zl0 5 5 0z", "M1 1L2 1L2 2ZM1 1L1 6L6 6Z"),
        ("M1 1l1 0 0 1zm3 3l1 0 0 1z", "M1 1L2 1L2 2ZM4 4L5 4L5 5Z"),
        ("M0 0c1 2 3 4 5 6s1-1 2 3", "M0 0C1 2 3 4 5 6C7 8 6 5 7 9"),
        ("M0 0S3 4 5 6", "M0 0C0 0 3 4 5 6"),
        ("M0 0Q3 3 6 0T12 0", "M0 0Q3 3 6 0Q9 -3 12 0"),
        ("M0 0q3 3 6 0t6 0 6 0", "M0 0Q3 3 6 0Q9 -3 12 0Q15 3 18 0"),
        ("M0 0T6 0", "M0 0Q0 0 6 0"),
        ("M0 0Q3 3 6 0L6 1T9 9", "M0 0Q3 3 6 0L6 1Q6 1 9 9"),
        ("M0 0Q3 3 6 3", "M0 0C2 2 4 3 6 3"),
        ("M0 0a5 5 0 0110 0", "M0 0A5,5,0,0,1,10,0"),
        ("M0 0a0 5 0 0 1 10 0", "M0 0L10 0"),
    ],
)  # fmt: skip
def test_ways_to_write_the_same_path(data, same):
    a, b = points(data), points(same)
    assert [len(part) for part in a] == [len(part) for part in b]
    for one, other in zip(a, b):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize(
    "data",
    ["L1 1", "M", "M1", "M1 1L2", "M1 1X2 2", "M1 1 2", "M1 1Z2 2", "M1 1C1 2 3 4 5", "M1 1A5 5 0 2 0 9 9", "M1e9 0",
     "M1 1l1e999 0", "M9e6 0l9e6 0", "M1 nan", "M1 1L\u0661 2"],
)  # fmt: skip
def test_broken_paths_are_refused(data):
    with pytest.raises(PathError):
        read_path(data)


def test_no_path_is_no_path():
    assert read_path("") == read_path("  ") == read_path("M1 1") == read_path("M1 1z") == []


@settings(deadline=None)
@given(st.text("MmLlHhVvCcSsQqTtAaZz0123456789.,-+e \n", max_size=40))
def test_any_text_is_a_path_or_refused(data):
    try:
        for part in read_path(data):
            assert np.isfinite(flatten(part)).all()
    except PathError:
        pass


corners = st.tuples(st.floats(-40, 40), st.floats(-40, 40))


@settings(deadline=None)
@given(st.lists(corners, min_size=4, max_size=4), st.sampled_from([0.1, 0.01]))
def test_flattened_curves_stay_within_the_tolerance(four, tolerance):
    a, b, c, d = (np.array(p) for p in four)
    ring = flatten([np.array(four)], tolerance)
    t = np.linspace(0, 1, 301)[:, None]
    curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    begin, along = ring[:-1], np.diff(ring, axis=0)
    length = np.maximum((along**2).sum(1), 1e-30)
    at = np.clip(((curve[:, None] - begin) * along).sum(2) / length, 0, 1)
    away = np.hypot(*(curve[:, None] - begin - at[..., None] * along).transpose(2, 0, 1)).min(1)
    assert away.max() <= tolerance + 1e-9


@settings(deadline=None)
@given(
    st.floats(0.5, 30), st.floats(0.5, 30), st.floats(-180, 180), st.booleans(), st.floats(0, 360),
    st.floats(5, 355),
)  # fmt: skip
def test_arcs_follow_their_ellipse(rx, ry, turned, sweep, first, swept):
    def on_ellipse(degrees):
        t, phi = math.radians(degrees), math.radians(turned)
        x, y = rx * math.cos(t), ry * math.sin(t)
        return np.array([3 + x * math.cos(phi) - y * math.sin(phi), 7 + x * math.sin(phi) + y * math.cos(phi)])

    # From one point of an ellipse round (3, 7) to another; of the four arcs with these radii one lies on it.
    large = swept > 180
    begin, end = on_ellipse(first), on_ellipse(first + (swept if sweep else -swept))
    data = f"M{begin[0]!r} {begin[1]!r}A{rx!r} {ry!r} {turned!r} {int(large)} {int(sweep)} {end[0]!r} {end[1]!r}"
    data = data.replace("np.float64(", "").replace(")", "")
    (part,) = read_path(data)
    np.testing.assert_allclose(part[0][0], begin)
    np.testing.assert_allclose(part[-1][-1], end)
    if min(abs(swept - 180), swept, 360 - swept) < 8:
        return  # which of the arcs is meant hangs on the last digits
    expected = [on_ellipse(first + (1 if sweep else -1) * swept * k / 400) for k in range(401)]
    found = flatten(part, 1e-4)
    for point in found[:: max(1, len(found) // 20)]:
        assert np.hypot(*(np.array(expected) - point).T).min() < max(rx, ry) * 0.02


def test_radii_that_are_too_small_grow():
    (part,) = read_path("M0 0A1 1 0 0 1 10 0")  # a half circle of radius 5, above
    ring = flatten(part, 1e-3)
    np.testing.assert_allclose(np.hypot(ring[:, 0] - 5, ring[:, 1]), 5, atol=2e-3)
    assert ring[:, 1].min() == pytest.approx(-5, abs=2e-3)


def drawing(tmp_path: Path, body: str, attributes: str = 'width="40" height="30"', head: str = "") -> Path:
    path = tmp_path / "a.svg"
    path.write_text(f"{head}<svg {attributes}>{body}</svg>", encoding="utf-8")
    return path


def corners_of(path: Path, image_size: tuple[int, int] | None = None) -> list[list[list[float]]]:
    """Rings as (x, y) from the picture's corner."""
    found = read_svg(path, image_size)
    return [np.round(ring[:, ::-1] + 0.5, 6).tolist() for shape in found.shapes for ring in shape.rings]


SQUARE = '<polygon points="1,2 5,2 5,6 1,6"/>'
CORNERS = [[1, 2], [5, 2], [5, 6], [1, 6]]


@pytest.mark.parametrize(
    "body",
    [
        SQUARE,
        '<polygon points=" 1 2,5 2\n5 6 1,6 "/>',
        '<polygon points="1,2 5,2 5,6 1,6 "/>',
        '<polygon points="1,2 5,2 5,6 1,6 9"/>',
        '<polyline points="1,2 5,2 5,6 1,6"/>',
        f"<g><g>{SQUARE}</g></g>",
        '<g transform="translate(1,2)"><polygon points="0,0 4,0 4,4 0,4"/></g>',
        '<g transform="translate(1)"><polygon transform="translate(0 2)" points="0,0 4,0 4,4 0,4"/></g>',
        '<polygon transform="translate(1 2) scale(4)" points="0,0 1,0 1,1 0,1"/>',
        '<polygon transform="matrix(2 0 0 4 1 2)" points="0,0 2,0 2,1 0,1"/>',
        '<polygon transform="scale(.5,2)" points="2,1 10,1 10,3 2,3"/>',
        '<polygon transform="rotate(90 3 4)" points="1,6 1,2 5,2 5,6"/>',
        '<polygon transform="rotate(90)" points="2,-1 2,-5 6,-5 6,-1"/>',
        '<polygon transform="skewX(45)" points="-1,2 3,2 -1,6 -5,6"/>',
        '<polygon transform="skewY(45)" points="1,1 5,-3 5,1 1,5"/>',
        '<s:g xmlns:s="x"><s:polygon points="1,2 5,2 5,6 1,6"/></s:g>',
        f'<image xlink:href="a.jpg" x="0" y="0" width="40px" height="30px"/>{SQUARE}',
        '<image width="40" height="30" transform="translate(10 20) scale(2)"/>'
        '<polygon points="12,24 20,24 20,32 12,32"/>',
    ],
)  # fmt: skip
def test_ways_to_draw_the_same_square(body, tmp_path):
    assert corners_of(drawing(tmp_path, body)) == [CORNERS]


@pytest.mark.parametrize(
    ("attributes", "image", "factor"),
    [
        ('width="40px" height="30px"', None, 1),
        ('viewBox="0 0 40 30"', None, 1),
        ('width="80" height="60" viewBox="0 0 40 30"', None, 2),
        ('width="100%" height="100%" viewBox="0 0 40 30"', None, 1),
        ('width="30pt" height="22.5pt"', None, 1),
        ('width="40" height="30"', (60, 80), 2),
        ('width="40" height="30"', (30, 40), 1),
        ('width="80" height="60" viewBox="0 0 40 30"', (30, 40), 1),
        ('width="40.3" height="30.1" viewBox="0 0 40.3 30.1"', (30, 40), None),
    ],
)
def test_sizes(attributes, image, factor, tmp_path):
    found = corners_of(drawing(tmp_path, SQUARE, attributes), image)
    if factor is None:
        np.testing.assert_allclose(found, [CORNERS], atol=0.06)
    else:
        np.testing.assert_allclose(found, np.array([CORNERS]) * factor)


def test_a_view_box_that_is_moved_and_of_another_form(tmp_path):
    # 20 x 20 in 80 x 40: scaled by 2 and moved to the middle; stretched if that is wanted.
    box = 'width="80" height="40" viewBox="1 2 20 20"'
    assert corners_of(drawing(tmp_path, SQUARE, box)) == [[[20, 0], [28, 0], [28, 8], [20, 8]]]
    assert corners_of(drawing(tmp_path, SQUARE, box + ' preserveAspectRatio="none"')) == [
        [[0, 0], [16, 0], [16, 8], [0, 8]]
    ]


def test_another_images_drawing_is_refused(tmp_path):
    with pytest.raises(LabelError, match="not of this image"):
        read_svg(drawing(tmp_path, SQUARE), (40, 40))


def test_circles_and_ellipses(tmp_path):
    body = '<circle cx="10" cy="12" r="5"/><ellipse cx="10" cy="12" rx="8" ry="3" transform="rotate(30 10 12)"/>'
    circle, ellipse = (np.array(ring) - (10, 12) for ring in corners_of(drawing(tmp_path, body)))
    assert np.abs(np.hypot(*circle.T) - 5).max() < 0.11
    turn = np.array([[math.cos(math.pi / 6), -math.sin(math.pi / 6)], [math.sin(math.pi / 6), math.cos(math.pi / 6)]])
    assert np.abs(np.hypot(*(ellipse @ turn / (8, 3)).T) - 1).max() < 0.06


@pytest.mark.parametrize(
    "body",
    [
        f'<g display="none">{SQUARE}</g>',
        f'<g style="opacity:1; display : none">{SQUARE}</g>',
        f'<style>.st0{{display:none;}}\n.st1{{fill:red}}</style><g class="st1 st0">{SQUARE}</g>',
        f'<g visibility="hidden">{SQUARE}</g>',
    ],
)
def test_what_is_hidden_is_counted_only(body, tmp_path):
    found = read_svg(drawing(tmp_path, body))
    assert (len(found.shapes), found.hidden) == (0, 1)


@pytest.mark.parametrize(
    "body",
    [
        f"<defs>{SQUARE}</defs>", f"<clipPath>{SQUARE}</clipPath>", f"<defs><g><symbol>{SQUARE}</symbol></g></defs>",
        '<rect width="40" height="30"/>', '<line x1="1" y1="2" x2="3" y2="4"/>', '<polygon points="1,2 3,4"/>',
        '<polygon points=""/>', '<path d="M1 1z"/>', '<path/>', "<text>M1 1</text>", '<circle r="0"/>',
    ],
)  # fmt: skip
def test_what_outlines_nothing(body, tmp_path):
    found = read_svg(drawing(tmp_path, body))
    assert (len(found.shapes), found.hidden) == (0, 0)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<path {}/>", "nonzero"),
        ('<path fill-rule="evenodd" {}/>', "even-odd"),
        ('<g fill-rule="evenodd"><path {}/></g>', "even-odd"),
        ('<g fill-rule="evenodd"><path style="fill-rule:nonzero" {}/></g>', "nonzero"),
        ("<style>.a{{fill-rule:evenodd;}}</style><path class='a' {}/>", "even-odd"),
    ],
)
def test_fill_rules(body, rule, tmp_path):
    (shape,) = read_svg(drawing(tmp_path, body.format('d="M1 1h9v9h-9zM3 3h3v3h-3z"'))).shapes
    assert (shape.rule, len(shape.rings)) == (rule, 2)


ILLUSTRATOR = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!-- Generator: Adobe Illustrator 22.0.1 -->\n'
    '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n'
)


def test_a_bare_document_type_is_passed_over(tmp_path):
    assert corners_of(drawing(tmp_path, SQUARE, head=ILLUSTRATOR)) == [CORNERS]


BOMB = "".join(f'<!ENTITY a{k} "{f"&a{k - 1};" * 10}">' for k in range(1, 12))


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE svg [<!ENTITY a0 "ha">' + BOMB + "]>",
        '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE svg [<!ENTITY % a SYSTEM "http://localhost/x"> %a;]>',
        '<!DOCTYPE svg [<!ENTITY ns "http://www.w3.org/2000/svg">]>',
    ],
)
def test_entities_are_refused(head, tmp_path):
    with pytest.raises(LabelError, match="document type of its own"):
        read_svg(drawing(tmp_path, "<g>&a11;</g>" + SQUARE, head=head))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no element"),
        ("hello", "syntax error"),
        ("<html/>", "outermost element is <html>"),
        ('<svg width="5" height="5"><g></svg>', "mismatched"),
        ('<svg width="1"', "unclosed"),
        ("<svg/>", "neither width and height"),
        ('<svg width="0" height="5"/>', "neither width and height"),
        ('<svg width="5" height="5"><path d="L1 2"/></svg>', "begins with L"),
        ('<svg width="5" height="5"><g transform="spin(3)"/></svg>', "spin"),
        ('<svg width="5" height="5"><g transform="scale(1e300)"/></svg>', "scale"),
        ('<svg width="5" height="5"><polygon points="1e300,0 1,1 2,2"/></svg>', "beyond all bounds"),
        ('<svg width="5" height="5">' + "<g>" * 300, "256 deep"),
        ('<?xml version="1.0" encoding="no-such"?><svg/>', "encoding"),
    ],
)
def test_broken_drawings_are_refused(text, what, tmp_path):
    path = tmp_path / "a.svg"
    path.write_text(text)
    with pytest.raises(LabelError, match=what) as caught:
        read_svg(path)
    assert caught.value.where == path


def test_curves_cannot_take_all_the_memory(tmp_path):
    # Each curve of 30 bytes would be 2000 points.
    curve = "C9e6 9e6 -9e6 9e6 0 0"
    path = drawing(tmp_path, f'<path d="M0 0{curve * 3000}"/>')
    tracemalloc.start()
    try:
        with pytest.raises(LabelError, match=r"points|bounds"):
            read_svg(path)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()
