"""Names of results: no two images write to one file, and no result replaces an image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from cytomask.data.pairs import stem_of
from cytomask.errors import OutputError
from cytomask.progress import say

#: What predict writes for all images together: COCO results, and the record of what was done.
COCO_NAME, RECORD_NAME = "predictions.json", "run.json"


def name_results(paths: Sequence[Path]) -> list[str]:
    """Give each image a name for its results: its stem, and more of its path where stems are alike.

    Names that differ in upper and lower case only count as alike, since some file systems take them for one.

    Examples
    --------
    >>> from cytomask.progress import set_quiet
    >>> set_quiet(True)
    >>> name_results([Path("a.tif"), Path("b.tif")])
    ['a', 'b']
    >>> name_results([Path("x/a.tif"), Path("y/a.tif"), Path("b.tif")])
    ['x_a', 'y_a', 'b']
    >>> name_results([Path("x/a.tif"), Path("x/a.png")])
    ['a_tif', 'a_png']
    >>> name_results([Path("field.ome.zarr")])
    ['field']
    >>> set_quiet(False)
    """
    names = [stem_of(path.name) for path in paths]
    groups: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        groups[name.casefold()].append(i)
    taken = {key for key, group in groups.items() if len(group) == 1}
    for group in groups.values():
        if len(group) == 1:
            continue
        for longer in _longer_names([paths[i] for i in group]):
            keys = {name.casefold() for name in longer}
            if len(keys) == len(group) and not keys & taken:
                break
        taken |= keys
        for i, name in zip(group, longer):
            names[i] = name
        said = ", ".join(f"{paths[i]} as {names[i]}" for i in group[:4]) + (", …" if len(group) > 4 else "")
        say(f"{len(group)} images are called {stem_of(paths[group[0]].name)}; their results are named apart: {said}")
    return names


def _longer_names(paths: Sequence[Path]) -> Iterator[list[str]]:
    """Ways to tell files of one stem apart: by suffix, by ever more of their folders, by number."""
    places = [path.absolute() for path in paths]
    for level in range(max(len(place.parts) for place in places) - 1):
        folders = [place.parts[1:-1][-level:] if level else () for place in places]
        stems = ["_".join((*folder, stem_of(path.name))) for folder, path in zip(folders, paths)]
        yield stems
        yield [f"{stem}_{path.suffix[1:]}" for stem, path in zip(stems, paths)]
    for first in count(1):
        yield [f"{stem_of(path.name)}_{number}" for number, path in enumerate(paths, start=first)]


def protect_inputs(images: Sequence[Path], targets: Sequence[Path]) -> None:
    """Make sure that no result would replace one of the images.

    Raises
    ------
    OutputError
        If one would.
    """
    inputs = {path.resolve() for path in images}
    clash = next((target for target in targets if target.resolve() in inputs), None)
    if clash is not None:
        raise OutputError(
            "a result would replace one of the images",
            where=clash,
            fix="write the results into another folder with --out, or do not name results as images",
        )
