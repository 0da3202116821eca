"""The table of S-BSST265 that describes its images: ``image_description.csv``, separated by semicolons."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from cytomask.errors import DataError
from cytomask.formats.annotations.image_finder import plain_name

DESCRIPTION = "image_description.csv"
_NAME, _SPLIT, _TEST_CLASS = "Image_Name", "Train-/Testset split", "Testset class"
#: As the data set has them.
COLUMNS = (
    _NAME, "Diagnosis", "Preparation", _SPLIT, _TEST_CLASS, "Magnification", "Modality", "Device", "Software",
    "Mean BG signal", "Mean FG signal", "Signal/Noise", "S/N Class",
)  # fmt: skip


def read_descriptions(path: Path, names: Sequence[str]) -> tuple[dict[str, dict[str, str]], int]:
    """Read what is told of each image.

    Parameters
    ----------
    path
        The table: UTF-8, or as Windows writes it in Western Europe.
    names
        Names of the images.

    Returns
    -------
    tuple
        For each image its columns that are not empty, and ``split`` where the set that it is meant for is told; and how
        many rows are about other images. Numbers stay as they are written, with their comma.

    Raises
    ------
    DataError
        If the table cannot be read, or has two rows for an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError("the description of the images cannot be read", where=path, found=error.strerror) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    first = text.lstrip().partition("\n")[0]
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(";,\t", key=first.count))
        rows = [[cell.strip() for cell in row] for row in lines if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError("the description of the images cannot be read", where=path, found=str(error)) from error
    if not rows:
        return {}, 0
    head = rows[0]
    folded = [column.casefold().replace(" ", "_") for column in head]
    at = folded.index(_NAME.casefold()) if _NAME.casefold() in folded else 0
    split = next((k for k, column in enumerate(folded) if "split" in column and k != at), None)
    known, facts, passed_over = set(names), dict[str, dict[str, str]](), 0
    for row in rows[1:]:
        told = row[at] if at < len(row) else ""
        name = told if told in known else plain_name(told)
        if name not in known:
            passed_over += 1
            continue
        if name in facts:
            raise DataError("two rows describe the same image", where=path, found=told, fix="remove one of them")
        facts[name] = {head[k]: cell for k, cell in enumerate(row[: len(head)]) if cell and head[k] and k != at}
        if split is not None and split < len(row) and row[split]:
            facts[name]["split"] = row[split].lower()
    return facts, passed_over


def write_descriptions(path: Path, facts: Mapping[str, Mapping[str, str]]) -> None:
    """Write what is told of each image: the data set's columns, then all others.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / DESCRIPTION
    >>> write_descriptions(path, {"a": {"split": "test", "Modality": "FM"}})
    >>> read_descriptions(path, ["a"])[0]
    {'a': {'Train-/Testset split': 'test', 'Modality': 'FM', 'split': 'test'}}
    """
    others = sorted({key for one in facts.values() for key in one} - {*COLUMNS, "split"})
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter=";", lineterminator="\n")
        table.writerow([*COLUMNS, *others])
        for name, one in facts.items():
            row = {**one, _NAME: name}
            row.setdefault(_SPLIT, one.get("split", ""))
            if row[_SPLIT] == "train":
                row.setdefault(_TEST_CLASS, "-")
            table.writerow([" ".join(row.get(column, "").split()) for column in (*COLUMNS, *others)])
