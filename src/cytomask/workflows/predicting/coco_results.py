"""COCO results: one line per object, so that they are written, kept and put together without being held."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from cytomask.instances import Instances
from cytomask.output import replacing


def coco_lines(instances: Instances, image_id: int, file_name: str) -> Iterator[str]:
    """Give each object of an image as a line of JSON; boxes are x, y, width, height.

    Examples
    --------
    >>> import numpy as np
    >>> print(*coco_lines(Instances.from_labels(np.array([[0, 1], [0, 1]])), 3, "a.tif"))
    {"image_id": 3, "file_name": "a.tif", "category_id": 1, "segmentation": {"size": [2, 2], "counts": "22"},
    "bbox": [1.0, 0.0, 1.0, 2.0], "score": 1.0}
    """
    for i, rle in enumerate(instances.to_rle()):
        y0, x0, y1, x1 = (float(v) for v in instances.boxes[i])
        entry = {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": int(instances.classes[i]),
            "segmentation": rle,
            "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
            "score": round(float(instances.scores[i]), 6),
        }
        yield json.dumps(entry, ensure_ascii=False)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines into a file, which appears complete or not at all."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def join_lines(target: Path, parts: Iterable[tuple[Path, int]]) -> None:
    """Put files of lines together into one list, as JSON.

    Parameters
    ----------
    target
        The file to write; it appears complete or not at all.
    parts
        Files of :func:`write_lines`, each with the ``image_id`` that its lines are to have.
    """
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        empty = True
        for path, image_id in parts:
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    file.write("\n" if empty else ",\n")
                    file.write(_renumbered(line, image_id).rstrip("\n"))
                    empty = False
        file.write("\n\n]\n" if empty else "\n]\n")


def copy_lines(parts: Iterable[Path], file: IO[bytes]) -> None:
    """Copy files of lines, one behind the other."""
    for part in parts:
        with part.open("rb") as source:
            shutil.copyfileobj(source, file)


def split_lines(source: Path) -> Iterator[tuple[int, str]]:
    """Read what :func:`join_lines` wrote, line by line, each with its ``image_id``; other files give nothing."""
    with source.open(encoding="utf-8") as file:
        for line in file:
            text = line.strip().removesuffix(",")
            if not text.startswith('{"image_id": '):
                continue
            number = text.removeprefix('{"image_id": ').split(",", 1)[0]
            if number.isdecimal():
                yield int(number), text


def _renumbered(line: str, image_id: int) -> str:
    if line.startswith(f'{{"image_id": {image_id},'):
        return line
    entry: dict[str, Any] = json.loads(line)
    return json.dumps({**entry, "image_id": image_id}, ensure_ascii=False)
