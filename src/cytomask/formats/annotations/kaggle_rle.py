"""Run-length tables of Kaggle's cell competitions: CSV files with one object per row.

Data Science Bowl 2018 has ``ImageId,EncodedPixels`` (its published solutions also ``Height`` and ``Width``): pairs of
start and length, counted from 1, down the columns of pixels. An image without objects has one row without pixels.

Sartorius 2021 has ``id,annotation,width,height,cell_type`` and more: pairs as well, but along the rows of pixels. It is
read only.
"""

from __future__ import annotations

import codecs
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.coco_objects import as_count, told_size
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.instances import Instances
from cytomask.output import replacing

_LAYOUTS = (("imageid", "encodedpixels"), ("id", "annotation"))
#: A header is not longer than this.
_LOOK = 4096


@dataclass(frozen=True)
class _Table:
    """How the file is laid out.

    Attributes
    ----------
    columns
        Place of each column by its name in lower case.
    delimiter
        What stands between cells.
    image, pixels
        Columns of the image's name and of the runs.
    by_rows
        Whether the runs go along the rows of pixels, not down the columns.
    """

    columns: Mapping[str, int]
    delimiter: str
    image: str
    pixels: str
    by_rows: bool

    def cells(self, line: str) -> list[str]:
        """Split a row; cells may be quoted, but not hold line ends."""
        if '"' not in line:
            return [cell.strip() for cell in line.rstrip("\r\n").split(self.delimiter)]
        line, cells, at = line.rstrip("\r\n"), [], 0
        quoted = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?={0}|$)|([^{0}]*)'.format(re.escape(self.delimiter)))
        while True:
            match = quoted.match(line, at)
            assert match is not None
            cells.append(match[2].strip() if match[1] is None else match[1].replace('""', '"'))
            at = match.end() + 1
            if at > len(line):
                return cells

    def cell(self, cells: Sequence[str], name: str) -> str:
        place = self.columns.get(name)
        return cells[place] if place is not None and place < len(cells) else ""


@dataclass(frozen=True)
class _Image:
    told_name: str
    size: tuple[int, int] | None
    facts: Mapping[str, str]
    rows: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class _Rows:
    """A table that was looked through; called with a name, it reads that image's rows."""

    path: Path
    finder: ImageFinder
    table: _Table
    images: Mapping[str, _Image]
    #: Line numbers and places of the rows with objects, image by image.
    lines: np.ndarray
    starts: np.ndarray
    classes: tuple[str, ...]

    def __call__(self, name: str) -> Annotation:
        image = self.images[name]
        shape = image.size or self.finder.size_of(image.told_name, self.path)
        grid = shape[::-1] if self.table.by_rows else shape
        codes, classes = [], []
        with self.path.open("rb") as file:
            for row in range(*image.rows):
                file.seek(int(self.starts[row]))
                cells = self.table.cells(file.readline().decode("utf-8", errors="replace"))
                where = f"{self.path}, line {self.lines[row]} (image {image.told_name})"
                if self.table.cell(cells, self.table.image) != image.told_name:
                    raise DataError("the file has changed since it was opened", where=self.path, fix="open it again")
                counts = _counts(self.table.cell(cells, self.table.pixels), grid[0] * grid[1], where)
                codes.append({"size": grid, "counts": counts})
                classes.append(self._class(cells))
        try:
            objects = Instances.from_rle(grid, codes, classes=classes, class_names=self.classes)
        except LabelError as error:
            raise LabelError(
                error.what, where=f"{self.path}, image {image.told_name}", found=error.found, expected=error.expected,
                fix=error.fix,
            ) from error  # fmt: skip
        if self.table.by_rows:
            objects = _turned(objects, shape)
        path = self.finder.find(image.told_name)
        return Annotation(name, objects, file_name=image.told_name, image=path, facts=image.facts)

    def _class(self, cells: Sequence[str]) -> int:
        return self.classes.index(_class_name(self.table, cells)) + 1


