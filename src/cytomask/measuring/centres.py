"""Where objects lie and what they are called: what every table of relations begins with."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cytomask.instances import Instances
from cytomask.measuring import shape_kernels as kernels


def centres(instances: Instances) -> np.ndarray:
    """Centres of mass, float64 ``(N, 2)``: y and x in pixels, the first pixel's centre being 0; NaN without pixels.

    Examples
    --------
    >>> centres(Instances.from_labels(np.array([[1, 1, 2]])))
    array([[0. , 0.5],
           [0. , 2. ]])
    """
    windows = instances.windows.astype(np.int64)
    sums, _ = kernels.shape_sums(windows, instances.bits, instances.offsets, 1.0, 1.0)
    known = np.where(sums[:, kernels.AREA] > 0, sums[:, kernels.AREA], np.nan)[:, None]
    return sums[:, [kernels.CY, kernels.CX]] + sums[:, [kernels.SY, kernels.SX]] / known


def class_column(instances: Instances) -> pd.Series:
    """The name of each object's class, as tables hold it."""
    return pd.Series([instances.class_names[c - 1] for c in instances.classes], dtype="string")
