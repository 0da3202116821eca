"""Compare a data set's objects with what a model can find, and say which settings fit them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding
from cytomask.data.object_sizes import size_percentiles, window_shapes
from cytomask.models.registry import FAMILIES, family_class
from cytomask.workflows.experiment import PatchSection
from cytomask.workflows.models import load_model

#: Ratio of the median diameter to the model's, from which on it is told.
_OFF = 1.5


def model_faults(model: str | Path, diameters: np.ndarray, class_names: Sequence[str]) -> list[Finding]:
    """Find objects of another size, or classes, than a model knows.

    Parameters
    ----------
    model
        A shipped name, a bundle or a run.
    diameters
        Equivalent diameters of all objects, in pixels.
    class_names
        The data set's classes.

    Raises
    ------
    BundleError
        If there is no such model.
    """
    bundle = load_model(model)
    found = []
    name = bundle.spec.name
    unknown = [one for one in class_names if one not in bundle.segmenter.config.classes]
    if unknown and len(class_names) > 1:
        known = ", ".join(bundle.segmenter.config.classes)
        found.append(finding("model-classes", f"{name} knows {known}; not {', '.join(unknown)}", value=len(unknown)))
    if not len(diameters):
        return found
    low, median, high = (float(v) for v in np.percentile(diameters, [5, 50, 95]))
    trained, limits = bundle.spec.diameter, bundle.spec.diameter_range
    if trained is not None:
        ratio = max(median / trained, trained / median)
        within = "" if limits is None else f" (trained on {limits[0]:.0f} to {limits[1]:.0f} px)"
        outside = limits is not None and (low < 0.75 * limits[0] or high > 1.25 * limits[1])
        if ratio > _OFF or outside:
            found.append(finding(
                "model-diameter",
                f"the median diameter is {median:.1f} px (5th to 95th percentile {low:.1f} to {high:.1f}); that of "
                f"{name} is {trained:.1f} px{within}",
                todo=f"predict with --diameter {median:.0f}, so that images are scaled to the model's objects",
                severity="warning" if ratio > 2 or outside else "note", value=ratio,
            ))  # fmt: skip
    # An object is seen whole only if the network looks farther than it reaches.
    scale = 1.0 if trained is None else trained / median
    halo = bundle.segmenter.halo
    if not bundle.segmenter.needs_whole_objects and high * scale > 2 * halo:
        found.append(finding(
            "model-limits",
            f"objects of {high * scale:.0f} px (95th percentile, at the model's scale) are larger than the "
            f"{2 * halo} px that {name} sees around a point",
            value=high * scale / halo,
        ))  # fmt: skip
    return found


def fitting_settings(diameters: np.ndarray, boxes: np.ndarray) -> dict[str, dict[str, Any]]:
    """What training would choose for each model family, by the objects' sizes, with a reason for each choice.

    Parameters
    ----------
    diameters
        float ``(N,)``: equivalent diameters of all objects, in pixels of the images as the network will see them.
    boxes
        int ``(N, 4)``: their bounding boxes, ``(y0, x0, y1, x1)`` in the same pixels.

    Returns
    -------
    dict
        For each family that chooses anything ``settings`` and ``reasons``; empty where there is no object.

    Examples
    --------
    >>> chosen = fitting_settings(np.full(100, 20.0), np.tile([30, 40, 50, 60], (100, 1)))
    >>> chosen["star"]["settings"]["grid"], chosen["region"]["settings"]["anchors"]["sizes"][0]
    (2, [20.0])
    """
    if not len(diameters):
        return {}
    sizes = size_percentiles(diameters, *window_shapes(boxes))
    proposed = {family: family_class(family).propose_from_data(sizes) for family in FAMILIES}
    return {name: {"settings": settings, "reasons": why} for name, (settings, why) in proposed.items() if settings}


def patch_faults(diameters: np.ndarray) -> list[Finding]:
    """Find objects that hardly fit into a training patch of the default size."""
    side = int(PatchSection().size)
    if not len(diameters) or float(np.percentile(diameters, 95)) <= side / 2:
        return []
    large = float(np.percentile(diameters, 95))
    needed = -(-int(2 * large) // 64) * 64
    return [finding(
        "larger-than-patch",
        f"objects of {large:.0f} px (95th percentile) rarely lie whole in a training patch of {side} px",
        todo=f"train with --set patches.size={needed}, with a rescale step that makes objects smaller, or a region "
        "model on whole images (--set patches.mode=image)",
        value=large / side,
    )]  # fmt: skip
