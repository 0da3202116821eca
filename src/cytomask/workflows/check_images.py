"""Write plain images: grey or colour, 8 or 16 bits, for repaired copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from cytomask.image import Image
from cytomask.output import replacing


def write_plain_image(path: Path, image: Image) -> None:
    """Write an image of one or three channels as PNG, or as TIFF with its pixel size.

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

            temporary.write_bytes(png_encode(pixels, level=6))
            return
        colour = "rgb" if pixels.ndim == 3 else "minisblack"
        if image.pixel_size is None:
            tifffile.imwrite(temporary, pixels, photometric=colour, compression="zlib", metadata=None)
        else:
            y, x = image.pixel_size
            tifffile.imwrite(temporary, pixels, imagej=True, photometric=colour, compression="zlib",
                             resolution=(1 / x, 1 / y), metadata={"unit": "um"})  # fmt: skip
