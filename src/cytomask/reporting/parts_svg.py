"""Parts of a whole as SVG inside a page: a bar that is divided, and a hundred dots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cytomask.reporting.markup import Html, element

#: Parts up to this, of 100, are none: what is left of a difference of two that are alike.
_NOTHING = 1e-7


def stacked_bar(parts: Sequence[tuple[str, int, str]], *, title: str) -> Html:
    """Draw one bar that is divided into parts.

    Parameters
    ----------
    parts
        Name, count and class of style of each; parts of 0 are left out.
    title
        What the whole is.

    Examples
    --------
    >>> "<title>missed: 1 of 4 (25 %)</title>" in stacked_bar([("hit", 3, "a"), ("missed", 1, "b")], title="t")
    True
    """
    total = sum(count for _, count, _ in parts)
    width, height, left = 960.0, 34, 0.0
    shown = [part for part in parts if part[1]]
    pieces = []
    # A part keeps a width that can be seen and pointed at; the others give way.
    least = 6.0
    widths = [max(least, width * count / total) for _, count, _ in shown]
    excess = sum(widths) - width
    roomy = sum(w - least for w in widths)
    widths = [w - excess * (w - least) / roomy if roomy else w for w in widths]
    for (name, count, style), wide in zip(shown, widths):
        told = f"{name}: {count:,} of {total:,} ({percent(count / total)})"
        pieces.append(
            element(
                "g",
                element("title", told),
                element("rect", x=f"{left:.1f}", y=0, width=f"{max(wide - 2, 1):.1f}", height=height, class_=style),
            )
        )
        left += wide
    return element(
        "div",
        element(
            "svg",
            element("title", title),
            *pieces,
            viewBox=f"0 0 {width:g} {height}",
            preserveAspectRatio="none",
            role="img",
            aria_label=title,
            class_="stacked",
        ),
        class_="stacked-bar",
    )


def hundred_dots(parts: Sequence[tuple[str, float, str]], *, title: str) -> Html:
    """Draw a hundred dots, as many of each style as its part of the whole.

    Parameters
    ----------
    parts
        Name, part of 1 and class of style of each; together 1.
    title
        What is to be seen.

    Examples
    --------
    >>> dots = hundred_dots([("found", 0.934, "a"), ("missed", 0.066, "b")], title="93 of 100 are found")
    >>> dots.count('class="a"'), dots.count('class="b"')
    (93, 7)
    """
    counts = shares_of_hundred([part for _, part, _ in parts])
    styles = [style for (_, _, style), count in zip(parts, counts) for _ in range(count)]
    dots = [
        element("circle", cx=10 + 20 * (place % 20), cy=10 + 20 * (place // 20), r=7, class_=style)
        for place, style in enumerate(styles)
    ]
    return element(
        "svg", element("title", title), *dots, viewBox="0 0 400 100", role="img", aria_label=title, class_="dots"
    )


def shares_of_hundred(parts: Sequence[float]) -> list[int]:
    """Whole numbers that add up to 100, as near to parts of 1 as can be; a part above 0 does not vanish.

    Examples
    --------
    >>> shares_of_hundred([0.999, 0.001]), shares_of_hundred([1 / 3, 1 / 3, 1 / 3])
    ([99, 1], [34, 33, 33])
    """
    exact = 100 * np.asarray(parts, float)
    counts = np.floor(exact).astype(int)
    counts[(exact > _NOTHING) & (counts == 0)] = 1
    while counts.sum() != 100:
        # The one furthest from its share gives or takes.
        if counts.sum() < 100:
            counts[np.argmax(exact - counts)] += 1
        else:
            counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
    return [int(count) for count in counts]


def percent(part: float) -> str:
    """A part of 1 in per cent, with as many digits as matter.

    Examples
    --------
    >>> [percent(part) for part in (0.934, 0.0042, 0.9996, 1.0, 0.0)]
    ['93 %', '0.4 %', '99.96 %', '100 %', '0 %']
    """
    value = 100 * part
    if 0 < value < 1 or 99 < value < 100:
        digits = 1 if round(value, 1) not in (0.0, 100.0) else 2
        return f"{value:.{digits}f} %"
    return f"{value:.0f} %"
