"""The object table: one row per object, with its place, size, shape and brightness."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cytomask.errors import ConfigError, LabelError, OutputError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring import shape_kernels as kernels
from cytomask.measuring.column_names import safe_names
from cytomask.measuring.intensities import intensities
from cytomask.output import replacing

#: A cell that begins so is taken for a formula by spreadsheet programs.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")


def measure(
    instances: Instances, image: Image | None = None, pixel_size: float | tuple[float, float] | None = None
) -> pd.DataFrame:
    """Measure every object.

    Parameters
    ----------
    instances
        The objects; they may overlap, and each is measured by itself.
    image
        The image that they lie in, for its name, pixel size and intensities.
    pixel_size
        µm per pixel, or µm along y and x, instead of the image's.

    Returns
    -------
    pandas.DataFrame
        One row per object in the order of ``instances``; an empty table has the same columns.

        - ``image`` (file name, where known), ``id`` (its value in the label image), ``class`` (name), ``score``
        - ``area_px``; ``centroid_y``, ``centroid_x`` in pixels, the first pixel's centre being 0
        - ``box_y0``, ``box_x0``, ``box_y1``, ``box_x1``: the first row and column, and those after the last
        - ``equivalent_diameter_px``: of the circle of the same area
        - ``major_axis_px``, ``minor_axis_px``: of the ellipse with the same second moments
        - ``orientation``: radians from -π/2 to π/2 between the y axis and the major axis
        - ``eccentricity``: of the ellipse, 0 for a circle
        - ``solidity``: area over that of the convex hull
        - ``perimeter_px``, and ``circularity`` = 4π area / perimeter²: 1 for a disc, less for other shapes, and
          unreliable (even above 1) below some 10 px of diameter. NaN where the perimeter is 0 (one or two pixels).
        - ``intensity_mean_NAME``, ``intensity_min_NAME``, ``intensity_max_NAME`` of each channel, in the image's own
          values
        - ``touches_border``: whether the object reaches the image's edge, and so may be cut off
        - with a pixel size: ``centroid_y_um``, ``centroid_x_um``, ``area_um2``, ``equivalent_diameter_um``,
          ``major_axis_um``, ``minor_axis_um``, ``perimeter_um``

        An object without pixels has an area of 0 and NaN for what is then not defined.

    Raises
    ------
    LabelError
        If image and objects differ in size.
    ConfigError
        If the pixel size is not a positive length.

    Notes
    -----
    Everything in pixels is what :func:`skimage.measure.regionprops_table` gives; the perimeter is that of Benkrid and
    Crookes. There are two differences. An object without an orientation (as wide as high) gets one that does not
    depend on rounding. And where pixels are longer one way than the other, all that is in µm, the orientation, the
    eccentricity and the circularity describe the true shape and not its pixels; scikit-image does the same with
    ``spacing``, but gives no perimeter then.

    Examples
    --------
    >>> labels = np.zeros((20, 30), np.int32)
    >>> labels[5:9, 10:20] = 7
    >>> table = measure(Instances.from_labels(labels), pixel_size=0.5)
    >>> table[["id", "area_px", "centroid_y", "perimeter_px", "area_um2", "touches_border"]]
       id  area_px  centroid_y  perimeter_px  area_um2  touches_border
    0   7       40         6.5          24.0      10.0           False
    """
    if image is not None and tuple(image.shape) != tuple(instances.shape):
        raise LabelError(
            "image and objects differ in size",
            where=image.source,
            found=f"objects of an image of {instances.shape[0]} x {instances.shape[1]} px (y by x)",
            expected=f"{image.height} x {image.width} px",
        )
    if pixel_size is None and image is not None:
        pixel_size = image.pixel_size
    size = None if pixel_size is None else _pair(pixel_size)
    size_y, size_x = size or (1.0, 1.0)
    sums, perimeters = kernels.shape_sums(
        instances.windows.astype(np.int64), instances.bits, instances.offsets, size_y, size_x
    )
    areas, whole = sums[:, kernels.AREA], sums.astype(np.float64)
    known = np.where(areas > 0, areas, np.nan)
    dy, dx = whole[:, kernels.SY] / known, whole[:, kernels.SX] / known
    yy = whole[:, kernels.SYY] / known - dy * dy
    xx = whole[:, kernels.SXX] / known - dx * dx
    yx = whole[:, kernels.SYX] / known - dy * dx
    major_px, minor_px, *_ = _ellipse(yy, xx, yx)
    major, minor, eccentricity, orientation = _ellipse(yy * size_y**2, xx * size_x**2, yx * size_y * size_x)
    boxes = sums[:, [kernels.Y0, kernels.X0, kernels.Y1, kernels.X1]]
    height, width = instances.shape

    columns: dict[str, object] = {}
    if image is not None and image.source is not None:
        columns["image"] = _text([Path(image.source).name] * len(instances))
    columns["id"] = instances.ids.astype(np.int64)
    columns["class"] = _text([instances.class_names[c - 1] for c in instances.classes])
    columns["score"] = instances.scores.astype(np.float32)
    columns["area_px"] = areas
    columns["centroid_y"] = sums[:, kernels.CY] + dy
    columns["centroid_x"] = sums[:, kernels.CX] + dx
    columns.update(zip(("box_y0", "box_x0", "box_y1", "box_x1"), boxes.T))
    columns["equivalent_diameter_px"] = np.sqrt(4 / math.pi * areas)
    columns["major_axis_px"], columns["minor_axis_px"] = major_px, minor_px
    columns["orientation"], columns["eccentricity"] = orientation, eccentricity
    columns["solidity"] = known / np.maximum(sums[:, kernels.HULL], 1)
    columns["perimeter_px"] = np.where(areas > 0, perimeters[:, 0], np.nan)
    long = np.where(perimeters[:, 1] > 0, perimeters[:, 1], np.nan)
    columns["circularity"] = 4 * math.pi * areas * size_y * size_x / long**2
    if image is not None:
        mean, least, greatest = intensities(instances, image, areas)
        for c, name in enumerate(safe_names(image.channels)):
            columns[f"intensity_mean_{name}"] = mean[:, c]
            columns[f"intensity_min_{name}"] = least[:, c]
            columns[f"intensity_max_{name}"] = greatest[:, c]
    at_edge = (boxes[:, 0] == 0) | (boxes[:, 1] == 0) | (boxes[:, 2] == height) | (boxes[:, 3] == width)
    columns["touches_border"] = at_edge & (areas > 0)
    if size is not None:
        columns["centroid_y_um"] = columns["centroid_y"] * size_y  # type: ignore[operator]
        columns["centroid_x_um"] = columns["centroid_x"] * size_x  # type: ignore[operator]
        columns["area_um2"] = areas * size_y * size_x
        columns["equivalent_diameter_um"] = np.sqrt(4 / math.pi * areas * size_y * size_x)
        columns["major_axis_um"], columns["minor_axis_um"] = major, minor
        columns["perimeter_um"] = np.where(areas > 0, perimeters[:, 1], np.nan)
    return pd.DataFrame(columns)


def write_table(path: str | Path, table: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
    r"""Write a table as CSV or Parquet, as the file's suffix says; it appears complete or not at all.

    A table too large for memory may come in parts, at least one, of the same columns; only one is held at a time.

    In a CSV, numbers have up to ten digits. A text that a spreadsheet program would take for a formula (a file or class
    name beginning with ``=``, ``+``, ``-`` or ``@``) gets an apostrophe before it. Parquet holds everything as it is.

    Raises
    ------
    OutputError
        If the suffix is neither, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "objects.csv"
    >>> write_table(path, pd.DataFrame({"class": ["=1+1"], "area_px": [12]}))
    >>> path.read_text()
    "class,area_px\n'=1+1,12\n"
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise OutputError(
            "the format of the table is not known",
            where=target,
            found=suffix or "no suffix",
            expected=".csv or .parquet",
        )
    parts = iter((table,) if isinstance(table, pd.DataFrame) else table)
    with replacing(target) as temporary:
        if suffix == ".parquet":
            _write_parquet(temporary, parts)
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            for number, part in enumerate(parts):
                safe = part.rename(columns=_defused)
                for name in safe.columns:
                    if not (pd.api.types.is_numeric_dtype(safe[name]) or pd.api.types.is_bool_dtype(safe[name])):
                        safe[name] = safe[name].map(_defused)
                safe.to_csv(file, index=False, header=number == 0, float_format="%.10g", lineterminator="\n")


