"""Read PNG, JPEG and BMP."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from cytomask.errors import CytomaskError, ImageError
from cytomask.formats.limits import check_unpacked_size
from cytomask.formats.tiff_metadata import believable_size
from cytomask.image import Image

#: How files of each kind begin.
SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "BMP": b"BM"}
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_PALETTE = 3


def read_raster(
    path: Path,
    kind: str,
    *,
    axes: str | None = None,
    plane: int | None = None,
    stored: bool = False,
    told: Sequence[str] = (),
) -> Image:
    """Read a PNG, JPEG or BMP file.

    Parameters
    ----------
    path
        The file.
    kind
        What it is by its first bytes: a key of ``SIGNATURES``.
    axes
        ``"YX"``, ``"YXS"`` (colour) or ``"YXC"`` (channels, which also keeps a fourth one).
    plane
        Such a file has one plane: 0.
    stored
        Give the indices of a palette instead of its colours, as label images need.
    told
        Clauses for ``Image.resolved``.

    Raises
    ------
    ImageError
        If the file is damaged or cut off, or would unpack to more than 8 GiB.
    """
    if plane not in (None, 0):
        raise ImageError(
            "the file has no such plane",
            where=path,
            found=f"--plane {plane}",
            expected=f"0: a {kind} file has one plane",
        )
    clauses = list(told)
    pixel_size = None
    try:
        if kind == "PNG":
            pixels, pixel_size = _read_png(path, stored, clauses)
        else:
            pixels = _read_with_pillow(path, JpegImageFile if kind == "JPEG" else BmpImageFile, stored, clauses)
    except CytomaskError:
        raise
    except Exception as error:  # whatever a decoder raises on a damaged file
        raise ImageError(
            f"the {kind} file is damaged or cut off",
            where=path,
            found=f"{type(error).__name__}: {error}",
            fix="copy or export it again",
        ) from error
    if axes is None:
        pixels = _without_transparency(pixels, clauses)
        axes = "YX" if pixels.ndim == 2 else "YXS"
        clauses.insert(0, f"axes {axes}: a {kind} file")
    elif clauses:
        clauses.insert(0, f"axes {axes.strip().upper()}: as told")
    return Image.from_array(pixels, axes=axes, pixel_size=pixel_size, source=path, told=clauses)


def _read_png(path: Path, stored: bool, told: list[str]) -> tuple[np.ndarray, tuple[float, float] | None]:
    data = path.read_bytes()
    chunks = dict(_png_chunks(data, path))
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    check_unpacked_size((height, width, _PNG_SAMPLES[colour]), 2 if depth == 16 else 1, path)
    if colour == _PNG_PALETTE and stored:
        with PngImageFile(path) as picture:
            pixels = np.array(picture.getchannel(0))
    else:
        pixels = imagecodecs.png_decode(data)
    if colour == _PNG_PALETTE and not stored:
        pixels = _of_palette(pixels, told)
    if depth == 1 and colour == 0:
        pixels = np.minimum(pixels, 1)
        told.append("1 bit deep")
    if b"eXIf" in chunks:
        exif = PIL.Image.Exif()
        exif.load(chunks[b"eXIf"])
        pixels = _upright(pixels, exif, told)
    pixel_size = None
    if len(chunks.get(b"pHYs", b"")) == 9:
        per_metre_x, per_metre_y, unit = struct.unpack(">IIB", chunks[b"pHYs"])
        if unit == 1 and per_metre_x and per_metre_y:
            pixel_size, sentence = believable_size(1e6 / per_metre_y, 1e6 / per_metre_x, "resolution entry")
            told.append(sentence)
    return pixels, pixel_size


def _png_chunks(data: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Walk over a PNG's chunks and compare checksums (https://www.w3.org/TR/png-3/#5Chunk-layout)."""
    view = memoryview(data)
    place = len(SIGNATURES["PNG"])
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        content = view[place + 8 : place + 8 + length]
        place += length + 12
        if place > len(data):
            break
        # Chunks whose names begin with a small letter can be done without.
        if name[:1].isupper() and zlib.crc32(view[place - length - 8 : place - 4]) != _checksum(view, place):
            raise ImageError(
                "the PNG file is damaged",
                where=path,
                found=f"a wrong checksum before byte {place}",
                fix="copy or export it again",
            )
        if name == b"IEND":
            return
        if name != b"IDAT":
            yield name, bytes(content)
    raise ImageError(
        "the PNG file is cut off: a part of it is missing",
        where=path,
        found=f"{len(data)} bytes without an end",
        fix="copy or export it again, and compare the sizes of the files",
    )


def _checksum(view: memoryview, end: int) -> int:
    return int.from_bytes(view[end - 4 : end], "big")


def _read_with_pillow(
    path: Path, reader: type[JpegImageFile] | type[BmpImageFile], stored: bool, told: list[str]
) -> np.ndarray:
    # The reader's own class rather than PIL.Image.open: nothing but the kind that was asked for is tried, and the
    # limits are ours instead of a setting for the whole process.
    with reader(path) as picture:
        check_unpacked_size((picture.height, picture.width, len(picture.getbands())), 1, path)
        if picture.mode not in ("1", "L", "P", "RGB", "RGBA"):
            raise ImageError(
                "the colours of this file cannot be read",
                where=path,
                found=picture.mode,
                expected="grey or RGB",
                fix="export it as RGB",
            )
        if picture.mode == "P" and not stored:
            pixels = _of_palette(np.array(picture.convert("RGB")), told)
        else:
            pixels = np.array(picture)
        if picture.mode == "1":
            pixels = pixels.astype(np.uint8)
            told.append("1 bit deep")
        return _upright(pixels, picture.getexif(), told)


def _upright(pixels: np.ndarray, exif: PIL.Image.Exif, told: list[str]) -> np.ndarray:
    """Turn and mirror a picture as the camera says (EXIF 2.32, tag 274)."""
    orientation = exif.get(274, 1)
    if orientation not in range(2, 9):
        return pixels
    told.append(f"turned upright as its EXIF entry says (orientation {orientation})")
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _of_palette(pixels: np.ndarray, told: list[str]) -> np.ndarray:
    """Drop transparency from the colours of a palette, and colour itself if they are all grey."""
    pixels = pixels[:, :, :3]
    if (pixels == pixels[:, :, :1]).all():
        told.append("its grey palette is applied")
        return np.ascontiguousarray(pixels[:, :, 0])
    told.append("its palette is applied")
    return pixels


def _without_transparency(pixels: np.ndarray, told: list[str]) -> np.ndarray:
    """Drop the last of two or four samples."""
    if pixels.ndim == 2 or pixels.shape[2] not in (2, 4):
        return pixels
    told.append("transparency is dropped")
    return pixels[:, :, 0] if pixels.shape[2] == 2 else pixels[:, :, :3]