def recognise(path: Path) -> bool:
    """Whether a file is a CSV with the columns of one of the competitions."""
    if not path.is_file() or path.suffix.lower() not in (".csv", ".txt", ".tsv"):
        return False
    try:
        with path.open("rb") as file:
            return _layout(file.readline(_LOOK)) is not None
    except OSError:
        return False


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    r"""Find the images of a run-length table; each one's objects are read when asked for.

    Raises
    ------
    DataError
        If the columns are others, or rows contradict each other. Broken runs raise a
        :class:`cytomask.errors.LabelError` when they are read, with the line.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "train.csv"
    >>> _ = path.write_text("ImageId,EncodedPixels,Height,Width\na,2 1 4 2,3,2\nb,,3,2\n")
    >>> found = open_annotations(path, ImageFinder())
    >>> found.read("a").instances.to_labels(), len(found.read("b").instances)
    (array([[0, 1],
           [1, 1],
           [0, 0]], dtype=int32), 0)
    """
    path = Path(path)
    known: dict[str, _Image] = {}
    numbers: dict[str, int] = {}
    rows, lines, starts = array("i"), array("q"), array("q")
    kinds: set[str] = set()
    try:
        with path.open("rb") as file:
            begin = file.readline(_LOOK)
            table = _layout(begin)
            if table is None:
                raise DataError(
                    "this is no run-length table of a Kaggle competition", where=path,
                    found=begin[:80].decode("utf-8", errors="replace").strip() or "nothing",
                    expected="the columns ImageId,EncodedPixels or id,annotation,width,height",
                )  # fmt: skip
            for line, start, text in _lines(file, path):
                cells = table.cells(text)
                name = table.cell(cells, table.image)
                if not plain_name(name):
                    raise DataError(
                        "a row names no image", where=f"{path}, line {line}", found=text.strip()[:60] or "nothing"
                    )
                image = _image(table, cells, name, f"{path}, line {line}")
                before = known.setdefault(name, image)
                if before.size != image.size:
                    raise DataError(
                        "two rows tell different sizes of one image", where=f"{path}, line {line}",
                        found=f"{name}: {image.size}", expected=f"{before.size}, as before",
                    )  # fmt: skip
                number = numbers.setdefault(name, len(numbers))
                kinds.add(_class_name(table, cells))
                if table.cell(cells, table.pixels).lower() not in ("", "nan", "-1"):
                    rows.append(number)
                    lines.append(line)
                    starts.append(start)
    except OSError as error:
        raise DataError("the file cannot be read", where=path, found=error, fix="copy it again") from error
    of_image = np.array(rows, np.int64)
    order = np.argsort(of_image, kind="stable")
    begins = np.searchsorted(of_image[order], np.arange(len(known) + 1)).tolist()
    placed: dict[str, _Image] = {}
    for (told_name, image), i in zip(known.items(), range(len(known))):
        name = plain_name(told_name)
        if name in placed:
            raise DataError(
                "two images cannot be told apart", where=path, found=f"{placed[name].told_name} and {told_name}",
                fix="rename one of them",
            )  # fmt: skip
        placed[name] = _Image(told_name, image.size, image.facts, (begins[i], begins[i + 1]))
    classes = tuple(sorted(kinds)) or ("object",)
    columns = (np.array(lines, np.int64)[order], np.array(starts, np.int64)[order])
    told = ["the runs go along the rows of pixels, as in the Sartorius competition"] if table.by_rows else []
    return AnnotationSet(classes, tuple(placed), _Rows(path, images, table, placed, *columns, classes), tuple(told))


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:  # noqa: ARG001
    """Write ``ImageId,EncodedPixels``, one row per object in their order, and an empty one where there is none.

    Raises
    ------
    DataError
        If two images have one name, or a name has a line end.
    OutputError
        If the file cannot be written.
    """
    names: set[str] = set()
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("ImageId,EncodedPixels\n")
        for annotation in annotations:
            if annotation.name in names or len(annotation.name.splitlines()) != 1:
                raise DataError(
                    "two images have one name" if annotation.name in names else "a name does not fit into one row",
                    where=path, found=annotation.name, fix="rename the image",
                )  # fmt: skip
            names.add(annotation.name)
            name = annotation.name
            if any(c in name for c in '",;') or name != name.strip():
                name = '"' + name.replace('"', '""') + '"'
            full = annotation.instances.take(annotation.instances.areas() > 0)
            for code in full.to_rle(compressed=False):
                ends = np.cumsum(code["counts"])
                begins, lengths = ends[:-1:2] + 1, np.diff(ends)[::2]
                file.write(f"{name}," + " ".join(f"{a} {n}" for a, n in zip(begins.tolist(), lengths.tolist())) + "\n")
            if not len(full):
                file.write(f"{name},\n")


