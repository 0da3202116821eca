"""Read PNG, JPEG and BMP."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
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
    chunks = dict(_png_chunks(data))
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    check_unpacked_size((height, width, _PNG_SAMPLES[colour]), 2 if depth == 16 else 1, path)
    if colour == _PNG_PALETTE or b"eXIf" in chunks:
        pixels = _read_with_pillow(path, PngImageFile, stored, told)
    else:
        pixels = imagecodecs.png_decode(data)
    if depth == 1 and colour == 0:
        pixels = np.minimum(pixels, 1)
        told.append("1 bit deep")
    pixel_size = None
    if len(chunks.get(b"pHYs", b"")) == 9:
        per_metre_x, per_metre_y, unit = struct.unpack(">IIB", chunks[b"pHYs"])
        if unit == 1 and per_metre_x and per_metre_y:
            pixel_size, sentence = believable_size(1e6 / per_metre_y, 1e6 / per_metre_x, "resolution entry")
            told.append(sentence)
    return pixels, pixel_size


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walk over the chunks before the pixels (https://www.w3.org/TR/png-3/#5Chunk-layout)."""
    place = len(SIGNATURES["PNG"])
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        if name == b"IDAT":
            return
        yield name, data[place + 8 : place + 8 + length]
        place += length + 12


def _read_with_pillow(path: Path, reader: type[ImageFile], stored: bool, told: list[str]) -> np.ndarray:
    # The reader's own class rather than PIL.Image.open: nothing but the kind that was asked for is tried, and the
    # limits are ours instead of a setting for the whole process.
    with reader(path) as picture:
        check_unpacked_size((picture.height, picture.width, len(picture.getbands())), 1, path)
        if picture.mode in ("CMYK", "YCCK", "LAB", "HSV"):
            raise ImageError(
                "the colours of this file cannot be read",
                where=path,
                found=picture.mode,
                expected="grey or RGB",
                fix="export it as RGB",
            )
        orientation = picture.getexif().get(0x0112, 1)
        shown = PIL.ImageOps.exif_transpose(picture) if orientation in range(2, 9) else picture
        if shown is not picture:
            told.append(f"turned upright as its EXIF entry says (orientation {orientation})")
        if shown.mode == "1":
            told.append("1 bit deep")
            return np.asarray(shown).astype(np.uint8)
        if shown.mode in ("P", "PA"):
            if stored:
                return np.asarray(shown.getchannel(0) if shown.mode == "PA" else shown)
            return _apply_palette(np.asarray(shown.convert("RGB")), told)
        return np.array(shown)


def _apply_palette(pixels: np.ndarray, told: list[str]) -> np.ndarray:
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
