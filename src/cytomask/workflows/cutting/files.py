"""The files of a crop: the image, its labels, a binary mask, a preview, and the boxes in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image as Picture

from cytomask.errors import ConfigError
from cytomask.formats.annotations.region_boxes import RegionBox
from cytomask.image import Image
from cytomask.output import replacing
from cytomask.workflows.cutting.windows import Window

#: Percentiles of a channel that become black and white in previews.
STRETCH = (0.5, 99.8)
QUALITY = 90
#: So many values along each axis are looked at to find them.
_SAMPLED_SIDE = 1024


def cropped(image: Image, window: Window) -> Image:
    """The part of an image in a window, in memory."""
    y0, x0, y1, x1 = window
    return replace(image, pixels=np.array(image.window(y0, y1, x0, x1)))


class Previews:
    """8-bit views of an image's crops, all stretched alike.

    Parameters
    ----------
    image
        The whole image, which tells what becomes black and white.
    channels
        One channel, shown in grey; two, in magenta and green; or three, in red, green and blue.

    Raises
    ------
    ConfigError
        If there are none, or more than three.
    ChannelError
        If the image has no such channel.

    Examples
    --------
    >>> image = Image.from_array(np.arange(1024, dtype=np.uint16).reshape(32, 32))
    >>> picture = Previews(image, [0]).picture((0, 0, 32, 8))
    >>> picture.shape, picture.dtype, int(picture.min()), int(picture[-1, -1])
    ((32, 8), dtype('uint8'), 0, 249)
    """

    def __init__(self, image: Image, channels: Sequence[str | int]) -> None:
        if not 1 <= len(channels) <= 3:
            raise ConfigError(
                "a preview has one to three channels", where="--preview", found=", ".join(map(str, channels)) or "none",
                fix="name one (grey), two (magenta and green) or three (red, green, blue)",
            )  # fmt: skip
        self.image = image.select([image.channel_index(channel) for channel in channels])
        values = self.image.sampled(-(-max(image.shape) // _SAMPLED_SIDE)).reshape(len(channels), -1)
        self.limits = [tuple(float(v) for v in np.percentile(plane, STRETCH)) for plane in values]
        if image.rgb and len(channels) == 3:
            self.limits = [(min(low for low, _ in self.limits), max(high for _, high in self.limits))] * 3

    def picture(self, window: Window) -> np.ndarray:
        """The view of a window, uint8 ``(Y, X)`` or ``(Y, X, 3)``."""
        y0, x0, y1, x1 = window
        planes = []
        for plane, (low, high) in zip(self.image.window(y0, y1, x0, x1), self.limits):
            stretched = (plane.astype(np.float32) - np.float32(low)) * np.float32(255 / max(high - low, 1e-12))
            planes.append(np.clip(stretched, 0, 255).astype(np.uint8))
        if len(planes) == 1:
            return planes[0]
        return np.stack([planes[0], planes[1], planes[2 if len(planes) == 3 else 0]], axis=-1)

    def write(self, path: Path, window: Window) -> None:
        """Write the view of a window as JPEG."""
        with replacing(path) as temporary:
            Picture.fromarray(self.picture(window)).save(temporary, "JPEG", quality=QUALITY)


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write a binary mask ``(Y, X)``: 255 where it is true, 0 elsewhere."""
    with replacing(path) as temporary:
        Picture.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(temporary, "PNG")


def write_voc(path: Path, file_name: str, image: Image, window: Window, regions: Sequence[RegionBox]) -> None:
    """Write the boxes in a window as Pascal VOC: pixels counted from 1, both ends included, cut boxes marked.

    Parameters
    ----------
    path
        The XML file.
    file_name
        The crop's.
    image
        The whole image.
    window
        The crop's window.
    regions
        All regions of the image; of those that have no part in the window nothing is told.
    """
    y0, x0, y1, x1 = window
    root = ElementTree.Element("annotation")
    _add(root, "folder", "images")
    _add(root, "filename", file_name)
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", x1 - x0), ("height", y1 - y0), ("depth", image.n_channels)):
        _add(size, name, value)
    _add(root, "segmented", 0)
    for region in regions:
        top, left, bottom, right = region.box
        inside = (max(top, y0), max(left, x0), min(bottom, y1), min(right, x1))
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            continue
        one = ElementTree.SubElement(root, "object")
        _add(one, "name", region.class_name)
        _add(one, "pose", "Unspecified")
        _add(one, "truncated", int(inside != region.box))
        _add(one, "difficult", 0)
        box = ElementTree.SubElement(one, "bndbox")
        corners = inside[1] - x0 + 1, inside[0] - y0 + 1, inside[3] - x0, inside[2] - y0
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), corners):
            _add(box, name, value)
    ElementTree.indent(root)
    with replacing(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8")


def _add(parent: ElementTree.Element, name: str, value: object) -> None:
    # XML cannot hold control characters, whatever a region's class is called.
    ElementTree.SubElement(parent, name).text = "".join(c if c.isprintable() else " " for c in str(value))
