"""CVAT's XML, "CVAT for images 1.1".

Polygons, boxes and ellipses (also turned) and masks are objects; those of one group and label are one. What lies on top
in CVAT comes last. Polylines, points, skeletons, cuboids and tags are passed over, as are attributes and what is said
of occlusion.

Written are masks, which hold every pixel. CVAT imports the file into a task that has the images, under the names that
are told here, and the labels.

A file that declares a document type or entities is refused: CVAT writes none, and they are how a small file asks for
all the memory, or for other files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_names import listed_name
from cytomask.formats.annotations.cvat_shapes import SHAPES, read_shapes, row_runs
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.annotations.object_parts import objects_of_parts
from cytomask.formats.limits import is_possible_size
from cytomask.output import replacing

#: So many bytes are parsed at once.
_CHUNK = 2**16
_PASSED_OVER = ("polyline", "points", "skeleton", "cuboid", "tag")
#: Kinds of labels in CVAT that no object has.
_OTHER_LABELS = ("tag", "points", "polyline", "skeleton", "cuboid")


@dataclass(frozen=True)
class _Image:
    """Where an image's element lies in the file, and what its attributes tell."""

    start: int
    line: int
    file_name: str
    shape: tuple[int, int]
    subset: str


@dataclass(frozen=True, eq=False)
class _Reader:
    path: Path
    encoding: str | None
    entries: dict[str, _Image]
    classes: tuple[str, ...]
    images: ImageFinder

    def read(self, name: str) -> Annotation:
        entry = self.entries[name]
        where = f"{self.path}, {entry.file_name}"
        parts, labels = read_shapes(entry.shape, _elements(self.path, self.encoding, entry), where)
        numbers = {label: number for number, label in enumerate(self.classes, start=1)}
        classes = [numbers[label] for label in labels]
        instances = objects_of_parts(entry.shape, parts, classes, class_names=self.classes)
        facts = {"split": entry.subset} if entry.subset else {}
        return Annotation(
            name, instances, file_name=entry.file_name, image=self.images.find_clear(entry.file_name), facts=facts
        )


