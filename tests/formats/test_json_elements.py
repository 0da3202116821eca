"""Large JSON files element by element: the same as the json module, whatever the window, and what is broken."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytomask.errors import DataError
from cytomask.formats.annotations import json_elements
from cytomask.formats.annotations.json_elements import JsonFile, look

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    items=st.lists(VALUES, max_size=8),
    table=st.dictionaries(st.text(max_size=5), VALUES, max_size=5),
    other=VALUES,
    window=st.integers(1, 40),
    indent=st.sampled_from([None, 0, 3]),
    escaped=st.booleans(),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_elements_are_those_of_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: list[Any], table: dict[str, Any], other: Any, window: int,
    indent: int | None, escaped: bool, mark: bytes,
) -> None:  # fmt: skip
    monkeypatch.setattr(json_elements, "WINDOW", window)
    whole = {"items": items, "other": other, "table": table}
    path = tmp_path / "a.json"
    path.write_bytes(mark + json.dumps(whole, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))
    file = JsonFile.of(path)
    found = list(file.elements(["items", "table"]))
    assert [(e.key, e.value) for e in found if e.section == "items"] == list(enumerate(items))
    assert [(e.key, e.value) for e in found if e.section == "table"] == list(table.items())
    assert [(e.key, e.value) for e in found if e.section == "other"] == [(None, other)]
    assert file.read([(e.start, e.end) for e in found]) == [e.value for e in found]


def test_a_file_that_is_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_elements, "WINDOW", 2)
    (tmp_path / "a.json").write_text(' [1234567, {"a": 12345} ,\r\n"x"]\n')
    assert [e.value for e in JsonFile.of(tmp_path / "a.json").elements([])] == [1234567, {"a": 12345}, "x"]
    (tmp_path / "a.json").write_text("[]")
    assert list(JsonFile.of(tmp_path / "a.json").elements([])) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"items": ["ü", "日本"]}'.encode(encoding))
    file = JsonFile.of(path)
    found = list(file.elements(["items"]))
    assert [e.value for e in found] == ["ü", "日本"]
    assert file.read([(e.start, e.end) for e in found]) == ["ü", "日本"]
    assert look(path)[0].startswith('{"items": ["ü"')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"items": [1, 2', "breaks off at byte 15"),
        ('{"items": [1, 2}', "no ',' here, at byte 15"),
        ('{"items": [1,, 2]}', "Expecting value, at byte 13"),
        ('{"items": [1, ]}', "Expecting value, at byte 14"),
        ('{items: 1}', "no key in quotes, at byte 1"),
        ('{"items": [1]} []', "more behind the end, at byte 15"),
        ('"items"', "neither a list nor a dictionary"),
        ("", "neither a list nor a dictionary"),
        ('{"items": [' + "[" * 100_000, "too many lists in lists, at byte 11"),
        ('{"items": ["a', "Unterminated string"),
    ],
)  # fmt: skip
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError) as caught:
        list(JsonFile.of(tmp_path / "a.json").elements(["items"]))
    assert caught.value.where == tmp_path / "a.json"
    assert message in str(caught.value)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('{"items": [1, "ü"]}'.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8, at byte 14"):
        list(JsonFile.of(tmp_path / "a.json").elements(["items"]))


def test_a_file_that_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"items": [[1, 2]]}')
    file = JsonFile.of(path)
    (element,) = file.elements(["items"])
    path.write_text('{"more": 1, "items": [[1, 2]]}')
    with pytest.raises(DataError, match="has changed"):
        file.read([(element.start, element.end)])


def test_zips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("annotations/a.JSON", '{"items": [1, 2]}')
        packed.writestr("__MACOSX/._a.json", "x")
        packed.writestr("readme.txt", "x")
    assert look(path)[0] == '{"items": [1, 2]}'
    file = JsonFile.of(path)
    found = list(file.elements(["items"]))
    assert file.read([(e.start, e.end) for e in found]) == [1, 2]
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("b.json", "{}")
    assert look(path) == ("", "")
    with pytest.raises(DataError, match="does not hold one JSON file"):
        JsonFile.of(path)
    # A bomb: far more than it is packed in.
    monkeypatch.setattr(json_elements, "_BELIEVED", 10**5)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.json", " " * 10**6)
    with pytest.raises(DataError, match="more than annotations can be meant to hold"):
        JsonFile.of(path)
    path.write_bytes(b"PK\3\4 nothing of a zip")
    assert look(path) == ("", "")
    with pytest.raises(DataError, match="cannot be read"):
        JsonFile.of(path)
