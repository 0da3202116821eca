"""Read and write label images: every object has its own number, the background is 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytomask.errors import ImageError, LabelError
from cytomask.formats.images import read_image
from cytomask.output import replacing

_HIGHEST = np.iinfo(np.int32).max


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label image as int32 ``(Y, X)``."""
    try:
        image = read_image(path)
    except ImageError as error:
        raise LabelError(error.what, where=error.where, found=error.found, expected=error.expected, fix=error.fix) from error
    if image.n_channels != 1:
        raise LabelError("a label image has one channel", where=path, found=image.resolved)
    pixels = np.asarray(image.pixels[0])
    if pixels.dtype.kind == "f" and (pixels != np.round(pixels)).any():
        raise LabelError("labels are whole numbers", where=path, found=image.resolved)
    if pixels.min() < 0 or pixels.max() > _HIGHEST:
        raise LabelError("labels must be from 0 to 2147483647", where=path, found=f"{pixels.min()} to {pixels.max()}")
    return pixels.astype(np.int32)


def write_labels(path: str | Path, labels: np.ndarray, pixel_size: tuple[float, float] | None = None) -> None:
    """Write a label image with the smallest sufficient dtype."""
    import imagecodecs
    import tifffile

    path = Path(path)
    highest = int(labels.max(initial=0))
    dtype = np.uint8 if highest < 2**8 else np.uint16 if highest < 2**16 else np.uint32
    with replacing(path) as temporary:
        if path.suffix.lower() == ".png":
            if dtype is np.uint32:
                raise LabelError("PNG holds no more than 65535 labels", where=path, found=highest, fix="write a TIFF")
            temporary.write_bytes(imagecodecs.png_encode(labels.astype(dtype)))
        else:
            tifffile.imwrite(temporary, labels.astype(dtype), compression="zlib")
