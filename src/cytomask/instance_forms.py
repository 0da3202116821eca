"""The forms in which objects come and go: label images, crops, run-length codes, polygons, an image per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from cytomask.errors import LabelError
from cytomask.geometry.bit_mask_checks import check_column, check_shape
from cytomask.geometry.bit_mask_windows import recut_masks, tight_windows
from cytomask.geometry.bit_masks import as_label_array, byte_offsets, pack_labels, paint_masks
from cytomask.geometry.coco_polygon import read_segmentations
from cytomask.geometry.outline import fill_outlines, mask_outlines
from cytomask.geometry.rle import decode_masks, encode_masks
from cytomask.instance_checks import label_dtype, look_up

if TYPE_CHECKING:
    from typing import Self


class InstanceForms:
    """Conversions of :class:`cytomask.instances.Instances`, to and from what other programs read and write.

    Overlap, pieces, holes, classes, scores and ids are kept by some forms only; each method says what is lost.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        shape: tuple[int, int]
        windows: np.ndarray
        bits: np.ndarray
        offsets: np.ndarray
        classes: np.ndarray
        scores: np.ndarray
        ids: np.ndarray
        class_names: tuple[str, ...]

        @classmethod
        def from_packed(cls, *arguments: Any, **columns: Any) -> Self: ...

    @classmethod
    def from_labels(
        cls,
        labels: np.ndarray,
        *,
        classes: Mapping[int, int] | None = None,
        scores: Mapping[int, float] | ArrayLike | None = None,
        class_names: Sequence[str] = ("object",),
    ) -> Self:
        """Cut the objects out of a label image.

        Parameters
        ----------
        labels
            Integers of any type, ``(Y, X)``, 0 for the background. Ids need not be contiguous, and are kept.
        classes
            Class of each id; None: all of class 1.
        scores
            Score of each id, or one score per object in the order of the ids; None: 1.
        class_names
            As the field of the class.

        Returns
        -------
        Instances
            In the order of the ids.

        Raises
        ------
        LabelError
            If the labels are no integers, negative or above 2147483647, or an id has no class or score.
        """
        ids, windows, bits, offsets = pack_labels(labels)
        return cls.from_packed(
            np.shape(labels), windows, bits, offsets,
            classes=None if classes is None else look_up(classes, ids, "class"),
            scores=look_up(scores, ids, "score") if isinstance(scores, Mapping) else scores,
            boxes=windows, ids=ids, class_names=class_names,
        )  # fmt: skip

    @classmethod
    def from_crops(
        cls,
        shape: tuple[int, int],
        crops: Sequence[np.ndarray],
        origins: ArrayLike,
        classes: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        class_names: Sequence[str] = ("object",),
    ) -> Self:
        """Pack masks that are given as crops.

        Parameters
        ----------
        shape
            Height and width of the image.
        crops
            Boolean arrays ``(h, w)``, one per object, each of its own size.
        origins
            Whole numbers ``(N, 2)``: the pixel ``(y, x)`` where each crop's first pixel lies. Crops may reach beyond
            the image; what lies outside is cut off.
        classes, scores, boxes, ids, class_names
            As in :meth:`from_packed`.

        Returns
        -------
        Instances
            The windows are the smallest around the masks.

        Raises
        ------
        LabelError
            If a crop has not two axes, or the arrays differ in length.

        Examples
        --------
        >>> from cytomask.instances import Instances
        >>> Instances.from_crops((4, 4), [np.ones((2, 2), bool)], [(3, -1)]).windows
        array([[3, 0, 4, 1]], dtype=int32)
        """
        shape = check_shape(shape)
        for i, crop in enumerate(crops):
            if np.ndim(crop) != 2:
                raise LabelError(
                    "a mask's crop has two axes", where=f"crops[{i}]", found=f"shape {np.shape(crop)}",
                    expected="(height, width)",
                )  # fmt: skip
        corners = check_column("origins", origins, (2,), np.int32, len(crops))
        sizes = np.array([np.shape(crop) for crop in crops], np.int32).reshape(-1, 2)
        windows = np.concatenate([corners, corners + sizes], axis=1)
        packed = [np.packbits(np.asarray(crop, bool)) for crop in crops]
        bits = np.concatenate(packed) if packed else np.zeros(0, np.uint8)
        tight = tight_windows(windows, bits, byte_offsets(windows), (0, 0, *shape))
        return cls.from_packed(
            shape, *recut_masks(windows, bits, byte_offsets(windows), tight), classes, scores, boxes, ids, class_names
        )

    @classmethod
    def from_rle(
        cls,
        shape: tuple[int, int],
        rles: Sequence[Mapping[str, Any]],
        classes: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        class_names: Sequence[str] = ("object",),
    ) -> Self:
        """Read COCO's run-length codes.

        Parameters
        ----------
        shape
            Height and width of the image.
        rles
            ``{"size": [height, width], "counts": ...}`` each; the counts compressed (text) or a list of numbers.
        classes, scores, boxes, ids, class_names
            As in :meth:`from_packed`.

        Raises
        ------
        LabelError
            If a code is broken, or of another size.

        Examples
        --------
        >>> from cytomask.instances import Instances
        >>> Instances.from_rle((2, 3), [{"size": [2, 3], "counts": [2, 1, 1, 2]}]).full_mask(0).astype(int)
        array([[0, 1, 1],
               [0, 0, 1]])
        """
        shape = check_shape(shape)
        return cls.from_packed(shape, *decode_masks(rles, shape, "rles"), classes, scores, boxes, ids, class_names)

    @classmethod
    def from_coco(
        cls,
        shape: tuple[int, int],
        segmentations: Sequence[Mapping[str, Any] | Sequence[Sequence[float]]],
        classes: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        class_names: Sequence[str] = ("object",),
    ) -> Self:
        """Read the values of ``segmentation`` in COCO's annotations: run-length codes and polygons, as they come.

        Polygons are filled pixel for pixel as pycocotools does, which is not quite the rule of :meth:`from_polygons`.

        Parameters
        ----------
        shape
            Height and width of the image.
        segmentations
            For each object a run-length code as in :meth:`from_rle`, or its pieces, each ``[x, y, x, y, ...]`` from the
            image's upper left corner.
        classes, scores, boxes, ids, class_names
            As in :meth:`from_packed`; not as COCO has them.

        Raises
        ------
        LabelError
            If a code is broken or of another size, or a polygon is not made of three points or more.

        Examples
        --------
        >>> from cytomask.instances import Instances
        >>> Instances.from_coco((2, 3), [{"size": [2, 3], "counts": "2111"}, [[0, 0, 2, 0, 2, 2, 0, 2]]]).areas()
        array([3, 4])
        """
        shape = check_shape(shape)
        masks = read_segmentations(shape, segmentations)
        return cls.from_packed(shape, *masks, classes, scores, boxes, ids, class_names)

    @classmethod
    def from_polygons(
        cls,
        shape: tuple[int, int],
        polygons: Sequence[ArrayLike | Sequence[ArrayLike]],
        classes: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        class_names: Sequence[str] = ("object",),
        rule: Literal["even-odd", "union"] = "even-odd",
    ) -> Self:
        """Make objects of the pixels whose centres lie in polygons.

        Parameters
        ----------
        shape
            Height and width of the image; what lies outside is cut off.
        polygons
            For each object a ring ``(V, 2)`` of points ``(y, x)`` in pixels, centres at whole numbers, or a list of
            rings.
        classes, scores, boxes, ids, class_names
            As in :meth:`from_packed`.
        rule
            ``"even-odd"``: rings in rings are holes, as :meth:`to_polygons` gives them. ``"union"``: the rings of an
            object are its pieces, and add up.

        Returns
        -------
        Instances
            One object per polygon, also where no centre lies inside.

        Raises
        ------
        LabelError
            If a ring has fewer than three points, or no finite ones.

        Examples
        --------
        >>> from cytomask.instances import Instances
        >>> square = np.array([(0, 0), (0, 4), (4, 4), (4, 0)])
        >>> Instances.from_polygons((9, 9), [square, [square, square + 5]]).areas()
        array([16, 32])
        """
        shape = check_shape(shape)
        masks = fill_outlines(shape, polygons, rule)
        return cls.from_packed(shape, *masks, classes, scores, boxes, ids, class_names)

    @classmethod
    def from_class_masks(cls, masks: Mapping[int, np.ndarray], class_names: Sequence[str] | None = None) -> Self:
        """Read one label image per class.

        Parameters
        ----------
        masks
            For each class id a label image ``(Y, X)`` of integers, or a boolean one with a single object; at least one,
            all of the same size.
        class_names
            As the field of the class; None: ``"class 1"``, ``"class 2"`` …

        Returns
        -------
        Instances
            In the order of classes, then ids. The ids are kept where no two classes share one, else they are 1, 2, 3 …

        Raises
        ------
        LabelError
            If there is no image, they differ in size, or a class has no name.

        Examples
        --------
        >>> from cytomask.instances import Instances
        >>> cells = Instances.from_class_masks({1: np.array([[4, 4, 0]]), 2: np.array([[0, 3, 0]])})
        >>> cells.ids, cells.classes
        (array([4, 3], dtype=int32), array([1, 2], dtype=int32))
        """
        if not masks:
            raise LabelError("there is no label image of any class", fix="use Instances.empty for an image without any")
        images = {int(c): as_label_array(masks[c], f"class {c}") for c in sorted(masks)}
        first = next(iter(images.values())).shape
        packed = []
        for c, image in images.items():
            if image.shape != first:
                raise LabelError(
                    "the label images of the classes differ in size", where=f"class {c}", found=image.shape,
                    expected=f"{first}, as the first",
                )  # fmt: skip
            packed.append(pack_labels(image, f"class {c}"))
        ids, windows, bits = (np.concatenate([part[k] for part in packed]) for k in range(3))
        names = class_names if class_names is not None else [f"class {c}" for c in range(1, max(images) + 1)]
        return cls.from_packed(
            first, windows, bits, byte_offsets(windows),
            classes=np.repeat(list(images), [len(part[0]) for part in packed]),
            ids=ids if len(np.unique(ids)) == len(ids) else None, class_names=names,
        )  # fmt: skip

    def to_labels(self, dtype: DTypeLike | Literal["smallest"] | None = None) -> np.ndarray:
        """Paint the objects into a label image, each with its id; where they overlap, the better scored one is on top.

        Of equal scores, the later object is on top.

        Parameters
        ----------
        dtype
            An integer type, or ``"smallest"`` for the smallest unsigned one that holds all ids; None: int32.

        Returns
        -------
        numpy.ndarray
            ``(Y, X)``, 0 for the background.

        Raises
        ------
        LabelError
            If the type does not hold all ids.

        Examples
        --------
        >>> from cytomask.instances import Instances
        >>> crops, origins = [np.ones((1, 2), bool)] * 2, [(0, 0), (0, 1)]
        >>> Instances.from_crops((1, 4), crops, origins, scores=[0.9, 0.5]).to_labels()
        array([[1, 1, 2, 0]], dtype=int32)
        """
        return self._paint(dtype)

    def to_class_masks(self, dtype: DTypeLike | Literal["smallest"] | None = None) -> dict[int, np.ndarray]:
        """Paint one label image per class, as :meth:`to_labels` does; also for the classes without objects.

        Objects of different classes may overlap without loss; of the same class, the better scored one is on top.

        Examples
        --------
        >>> from cytomask.instances import Instances
        >>> cells = Instances.from_labels(np.array([[7, 9]]), classes={7: 2, 9: 1}, class_names=("cell", "debris"))
        >>> cells.to_class_masks()
        {1: array([[0, 9]], dtype=int32), 2: array([[7, 0]], dtype=int32)}
        """
        return {c: self._paint(dtype, self.classes == c) for c in range(1, len(self.class_names) + 1)}

    def _paint(self, dtype: DTypeLike | Literal["smallest"] | None, chosen: np.ndarray | None = None) -> np.ndarray:
        labels = np.zeros(self.shape, label_dtype(self.ids, dtype))
        order = np.argsort(self.scores, kind="stable")
        if chosen is not None:
            order = order[chosen[order]]
        paint_masks(labels, order, self.windows, self.bits, self.offsets, self.ids.astype(labels.dtype))
        return labels

    def to_rle(self, compressed: bool = True) -> list[dict[str, Any]]:
        """Write each mask as COCO's run-length code, ``{"size": [height, width], "counts": ...}``, ready for JSON.

        The masks are kept whole; classes, scores, boxes and ids are for the caller to write beside them.

        Parameters
        ----------
        compressed
            Whether the counts shall be text, or a list of numbers.

        Examples
        --------
        >>> from cytomask.instances import Instances
        >>> Instances.from_labels(np.array([[0, 1, 1], [0, 0, 1]])).to_rle()
        [{'size': [2, 3], 'counts': '2111'}]
        """
        return encode_masks(self.windows, self.bits, self.offsets, self.shape, compressed)

    def to_polygons(self, holes: bool = True) -> list[list[np.ndarray]]:
        """Trace the outlines of each mask along the edges of its pixels.

        Parameters
        ----------
        holes
            Whether to give the rings of holes, too; :meth:`from_polygons` then gives the same masks back. Programs that
            add rings up, as COCO does, need False: such polygons cannot hold holes, which they fill. An object without
            pixels has no rings.

        Returns
        -------
        list of list of numpy.ndarray
            For each object its rings, float32 ``(V, 2)`` as ``(y, x)``, not closed: for each piece its outer ring,
            clockwise on the screen, then its holes, the other way round.

        Examples
        --------
        >>> from cytomask.instances import Instances
        >>> Instances.from_labels(np.array([[0, 1, 1]])).to_polygons()[0][0].tolist()
        [[-0.5, 0.5], [-0.5, 2.5], [0.5, 2.5], [0.5, 0.5]]
        """
        return mask_outlines(self.windows, self.bits, self.offsets, holes)