def recognise(path: Path) -> bool:
    """Whether this is an XML file of CVAT, or an unpacked export with its ``annotations.xml``.

    Examples
    --------
    >>> recognise(Path("nowhere.xml"))
    False
    """
    try:
        file = _file(path)
        if file.suffix.lower() != ".xml":
            return False
        with file.open("rb") as stream:
            begin = stream.read(4096).replace(b"\0", b"")
    except OSError:
        return False
    return b"<annotations>" in begin and any(mark in begin for mark in (b"<meta", b"<version>1.", b"<image", b"<track"))


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the images and the labels.

    Parameters
    ----------
    path
        The XML file, or the folder of an unpacked export.
    images
        Not needed to read; the images' files are told with the annotation where they are found.

    Raises
    ------
    DataError
        If the file is no XML of CVAT, declares a document type, is "CVAT for video", or tells an image twice or without
        its size.
    """
    path = _file(path)
    scan = _Scan(path)
    scan.run()
    if not scan.images:
        if scan.passed_over["track"]:
            raise DataError(
                "this is CVAT for video, which has tracks instead of images", where=path,
                expected="CVAT for images 1.1", fix="export the task again as CVAT for images 1.1",
            )  # fmt: skip
        if not scan.is_cvat:
            raise DataError(
                "this is no XML of CVAT", where=path, found="no <annotations> at the top",
                expected="CVAT for images 1.1",
            )  # fmt: skip
    labels = [name for name, kind in scan.labels if kind not in _OTHER_LABELS or name in scan.used]
    classes = tuple(dict.fromkeys([*labels, *scan.used])) or ("object",)
    told = [f"elements that are no areas are passed over: {n} <{tag}>" for tag, n in scan.passed_over.items()]
    if scan.attributes:
        told.append(f"attributes of objects are passed over: {scan.attributes}")
    if scan.occluded:
        told.append(f"that objects are occluded is passed over: {scan.occluded}")
    if scan.grouped:
        told.append(f"shapes of one group and label are one object: {scan.grouped} shapes are in groups")
    entries = _names(scan.images, path)
    return AnnotationSet(
        classes, tuple(entries), _Reader(path, scan.encoding, entries, classes, images).read, tuple(told)
    )


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:
    """Write all objects as masks; those without pixels are left out.

    Parameters
    ----------
    path
        The XML file.
    annotations
        What to write, looped over once.
    classes
        The names of the classes, in the order of the objects' class ids.

    Raises
    ------
    DataError
        If a name has characters that XML cannot hold, or two images have the same.
    OutputError
        If the file cannot be written.
    """
    names: set[str] = set()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n')
        file.write("    <task>\n      <mode>annotation</mode>\n      <labels>\n")
        for name in classes:
            file.write(f"        <label>\n          <name>{_text(name)}</name>\n        </label>\n")
        file.write("      </labels>\n    </task>\n  </meta>\n")
        for number, annotation in enumerate(annotations):
            listed = listed_name(annotation)
            if listed in names:
                raise DataError("two images have the same name", where=path, found=listed, fix="rename one of them")
            names.add(listed)
            file.writelines(_image_lines(number, listed, annotation, classes))
        file.write("</annotations>\n")


def _image_lines(number: int, listed: str, annotation: Annotation, classes: Sequence[str]) -> Iterator[str]:
    height, width = annotation.instances.shape
    subset = f" subset={_quoted(annotation.facts['split'])}" if "split" in annotation.facts else ""
    yield f'  <image id="{number}" name={_quoted(listed)}{subset} width="{width}" height="{height}">\n'
    instances = annotation.instances.shifted(0, 0, annotation.instances.shape)
    for i in range(len(instances)):
        y0, x0, y1, x1 = instances.windows[i].tolist()
        runs = ", ".join(map(str, row_runs(instances.mask(i))))
        label = _quoted(classes[instances.classes[i] - 1])
        yield (
            f'    <mask label={label} source="file" occluded="0" rle="{runs}" left="{x0}" top="{y0}" '
            f'width="{x1 - x0}" height="{y1 - y0}" z_order="0">\n    </mask>\n'
        )
    yield "  </image>\n"


def _text(text: str) -> str:
    return escape(_checked(text), {"\r": "&#13;"})


def _quoted(text: str) -> str:
    return quoteattr(_checked(text))


def _checked(text: str) -> str:
    if any((ord(c) < 32 and c not in "\t\n\r") or 0xD800 <= ord(c) < 0xE000 or c in "\ufffe\uffff" for c in text):
        raise DataError("a name has characters that XML cannot hold", found=repr(text), fix="rename it")
    return text


def _file(path: Path) -> Path:
    return path / "annotations.xml" if path.is_dir() else path


def _names(found: Sequence[_Image], path: Path) -> dict[str, _Image]:
    """The images by name; where two have the same, their subsets are folders."""
    counts = Counter(plain_name(image.file_name) for image in found)
    entries: dict[str, _Image] = {}
    for image in found:
        name = plain_name(image.file_name)
        if counts[name] > 1 and image.subset:
            name = plain_name(f"{image.subset}/{image.file_name}")
        if name in entries:
            raise DataError(
                "two images have the same name", where=f"{path}, line {image.line}",
                found=f"{image.file_name}, as in line {entries[name].line}",
                fix="export the tasks or jobs one by one",
            )  # fmt: skip
        entries[name] = image
    return entries


def _parser(path: Path, encoding: str | None = None) -> expat.XMLParserType:
    def refuse(*_: object) -> NoReturn:
        raise DataError(
            "the XML file declares a document type or entities, which may ask for any memory or file", where=path,
            expected="XML as CVAT writes it", fix="export the annotations again from CVAT",
        )  # fmt: skip

    parser = expat.ParserCreate(encoding)
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.buffer_text = True
    return parser


@dataclass
class _Scan:
    """One walk through the file, which notes what is where, and counts what is passed over."""

    path: Path
    encoding: str | None = None
    is_cvat: bool = False
    images: list[_Image] = field(default_factory=list)
    labels: list[tuple[str, str]] = field(default_factory=list)
    used: dict[str, None] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)
    attributes: int = 0
    occluded: int = 0
    grouped: int = 0

    def run(self) -> None:
        self._stack: list[str] = []
        self._label: dict[str, str] | None = None
        self._parser = parser = _parser(self.path)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.XmlDeclHandler = self._declaration
        try:
            with self.path.open("rb") as file:
                begin = file.read(2)
                file.seek(0)
                while chunk := file.read(_CHUNK):
                    parser.Parse(chunk)
                parser.Parse(b"", True)
        except OSError as error:
            raise DataError("the file cannot be read", where=self.path, found=error.strerror) from error
        except (LookupError, ValueError) as error:
            raise DataError(
                "the encoding of the file is not known", where=self.path, found=str(error)[:80], fix="save it as UTF-8"
            ) from error
        except expat.ExpatError as error:
            raise DataError(
                "the file is not proper XML", where=f"{self.path}, line {error.lineno}",
                found=expat.ErrorString(error.code), fix="the file may be cut off; export it again",
            ) from error  # fmt: skip
        # Of a part of the file, neither the declaration nor the mark of the byte order is seen.
        marks = {b"\xff\xfe": "UTF-16LE", b"\xfe\xff": "UTF-16BE"}
        self.encoding = marks.get(begin, self.encoding)

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self.encoding = encoding

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        depth, parent = len(self._stack), self._stack[-1] if self._stack else ""
        self._stack.append(tag)
        if depth == 0:
            self.is_cvat = tag == "annotations"
        elif depth == 1 and tag == "image":
            self.images.append(self._image(attributes))
        elif depth == 1 and tag == "track":
            self.passed_over[tag] += 1
        elif depth == 2 and parent == "image":
            if tag in SHAPES:
                if "label" in attributes:
                    self.used.setdefault(attributes["label"])
                self.occluded += attributes.get("occluded") == "1"
                self.grouped += attributes.get("group_id", "0").strip() not in ("", "0")
            elif tag in _PASSED_OVER:
                self.passed_over[tag] += 1
        elif depth == 3 and tag == "attribute" and parent in SHAPES:
            self.attributes += 1
        elif tag == "label" and parent == "labels" and self._stack[1] == "meta":
            self._label = {}

    def _end(self, tag: str) -> None:
        self._stack.pop()
        if tag == "label" and self._label is not None:
            # Labels with a parent are the points of skeletons.
            if self._label.get("name") and not self._label.get("parent"):
                self.labels.append((self._label["name"], self._label.get("type", "any")))
            self._label = None

    def _characters(self, text: str) -> None:
        if self._label is not None and self._stack[-2] == "label" and self._stack[-1] in ("name", "type", "parent"):
            self._label[self._stack[-1]] = self._label.get(self._stack[-1], "") + text

    def _image(self, attributes: Mapping[str, str]) -> _Image:
        line, name = self._parser.CurrentLineNumber, attributes.get("name", "")
        try:
            shape = int(attributes["height"]), int(attributes["width"])
        except (KeyError, ValueError):
            shape = (0, 0)
        if not plain_name(name) or not is_possible_size(*shape):
            raise DataError(
                "an image is without name or size", where=f"{self.path}, line {line}",
                found=" ".join(f"{key}={value!r}" for key, value in attributes.items()) or "no attributes",
                expected="name, width and height", fix="export the annotations again as CVAT for images 1.1",
            )  # fmt: skip
        return _Image(self._parser.CurrentByteIndex, line, name, shape, attributes.get("subset", ""))


def _elements(path: Path, encoding: str | None, entry: _Image) -> list[tuple[str, Mapping[str, str], int]]:
    """Parse the element of one image, and return its shapes."""
    found: list[tuple[str, Mapping[str, str], int]] = []
    depth = 0
    ended = False
    parser = _parser(path, encoding)

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 2 and tag in SHAPES and not ended:
            found.append((tag, attributes, entry.line + parser.CurrentLineNumber - 1))

    def end(_tag: str) -> None:
        nonlocal depth, ended
        depth -= 1
        ended |= depth == 0

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    try:
        with path.open("rb") as file:
            file.seek(entry.start)
            while not ended and (chunk := file.read(_CHUNK)):
                parser.Parse(chunk)
    except expat.ExpatError as error:
        # Behind the image's end, the file goes on with what is no document.
        if not ended:
            raise LabelError(
                "the file has changed since it was opened", where=path, found=error, fix="open it again"
            ) from error
    except OSError as error:
        raise LabelError("the file cannot be read", where=path, found=error.strerror) from error
    return found
