"""Read and write label images: every object has its own number, the background is 0."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from PIL import Image as Picture

from cytomask.errors import ImageError, LabelError
from cytomask.formats.images import check_file, file_kind, read_file
from cytomask.output import replacing

#: Suffixes of label images that can be read. JPEG is not among them: it does not keep numbers.
LABEL_SUFFIXES = (".tif", ".tiff", ".btf", ".png", ".bmp", ".zarr")
#: Suffixes that can be written.
WRITTEN_SUFFIXES = (".tif", ".tiff", ".png")
HIGHEST = int(np.iinfo(np.int32).max)


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label image.

    Parameters
    ----------
    path
        A TIFF, PNG or BMP file, or a zarr folder, of one plane and one channel: integers of any type, floats that are
        whole numbers, or the indices of a palette.

    Returns
    -------
    np.ndarray
        int32 ``(Y, X)``, the background 0.

    Raises
    ------
    LabelError
        If the file is missing or damaged, a colour picture or a stack, or holds fractions, negative numbers, or
        numbers above 2147483647.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a_labels.tif"
    >>> write_labels(path, np.array([[0, 7], [70000, 7]]))
    >>> read_labels(path)
    array([[    0,     7],
           [70000,     7]], dtype=int32)
    """
    try:
        path = check_file(path, LABEL_SUFFIXES)
        if path.is_file() and file_kind(path) == "JPEG":
            raise ImageError(
                "a JPEG file cannot hold labels: its packing changes the numbers",
                where=path,
                expected=", ".join(LABEL_SUFFIXES),
                fix="export the labels as TIFF or PNG",
            )
        image = read_file(path, stored=True)
    except ImageError as error:
        raise LabelError(
            error.what, where=error.where, found=error.found, expected=error.expected, fix=error.fix
        ) from error
    if image.n_channels != 1:
        raise LabelError(
            "a label image has one channel",
            where=path,
            found="a colour picture" if image.rgb else f"{image.n_channels} channels",
            expected="one number per pixel: 0 for the background, another for every object",
            fix="export the labels themselves, not a coloured view of them",
        )
    return as_label_numbers(np.asarray(image.pixels[0]), path)


def write_labels(
    path: str | Path,
    labels: np.ndarray,
    pixel_size: tuple[float, float] | None = None,
    *,
    least_bits: Literal[8, 16, 32] = 8,
) -> None:
    """Write a label image in the smallest dtype that holds it: uint8, uint16 or uint32.

    Parameters
    ----------
    path
        A ``.tif`` (packed by zlib) or a ``.png``. The file appears when it is complete, or not at all.
    labels
        ``(Y, X)`` integers (or bool), 0 to 2**32 - 1.
    pixel_size
        µm along y and x, written so that ImageJ, Bio-Formats and this package read it: as ImageJ metadata for 8 and
        16 bits, as OME metadata for 32 (which ImageJ's own format cannot hold), as the resolution entry in PNG.
    least_bits
        Bits per pixel that are written also where fewer suffice.

    Raises
    ------
    LabelError
        If the array is no label image, or has numbers above 65535 and should become a PNG.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise LabelError(
            "label images are not written in this format",
            where=path,
            found=path.suffix or "no suffix",
            expected=", ".join(WRITTEN_SUFFIXES),
        )
    packed = _in_smallest_dtype(labels, path)
    packed = packed.astype(np.promote_types(packed.dtype, f"u{least_bits // 8}"), copy=False)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".png":
            if packed.dtype == np.uint32:
                raise LabelError(
                    "PNG holds at most 65535 labels",
                    where=path,
                    found=f"a label of {int(packed.max())}",
                    fix="write a .tif instead, or number the objects anew",
                )
            dots = {"dpi": (25_400 / pixel_size[1], 25_400 / pixel_size[0])} if pixel_size else {}
            Picture.fromarray(packed).save(temporary, "PNG", **dots)
        elif pixel_size is None:
            tifffile.imwrite(temporary, packed, photometric="minisblack", compression="zlib")
        else:
            _write_scaled_tiff(temporary, packed, pixel_size)


def _write_scaled_tiff(path: Path, packed: np.ndarray, pixel_size: tuple[float, float]) -> None:
    y, x = pixel_size
    if packed.dtype == np.uint32:
        size = {"PhysicalSizeY": y, "PhysicalSizeYUnit": "µm", "PhysicalSizeX": x, "PhysicalSizeXUnit": "µm"}
        tifffile.imwrite(
            path, packed, ome=True, photometric="minisblack", compression="zlib", metadata={"axes": "YX", **size}
        )
    else:
        tifffile.imwrite(
            path,
            packed,
            imagej=True,
            compression="zlib",
            resolution=(1 / x, 1 / y),
            metadata={"axes": "YX", "unit": "um"},
        )


def _in_smallest_dtype(labels: np.ndarray, path: Path) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui" or labels.size == 0:
        raise LabelError(
            "the array is not a label image",
            where=path,
            found=f"{labels.dtype} of shape {labels.shape}",
            expected="integers of shape (Y, X)",
        )
    lowest, highest = int(labels.min()), int(labels.max())
    for dtype in (np.uint8, np.uint16, np.uint32):
        if lowest >= 0 and highest <= np.iinfo(dtype).max:
            return np.ascontiguousarray(labels, dtype)
    raise LabelError(
        "the labels are out of range", where=path, found=f"{lowest} to {highest}", expected="0 to 4294967295"
    )


def as_label_numbers(pixels: np.ndarray, path: Path) -> np.ndarray:
    """Turn the numbers of a label image ``(Y, X)``, as they are stored, into int32; ``path`` is for errors.

    Raises
    ------
    LabelError
        If there are fractions, negative numbers, or numbers above 2147483647.
    """
    if pixels.dtype.kind == "f" and not (pixels == np.rint(pixels)).all():
        fractions = pixels[pixels != np.rint(pixels)]
        raise LabelError(
            "labels are whole numbers",
            where=path,
            found=f"{pixels.dtype} with {fractions.size} fractions, such as {fractions.flat[0]:g}",
            fix="this may be an image or a probability map rather than its labels",
        )
    lowest, highest = int(pixels.min()), int(pixels.max())
    if lowest < 0 or highest > HIGHEST:
        raise LabelError(
            "the labels are out of range",
            where=path,
            found=f"{lowest} to {highest}",
            expected=f"0 (the background) to {HIGHEST}",
            fix="give unannotated pixels the label 0" if lowest < 0 else "number the objects anew",
        )
    return np.ascontiguousarray(pixels, np.int32)
