"""Write plain images: grey or colour, 8 or 16 bits, for repaired copies."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cytomask.image import Image
from cytomask.output import replacing

_UM_PER_CM, _UM_PER_METRE = 1e4, 1e6
#: Bytes of a PNG file's signature and its first chunk.
_PNG_HEADER = 33


def write_plain_image(path: Path, image: Image) -> None:
    """Write an image of one or three channels as PNG or TIFF, with its pixel size.

    Parameters
    ----------
    path
        A ``.png`` or ``.tif``.
    image
        uint8 or uint16.

    Examples
    --------
    >>> import tempfile
    >>> from cytomask.formats.images import read_image
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> write_plain_image(path, Image.from_array(np.arange(6, dtype=np.uint16).reshape(2, 3) * 9000))
    >>> read_image(path).pixels.tolist()
    [[[0, 9000, 18000], [27000, 36000, 45000]]]
    """
    pixels = image.window(0, image.height, 0, image.width)
    pixels = np.ascontiguousarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))
    with replacing(path) as temporary:
        if path.suffix.lower() == ".png":
            from imagecodecs import png_encode

            temporary.write_bytes(_with_pixel_size(bytes(png_encode(pixels, level=6)), image.pixel_size))
            return
        colour = "rgb" if pixels.ndim == 3 else "minisblack"
        told: dict[str, Any] = {}
        if image.pixel_size is not None:
            y, x = image.pixel_size
            told = {"resolution": (_UM_PER_CM / x, _UM_PER_CM / y), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(temporary, pixels, photometric=colour, compression="zlib", metadata=None, **told)


def _with_pixel_size(png: bytes, pixel_size: tuple[float, float] | None) -> bytes:
    """Add the chunk that tells pixels per metre, right behind the header."""
    if pixel_size is None:
        return png
    y, x = pixel_size
    chunk = b"pHYs" + struct.pack(">IIB", round(_UM_PER_METRE / x), round(_UM_PER_METRE / y), 1)
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:_PNG_HEADER] + whole + png[_PNG_HEADER:]
