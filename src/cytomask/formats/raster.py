"""Read PNG, JPEG and BMP."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import PIL.ImageOps

from cytomask.errors import CytomaskError, ImageError
from cytomask.image import Image


def read_raster(path: Path, *, axes: str | None = None, plane: int | None = None) -> Image:
    """Read a PNG, JPEG or BMP file."""
    try:
        if path.suffix.lower() == ".png":
            pixels = imagecodecs.png_decode(path.read_bytes())
        else:
            with PIL.Image.open(path) as picture:
                pixels = np.asarray(PIL.ImageOps.exif_transpose(picture))
        if pixels.ndim == 3 and pixels.shape[2] == 2:
            pixels = pixels[:, :, 0]
        return Image.from_array(pixels, axes="YX" if pixels.ndim == 2 else "YXS", source=path)
    except CytomaskError:
        raise
    except Exception as error:
        raise ImageError("the file cannot be read", where=path, found=error) from error
