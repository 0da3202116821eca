"""The tables of a measurement: one row per object, pair, child, parent, image and group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd

from cytomask.errors import ConfigError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.measuring.colocalisation import Threshold, colocalisation
from cytomask.measuring.column_names import safe_names
from cytomask.measuring.containment import SHARE, containment, parents_of
from cytomask.measuring.density import density
from cytomask.measuring.distances import distances
from cytomask.measuring.lengths import Scale
from cytomask.measuring.neighbours import TOUCH, neighbours
from cytomask.measuring.summaries import compare_groups, summarise, summarise_groups
from cytomask.measuring.table import measure as measure_shapes
from cytomask.measuring.table import write_table

RELATIONS = ("neighbours", "distances", "containment", "density", "colocalisation")


@dataclass(frozen=True)
class RelationSettings:
    """What is measured, and how.

    Attributes
    ----------
    relations
        Kinds of relations, of ``RELATIONS``; ``"all"`` stands for those that can be measured.
    radius
        Objects whose gap is at most this are neighbours: µm with a pixel size, else pixels. None: 10 µm or 20 pixels.
    touch
        Objects whose gap is at most so many pixels touch.
    share
        Part of an object's area that must lie in another one for that to hold it.
    channels
        Channels whose colocalisation is measured; None for all.
    threshold
        Threshold of signal in colocalisation: ``"otsu"``, ``"costes"`` or ``"none"``.

    Raises
    ------
    ConfigError
        If there is no such relation.
    """

    relations: tuple[str, ...] = ("all",)
    radius: float | None = None
    touch: float = TOUCH
    share: float = SHARE
    channels: tuple[str | int, ...] | None = None
    threshold: Threshold = "otsu"

    def __post_init__(self) -> None:
        unknown = [name for name in self.relations if name not in (*RELATIONS, "all")]
        if unknown or not self.relations:
            raise ConfigError(
                "what to measure is not known", where="--relations", found=", ".join(unknown) or "nothing",
                expected=", ".join((*RELATIONS, "all")),
            )  # fmt: skip

    def asked(self, relation: str) -> bool:
        """Whether a relation is wanted."""
        return "all" in self.relations or relation in self.relations


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured; each table has one row per thing.

    Attributes
    ----------
    objects
        Every object: place, size, shape, brightness, and its relations.
    pairs
        Every pair of neighbours.
    children, parents
        Every object that lies in another one; every object of a class that holds others, with what it holds.
    images
        Every image: counts, densities, colocalisation.
    summary
        Every image, class and measurement: mean, median, spread.
    groups
        Every group of images, class and measurement; all images are one group where nothing tells groups.
    comparisons
        Tests of whether the groups differ, the image being the unit.
    unit
        ``"um"`` or ``"px"``: of lengths.
    """

    objects: pd.DataFrame
    pairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    children: pd.DataFrame = field(default_factory=pd.DataFrame)
    parents: pd.DataFrame = field(default_factory=pd.DataFrame)
    images: pd.DataFrame = field(default_factory=pd.DataFrame)
    summary: pd.DataFrame = field(default_factory=pd.DataFrame)
    groups: pd.DataFrame = field(default_factory=pd.DataFrame)
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    unit: str = "px"

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables that have columns, by name."""
        every = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "unit"}
        return {name: table for name, table in every.items() if len(table.columns)}

    def write(self, folder: str | Path) -> list[Path]:
        """Write the tables as CSV; those of an earlier measurement that this one has not are deleted."""
        written = []
        tables = self.tables()
        for one in fields(self):
            path = Path(folder) / f"{one.name}.csv"
            if one.name in tables:
                write_table(path, tables[one.name])
                written.append(path)
            elif one.name != "unit":
                path.unlink(missing_ok=True)
        return written


class Tables:
    """Gather the tables image by image.

    Parameters
    ----------
    settings
        What is measured.
    """

    def __init__(self, settings: RelationSettings) -> None:
        self.settings = settings
        self.unit: str | None = None
        self._objects: list[pd.DataFrame] = []
        self._pairs: list[pd.DataFrame] = []
        self._children: list[pd.DataFrame] = []
        self._images: list[dict[str, object]] = []
        self._groups: dict[str, str] = {}

    def add(
        self,
        name: str,
        objects: Instances,
        image: Image | None = None,
        pixel_size: float | tuple[float, float] | None = None,
        group: str | None = None,
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Measure an image; give lines to draw between its objects.

        Returns
        -------
        dict
            ``"Neighbours"`` and ``"Inside of"``, where they were measured: the ends of lines, float64 ``(K, 4)``: y, x,
            y, x in pixels; and whether the objects touch, or the parent is certain, bool ``(K,)``.

        Raises
        ------
        ConfigError
            If its pixel size is known and that of others is not, or the other way round; or if colocalisation is asked
            for by name and cannot be measured.
        """
        settings = self.settings
        size = pixel_size if pixel_size is not None else None if image is None else image.pixel_size
        scale = Scale.of(size)
        if self.unit not in (None, scale.unit):
            raise ConfigError(
                "the pixel size is known of some of the images only", where=name,
                found="none" if scale.unit == "px" else f"{scale.pixel[0]:g} x {scale.pixel[1]:g} µm",
                expected="one for every image, or for none",
                fix="say it with --pixel-size, or measure these images by themselves",
            )  # fmt: skip
        self.unit = scale.unit
        shapes = measure_shapes(objects, image, size)
        parts = [shapes.drop(columns="image", errors="ignore")]
        height, width = objects.shape
        figures: dict[str, object] = {
            "image": name, "height_px": height, "width_px": width,
            "pixel_y_um": scale.pixel[0] if size is not None else np.nan,
            "pixel_x_um": scale.pixel[1] if size is not None else np.nan,
            "objects": len(objects),
        }  # fmt: skip
        if group is not None:
            figures["group"] = self._groups[name] = group
        places = shapes.set_index("id")[["centroid_y", "centroid_x"]]
        lines = {}
        if settings.asked("neighbours"):
            found = neighbours(objects, scale, radius=settings.radius, touch=settings.touch)
            parts.append(found.objects)
            self._pairs.append(_of_image(found.pairs, name))
            lines["Neighbours"] = _lines(found.pairs, places, "id_a", "id_b"), found.pairs["touching"].to_numpy(bool)
        if settings.asked("distances"):
            parts.append(distances(objects, scale))
        if settings.asked("containment") and len(objects.class_names) > 1:
            children = _of_image(containment(objects, scale, share=settings.share), name)
            self._children.append(children)
            held = children[children["parent_id"] > 0]
            lines["Inside of"] = _lines(held, places, "id", "parent_id"), (held["ambiguous"] == "").to_numpy(bool)
        if settings.asked("density"):
            dense = density(objects, scale)
            parts.append(dense.objects)
            figures |= dense.image
        if self._colocalises(image):
            assert image is not None
            together = colocalisation(objects, image, settings.channels, threshold=settings.threshold)
            parts.append(together.objects)
            figures |= together.image
            for title, (a, b) in together.thresholds.items():
                figures |= {f"{title}_threshold_1": a, f"{title}_threshold_2": b}
        self._objects.append(_of_image(pd.concat(parts, axis=1), name))
        self._images.append(figures)
        return lines

    def _colocalises(self, image: Image | None) -> bool:
        if "colocalisation" in self.settings.relations:
            if image is None:
                raise ConfigError(
                    "colocalisation needs the images", where="--relations",
                    fix="name their folder with --images, or leave colocalisation out",
                )  # fmt: skip
            return True
        return self.settings.asked("colocalisation") and image is not None and image.n_channels > 1 and not image.rgb

    def finish(self) -> Measurements:
        """All tables, with what follows from all images together."""
        objects = _stacked(self._objects)
        children, parents = _stacked(self._children), pd.DataFrame()
        if len(children):
            parents = parents_of(children, objects)
            objects = _with_relatives(objects, children, parents)
        images = pd.DataFrame(self._images)
        if self._groups:
            images.insert(1, "group", images.pop("group"))
            objects.insert(1, "group", objects["image"].map(self._groups).astype("string"))
        groups = pd.Series({str(row["image"]): self._groups.get(str(row["image"]), "all") for row in self._images})
        summary = summarise(objects)
        return Measurements(
            objects, _stacked(self._pairs), children, parents, images, summary, summarise_groups(summary, groups),
            compare_groups(summary, groups) if len(set(groups)) > 1 else pd.DataFrame(), self.unit or "px",
        )  # fmt: skip