def _layout(header: bytes) -> _Table | None:
    """How a table with this first line is laid out; None if it is another one."""
    text = header.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="replace")
    for delimiter in (",", ";", "\t"):
        names = [cell.strip().strip('"').lower() for cell in text.rstrip("\r\n").split(delimiter)]
        columns = {name: i for i, name in enumerate(names)}
        for image, pixels in _LAYOUTS:
            by_rows = pixels == "annotation"
            if image in columns and pixels in columns and (not by_rows or {"width", "height"} <= columns.keys()):
                return _Table(columns, delimiter, image, pixels, by_rows)
    return None


def _lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, int, str]]:
    """Number, place and text of each line behind the header that is not empty."""
    line, start = 2, file.tell()
    for data in file:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                "the table is not UTF-8", where=f"{path}, line {line}", found=data[:60], fix="save it as UTF-8"
            ) from error
        if text.strip():
            yield line, start, text
        line, start = line + 1, start + len(data)


def _image(table: _Table, cells: Sequence[str], name: str, where: str) -> _Image:
    """What a row tells of its image, besides its objects."""
    size = {"height": table.cell(cells, "height"), "width": table.cell(cells, "width")}
    if any(size.values()) and (as_count(size["height"]) is None or as_count(size["width"]) is None):
        raise DataError(
            "the size of an image is not understood", where=where,
            found=f"height {size['height']!r}, width {size['width']!r}", expected="pixels",
        )  # fmt: skip
    apart = (table.image, table.pixels, "width", "height", "cell_type" if table.by_rows else "")
    facts = {c: table.cell(cells, c) for c in table.columns if c and c not in apart}
    return _Image(name, told_size(size, where), {key: value for key, value in facts.items() if value})


def _class_name(table: _Table, cells: Sequence[str]) -> str:
    return (table.cell(cells, "cell_type") if table.by_rows else "") or "object"


def _counts(text: str, pixels: int, where: str) -> np.ndarray:
    """Runs as COCO has them (background, object, background …), of pairs of start and length."""
    try:
        pairs = np.array(text.split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise LabelError(
            "a run-length code is not made of whole numbers", where=where, found=text[:60],
            expected="start length start length …",
        ) from error  # fmt: skip
    if len(pairs) % 2:
        raise LabelError(
            "a run-length code ends within a pair", where=where, found=f"{len(pairs)} numbers",
            expected="start length start length …", fix="the row may be cut off; export or copy the table again",
        )  # fmt: skip
    starts, lengths = pairs[::2] - 1, pairs[1::2]
    outside = (starts < 0) | (lengths < 1) | (lengths > pixels) | (starts > pixels - lengths)
    if outside.any():
        i = int(outside.argmax())
        raise LabelError(
            "a run of pixels is not inside the image", where=where, found=f"start {starts[i] + 1}, length {lengths[i]}",
            expected=f"pixels 1 to {pixels}", fix="check that the images are those that the table is about",
        )  # fmt: skip
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], (starts + lengths)[order]
    shared = starts[1:] < ends[:-1]
    if shared.any():
        i = int(shared.argmax())
        raise LabelError(
            "two runs of one object overlap", where=where,
            found=f"the run from {starts[i] + 1} to {ends[i]}, and one from {starts[i + 1] + 1}",
            expected="each pixel once",
        )  # fmt: skip
    return np.diff(np.stack([starts, ends], axis=1).ravel(), prepend=0, append=pixels)


def _turned(objects: Instances, shape: tuple[int, int]) -> Instances:
    """The objects with rows and columns exchanged."""
    crops = [objects.mask(i).T for i in range(len(objects))]
    return Instances.from_crops(
        shape, crops, objects.windows[:, [1, 0]], objects.classes, ids=objects.ids, class_names=objects.class_names
    )
