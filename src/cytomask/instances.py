"""Instances: the objects found in one image, the currency between models, metrics, writers and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cytomask.errors import LabelError
from cytomask.geometry.bit_mask_checks import check_column, check_masks, check_shape
from cytomask.geometry.bit_mask_windows import recut_masks, resample_masks, tight_windows
from cytomask.geometry.bit_masks import Packed, byte_offsets, mask_areas, take_masks
from cytomask.geometry.overlap import mask_overlaps
from cytomask.instance_checks import check_objects
from cytomask.instance_forms import InstanceForms


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Instances(InstanceForms):
    """Objects of one image as a structure of arrays; they may overlap, and lie in several pieces, with holes.

    Each mask is a crop, packed to one bit per pixel, in one buffer for all: memory follows the objects, not their
    number times the image. Every field is checked when the object is made, however it is made.

    Parameters
    ----------
    shape
        Height and width of the image, in pixels.
    windows
        int32 ``(N, 4)``: the crop window ``(y0, x0, y1, x1)`` of each mask, half-open, inside the image.
    bits
        uint8 ``(M,)``: each mask flattened row by row and packed as by ``np.packbits``, from a byte of its own on.
    offsets
        int64 ``(N + 1,)``: the byte where each mask begins, and the end.
    boxes
        float32 ``(N, 4)``: ``(y0, x0, y1, x1)`` in pixels, half-open. A model that predicts boxes may say another box
        than the mask's.
    classes
        int32 ``(N,)``: class ids, from 1; the name of class ``c`` is ``class_names[c - 1]``.
    scores
        float32 ``(N,)``.
    ids
        int32 ``(N,)``: the value of each object in label images, from 1, no two alike.
    class_names
        The names of the classes.

    Raises
    ------
    LabelError
        If the arrays contradict each other.

    See Also
    --------
    from_packed : the same with defaults.

    Examples
    --------
    >>> labels = np.array([[0, 7, 7], [2, 0, 7]])
    >>> cells = Instances.from_labels(labels)
    >>> len(cells), cells.ids, cells.areas()
    (2, array([2, 7], dtype=int32), array([1, 3]))
    >>> cells.mask(1)
    array([[ True,  True],
           [False,  True]])
    >>> bool((cells.to_labels() == labels).all())
    True
    """

    shape: tuple[int, int]
    windows: np.ndarray
    bits: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    ids: np.ndarray
    class_names: tuple[str, ...] = ("object",)

    def __post_init__(self) -> None:
        shape = check_shape(self.shape)
        windows, bits, offsets = check_masks(shape, self.windows, self.bits, self.offsets)
        n, names = len(windows), tuple(self.class_names)
        boxes = check_column("boxes", self.boxes, (4,), np.float32, n)
        classes = check_column("classes", self.classes, (), np.int32, n)
        scores = check_column("scores", self.scores, (), np.float32, n)
        ids = check_column("ids", self.ids, (), np.int32, n)
        check_objects(boxes, classes, ids, names)
        fields = (shape, windows, bits, offsets, boxes, classes, scores, ids, names)
        for name, value in zip(self.__slots__, fields):
            object.__setattr__(self, name, value)

    # Ways in

    @classmethod
    def empty(cls, shape: tuple[int, int], class_names: Sequence[str] = ("object",)) -> Instances:
        """An image without objects.

        Examples
        --------
        >>> len(Instances.empty((512, 512)))
        0
        """
        nothing = np.zeros((0, 4), np.int32)
        return cls.from_packed(shape, nothing, np.zeros(0, np.uint8), np.zeros(1, np.int64), class_names=class_names)

    @classmethod
    def from_packed(
        cls,
        shape: tuple[int, int],
        windows: ArrayLike,
        bits: ArrayLike,
        offsets: ArrayLike,
        classes: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        class_names: Sequence[str] = ("object",),
    ) -> Instances:
        """Take masks that are packed already, and fill in what is not given.

        Parameters
        ----------
        shape, windows, bits, offsets
            As the fields of the class; the windows stay as they are.
        classes, scores, ids
            Default: class 1, score 1, and ids 1, 2, 3 …
        boxes
            Default: the smallest boxes around the masks.
        class_names
            As the field of the class.

        Raises
        ------
        LabelError
            If the arrays contradict each other, with what contradicts what.

        Examples
        --------
        >>> Instances.from_packed((4, 4), [[0, 0, 2, 2]], np.packbits([0, 1, 0, 1]), [0, 1]).boxes
        array([[0., 1., 2., 2.]], dtype=float32)
        """
        shape = check_shape(shape)
        windows, bits, offsets = check_masks(shape, windows, bits, offsets)
        n = len(windows)
        return cls(
            shape=shape,
            windows=windows,
            bits=bits,
            offsets=offsets,
            boxes=tight_windows(windows, bits, offsets) if boxes is None else boxes,  # type: ignore[arg-type]
            classes=np.ones(n, np.int32) if classes is None else classes,  # type: ignore[arg-type]
            scores=np.ones(n, np.float32) if scores is None else scores,  # type: ignore[arg-type]
            ids=np.arange(1, n + 1, dtype=np.int32) if ids is None else ids,  # type: ignore[arg-type]
            class_names=tuple(class_names),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Instances]) -> Instances:
        """Put the objects of several parts together, in their order.

        Parameters
        ----------
        parts
            At least one; of the same image size and classes.

        Returns
        -------
        Instances
            With the ids of the parts where no two are alike, else numbered 1, 2, 3 …

        Raises
        ------
        LabelError
            If there are no parts, or they differ in image size or classes.

        Examples
        --------
        >>> a = Instances.from_labels(np.array([[5, 0]]))
        >>> Instances.concatenate([a, a]).ids, Instances.concatenate([a, a.renumbered()]).ids
        (array([1, 2], dtype=int32), array([5, 1], dtype=int32))
        """
        if not parts:
            raise LabelError("there are no objects to put together", fix="use Instances.empty for an image without any")
        first = parts[0]
        for i, part in enumerate(parts):
            for name in ("shape", "class_names"):
                if getattr(part, name) != getattr(first, name):
                    raise LabelError(
                        f"parts of different {name} cannot be put together",
                        where=f"parts[{i}]", found=getattr(part, name),
                        expected=f"{getattr(first, name)}, as the first",
                    )  # fmt: skip
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("windows", "bits", "boxes", "classes", "scores", "ids")
        }
        if len(np.unique(columns["ids"])) < len(columns["ids"]):
            columns["ids"] = np.arange(1, len(columns["ids"]) + 1, dtype=np.int32)
        return replace(first, offsets=byte_offsets(columns["windows"]), **columns)

    # Looking

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        height, width = self.shape
        return f"Instances({len(self)} objects in {height} x {width} pixels, classes {', '.join(self.class_names)})"

    def areas(self) -> np.ndarray:
        """Pixels of each mask, int64 ``(N,)``."""
        return mask_areas(self.bits, self.offsets)

    def mask(self, i: int) -> np.ndarray:
        """The mask of one object as a boolean crop, in its window."""
        i = range(len(self))[i]
        y0, x0, y1, x1 = self.windows[i].tolist()
        flat = np.unpackbits(self.bits[self.offsets[i] : self.offsets[i + 1]], count=(y1 - y0) * (x1 - x0))
        return flat.view(bool).reshape(y1 - y0, x1 - x0)

    def full_mask(self, i: int) -> np.ndarray:
        """The mask of one object as a boolean image ``(Y, X)``; for one object at a time."""
        full = np.zeros(self.shape, bool)
        crop = self.mask(i)
        if crop.size:
            y0, x0, y1, x1 = self.windows[i]
            full[y0:y1, x0:x1] = crop
        return full

    # Picking and numbering

    def take(self, index: ArrayLike | slice) -> Instances:
        """Pick objects.

        Parameters
        ----------
        index
            Positions in the wanted order, a boolean per object, or a slice.

        Returns
        -------
        Instances
            With the ids they had.

        Raises
        ------
        LabelError
            If an object is picked twice.
        IndexError
            If there is no such object.

        Examples
        --------
        >>> cells = Instances.from_labels(np.array([[1, 2, 2]]))
        >>> cells.take(cells.areas() > 1).ids
        array([2], dtype=int32)
        """
        if not isinstance(index, slice) and np.size(index) == 0:
            index = slice(0)
        picked = np.arange(len(self))[index if isinstance(index, slice) else np.asarray(index)]
        bits, offsets = take_masks(self.bits, self.offsets, picked)
        names = ("windows", "boxes", "classes", "scores", "ids")
        columns: dict[str, Any] = {name: getattr(self, name)[picked] for name in names}
        return replace(self, bits=bits, offsets=offsets, **columns)

    def renumbered(self) -> Instances:
        """The same objects with the ids 1, 2, 3 …"""
        return replace(self, ids=np.arange(1, len(self) + 1, dtype=np.int32))

    # Moving

    def shifted(self, dy: int, dx: int, shape: tuple[int, int]) -> Instances:
        """Move the objects by whole pixels into an image of another size; what leaves it is cut off.

        Parameters
        ----------
        dy, dx
            How far, in pixels.
        shape
            Height and width of the new image.

        Returns
        -------
        Instances
            Without the objects of which no pixel is left; ids tell which are there. Windows are the smallest around the
            masks. Boxes that were the masks' windows follow them; others are cut at the border.

        Examples
        --------
        >>> cells = Instances.from_labels(np.array([[1, 1, 0, 2]]))
        >>> cells.shifted(0, -1, (1, 2)).to_labels()
        array([[1, 0]], dtype=int32)
        """
        height, width = check_shape(shape)
        tight = tight_windows(self.windows, self.bits, self.offsets, (-dy, -dx, height - dy, width - dx))
        masks = recut_masks(self.windows, self.bits, self.offsets, tight)
        step = np.array([dy, dx, dy, dx], np.int32)
        limits = np.array([height, width, height, width], np.float32)
        boxes = np.clip(self.boxes + step.astype(np.float32), 0, limits)
        return self._moved((height, width), masks, boxes, step)

    def cropped(self, y0: int, x0: int, y1: int, x1: int) -> Instances:
        """The part of the image from ``(y0, x0)`` up to, without, ``(y1, x1)``, as :meth:`shifted` cuts it.

        Examples
        --------
        >>> Instances.from_labels(np.array([[1, 1, 0, 2]])).cropped(0, 1, 1, 4).to_labels()
        array([[1, 0, 2]], dtype=int32)
        """
        return self.shifted(-y0, -x0, (y1 - y0, x1 - x0))

    def resized(self, shape: tuple[int, int]) -> Instances:
        """Bring the objects to another pixel grid over the same field; each pixel takes the old one under its centre.

        Returns
        -------
        Instances
            Without the objects that no pixel centre falls into.

        Examples
        --------
        >>> Instances.from_labels(np.array([[1, 2]])).resized((2, 4)).to_labels()
        array([[1, 1, 2, 2],
               [1, 1, 2, 2]], dtype=int32)
        """
        new = check_shape(shape)
        masks = resample_masks(self.windows, self.bits, self.offsets, self.shape, new)
        masks = recut_masks(*masks, tight_windows(*masks))
        scale = [m / n if n else 1.0 for m, n in zip(new, self.shape)] * 2
        return self._moved(new, masks, self.boxes * np.array(scale, np.float32), np.zeros(4, np.int32))

    def _moved(self, shape: tuple[int, int], masks: Packed, boxes: np.ndarray, step: np.ndarray) -> Instances:
        windows, bits = masks[0] + step, masks[1]
        boxes = np.where((self.boxes == self.windows).all(axis=1)[:, None], windows.astype(np.float32), boxes)
        left = windows[:, 2] > windows[:, 0]
        # Masks without pixels take no bytes, so leaving them out does not move the others in the buffer.
        columns: dict[str, Any] = {name: getattr(self, name)[left] for name in ("classes", "scores", "ids")}
        return replace(
            self, shape=shape, windows=windows[left], bits=bits, offsets=byte_offsets(windows[left]), boxes=boxes[left],
            **columns,
        )  # fmt: skip


def intersections(a: Instances, b: Instances) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of objects whose masks share pixels, of two sets of the same image (or of one set and itself).

    Parameters
    ----------
    a, b
        The objects; those of one set may overlap, too.

    Returns
    -------
    tuple
        ``(i, j, pixels)``, int64: positions in ``a`` and ``b``, and how many pixels they share; sorted by ``i``, then
        ``j``. As many entries as there are such pairs, not as the product of the numbers.

    Raises
    ------
    LabelError
        If the images differ in size.

    Examples
    --------
    >>> a, b = Instances.from_labels(np.array([[1, 1, 2]])), Instances.from_labels(np.array([[0, 1, 1]]))
    >>> intersections(a, b)
    (array([0, 1]), array([0, 0]), array([1, 1]))
    """
    if a.shape != b.shape:
        raise LabelError(
            "the objects are of images of different size", found=f"{b.shape[0]} x {b.shape[1]} pixels",
            expected=f"{a.shape[0]} x {a.shape[1]}, as the first",
        )  # fmt: skip
    return mask_overlaps(a.windows, a.bits, a.offsets, b.windows, b.bits, b.offsets)


def mask_ious(a: Instances, b: Instances) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersection over union of all pairs of objects that share pixels.

    Returns
    -------
    tuple
        ``(i, j, iou)`` as :func:`intersections`; float64. Pairs that are not listed have 0.

    Examples
    --------
    >>> a, b = Instances.from_labels(np.array([[1, 1, 2]])), Instances.from_labels(np.array([[0, 1, 1]]))
    >>> mask_ious(a, b)[2]
    array([0.33333333, 0.5       ])
    """
    i, j, shared = intersections(a, b)
    return i, j, shared / (a.areas()[i] + b.areas()[j] - shared)
