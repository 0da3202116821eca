"""Bar charts of classes: how many objects an image has, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cytomask.output import replacing
from cytomask.reporting.colours import class_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Longer names are cut.
_MOST_LETTERS = 32


class ClassStatistics:
    """Number and size of the objects of each class, summed up image by image.

    Parameters
    ----------
    names
        Names of the classes.
    unit
        Of the areas.

    Examples
    --------
    >>> statistics = ClassStatistics(["cell", "debris"])
    >>> for areas in ([10.0, 14.0], [18.0]):
    ...     statistics.begin_image()
    ...     statistics.add(np.ones(len(areas), int), np.array(areas))
    >>> statistics.counts()
    (array([1.5, 0. ]), array([0.70710678, 0.        ]))
    >>> statistics.areas()
    (array([14., nan]), array([ 4., nan]))
    """

    def __init__(self, names: Sequence[str], unit: str = "px") -> None:
        self.names, self.unit = tuple(names), unit
        self._counts: list[np.ndarray] = []
        self._means, self._squares = np.zeros(len(self.names)), np.zeros(len(self.names))

    @property
    def n_images(self) -> int:
        """Images so far."""
        return len(self._counts)

    @property
    def totals(self) -> np.ndarray:
        """Objects of each class in all images, int64 ``(C,)``."""
        return np.sum(self._counts, axis=0) if self._counts else np.zeros(len(self.names), np.int64)

    def begin_image(self) -> None:
        """Begin another image, so far without objects."""
        self._counts.append(np.zeros(len(self.names), np.int64))

    def add(self, classes: np.ndarray, areas: np.ndarray) -> None:
        """Add objects of the image: their classes, from 1, and areas."""
        before = self.totals
        for c in np.unique(classes).tolist():
            own = areas[classes == c]
            whole = before[c - 1] + len(own)
            apart = own.mean() - self._means[c - 1]
            # Means and squared deviations of two groups make those of both (Chan, Golub & LeVeque 1983).
            self._squares[c - 1] += ((own - own.mean()) ** 2).sum() + apart**2 * before[c - 1] * len(own) / whole
            self._means[c - 1] += apart * len(own) / whole
            self._counts[-1][c - 1] += len(own)

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over the images of each class's objects; NaN where there are too few images."""
        if not self._counts:
            return np.full(len(self.names), np.nan), np.full(len(self.names), np.nan)
        counts = np.array(self._counts, float)
        spread = counts.std(axis=0, ddof=1) if len(counts) > 1 else np.full(len(self.names), np.nan)
        return counts.mean(axis=0), spread

    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over all objects of each class's areas; NaN where there are too few objects."""
        n = self.totals.astype(float)
        means = np.where(n > 0, self._means, np.nan)
        return means, np.sqrt(np.divide(self._squares, n - 1, out=np.full(len(n), np.nan), where=n > 1))


def write_count_chart(target: str | Path, statistics: ClassStatistics) -> None:
    """Draw the mean number of objects per image of each class, with its standard deviation over the images.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    n = statistics.n_images
    note = f"mean of {n} images, lines: standard deviation" if n > 1 else f"{n} image{'' if n == 1 else 's'}"
    figure = draw_bars(statistics.names, *statistics.counts(), "objects per image", note)
    _save(figure, target)


def write_area_chart(target: str | Path, statistics: ClassStatistics) -> None:
    """Draw the mean area of the objects of each class, with its standard deviation over the objects.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    names = [f"{_short(name)}\nn = {total}" for name, total in zip(statistics.names, statistics.totals.tolist())]
    note = "mean of all objects, lines: standard deviation"
    _save(draw_bars(names, *statistics.areas(), f"area ({statistics.unit})", note), target)


def draw_bars(names: Sequence[str], means: np.ndarray, spreads: np.ndarray, quantity: str, note: str) -> Figure:
    """Draw one bar for each class, in the colours of overlays by class.

    Parameters
    ----------
    names
        N names.
    means, spreads
        ``(N,)``; NaN where there is none.
    quantity
        What the axis tells.
    note
        What stands above the picture.

    Examples
    --------
    >>> figure = draw_bars(["cell"], np.array([4.0]), np.array([np.nan]), "objects per image", "1 image")
    >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
    [4.0]
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.0, 1.6 + 1.0 * len(names)), 5.0), layout="constrained")
    axes = figure.add_subplot()
    places, heights = np.arange(len(names)), np.nan_to_num(means)
    axes.bar(places, heights, 0.68, color=class_colours(len(names)) / 255, edgecolor="#333333", linewidth=0.8)
    there = np.isfinite(spreads)
    if there.any():
        # Neither numbers nor areas are below 0, so no bar goes there.
        reach = np.stack([np.minimum(spreads, heights), spreads])[:, there]
        axes.errorbar(places[there], heights[there], reach, fmt="none", ecolor="#222222", capsize=5, linewidth=1.2)
    tops = heights + np.nan_to_num(spreads)
    for place, mean, top in zip(places, means, tops):
        text = "none" if np.isnan(mean) else f"{mean:,.0f}" if mean >= 1000 else f"{mean:.3g}"
        axes.annotate(text, (place, top), (0, 4), textcoords="offset points", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(places, [_short(name) for name in names], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, max(len(names), 1) - 0.4)
    axes.set_ylim(0, 1.12 * float(tops.max(initial=0)) or 1.0)
    axes.set_ylabel(quantity, parse_math=False)
    axes.set_title(note, fontsize=9, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    return figure


def _short(name: str) -> str:
    """Cut a long name; a second line stays."""
    first, *more = name.split("\n")
    short = first if len(first) <= _MOST_LETTERS else f"{first[: _MOST_LETTERS - 1]}…"
    return "\n".join([short, *more])


def _save(figure: Figure, target: str | Path) -> None:
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
