"""What prediction writes: the kinds, the files of each, and those of one image in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cytomask.errors import ConfigError
from cytomask.formats.annotations.imagej_files import write_regions
from cytomask.formats.label_images import write_labels
from cytomask.formats.ome_tiff import write_ome_tiff
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.table import measure, write_table
from cytomask.output import replacing
from cytomask.reporting.overlay import OverlayStyle, write_png
from cytomask.workflows.measure_tables import relations_of
from cytomask.workflows.predicting.class_masks import class_file_names, class_mask_files, write_class_masks
from cytomask.workflows.predicting.result_names import RECORD_NAME

#: What can be written of each image, and the file's name; of class masks that of a mask.
OUTPUTS = {
    "labels": "NAME_labels.tif",
    "overlay": "NAME_overlay.png",
    "table": "NAME_objects.csv",
    "rois": "NAME_rois.zip",
    "relations": "NAME_relations.csv",
    "probabilities": "NAME_probabilities.ome.tif",
    "class-masks": "class_masks/NAME_CLASS_mask.png",
}
#: What can be written for all images together, and the files' names.
SHARED_OUTPUTS = {
    "coco": ("predictions.json",),
    "recognized-objects": ("output_recognized_objects.csv",),
    "charts": ("objects_per_class.png", "area_per_class.png"),
    "submission": ("submission.zip",),
}
KINDS = (*OUTPUTS, *SHARED_OUTPUTS)
#: What is written when nothing else is asked for.
USUAL = ("labels", "overlay", "table", "coco")
#: The label image of an image that is worked through on disk.
GIANT_LABELS = "NAME_labels.ome.zarr"
TABLE_FORMATS = ("csv", "parquet")
#: Kinds that are tables, and the ends of their names.
_TABLES = {"table": "objects", "relations": "relations"}
#: Longer overlays are shrunk: few viewers open them.
OVERLAY_SIDE = 10_000


@dataclass(frozen=True)
class Outputs:
    """What is to be written, and where.

    Attributes
    ----------
    folder
        Folder of the results.
    save
        Kinds, of ``KINDS``.
    table_format
        ``"csv"`` or ``"parquet"``.
    style
        How overlays look.
    class_names
        For each image's name, those of its files of each class.

    Raises
    ------
    ConfigError
        If there is no such kind or table format.
    """

    folder: Path
    save: tuple[str, ...] = USUAL
    table_format: str = "csv"
    style: OverlayStyle = field(default_factory=OverlayStyle)
    class_names: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.save if kind not in KINDS]
        if unknown or not self.save:
            raise ConfigError(
                "what to save is not known",
                where="--save",
                found=", ".join(unknown) or "nothing",
                expected=", ".join(KINDS),
            )
        if self.table_format not in TABLE_FORMATS:
            raise ConfigError(
                "there is no such table format",
                where="--table-format",
                found=self.table_format,
                expected=" or ".join(TABLE_FORMATS),
            )

    def of_run(self, names: Sequence[str], classes: Sequence[str]) -> Outputs:
        """The same with file names for the images and classes of a run.

        Examples
        --------
        >>> plan = Outputs(Path("out"), ("labels", "class-masks")).of_run(["a"], ["cell"])
        >>> [path.as_posix() for path in (*plan.of_image("a").values(), *plan.of_classes("a"))]
        ['out/a_labels.tif', 'out/class_masks/a_cell_mask.png', 'out/class_masks/a_cell_labels.tif']
        """
        return replace(self, class_names=class_file_names(names, classes))

    @property
    def lines(self) -> bool:
        """Whether something is made of all objects of all images."""
        return any(kind in self.save for kind in SHARED_OUTPUTS)

    def of_image(self, name: str, *, on_disk: bool = False) -> dict[str, Path]:
        """The file of each kind that an image has one of."""
        tables = {kind: f"NAME_{name}.{self.table_format}" for kind, name in _TABLES.items()}
        endings = {**OUTPUTS, **tables}
        if on_disk:
            endings["labels"] = GIANT_LABELS
        left_out = ("class-masks", "relations") if on_disk else ("class-masks",)
        kinds = [kind for kind in OUTPUTS if kind in self.save and kind not in left_out]
        return {kind: self.folder / endings[kind].replace("NAME", name, 1) for kind in kinds}

    def of_classes(self, name: str, *, on_disk: bool = False) -> list[Path]:
        """The files of each class of an image."""
        if "class-masks" not in self.save:
            return []
        return class_mask_files(self.folder, self.class_names[name], on_disk=on_disk)

    def shared(self) -> list[Path]:
        """The files for all images together."""
        return [self.folder / name for kind, names in SHARED_OUTPUTS.items() if kind in self.save for name in names]

    def targets(self, names: Sequence[str], on_disk: bool | None) -> list[Path]:
        """All files and folders that may be written."""
        ways = (False, True) if on_disk is None else (on_disk,)
        of_images = [
            path
            for name in names
            for way in ways
            for path in (*self.of_image(name, on_disk=way).values(), *self.of_classes(name, on_disk=way))
        ]
        return [*of_images, self.folder / RECORD_NAME, *self.shared()]

    def write(
        self,
        name: str,
        instances: Instances,
        image: Image,
        channels: Sequence[str | int] | None,
        probabilities: np.ndarray | None = None,
    ) -> None:
        """Write what is wanted of one image; large arrays live only as long as their file is written."""
        files = self.of_image(name)
        if "labels" in files:
            write_labels(files["labels"], instances.to_labels("smallest"), image.pixel_size)
        if "overlay" in files:
            write_png(files["overlay"], self.style.draw(image, instances, channels=channels, max_side=OVERLAY_SIDE))
        if "table" in files:
            write_table(files["table"], measure(instances, image))
        if "relations" in files:
            write_table(files["relations"], relations_of(instances, image))
        if "rois" in files:
            with replacing(files["rois"]) as temporary:
                write_regions(temporary, instances, instances.class_names)
        if "probabilities" in files and probabilities is not None:
            names = instances.class_names
            maps = Image.from_array(probabilities, axes="CYX", channels=list(names), pixel_size=image.pixel_size)
            write_ome_tiff(files["probabilities"], maps)
        if "class-masks" in self.save:
            write_class_masks(self.folder, self.class_names[name], instances, image.pixel_size)
