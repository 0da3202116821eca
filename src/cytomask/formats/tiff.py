"""Read TIFF: plain, OME, ImageJ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from cytomask.errors import CytomaskError, ImageError
from cytomask.image import Image


def read_tiff(path: Path, *, axes: str | None = None, plane: int | None = None) -> Image:
    """Read one plane of a TIFF file."""
    try:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            letters = axes or series.axes.replace("I", "C").replace("Q", "C")
            if series.dataoffset is not None:
                pixels = np.memmap(path, series.dtype.newbyteorder(tif.byteorder), "r", series.dataoffset, series.shape)
            else:
                pixels = series.asarray()
        return Image.from_array(pixels, axes=letters, source=path)
    except CytomaskError:
        raise
    except Exception as error:
        raise ImageError("the file cannot be read as TIFF", where=path, found=error) from error
