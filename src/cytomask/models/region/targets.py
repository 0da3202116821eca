"""Training targets of the region family: the annotated objects of a patch, and batches of patches of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from cytomask.geometry.bit_masks import label_windows
from cytomask.label_layers import LabelLayers


def region_targets(layers: LabelLayers) -> dict[str, np.ndarray]:
    """List the annotated objects of one patch: the fields of :class:`~cytomask.models.region.structures.Truth`.

    Masks are not cut out here: the label images go along, and each training region takes its part of them.

    Examples
    --------
    >>> found = region_targets(LabelLayers.from_labels(np.array([[0, 7, 7], [2, 0, 7]])))
    >>> found["ids"], found["boxes"].tolist()
    (array([2, 7], dtype=int32), [[0.0, 1.0, 1.0, 2.0], [1.0, 0.0, 3.0, 2.0]])
    """
    ids, boxes, layer = [], [], []
    for number, labels in enumerate(layers.layers):
        here, windows = label_windows(labels)
        ids.append(np.asarray(here, np.int32))
        boxes.append(windows.reshape(-1, 4)[:, [1, 0, 3, 2]].astype(np.float32))
        layer.append(np.full(len(here), number, np.int64))
    all_ids, all_boxes, all_layers = np.concatenate(ids), np.concatenate(boxes), np.concatenate(layer)
    crowd = np.isin(all_ids, np.fromiter(layers.crowd, np.int32, len(layers.crowd)))
    classes = np.array([layers.classes.get(i, 1) - 1 for i in all_ids.tolist()], np.int64)
    return {
        "boxes": all_boxes[~crowd],
        "classes": classes[~crowd],
        "ids": all_ids[~crowd],
        "layer": all_layers[~crowd],
        "layers": layers.layers,
        "ignored": all_boxes[crowd],
    }


def region_batch(items: Sequence[dict[str, Any]], stride: int) -> dict[str, Any]:
    """Join patches of any size: pictures are filled up with zeros at the bottom and right, truths stay singly.

    Parameters
    ----------
    items
        ``image`` float32 ``(C, Y, X)``, and the fields of :func:`region_targets`.
    stride
        The batch's sides are multiples of it.

    Returns
    -------
    dict
        ``image`` ``(B, C, Y', X')``; ``truths``, the rest of each item; ``sizes``, rows and columns of each picture.
    """
    sizes = [(int(item["image"].shape[-2]), int(item["image"].shape[-1])) for item in items]
    height, width = (-(-max(side) // stride) * stride for side in zip(*sizes))
    images: list[Tensor] = [
        pad(item["image"], (0, width - columns, 0, height - rows)) for item, (rows, columns) in zip(items, sizes)
    ]
    truths = [{name: value for name, value in item.items() if name != "image"} for item in items]
    return {"image": torch.stack(images), "truths": truths, "sizes": sizes}
