"""Make objects of what a dense network says of pixels.

Everything here is told from a group of connected foreground pixels alone, and ties by the order of its pixels. **So a
group that lies whole inside a window gives the same objects there as in the whole image.**
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cytomask.geometry.components import connected_components, drop_small, fill_object_holes
from cytomask.geometry.object_distance import mask_distance
from cytomask.geometry.watershed import seeded_watershed, shape_seeds
from cytomask.models.dense.config import DenseConfig, DensePostprocess

#: Pixels of an object deeper than this are all alike, where pieces are parted by their shape.
DEEPEST = 1024.0


@dataclass(frozen=True, eq=False)
class Found:
    """Objects of one label image.

    Attributes
    ----------
    labels
        int32 ``(Y, X)``: 1 … N in the order of their first pixels, 0 for the background.
    probability
        float32 ``(Y, X)``: to belong to an object, in network pixels; what outlines are drawn by at another size.
    classes, scores
        Class id and mean probability of each object, int32 and float32 ``(N,)``.
    points
        First pixel, row and column, of each object, int64 ``(N, 2)``.
    """

    labels: npt.NDArray[np.int32]
    probability: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    points: npt.NDArray[np.int64]


def decode(maps: npt.NDArray[np.floating], config: DenseConfig, postprocess: DensePostprocess) -> list[Found]:
    """Make objects of maps.

    Parameters
    ----------
    maps
        ``(K, Y, X)``, as :func:`~cytomask.models.dense.maps.activated` gives them.
    config
        Tells what the maps are.
    postprocess
        How objects are made.

    Returns
    -------
    list of Found
        Objects of one do not overlap: one for each class with ``binary`` output, else one alone.

    Examples
    --------
    >>> maps = np.zeros((2, 1, 9), np.float32)
    >>> maps[0] = [0, 1, 1, 1, 1, 1, 1, 1, 0]                # one group of foreground …
    >>> maps[1] = [0, 0.3, 0.9, 0.5, 0.2, 0.5, 0.9, 0.3, 0]  # … with two hearts
    >>> found = decode(maps, DenseConfig(), DensePostprocess(min_area=0, seed_threshold=0.6))
    >>> found[0].labels.tolist()
    [[0, 1, 1, 1, 1, 2, 2, 2, 0]]
    """
    maps = np.asarray(maps, np.float32)
    if config.output == "binary":
        return [
            _objects(maps[k], np.where(maps[k] > postprocess.score_threshold, k + 1, 0), None, config, postprocess)
            for k in range(len(maps))
        ]
    if config.output == "softmax":
        probability = maps.sum(axis=0) if len(maps) > 1 else maps[0]
        kinds = np.where(probability > postprocess.score_threshold, maps.argmax(axis=0) + 1, 0)
        return [_objects(probability, kinds, None, config, postprocess)]
    kinds = (maps[0] > postprocess.score_threshold).astype(np.int64)
    if postprocess.objects == "whole" and len(maps) > 2:
        kinds *= maps[2:].argmax(axis=0) + 1
    return [_objects(maps[0], kinds, maps[1:], config, postprocess)]


def _objects(
    probability: npt.NDArray[np.float32],
    kinds: npt.NDArray[np.integer],
    more: npt.NDArray[np.float32] | None,
    config: DenseConfig,
    postprocess: DensePostprocess,
) -> Found:
    """Objects of a map of pixels' kinds: their class, or 1 where ``more`` says the class (from its second map on)."""
    classes_of = np.ascontiguousarray(kinds, np.int32)
    labels = _parted(classes_of, None if more is None else more[0], postprocess)
    if postprocess.objects != "whole":
        if postprocess.fill_holes:
            labels = fill_object_holes(labels)
        labels, _ = drop_small(labels, postprocess.min_area)
    labels = np.asarray(labels, np.int32)
    flat = labels.ravel()
    count = int(flat.max(initial=0))
    areas = np.bincount(flat, minlength=count + 1)[1:]
    scores = np.bincount(flat, probability.ravel(), minlength=count + 1)[1:] / np.maximum(areas, 1)
    first = np.full(count + 1, flat.size, np.int64)
    inside = np.flatnonzero(flat)
    # Of several writes to one place the last stays: go backwards for the first.
    first[flat[inside[::-1]]] = inside[::-1]
    points = np.stack(np.divmod(first[1:], labels.shape[1]), axis=1)
    if more is not None and len(more) > 1 and postprocess.objects != "whole":
        votes = np.stack([np.bincount(flat, m.ravel(), minlength=count + 1)[1:] for m in more[1:]])
        classes = votes.argmax(axis=0) + 1
    elif len(config.classes) > 1 and count:
        # A filled hole may have another kind: the first pixel is never of a hole.
        classes = classes_of.ravel()[first[1:]]
    else:
        classes = np.ones(count)
    return Found(labels, probability, classes.astype(np.int32), scores.astype(np.float32), points)


def _parted(
    kinds: npt.NDArray[np.int32], hearts: npt.NDArray[np.float32] | None, postprocess: DensePostprocess
) -> npt.NDArray[np.int32]:
    how = postprocess.objects
    if how == "whole":
        present = np.unique(kinds[kinds > 0])
        return np.searchsorted(np.concatenate([[0], present]), kinds).astype(np.int32)
    if how == "shape":
        labels = np.zeros(kinds.shape, np.int32)
        for kind in np.unique(kinds[kinds > 0]).tolist():
            mask = kinds == kind
            depth = -np.minimum(mask_distance(mask), DEEPEST)
            part = seeded_watershed(
                depth, shape_seeds(mask, postprocess.seed_threshold), mask, low=-DEEPEST, high=0, steps=4 * int(DEEPEST)
            )
            labels[mask] = part[mask] + labels.max(initial=0)
        return labels
    if hearts is not None and how in ("auto", "seeds"):
        mask = kinds > 0
        seeds, _ = connected_components(mask & (hearts > postprocess.seed_threshold))
        return seeded_watershed(-hearts, seeds, mask, low=-1, high=0)
    return connected_components(kinds)[0]
