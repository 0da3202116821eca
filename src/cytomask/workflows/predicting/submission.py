"""The zip that challenges of instance segmentation take: objects with boxes as corners, by the images' numbers."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytomask.errors import ConfigError
from cytomask.output import replacing
from cytomask.progress import say, warn

#: The file in the zip.
MEMBER = "test-results.json"
#: A list of images is not longer than so many bytes.
_MOST = 2**28
_EXPECTED = '[{"file_name": "a.tif", "id": 1, "height": …, "width": …}], no name and no id twice'
#: A zip tells when its files were written; always the same, so that equal results are equal files.
_WRITTEN = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class NumberedImage:
    """The number under which an image is known, and its size, where that is told."""

    number: int
    size: tuple[int, int] | None = None

    def check_size(self, path: Path, shape: tuple[int, int]) -> None:
        """Warn of an image that is of another size than told: its masks are refused, or taken for another's."""
        if self.size is not None and self.size != tuple(shape):
            warn(f"{path.name} is {shape[0]} x {shape[1]} px (y by x), but {self.size[0]} x {self.size[1]} as listed")


def number_images(paths: Sequence[Path], listed: str | Path | None) -> list[NumberedImage]:
    """Find the number of each image: 1, 2, 3 …, or as a list says.

    Parameters
    ----------
    paths
        The images.
    listed
        A JSON file: a list of ``{"file_name", "id", "height", "width"}``, or annotations in COCO's format, which hold
        such a list; None for running numbers. Images are found by their file names, or by these without suffix.

    Raises
    ------
    ConfigError
        If it is no such list, or an image is not in it.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ids.json"
    >>> _ = path.write_text('[{"file_name": "b.tif", "id": 7, "height": 3, "width": 4}]')
    >>> number_images([Path("images/b.tif")], path), number_images([Path("b.tif")], None)
    ([NumberedImage(number=7, size=(3, 4))], [NumberedImage(number=1, size=None)])
    """
    if listed is None:
        return [NumberedImage(number) for number in range(1, len(paths) + 1)]
    known = _read_list(Path(listed))
    stems = Counter(Path(name).stem for name in known)
    by_stem = {Path(name).stem: image for name, image in known.items() if stems[Path(name).stem] == 1}
    found = [known.get(path.name) or by_stem.get(path.stem) for path in paths]
    numbers = [image for image in found if image is not None]
    missing = [path.name for path, image in zip(paths, found) if image is None]
    if missing:
        raise ConfigError(
            "images are not in the list of numbers", where=listed,
            found=", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else ""),
            expected=f"such as {next(iter(known), 'none')}", fix="leave these images out, or add them to the list",
        )  # fmt: skip
    often = Counter(image.number for image in numbers)
    twice = [number for number, times in often.items() if times > 1]
    if twice:
        raise ConfigError(
            "two images have one number", where=listed, found=f"id {twice[0]}", fix="leave one of the images out"
        )
    if len(numbers) < len(known):
        say(f"{Path(listed).name}: {len(known) - len(numbers)} of {len(known)} images are not among those to segment")
    return numbers


def write_submission(target: Path, images: Iterable[tuple[Path, NumberedImage, tuple[int, int]]]) -> int:
    """Write the zip: boxes are ``[x1, y1, x2, y2]``, cut at the image's edges; objects with an empty one are left out.

    Parameters
    ----------
    target
        The zip.
    images
        For each image its objects, as :func:`~cytomask.workflows.predicting.coco_results.coco_lines` gives them, its
        number, and its height and width.

    Returns
    -------
    int
        How many objects were left out.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    left_out = 0
    member = zipfile.ZipInfo(MEMBER, _WRITTEN)
    member.compress_type = zipfile.ZIP_DEFLATED
    with (
        replacing(target) as temporary,
        zipfile.ZipFile(temporary, "w") as package,
        package.open(member, "w", force_zip64=True) as file,
        io.TextIOWrapper(file, encoding="ascii") as text,
    ):
        lead = "[\n"
        for lines, image, shape in images:
            with lines.open(encoding="utf-8") as objects:
                for line in objects:
                    entry = _entry(json.loads(line), image.number, shape)
                    if entry is None:
                        left_out += 1
                        continue
                    text.write(lead + json.dumps(entry))
                    lead = ",\n"
        text.write("[]\n" if lead == "[\n" else "\n]\n")
    return left_out


def _entry(found: dict[str, Any], number: int, shape: tuple[int, int]) -> dict[str, Any] | None:
    """An object as it is handed in; None where nothing of its box lies in the image."""
    x, y, width, height = (float(value) for value in found["bbox"])
    corners = (x, y, x + width, y + height)
    limits = (shape[1], shape[0]) * 2
    x1, y1, x2, y2 = (round(min(max(value, 0.0), float(limit)), 3) for value, limit in zip(corners, limits))
    if x2 <= x1 or y2 <= y1:
        return None
    return {
        "image_id": number,
        "bbox": [x1, y1, x2, y2],
        "score": float(found["score"]),
        "category_id": int(found["category_id"]),
        "segmentation": found["segmentation"],
    }


def _read_list(path: Path) -> dict[str, NumberedImage]:
    """Read the number and size of each file name."""
    try:
        if path.stat().st_size > _MOST:
            raise ConfigError("the list of images is too long", where=path, expected=_EXPECTED)
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            "the list of images cannot be read", where=path, found=error.strerror or error, fix="check --image-ids"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError("the list of images is no JSON", where=path, found=error, expected=_EXPECTED) from error
    entries = content.get("images") if isinstance(content, dict) else content
    known: dict[str, NumberedImage] = {}
    numbers: set[int] = set()
    for entry in entries if isinstance(entries, list) else [None]:
        fields = entry if isinstance(entry, dict) else {}
        name, number = fields.get("file_name"), fields.get("id")
        name = name.replace("\\", "/").rsplit("/", 1)[-1] if isinstance(name, str) else ""
        if not name or name in known or type(number) is not int or number in numbers:
            raise ConfigError(
                "this is no list of numbered images", where=path, found=str(entry)[:80], expected=_EXPECTED
            )
        size = fields.get("height"), fields.get("width")
        told = (size[0], size[1]) if type(size[0]) is int and type(size[1]) is int else None
        known[name] = NumberedImage(number, told)
        numbers.add(number)
    return known
