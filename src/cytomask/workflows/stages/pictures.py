"""Pictures that stages leave for the report and for trackers: files, and ``pictures.json`` that tells of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.output import replacing
from cytomask.reporting.run_facts import StagePicture

#: The list of a folder's pictures.
PICTURES_NAME = "pictures.json"


def write_photo(folder: Path, stem: str, picture: np.ndarray) -> str:
    """Write a picture, uint8 ``(Y, X, 3)``, as JPEG (as PNG where it has few colours), and give the file's name."""
    from cytomask.reporting.page_pictures import encode_photo

    data, kind = encode_photo(picture)
    return write_bytes(folder, f"{stem}.{'jpg' if kind == 'jpeg' else kind}", data)


def write_bytes(folder: Path, name: str, data: bytes) -> str:
    """Write a file that appears complete or not at all, and give its name."""
    with replacing(folder / name) as temporary:
        temporary.write_bytes(data)
    return name


def write_list(folder: Path, pictures: Iterable[StagePicture]) -> None:
    """Write ``pictures.json``."""
    entries = [asdict(picture) for picture in pictures]
    text = json.dumps({"pictures": entries}, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(folder, PICTURES_NAME, (text + "\n").encode())


def read_list(folder: Path) -> list[StagePicture]:
    """Read ``pictures.json``; pictures whose files lie elsewhere or are gone, and a list that is none, are left out.

    Examples
    --------
    >>> read_list(Path("no-such-folder"))
    []
    """
    try:
        entries = json.loads((folder / PICTURES_NAME).read_text(encoding="utf-8"))["pictures"]
        found = [_picture(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [one for one in found if all(_lies_in(folder, name) for name in _files(one))]


def _picture(entry: Mapping[str, Any]) -> StagePicture:
    layers = tuple((str(key), str(title), str(file)) for key, title, file in entry.get("layers") or ())
    ground = entry.get("ground")
    return StagePicture(
        str(entry["name"]),
        str(entry["group"]),
        str(entry["file"]),
        int(entry["height"]),
        int(entry["width"]),
        str(entry.get("caption") or ""),
        None if ground is None else str(ground),
        layers,
        {str(key): float(value) for key, value in (entry.get("figures") or {}).items()},
        {str(key): int(value) for key, value in (entry.get("counts") or {}).items()},
    )


def _files(picture: StagePicture) -> list[str]:
    return [picture.file, *([picture.ground] if picture.ground else []), *(file for _, _, file in picture.layers)]


def _lies_in(folder: Path, name: str) -> bool:
    return Path(name).name == name and (folder / name).is_file()
