"""Whether a TIFF file is all there.

A file that broke off while it was copied may still show its first pages as if nothing were missing, and reading
libraries let that pass. Here the chain of page directories is followed to its end.

Source: TIFF 6.0 specification (Adobe, 1992), section 2; BigTIFF: https://www.awaresystems.be/imaging/tiff/bigtiff.html
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from cytomask.errors import ImageError

#: Tags without which pixels, axes or pixel size would be misread: bits, places of the data, description, resolution,
#: palette, kinds of samples, and ImageJ's labels.
_NEEDED = {258, 270, 273, 279, 282, 283, 320, 324, 325, 338, 339, 50838, 50839}
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_HEADERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}


def is_tiff(start: bytes) -> bool:
    """Tell whether a file that begins with these bytes is a TIFF (or BigTIFF)."""
    return start[:4] in _HEADERS


def check_tiff_structure(path: Path) -> int:
    """Follow the page directories to the end, and give their number.

    Raises
    ------
    ImageError
        If a directory, or a value that is needed to read the pixels, lies beyond the end of the file.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(4)
        order, big = _HEADERS[start], start[2:4] in (b"+\0", b"\0+")
        count_format, offset_format = (order + "Q", order + "Q") if big else (order + "H", order + "I")
        entry_size = 20 if big else 12
        file.seek(8 if big else 4)
        seen: set[int] = set()
        try:
            (offset,) = struct.unpack(offset_format, file.read(struct.calcsize(offset_format)))
            while offset:
                if offset in seen:
                    raise _damaged(path, f"page {len(seen)} points back to an earlier page")
                seen.add(offset)
                if offset >= size:
                    raise EOFError
                file.seek(offset)
                (count,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
                if count * entry_size > size:
                    raise _damaged(path, f"page {len(seen) - 1} announces {count} entries")
                entries = file.read(count * entry_size)
                (offset,) = struct.unpack(offset_format, file.read(struct.calcsize(offset_format)))
                _check_entries(entries, order, big, size, len(seen) - 1, path)
        except (struct.error, EOFError) as error:
            raise truncated(
                path, f"page {max(len(seen), 1) - 1} lies beyond the end of the file ({size} bytes)"
            ) from error
        except OSError as error:
            raise ImageError("the file cannot be read", where=path, found=error.strerror or error) from error
    if not seen:
        raise _damaged(path, "no page")
    return len(seen)


def _check_entries(entries: bytes, order: str, big: bool, size: int, page: int, path: Path) -> None:
    entry_format, inline = (order + "HHQQ", 8) if big else (order + "HHII", 4)
    for tag, kind, count, place in struct.iter_unpack(entry_format, entries):
        n_bytes = _TYPE_SIZES.get(kind, 1) * count
        if tag in _NEEDED and n_bytes > inline and place + n_bytes > size:
            raise truncated(path, f"entry {tag} of page {page} lies beyond the end of the file ({size} bytes)")


def truncated(path: Path, found: str) -> ImageError:
    """Make the error of a file whose end is missing."""
    return ImageError(
        "the TIFF file is cut off: a part of it is missing",
        where=path,
        found=found,
        fix="copy or export it again, and compare the sizes of the files",
    )


def _damaged(path: Path, found: str) -> ImageError:
    return ImageError("the TIFF file is damaged", where=path, found=found, fix="copy or export it again")
