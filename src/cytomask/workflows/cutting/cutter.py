"""Cut the crops of images and write their files."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import ConfigError, CytomaskError, LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.region_boxes import RegionBox, write_box_table, write_roi_boxes
from cytomask.formats.label_images import write_labels
from cytomask.formats.ome_tiff import write_ome_tiff
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.progress import say
from cytomask.workflows.cutting.files import Previews, cropped, write_mask, write_voc
from cytomask.workflows.cutting.inputs import CropInput
from cytomask.workflows.cutting.sources import Source
from cytomask.workflows.cutting.windows import Window, empty_windows, window_around


@dataclass(frozen=True)
class CropOptions:
    """How crops are cut, and what is written of each.

    Attributes
    ----------
    margin
        Pixels around each region's box.
    size
        Height and width of windows centred on the regions, in place of boxes and margins; None for boxes.
    clip
        Whether such windows are clipped at the image's border, rather than moved inside.
    channels
        Channels to write, in this order; None for all.
    preview
        One to three channels of a JPEG preview; empty for none.
    binary
        Whether binary masks are written.
    negatives
        How many windows per image that touch no region and no object.
    seed
        For these windows.
    voc
        Whether the boxes are written as Pascal VOC.
    rois
        Whether each image's regions are written as ImageJ's zip and as a table of boxes.

    Raises
    ------
    ConfigError
        If a number is negative, or both a margin and a size are given.
    """

    margin: int = 0
    size: tuple[int, int] | None = None
    clip: bool = False
    channels: Sequence[str | int] | None = None
    preview: Sequence[str | int] = ()
    binary: bool = False
    negatives: int = 0
    seed: int = 0
    voc: bool = False
    rois: bool = False

    def __post_init__(self) -> None:
        if min(self.margin, self.negatives, self.seed) < 0:
            raise ConfigError("a number is negative", where="--margin, --negatives, --seed", expected="0 or more")
        if self.size is not None and self.margin:
            raise ConfigError(
                "a window of fixed size has no margin", where="--margin", found=f"{self.margin}, with --size",
                fix="leave out one of the two",
            )  # fmt: skip


class Cutter:
    """Cuts the crops of one image after the other.

    Parameters
    ----------
    options
        How.
    folder
        Where to.
    classes
        Classes that come first, whether objects have them or not.

    Attributes
    ----------
    rows
        A row for each crop, of what ``subimages.csv`` tells.
    annotations
        The objects of each crop with labels, whole where they overlap.
    classes
        The classes of all objects, in the order in which they are met.
    hidden
        Pixels of objects that lie under others in the crops' labels.
    """

    def __init__(self, options: CropOptions, folder: Path, classes: Sequence[str] = ()) -> None:
        self.options, self.folder = options, folder
        self.rows: list[dict[str, Any]] = []
        self.annotations: list[Annotation] = []
        self.classes = dict.fromkeys(classes)
        self.hidden = 0
        self._written: list[Path] = []

    def cut(self, source: Source, crops: CropInput) -> None:
        """Write the crops of an image; if it cannot be done, nothing of it stays."""
        state = len(self.rows), len(self.annotations), self.hidden
        self._written = []
        try:
            self._cut(source, crops)
        except CytomaskError:
            for path in self._written:
                path.unlink(missing_ok=True)
            del self.rows[state[0] :], self.annotations[state[1] :]
            self.hidden = state[2]
            raise

    def _cut(self, source: Source, crops: CropInput) -> None:
        options, image, regions = self.options, crops.image, crops.regions.boxes
        whole = image if options.channels is None else image.select([image.channel_index(c) for c in options.channels])
        previews = Previews(image, options.preview) if options.preview else None
        cuts: list[tuple[str, RegionBox | None, Window]] = []
        digits = max(3, len(str(len(regions))))
        for number, region in enumerate(regions, start=1):
            window = window_around(region.box, image.shape, margin=options.margin, size=options.size, clip=options.clip)
            if window is None:
                raise _outside(region, crops)
            cuts.append((f"{source.name}_{number:0{digits}d}", region, window))
        leaving = sum(region.box != _clipped(region.box, image.shape) for region in regions)
        if leaving:
            say(f"{source.path.name}: {leaving} of {len(regions)} regions leave the image and are clipped")
        cuts += self._empty(source, crops, [window for _, _, window in cuts])
        if options.rois:
            boxes = [RegionBox(one.name, one.class_name, _clipped(one.box, image.shape)) for one in regions]
            write_roi_boxes(self._place("rois", source.name, "--ROI.zip"), boxes)
            write_box_table(self._place("rois", source.name, "--labels.txt"), boxes)
        for name, one, window in cuts:
            row = {
                "name": name,
                "source": str(source.path),
                "region": one.name if one is not None else "",
                "class": one.class_name if one is not None else "",
                **dict(zip(("y0", "x0", "y1", "x1"), window)),
                "clipped": int(one is not None and one.box != _clipped(one.box, image.shape)),
                "split": source.split or "",
            }
            inside = crops.objects.cropped(*window) if crops.objects is not None and one is not None else None
            files = self._write(name, window, whole, inside, labelled=inside is not None or one is None)
            if previews is not None:
                files["preview"] = self._place("previews", name, ".jpg")
                previews.write(files["preview"], window)
            if options.voc:
                files["voc"] = self._place("voc", name, ".xml")
                write_voc(files["voc"], files["image"].name, whole, window, regions)
            self.rows.append({**row, **{k: path.relative_to(self.folder).as_posix() for k, path in files.items()}})

    def _empty(
        self, source: Source, crops: CropInput, windows: list[Window]
    ) -> list[tuple[str, RegionBox | None, Window]]:
        """Windows that touch neither regions nor objects, of the sizes of the regions' windows."""
        wanted = self.options.negatives
        if not wanted:
            return []
        taken = [region.box for region in crops.regions.boxes]
        if crops.objects is not None:
            taken += [(int(a), int(b), int(c), int(d)) for a, b, c, d in crops.objects.windows.tolist()]
        sizes = [(y1 - y0, x1 - x0) for y0, x0, y1, x1 in windows]
        # The windows of an image hang on its name and the seed, not on the other images.
        rng = np.random.default_rng([self.options.seed, zlib.crc32(source.name.encode("utf-8", "surrogateescape"))])
        found = empty_windows(crops.image.shape, taken, sizes, wanted, rng)
        if len(found) < wanted:
            say(f"{source.path.name}: there is room for {len(found)} of {wanted} windows that touch nothing")
        return [(f"{source.name}_empty_{i:03d}", None, window) for i, window in enumerate(found, start=1)]

    def _write(
        self, name: str, window: Window, image: Image, inside: Instances | None, *, labelled: bool
    ) -> dict[str, Path]:
        """Write the image of a crop and, if they are known, its labels; without objects they are black."""
        files = {"image": self._place("images", name, ".ome.tif")}
        write_ome_tiff(files["image"], cropped(image, window))
        if not labelled:
            return files
        y0, x0, y1, x1 = window
        labels = np.zeros((y1 - y0, x1 - x0), np.int32) if inside is None else inside.to_labels()
        files["labels"] = self._place("labels", name, ".tif")
        write_labels(files["labels"], labels, image.pixel_size)
        if self.options.binary:
            files["mask"] = self._place("masks", name, ".png")
            write_mask(files["mask"], labels > 0)
        objects = inside if inside is not None else Instances.empty(labels.shape)
        self.annotations.append(Annotation(name, objects, file_name=f"{name}.ome.tif", image=files["image"]))
        if inside is not None:
            self.hidden += int(inside.areas().sum()) - int(np.count_nonzero(labels))
            self.classes.update(dict.fromkeys(inside.class_names))
        return files

    def _place(self, folder: str, name: str, ending: str) -> Path:
        path = self.folder / folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written.append(path)
        return path


def _outside(region: RegionBox, crops: CropInput) -> LabelError:
    y0, x0, y1, x1 = region.box
    height, width = crops.image.shape
    return LabelError(
        "a region lies outside the image", where=crops.place,
        found=f"{region.name}: {x1 - x0} x {y1 - y0} pixels at x {x0}, y {y0}",
        expected=f"a part of it within {width} x {height} pixels (x by y)",
        fix="delete it, or make sure that the regions are of this image",
    )  # fmt: skip


def _clipped(box: Window, shape: tuple[int, int]) -> Window:
    return max(box[0], 0), max(box[1], 0), min(box[2], shape[0]), min(box[3], shape[1])
