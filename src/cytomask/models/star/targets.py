"""Training targets of the star family: object probability, ray distances and classes on the grid."""

from __future__ import annotations

import numpy as np

from cytomask.geometry.object_distance import normalised_edt
from cytomask.geometry.star import star_distances
from cytomask.label_layers import LabelLayers


def star_targets(layers: LabelLayers, rays: int, grid: int, with_classes: bool) -> dict[str, np.ndarray]:
    """Make the targets of one patch.

    Where objects overlap, each grid point belongs to the object in which it lies deeper.

    Parameters
    ----------
    layers
        The annotated objects, ``(K, Y, X)``.
    rays, grid
        Number of radial directions; spacing of the grid in pixels.
    with_classes
        Whether to add class ids.

    Returns
    -------
    dict
        ``probability`` float32 ``(Yg, Xg)``, the distance to the object's boundary over its maximum in the object;
        ``distances`` float32 ``(rays, Yg, Xg)`` in pixels; ``valid`` float32 ``(Yg, Xg)``, 0 inside crowd regions;
        and ``classes`` int64 ``(Yg, Xg)`` with 0 for background, when asked for.
    """
    _, height, width = layers.layers.shape
    size = ((height - 1) // grid + 1, (width - 1) // grid + 1)
    probability = np.zeros(size, np.float32)
    distances = np.zeros((*size, rays), np.float32)
    valid = np.ones(size, np.float32)
    owner = np.zeros(size, np.int32)
    for index, labels in enumerate(layers.layers):
        on_grid = labels[::grid, ::grid]
        layer_probability = normalised_edt(labels)[::grid, ::grid]
        layer_distances = star_distances(labels, rays, grid)
        if index == 0:
            probability, distances, owner = np.ascontiguousarray(layer_probability), layer_distances, on_grid.copy()
            continue
        deeper = layer_probability > probability
        probability[deeper] = layer_probability[deeper]
        distances[deeper] = layer_distances[deeper]
        owner[deeper] = on_grid[deeper]
    if layers.crowd:
        crowd = np.isin(owner, np.fromiter(layers.crowd, np.int32))
        valid[crowd] = 0
        probability[crowd] = 0
    targets = {
        "probability": probability,
        "distances": np.ascontiguousarray(np.moveaxis(distances, -1, 0)),
        "valid": valid,
    }
    if with_classes:
        present, inverse = np.unique(owner, return_inverse=True)
        table = np.array([layers.classes.get(int(i), 1) if i else 0 for i in present], np.int64)
        targets["classes"] = table[inverse].reshape(size)
    return targets
