"""Copies of images in folders that are written, for formats that keep the image beside its annotation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Picture

from cytomask.errors import CytomaskError, OutputError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.images import file_kind, read_image


def copy_as_tiff(annotation: Annotation, target: Path) -> bool:
    """Copy the image of an annotation to a TIFF file: byte for byte if it is one, else its pixels.

    Returns
    -------
    bool
        Whether the image is known.

    Raises
    ------
    OutputError
        If it cannot be copied.
    """
    source = annotation.image
    if source is None:
        return False
    try:
        if file_kind(source) == "TIFF":
            shutil.copyfile(source, target)
        else:
            image = read_image(source)
            pixels = np.asarray(image.pixels)
            pixels = np.moveaxis(pixels, 0, -1) if image.rgb else pixels if image.n_channels > 1 else pixels[0]
            colour = "rgb" if image.rgb else "minisblack"
            tifffile.imwrite(target, pixels, photometric=colour, compression="zlib", metadata=None)
    except (OSError, CytomaskError) as error:
        raise _not_copied(source, error) from error
    return True


def copy_as_it_is(annotation: Annotation, target: Path) -> bool:
    """Copy the image of an annotation byte for byte; False where the image is not known.

    Raises
    ------
    OutputError
        If it cannot be copied.
    """
    if annotation.image is None:
        return False
    try:
        shutil.copyfile(annotation.image, target)
    except OSError as error:
        raise _not_copied(annotation.image, error) from error
    return True


def _not_copied(source: Path, error: Exception) -> OutputError:
    found = error.strerror if isinstance(error, OSError) else getattr(error, "what", str(error))
    return OutputError("an image cannot be copied", where=source, found=found, fix="check the file and the disk space")


def write_view(annotation: Annotation, target: Path) -> bool:
    """Write a JPEG picture of an image to look at: colour as it is, or its first channel stretched to 8 bits.

    Returns
    -------
    bool
        Whether the image is known.

    Raises
    ------
    OutputError
        If it cannot be read or written.
    """
    if annotation.image is None:
        return False
    try:
        image = read_image(annotation.image)
        pixels = np.moveaxis(np.asarray(image.pixels[:3]), 0, -1) if image.rgb else np.asarray(image.pixels[0])
        if pixels.dtype != np.uint8 or not image.rgb:
            low, high = (float(np.percentile(pixels, p)) for p in (0.1, 99.9))
            pixels = np.clip((pixels.astype(np.float32) - low) * (255 / max(high - low, 1e-12)), 0, 255)
        Picture.fromarray(pixels.astype(np.uint8)).save(target, "JPEG", quality=90)
    except (OSError, CytomaskError) as error:
        raise _not_copied(annotation.image, error) from error
    return True