def _write_parquet(path: Path, parts: Iterator[pd.DataFrame]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    first = pa.Table.from_pandas(next(parts), preserve_index=False)
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for part in parts:
            writer.write_table(pa.Table.from_pandas(part, schema=first.schema, preserve_index=False))


def _defused(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _pair(pixel_size: float | tuple[float, float]) -> tuple[float, float]:
    size = np.broadcast_to(np.asarray(pixel_size, float), 2) if np.size(pixel_size) in (1, 2) else np.zeros(2)
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise ConfigError(
            "the pixel size is not a length",
            where="pixel_size",
            found=pixel_size,
            expected="µm per pixel, or µm along y and x, each above 0",
        )
    return float(size[0]), float(size[1])


def _ellipse(yy: np.ndarray, xx: np.ndarray, yx: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Axes, eccentricity and orientation of the ellipses with these second moments."""
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    large, small = middle + spread, np.maximum(middle - spread, 0)
    ratio = np.divide(small, large, out=np.ones_like(large), where=~(large == 0))
    orientation = np.where(yy == xx, np.copysign(math.pi / 4, np.where(yx > 0, 1, -1)), np.arctan2(2 * yx, yy - xx) / 2)
    return 4 * np.sqrt(large), 4 * np.sqrt(small), np.sqrt(1 - ratio), np.where(np.isnan(yy), np.nan, orientation)


def _text(values: Sequence[str]) -> pd.Series:
    return pd.Series(list(values), dtype="string")
