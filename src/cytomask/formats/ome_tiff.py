"""Write an image as OME-TIFF: all channels in their own depth, with their names and the pixel size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import OutputError
from cytomask.image import Image
from cytomask.output import replacing

#: What OME-TIFF can hold of what images are made of.
_KINDS = "uif"


def write_ome_tiff(path: str | Path, image: Image) -> None:
    """Write an image so that ImageJ, Bio-Formats and this package read back what it was.

    Parameters
    ----------
    path
        Ends in ``.ome.tif``. The file appears when it is complete, or not at all.
    image
        Any image; it is held in memory while it is written.

    Raises
    ------
    OutputError
        If the file cannot be written, or the pixels are of a kind that OME-TIFF does not know.

    Examples
    --------
    >>> import tempfile
    >>> from cytomask.formats.images import read_image
    >>> path = Path(tempfile.mkdtemp()) / "a.ome.tif"
    >>> pixels = np.arange(12, dtype=np.uint16).reshape(2, 2, 3) * 5000
    >>> write_ome_tiff(path, Image.from_array(pixels, axes="CYX", channels=["DAPI", "actin"], pixel_size=(0.5, 0.25)))
    >>> again = read_image(path)
    >>> again.channels, again.pixel_size, bool((again.pixels == pixels).all())
    (('DAPI', 'actin'), (0.5, 0.25), True)
    """
    import tifffile

    path = Path(path)
    pixels = image.window(0, image.height, 0, image.width)
    if pixels.dtype.kind not in _KINDS or pixels.dtype.itemsize > (8 if pixels.dtype.kind == "f" else 4):
        raise OutputError(
            "OME-TIFF cannot hold these pixels", where=path, found=str(pixels.dtype),
            expected="integers of 8 to 32 bits, or floats of 32 or 64", fix="convert the image first",
        )  # fmt: skip
    told: dict[str, Any] = {"axes": "YXS" if image.rgb else "CYX"}
    if image.pixel_size is not None:
        y, x = image.pixel_size
        told |= {"PhysicalSizeY": y, "PhysicalSizeYUnit": "µm", "PhysicalSizeX": x, "PhysicalSizeXUnit": "µm"}
    if not image.rgb:
        told["Channel"] = {"Name": list(image.channels)}
    content = np.ascontiguousarray(np.moveaxis(pixels, 0, -1) if image.rgb else pixels)
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary, content, ome=True, photometric="rgb" if image.rgb else "minisblack",
            planarconfig="contig" if image.rgb else None, compression="zlib", metadata=told,
        )  # fmt: skip