def relations_of(objects: Instances, image: Image) -> pd.DataFrame:
    """The object table of one image with all relations of its objects.

    Examples
    --------
    >>> cells = Instances.from_labels(np.array([[1, 1, 0, 2]]))
    >>> relations_of(cells, Image.from_array(np.zeros((1, 4), np.uint8)))[["id", "touching", "nearest_object_px"]]
       id  touching  nearest_object_px
    0   1         1                1.0
    1   2         1                1.0
    """
    tables = Tables(RelationSettings())
    tables.add("image" if image.source is None else Path(image.source).name, objects, image)
    return tables.finish().objects


def _lines(pairs: pd.DataFrame, places: pd.DataFrame, first: str, second: str) -> np.ndarray:
    """The centres of both objects of each pair, float64 ``(K, 4)``."""
    return np.concatenate([places.reindex(pairs[key]).to_numpy(float) for key in (first, second)], axis=1)


def _of_image(table: pd.DataFrame, name: str) -> pd.DataFrame:
    table.insert(0, "image", pd.Series([name] * len(table), dtype="string"))
    return table


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put the tables of all images together; empty ones would change the kinds of columns."""
    filled = [table for table in tables if len(table)]
    if not filled:
        return tables[0] if tables else pd.DataFrame()
    return pd.concat(filled, ignore_index=True)


def _with_relatives(objects: pd.DataFrame, children: pd.DataFrame, parents: pd.DataFrame) -> pd.DataFrame:
    """Add to each object which it lies in, and what it holds."""
    keys = pd.MultiIndex.from_frame(objects[["image", "id"]])
    added = {}
    kinds = list(dict.fromkeys(children["parent_class"]))
    distance = next(name for name in children.columns if name.startswith("edge_distance_"))
    for kind, name in zip(kinds, safe_names(kinds, "class")):
        found = children[children["parent_class"] == kind].set_index(["image", "id"]).reindex(keys)
        added[f"in_{name}_id"] = found["parent_id"].fillna(0).astype(np.int64).to_numpy()
        added[f"in_{name}_{distance}"] = found[distance].to_numpy(float)
    held = parents.set_index(["image", "id"]).drop(columns=["class", "area_px"]).reindex(keys)
    added |= {f"holds_{name}": held[name].to_numpy(float) for name in held.columns}
    return pd.concat([objects, pd.DataFrame(added)], axis=1)
