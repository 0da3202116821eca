"""Large JSON files element by element: parsed once to be understood, and again, bit by bit, where they are needed.

Annotation files hold hundreds of megabytes of coordinates, which would take many times that as Python's numbers. So a
file is read through a window; each element of its lists is parsed, looked at and dropped, and only its place in the
file is kept.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from cytomask.errors import DataError

#: So many bytes are looked at to recognise a file.
LOOK = 2**20
#: So many bytes are held at once; more where one element is larger.
WINDOW = 2**22
#: A zip may unpack to so much, and to so many times its size where it is larger than the first.
_BELIEVED, _MAX_RATIO, _MAX_UNPACKED = 2**26, 100, 2**32
#: What a zip that is broken, encrypted or packed in an unknown way raises.
_BROKEN_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error, zlib.error)
_SPACE = re.compile(r"[ \t\n\r]*")
#: The rest of a number, which the window may have cut in two.
_REST = re.compile(r"[-+.eE0-9]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Element:
    """One element of a list or dictionary at the top of the file, or a whole member of it.

    Attributes
    ----------
    section
        The member of the file's dictionary; empty in a file that is a list.
    key
        The element's key in a dictionary, its number in a list, None for a whole member.
    value
        What it is.
    start, end
        Its place in the file, in bytes.
    """

    section: str
    key: str | int | None
    value: Any
    start: int
    end: int


@dataclass(frozen=True)
class JsonFile:
    """A JSON file, or a zip with one JSON file.

    Attributes
    ----------
    path
        The file.
    held
        What it holds as UTF-8, where its own bytes are not that; None: read from the file.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> _ = path.write_text('{"version": 1, "points": [[1, 2], [3, 4]]}')
    >>> file = JsonFile.of(path)
    >>> [(e.section, e.key, e.value) for e in file.elements(["points"])]
    [('version', None, 1), ('points', 0, [1, 2]), ('points', 1, [3, 4])]
    >>> file.read([(34, 40)])
    [[3, 4]]
    """

    path: Path
    held: bytes | None = None

    @classmethod
    def of(cls, path: Path) -> JsonFile:
        """Open a file; UTF-16 and UTF-32 are understood, too.

        Raises
        ------
        DataError
            If it cannot be read, is in no Unicode encoding, or is a zip of something else, or of far too much.
        """
        held: bytes | None = None
        try:
            with path.open("rb") as file:
                begin = file.read(4)
            if begin == b"PK\3\4":
                held = begin = _unzip(path)
            encoding = json.detect_encoding(begin[:4])
            if not encoding.startswith("utf-8"):
                text = (path.read_bytes() if held is None else held).decode(encoding)
                held = text.removeprefix("\ufeff").encode("utf-8")
        except (OSError, UnicodeDecodeError, *_BROKEN_ZIP) as error:
            raise DataError("the file cannot be read", where=path, found=error, fix="export it again") from error
        return cls(path, held)

    def elements(self, sections: Collection[str]) -> Iterator[Element]:
        """Parse the file once, element by element.

        Parameters
        ----------
        sections
            Members whose elements come one by one, where they are lists or dictionaries; others come whole. The
            elements of a file that is a list always come one by one.

        Raises
        ------
        DataError
            If it is no JSON, with the place.
        """
        with self._open() as file:
            yield from _Cursor(file, self.path).elements(sections)

    def read(self, spans: Iterable[tuple[int, int]]) -> list[Any]:
        """Parse the elements at these places again.

        Raises
        ------
        DataError
            If there is something else by now.
        """
        values = []
        try:
            with self._open() as file:
                for start, end in spans:
                    file.seek(start)
                    values.append(json.loads(file.read(end - start)))
        except (OSError, ValueError) as error:
            raise DataError(
                "the file has changed since it was opened", where=self.path, found=error, fix="open it again"
            ) from error
        return values

    def _open(self) -> IO[bytes]:
        return self.path.open("rb") if self.held is None else io.BytesIO(self.held)


def look(path: Path) -> tuple[str, str]:
    """The beginning and the end of a JSON file, or of the one in a zip, as text; empty where it is none.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> _ = path.write_text('{"a": 1}')
    >>> look(path)[0]
    '{"a": 1}'
    """
    try:
        with path.open("rb") as file:
            begin = file.read(LOOK)
            if begin[:4] == b"PK\3\4":
                with zipfile.ZipFile(file) as packed:
                    member = _member(packed)
                    if member is None:
                        return "", ""
                    with packed.open(member) as unpacked:
                        return _text(unpacked.read(LOOK)), ""
            file.seek(max(len(begin), path.stat().st_size - LOOK // 8))
            end = file.read()
    except (OSError, *_BROKEN_ZIP):
        return "", ""
    return _text(begin), _text(end)


def _text(data: bytes) -> str:
    encoding = json.detect_encoding(data[:4]) if data else "utf-8"
    return data.decode(encoding, errors="replace").removeprefix("\ufeff").lstrip()


def _member(packed: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    """The one JSON file in a zip; what macOS adds does not count."""
    found = [
        i for i in packed.infolist() if i.filename.lower().endswith(".json") and not i.filename.startswith("__MACOSX/")
    ]
    return found[0] if len(found) == 1 else None


def _unzip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as packed:
        member = _member(packed)
        if member is None:
            raise DataError(
                "the zip does not hold one JSON file", where=path, found=", ".join(packed.namelist()[:8]) or "nothing",
                expected="one file that ends in .json", fix="unpack it, and name the file",
            )  # fmt: skip
        size, ratio = member.file_size, member.file_size / max(1, member.compress_size)
        if size > _MAX_UNPACKED or (size > _BELIEVED and ratio > _MAX_RATIO):
            raise DataError(
                "the zip unpacks to more than annotations can be meant to hold", where=path,
                found=f"{size} bytes, {ratio:.0f} times what they are packed in",
                expected=f"at most {_MAX_UNPACKED}, or {_MAX_RATIO} times", fix="unpack it, and name the file",
            )  # fmt: skip
        with packed.open(member) as file:
            # Not more than was announced, whatever there is.
            return file.read(size)


class _Cursor:
    """A place in the file, and the window around it.

    Bytes are taken for Latin-1, one character each, so that places in the text are places in the file; strings in which
    that matters are read again as UTF-8.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file, self.path = file, path
        self.base, self.at, self.text, self.ended = 0, 0, "", False
        self._more()
        if self.text.startswith(codecs.BOM_UTF8.decode("latin-1")):
            self.at = 3

    def elements(self, sections: Collection[str]) -> Iterator[Element]:
        if self._peek() == "[":
            yield from self._members("")
        elif self._peek() == "{":
            for key in self._keys():
                section = str(key)
                if section in sections and self._peek() in ("[", "{"):
                    yield from self._members(section)
                else:
                    yield self._element(section, None)
        else:
            self._fail("neither a list nor a dictionary", self.base + self.at)
        if self._peek():
            self._fail("more behind the end", self.base + self.at)

    def _members(self, section: str) -> Iterator[Element]:
        for key in self._keys():
            yield self._element(section, key)

    def _keys(self) -> Iterator[str | int]:
        """Stand at each value of the list or dictionary that begins here."""
        closing = "]" if self._peek() == "[" else "}"
        self.at += 1
        number = 0
        while self._peek() != closing or number:
            if number:
                if self._peek() == closing:
                    break
                self._take(",")
            key: str | int = number
            if closing == "}":
                if self._peek() != '"':
                    self._fail("no key in quotes", self.base + self.at)
                key = self._value()[0]
                self._take(":")
            self._peek()
            yield key
            number += 1
        self.at += 1

    def _element(self, section: str, key: str | int | None) -> Element:
        self._peek()
        value, start, end = self._value()
        return Element(section, key, value, start, end)

    def _peek(self) -> str:
        """The next character that is no space, and go there; empty at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._more()

    def _take(self, character: str) -> None:
        if self._peek() != character:
            self._fail(f"no {character!r} here", self.base + self.at)
        self.at += 1

    def _value(self) -> tuple[Any, int, int]:
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except RecursionError:
                self._fail("too many lists in lists", self.base + self.at)
            except ValueError as error:
                if self.ended:
                    place = error.pos if isinstance(error, json.JSONDecodeError) else self.at
                    self._fail(getattr(error, "msg", str(error)), self.base + place)
            else:
                if self.ended or not _REST.fullmatch(self.text, end):
                    break
            # The window ends in the middle of the value, or of a number that may go on.
            self._more()
        piece = self.text[self.at : end]
        if not piece.isascii():
            try:
                value = json.loads(piece.encode("latin-1").decode("utf-8"))
            except ValueError:
                self._fail("text that is not UTF-8", self.base + self.at)
        start = self.base + self.at
        self.at = end
        return value, start, self.base + end

    def _more(self) -> None:
        rest = self.text[self.at :]
        data = self.file.read(max(WINDOW, len(rest), 4))
        self.base += self.at
        self.text, self.at, self.ended = rest + data.decode("latin-1"), 0, not data

    def _fail(self, what: str, place: int) -> NoReturn:
        near = self.text[max(0, place - self.base) :][:40]
        raise DataError(
            "the file is not proper JSON",
            where=self.path,
            found=f"{what}, at byte {place}: {near!r}" if near else f"{what}: the file breaks off at byte {place}",
            fix="the file may be cut off or edited by hand; export or copy it again",
        )
