"""Channel names and pixel size from the metadata of a TIFF file: OME, ImageJ, and the resolution tags."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import tifffile

#: Resolution without a trustworthy unit counts as a pixel size only up to this many µm. Coarser values (300 dpi are
#: 85 µm) are those of a screen or a printer, which most programs write for want of knowledge.
BELIEVABLE_RESOLUTION = 10.0

_MICROMETRES = {
    "m": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "picometer": 1e-6,
}
_INCH = {"in": 25_400.0, "inch": 25_400.0, "inches": 25_400.0}


@dataclass(frozen=True)
class TiffMetadata:
    """What the metadata tell of an image: names per channel (if any), pixel size in µm (y, x), and who says so."""

    names: tuple[str, ...] = ()
    pixel_size: tuple[float, float] | None = None
    told: tuple[str, ...] = ()


def micrometres(unit: str | None) -> float | None:
    """Length of a unit in µm; None for what is no length (``pixel``, ``reference frame``).

    Examples
    --------
    >>> micrometres("nm"), micrometres("micron"), micrometres("pixel")
    (0.001, 1.0, None)
    """
    name = (unit or "").strip().replace("\\u00B5", "µ").replace("μ", "µ").casefold().replace("μ", "µ")
    name = name.replace("metre", "meter")
    return _MICROMETRES.get(name, _INCH.get(name))


def read_metadata(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, chosen: Sequence[int]) -> TiffMetadata:
    """Gather channel names and pixel size.

    Parameters
    ----------
    tif, series
        The file and the image in it.
    chosen
        Numbers of the pages that are read, in their order.
    """
    names: tuple[str, ...] = ()
    size: tuple[float, float] | None = None
    told: list[str] = []
    if series.kind == "ome" and tif.ome_metadata:
        names, size = _ome(tif.ome_metadata, tif.series.index(series))
        told += ["the pixel size is told by the OME metadata"] * (size is not None)
    elif tif.is_ome:
        told.append("the OME metadata are damaged or incomplete and were not used")
    if tif.is_imagej and series.kind != "imagej":
        told.append("the ImageJ metadata do not fit the pages and were not used")
    elif tif.is_imagej and tif.imagej_metadata:
        names = names or _imagej_names(tif.imagej_metadata, chosen)
        if size is None:
            size = _imagej_size(tif, tif.imagej_metadata)
            told += ["the pixel size is told by the ImageJ metadata"] * (size is not None)
    if size is None and tif.is_svs:
        size = _svs_size(tif)
        told += ["the pixel size is told by the scanner's description"] * (size is not None)
    if size is None:
        size, sentence = _resolution_size(tif)
        told += [sentence] if sentence else []
    return TiffMetadata(names, size, tuple(told))


def _svs_size(tif: tifffile.TiffFile) -> tuple[float, float] | None:
    """µm per pixel from the description of a slide scanner: ``Aperio Image Library … |MPP = 0.2520|…``."""
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", tif.pages.first.description[:100_000])
    size = _positive(found[1]) if found else None
    return (size, size) if size else None


def _ome(xml: str, index: int) -> tuple[tuple[str, ...], tuple[float, float] | None]:
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:  # OME metadata have none; entities can blow up
        return (), None
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError):
        return (), None
    pixels = list(_elements(root, "Pixels"))
    if index >= len(pixels):
        return (), None
    attributes = pixels[index].attrib
    names: list[str] = []
    for number, channel in enumerate(_elements(pixels[index], "Channel")):
        name = (channel.get("Name") or channel.get("Fluor") or "").strip() or f"channel {number}"
        names += [name] * max(1, _whole(channel.get("SamplesPerPixel")))
    x, y = (_ome_length(attributes, axis) for axis in "XY")
    x, y = x or y, y or x
    return tuple(names), (y, x) if x and y else None


def _ome_length(attributes: Mapping[str, str], axis: str) -> float | None:
    unit = micrometres(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
    length = _positive(attributes.get(f"PhysicalSize{axis}"))
    return length * unit if length and unit else None


def _elements(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (element for element in root.iter() if element.tag.rsplit("}", 1)[-1] == name)


def _imagej_names(metadata: Mapping[str, Any], chosen: Sequence[int]) -> tuple[str, ...]:
    """Channel names from the labels of the slices, if each chosen slice has one of its own."""
    labels = metadata.get("Labels")
    if not isinstance(labels, list | tuple) or not chosen or max(chosen) >= len(labels):
        return ()
    # Bio-Formats writes "c:2/3 z:1/5 - DAPI".
    names = [re.sub(r"^(?:[czt]:\d+/\d+\s*)+(?:-\s*)?", "", str(labels[page])).strip() for page in chosen]
    return tuple(names) if all(names) and len(set(names)) == len(names) else ()


def _imagej_size(tif: tifffile.TiffFile, metadata: Mapping[str, Any]) -> tuple[float, float] | None:
    name = str(metadata.get("unit") or "")
    unit = micrometres(name)
    if unit is None or name.casefold() in _INCH:
        return None
    x, y = (_pixel_length(tif, tag) for tag in ("XResolution", "YResolution"))
    y_name = metadata.get("yunit")
    y_unit = micrometres(str(y_name)) if y_name else unit
    if not x or not y or y_unit is None:
        return None
    return y * y_unit, x * unit


def _resolution_size(tif: tifffile.TiffFile) -> tuple[tuple[float, float] | None, str]:
    tags = tif.pages.first.tags
    unit = {2: 25_400.0, 3: 10_000.0}.get(int(tags.valueof("ResolutionUnit", 2) or 0))
    x, y = (_pixel_length(tif, tag) for tag in ("XResolution", "YResolution"))
    if unit is None or not x or not y:
        return None, ""
    return believable_size(y * unit, x * unit, "resolution tags")


def believable_size(y: float, x: float, who: str) -> tuple[tuple[float, float] | None, str]:
    """Take a resolution for a pixel size only where it is as fine as a microscope's, and say which.

    Examples
    --------
    >>> believable_size(0.5, 0.5, "resolution tags")
    ((0.5, 0.5), 'the pixel size is told by the resolution tags')
    >>> believable_size(84.67, 84.67, "resolution tags")[0] is None
    True
    """
    if max(y, x) <= BELIEVABLE_RESOLUTION:
        return (y, x), f"the pixel size is told by the {who}"
    return None, f"the {who} tell {25_400 / x:.3g} dpi, a screen's or printer's, so no pixel size"


def _pixel_length(tif: tifffile.TiffFile, tag: str) -> float | None:
    """Length of a pixel in the unit of the resolution tag, which holds pixels per unit as a fraction."""
    value = tif.pages.first.tags.valueof(tag)
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    return _positive(value[1] / value[0]) if value[0] else None


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _whole(value: str | None) -> int:
    return int(value) if value and value.isdecimal() else 1
