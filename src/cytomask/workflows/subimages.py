"""Cut crops around regions of interest: a data set of small images, with labels, masks, previews and empty windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cytomask.errors import ChannelError, CytomaskError, DataError, ImageError, LabelError
from cytomask.output import new_folder
from cytomask.progress import track, warn
from cytomask.workflows.cutting.cutter import CropOptions, Cutter
from cytomask.workflows.cutting.inputs import open_inputs
from cytomask.workflows.cutting.tables import write_tables


@dataclass
class SubimageSummary:
    """What was cut.

    Attributes
    ----------
    folder
        Where the crops are.
    images
        How many images crops were cut from.
    crops, negatives
        How many crops of regions, and of windows without anything.
    data_set
        Whether the folder is a data set to train on.
    without
        Images without regions, which were left out.
    failed
        Images that could not be done, and why.
    """

    folder: Path
    images: int = 0
    crops: int = 0
    negatives: int = 0
    data_set: bool = False
    without: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, CytomaskError]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The summary for people."""
        crops = "1 crop" if self.crops == 1 else f"{self.crops} crops"
        images = "1 image" if self.images == 1 else f"{self.images} images"
        empty = f" and {self.negatives} without objects" if self.negatives else ""
        lines = [f"{crops}{empty} from {images}: {self.folder}"]
        if self.data_set:
            lines.append(f"train on them with: cytomask train EXPERIMENT --data {self.folder}")
        return lines


def cut_subimages(
    images: Sequence[str | Path],
    out: str | Path,
    *,
    regions: str | Path | None = None,
    regions_format: str | None = None,
    labels: str | Path | None = None,
    label_suffix: str = "",
    options: CropOptions | None = None,
    axes: str | None = None,
    plane: int | None = None,
) -> SubimageSummary:
    """Cut crops around the regions of interest of images into a new folder.

    Written are ``images/NAME_001.ome.tif`` with all channels in their own depth, and, as far as they are asked for or
    known, ``labels/``, ``masks/``, ``previews/``, ``voc/`` and ``rois/``; subfolders of the images stay. The table
    ``subimages.csv`` tells where each crop comes from. Where labels are known the folder is a data set, in which all
    crops of one image are in the same split. The folder appears complete, or not at all.

    Parameters
    ----------
    images
        Files, folders (with their subfolders), patterns; or a data set.
    out
        The folder; it must be new or empty.
    regions
        A file or folder of regions: ImageJ's zips, tables ``NAME--labels.txt``, annotations of any format, or a data
        set, each of whose objects is a region. None looks beside the images.
    regions_format
        Format of annotations; None tells it by their content.
    labels
        Objects to cut labels from: a folder of label images, annotations of any format, or a data set. None takes the
        regions, where they are outlines.
    label_suffix
        Label images lie beside the images, or in the folder ``labels``, and have this behind their name: ``_seg``.
    options
        How crops are cut.
    axes, plane
        As for :func:`~cytomask.formats.images.read_image`.

    Raises
    ------
    DataError
        If no image has regions.
    ImageError, LabelError, ChannelError
        If the only image cannot be done.
    ConfigError
        If an option is wrong.
    OutputError
        If the folder is not empty or cannot be written to.
    """
    options = options or CropOptions()
    inputs = open_inputs(images, regions, regions_format, labels, label_suffix)
    alone = len(inputs.sources) == 1
    summary = SubimageSummary(Path(out))
    with new_folder(out) as folder:
        cutter = Cutter(options, folder, inputs.labels.classes if inputs.labels is not None else ())
        for source in track(inputs.sources, "cutting"):
            try:
                crops = inputs.read(source, axes, plane)
                if crops is None:
                    summary.without.append(source.path)
                    continue
                cutter.cut(source, crops)
            except (ImageError, LabelError, DataError, ChannelError) as error:
                if alone:
                    raise
                warn(f"{source.path.name} is left out: {error}")
                summary.failed.append((source.path, error))
                continue
            summary.images += 1
        _tell_without(summary.without, len(inputs.sources))
        if not summary.images:
            raise summary.failed[0][1] if summary.failed else _no_regions(images, regions)
        summary.data_set = write_tables(cutter, summary.folder.resolve().name)
    counts = Counter(row["region"] == "" for row in cutter.rows)
    summary.crops, summary.negatives = counts[False], counts[True]
    return summary


def _tell_without(without: list[Path], total: int) -> None:
    if without and len(without) < total:
        names = ", ".join(path.name for path in without[:5]) + (", …" if len(without) > 5 else "")
        warn(f"{len(without)} of {total} images have no regions and are left out: {names}")


def _no_regions(images: Sequence[str | Path], regions: str | Path | None) -> DataError:
    return DataError(
        "there are no regions of interest for the images", where=regions if regions is not None else images[0],
        expected="NAME--ROI.zip, NAME_rois.zip, NAME--labels.txt, RoiSet.zip or annotations beside the images",
        fix="save the regions in ImageJ's ROI Manager under the image's name, or name them with --regions",
    )  # fmt: skip
