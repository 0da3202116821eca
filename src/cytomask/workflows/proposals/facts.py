"""What a data set is like, as far as settings of an experiment follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from cytomask.data.dataset import Dataset, open_dataset
from cytomask.data.object_sizes import object_size_statistics
from cytomask.data.sample import Sample
from cytomask.geometry.polygon_mask import render_polygons
from cytomask.geometry.star import star_distances, star_vertices
from cytomask.label_layers import LabelLayers
from cytomask.progress import track

#: So many images, and so many objects of them, tell what pixels and shapes are like.
MAX_IMAGES, MAX_SHAPES = 40, 400
#: Numbers of rays that polygons are tried with.
RAYS = (32, 64, 96)
#: Larger objects are made smaller before a polygon is fitted; its fit hardly depends on their size.
_LARGEST = 256
#: Objects overlap if more than this share of one's pixels is also another's.
OVERLAP = 0.1


@dataclass(frozen=True)
class DataFacts:
    """What was found.

    Attributes
    ----------
    dataset, train
        The data set, and the samples that training would see.
    counts
        Images of each split, in order.
    n_looked
        Images that the other figures are taken from.
    sizes
        As from :func:`~cytomask.data.object_sizes.object_size_statistics`.
    class_counts
        Objects of each class in the images that were looked at, by name.
    objects
        Fewest, median and most objects of an image.
    shapes
        Heights and widths: smallest shorter side, median shorter side, largest longer side.
    dtypes
        Types of pixels, the most frequent first.
    values
        Lowest and highest pixel value.
    channels
        Names of the channels of most images.
    n_channels
        Fewest and most channels; a colour picture has three.
    colour
        Share of images that are colour pictures whose channels differ.
    pixel_size
        µm along y and x, where the images agree.
    covered
        Share of pixels that are of objects.
    touching, overlapping
        Shares of the objects that lie beside another, and that share pixels with another.
    star_fit
        For each number of rays the median, and the 10th percentile, of the IoU of an object and its polygon.
    groups
        For each column of the table with few values, the images of each value in training.
    """

    dataset: Dataset
    train: list[Sample]
    counts: dict[str, int]
    n_looked: int
    sizes: dict[str, float]
    class_counts: dict[str, int]
    objects: tuple[int, float, int]
    shapes: tuple[int, float, int]
    dtypes: tuple[str, ...]
    values: tuple[float, float]
    channels: tuple[str, ...]
    n_channels: tuple[int, int]
    colour: float
    pixel_size: tuple[float, float] | None
    covered: float
    touching: float
    overlapping: float
    star_fit: dict[int, tuple[float, float]]
    groups: dict[str, dict[str, int]]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.dataset.classes


def look_at_data(path: str | Path, training_split: str = "train") -> DataFacts:
    """Look at a data set.

    Parameters
    ----------
    path
        As for :func:`~cytomask.data.dataset.open_dataset`.
    training_split
        The split that is looked at; all images, where there is none of that name.

    Raises
    ------
    DataError, ConfigError
        If there is no data set, or no annotated object in it.
    """
    dataset = open_dataset(path)
    train = dataset.split(training_split) if training_split in dataset.split_names else []
    train = train or list(dataset.samples)
    sizes = object_size_statistics(train, dataset)
    chosen = train[:: max(1, -(-len(train) // MAX_IMAGES))]
    seen = [_look(*dataset.load(sample), shapes=MAX_SHAPES // len(chosen) + 1) for sample in track(chosen, "looking")]
    names = Counter(one["channels"] for one in seen)
    sides = np.array([one["shape"] for one in seen])
    numbers = [one["n"] for one in seen]
    objects = max(sum(numbers), 1)
    sizes_of_pixels = {one["pixel_size"] for one in seen}
    fits = np.concatenate([one["fits"] for one in seen])
    classes: Counter[int] = sum((one["classes"] for one in seen), Counter())
    return DataFacts(
        dataset=dataset,
        train=train,
        counts={name: len(dataset.split(name)) for name in dataset.split_names},
        n_looked=len(chosen),
        sizes=sizes,
        class_counts={name: classes[k + 1] for k, name in enumerate(dataset.classes)},
        objects=(min(numbers), float(np.median(numbers)), max(numbers)),
        shapes=(int(sides.min()), float(np.median(sides.min(axis=1))), int(sides.max())),
        dtypes=tuple(name for name, _ in Counter(one["dtype"] for one in seen).most_common()),
        values=(min(one["low"] for one in seen), max(one["high"] for one in seen)),
        channels=names.most_common(1)[0][0],
        n_channels=(min(len(c) for c in names), max(len(c) for c in names)),
        colour=float(np.mean([one["colour"] for one in seen])),
        pixel_size=sizes_of_pixels.pop() if len(sizes_of_pixels) == 1 else None,
        covered=float(np.mean([one["covered"] for one in seen])),
        touching=sum(one["touching"] for one in seen) / objects,
        overlapping=sum(one["overlapping"] for one in seen) / objects,
        star_fit={
            rays: (float(np.median(fits[:, k])), float(np.percentile(fits[:, k], 10))) for k, rays in enumerate(RAYS)
        } if len(fits) else {},
        groups=_groups(train),
    )  # fmt: skip


def _look(image: Any, layers: LabelLayers, *, shapes: int) -> dict[str, Any]:
    step = max(1, max(image.shape) // 1024)
    pixels = np.asarray(image.sampled(step))
    single = [int(i) for i in layers.ids() if int(i) not in layers.crowd]
    return {
        "channels": image.channels,
        "shape": image.shape,
        "dtype": str(np.dtype(image.dtype)),
        "pixel_size": image.pixel_size,
        "low": float(pixels.min()),
        "high": float(pixels.max()),
        "colour": bool(image.rgb and not (pixels[0] == pixels[1]).all()),
        "n": len(single),
        "classes": Counter(layers.classes[i] for i in single),
        "covered": float(layers.union().mean()),
        "touching": len(touching_ids(layers.layers).intersection(single)),
        "overlapping": len(overlapping_ids(layers.layers).intersection(single)),
        "fits": star_fits(layers, shapes),
    }


def touching_ids(layers: npt.NDArray[np.integer]) -> set[int]:
    """Ids of objects with a pixel beside one of another object of the same layer (edges, not corners).

    Examples
    --------
    >>> sorted(touching_ids(np.array([[[1, 2, 0, 3], [0, 0, 0, 0]]])))
    [1, 2]
    """
    found: set[int] = set()
    for layer in layers:
        for a, b in ((layer[1:], layer[:-1]), (layer[:, 1:], layer[:, :-1])):
            beside = (a != b) & (a > 0) & (b > 0)
            found.update(np.unique(a[beside]).tolist(), np.unique(b[beside]).tolist())
    return found


def overlapping_ids(layers: npt.NDArray[np.integer]) -> set[int]:
    """Ids of objects that share more than a tenth of their pixels with others.

    Outlines that neighbours share by a pixel or two are not meant.

    Examples
    --------
    >>> sorted(overlapping_ids(np.array([[[1, 1, 2]], [[0, 3, 0]]])))
    [1, 3]
    """
    shared = (layers > 0).sum(axis=0) > 1
    if not shared.any():
        return set()
    areas = np.bincount(layers[layers > 0].ravel())
    inside = layers[:, shared]
    common = np.bincount(inside[inside > 0].ravel(), minlength=len(areas))
    return set(np.flatnonzero(common > OVERLAP * areas).tolist())


def star_fits(layers: LabelLayers, most: int) -> npt.NDArray[np.float64]:
    """Tell how well polygons of rays from the middle of an object represent it.

    Parameters
    ----------
    layers
        The objects.
    most
        So many of them are looked at, evenly chosen.

    Returns
    -------
    numpy.ndarray
        float64 ``(N, 3)``: IoU of object and polygon for each of :data:`RAYS`. Objects of a few pixels are left out.

    Examples
    --------
    >>> disc = (np.hypot(*np.mgrid[-20:21, -20:21]) < 18).astype(np.int32)
    >>> bool((star_fits(LabelLayers.from_labels(disc), 5) > 0.95).all())
    True
    """
    instances = layers.to_instances()
    rows = []
    for i in range(0, len(instances), max(1, -(-len(instances) // most))):
        mask = np.asarray(instances.mask(i))
        if mask.sum() < 12 or int(instances.ids[i]) in layers.crowd:
            continue
        step = -(-max(mask.shape) // _LARGEST)
        mask = np.pad(mask[::step, ::step], 1).astype(np.int32)
        depth = distance_transform_edt(mask)
        centre = np.unravel_index(int(depth.argmax()), mask.shape)
        rows.append([_fit(mask, (int(centre[0]), int(centre[1])), rays) for rays in RAYS])
    return np.array(rows, np.float64).reshape(-1, len(RAYS))


def _fit(mask: npt.NDArray[np.int32], centre: tuple[int, int], rays: int) -> float:
    # The centre is a point of this grid, and few others are: the margin keeps it off the first row and column.
    distances = star_distances(mask, rays, grid=centre)[1, 1]
    windows, bits, _ = render_polygons(star_vertices(np.array([centre]), distances[None]), mask.shape)
    y0, x0, y1, x1 = windows[0]
    drawn = np.zeros(mask.shape, bool)
    drawn[y0:y1, x0:x1] = np.unpackbits(bits, count=(y1 - y0) * (x1 - x0)).reshape(y1 - y0, x1 - x0)
    return float((drawn & (mask > 0)).sum() / (drawn | (mask > 0)).sum())


def _groups(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """Columns of the table with a few values, each of several images."""
    found: dict[str, Counter[str]] = {}
    for sample in samples:
        for column, value in sample.group.items():
            found.setdefault(column, Counter())[value] += 1
    return {
        column: dict(counts.most_common())
        for column, counts in found.items()
        if 2 <= len(counts) <= 8 and sum(counts.values()) == len(samples) and min(counts.values()) >= 2
    }
