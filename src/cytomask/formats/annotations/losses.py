"""What of an annotation a format cannot hold, counted and said, so that nothing is lost in silence."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.limits import check_label_image
from cytomask.geometry.bit_masks import paint_masks
from cytomask.geometry.outline import mask_outlines
from cytomask.instances import Instances

#: What objects are called where nothing names their class.
UNNAMED = ("object",)


@dataclass
class Losses:
    """Tally of what a format cannot hold; :meth:`add` is called for each image.

    Parameters
    ----------
    holds
        Features that the format keeps; see :data:`cytomask.formats.annotations.annotation_formats.FEATURES`.

    Examples
    --------
    >>> crops = [np.ones((1, 2), bool)] * 2
    >>> two = Instances.from_crops((1, 3), crops, [(0, 0), (0, 1)])
    >>> losses = Losses(holds=["pixels", "pieces", "holes", "ids", "empty"])
    >>> losses.add(Annotation("a", two))
    >>> losses.sentences()
    ['objects that overlap: 2 objects in 1 image share 1 pixel, which only one of them keeps']
    """

    holds: Collection[str]
    counts: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    #: Names of classes met.
    classes: set[str] = field(default_factory=set)

    def add(self, annotation: Annotation) -> None:
        """Count what of one image is lost."""
        objects = annotation.instances
        found: dict[str, int] = {}
        if "overlap" not in self.holds:
            check_label_image(objects.shape, annotation.name)
            groups = [objects]
            if "class-overlap" in self.holds:
                groups = [objects.take(objects.classes == c) for c in np.unique(objects.classes)]
            counted = np.array([_overlap(group) for group in groups]).reshape(-1, 3).sum(axis=0).tolist()
            found["overlap"], found["shared pixels"], found["hidden"] = counted
        if "pieces" not in self.holds or "holes" not in self.holds:
            pieces, holes = _pieces_and_holes(objects)
            found |= {"pieces": int((pieces > 1).sum()), "holes": int((holes > 0).sum())}
        found["scores"] = int((objects.scores != 1).sum())
        found["ids"] = int((objects.ids != np.arange(1, len(objects) + 1)).sum())
        found["crowd"] = len(annotation.crowd)
        found["empty"] = int(len(objects) == 0)
        found["pixels"] = len(objects)
        if objects.class_names != UNNAMED:
            found["classes"] = len(objects)
            self.classes.update(objects.class_names[c - 1] for c in np.unique(objects.classes))
        for feature, count in found.items():
            if count and feature not in self.holds:
                self.counts[feature] = self.counts.get(feature, 0) + count
                self.images[feature] = self.images.get(feature, 0) + 1

    def sentences(self) -> list[str]:
        """What is lost, one sentence for each feature; none if nothing is."""
        n = self.counts
        said = []
        if "overlap" in n:
            hidden = f"; {_objects(n['hidden'])} wholly covered and lost" if n.get("hidden") else ""
            said.append(
                f"objects that overlap: {_objects(n['overlap'])} in {self._in('overlap')} share "
                f"{_many(n['shared pixels'], 'pixel')}, which only one of them keeps{hidden}"
            )
        if "pieces" in n:
            said.append(f"objects in several pieces: {_objects(n['pieces'])} in {self._in('pieces')}")
        if "holes" in n:
            said.append(f"holes: those of {_objects(n['holes'])} in {self._in('holes')} are filled")
        if "pixels" in n:
            said.append(f"masks exact to the pixel: outlines of {_objects(n['pixels'])} are simplified")
        if "classes" in n:
            said.append(f"classes: {', '.join(sorted(self.classes))} of {_objects(n['classes'])}")
        if "scores" in n:
            said.append(f"scores: those of {_objects(n['scores'])}")
        if "crowd" in n:
            said.append(f"crowd regions: {n['crowd']} in {self._in('crowd')} become plain objects")
        if "ids" in n:
            said.append(f"ids: {_objects(n['ids'])} in {self._in('ids')} are numbered anew")
        if "empty" in n:
            said.append(f"images without objects: {n['empty']} are left out")
        return said

    def _in(self, feature: str) -> str:
        return _many(self.images[feature], "image")


def _overlap(objects: Instances) -> tuple[int, int, int]:
    """Count the objects that share pixels with others, the pixels so shared, and the objects wholly below others.

    Takes one image and a look at each object's pixels: thousands of objects in one place make millions of pairs.
    """
    if len(objects) < 2:
        return 0, 0, 0
    top, left = objects.windows[:, :2].min(axis=0).tolist()
    bottom, right = objects.windows[:, 2:].max(axis=0).tolist()
    windows = objects.windows - np.array([top, left, top, left], np.int32)
    # The numbers tell what lies on top in each pixel, and what lies lowest: where these differ, there are several.
    order, numbers = np.argsort(objects.scores, kind="stable"), np.arange(1, len(objects) + 1, dtype=np.int32)
    highest, lowest = (np.zeros((bottom - top, right - left), np.int32) for _ in range(2))
    paint_masks(highest, order, windows, objects.bits, objects.offsets, numbers)
    paint_masks(lowest, order[::-1].copy(), windows, objects.bits, objects.offsets, numbers)
    shared = highest != lowest
    overlapping = np.zeros(len(objects), bool)
    for i, (y0, x0, y1, x1) in enumerate(windows.tolist()):
        part = shared[y0:y1, x0:x1]
        overlapping[i] = part.any() and (part & objects.mask(i)).any()
    visible = np.isin(numbers, highest)
    return int(overlapping.sum()), int(shared.sum()), int((overlapping & ~visible).sum())


def _pieces_and_holes(objects: Instances) -> tuple[np.ndarray, np.ndarray]:
    """How many pieces and holes each object has; pieces that meet in a corner only are two."""
    pieces, holes = np.zeros(len(objects), np.int64), np.zeros(len(objects), np.int64)
    for i, rings in enumerate(mask_outlines(objects.windows, objects.bits, objects.offsets)):
        # Seen on the screen, outer rings run clockwise: their signed area is positive in (y down, x right).
        signs = [np.sign(_signed_area(ring)) for ring in rings]
        pieces[i], holes[i] = signs.count(1), signs.count(-1)
    return pieces, holes


def _signed_area(ring: np.ndarray) -> float:
    y, x = ring.astype(np.float64).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _objects(count: int) -> str:
    return _many(count, "object")


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"
