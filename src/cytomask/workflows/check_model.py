"""Compare a data set's objects with what a model can find."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding
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
    if high * scale > 2 * halo:
        found.append(finding(
            "model-limits",
            f"objects of {high * scale:.0f} px (95th percentile, at the model's scale) are larger than the "
            f"{2 * halo} px that {name} sees around a point",
            value=high * scale / halo,
        ))  # fmt: skip
    return found
