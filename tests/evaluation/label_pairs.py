"""Label images that look like a truth and a prediction of it."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LabelPair = tuple[np.ndarray, np.ndarray]


@st.composite
def pairs_of_labels(draw: st.DrawFn) -> LabelPair:
    """Random label images whose objects are alike enough to match; also empty ones, and ids with gaps."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))
    ids = st.sampled_from(draw(st.sampled_from([(0,), (0, 1), (1, 2), (0, 1, 2, 3), (0, 4, 7, 300)])))
    truth = draw(hnp.arrays(np.int32, shape, elements=ids, fill=ids))
    changed = draw(hnp.arrays(bool, shape, elements=st.booleans(), fill=st.just(False)))
    other = draw(hnp.arrays(np.int32, shape, elements=ids, fill=ids))
    return truth, np.where(changed, other, truth)


def blobs(rng: np.random.Generator, size: int = 90, n: int = 25) -> np.ndarray:
    """Touching discs of random size."""
    rows, columns = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for k in range(1, n + 1):
        y, x, r = [*rng.uniform(0, size, 2).tolist(), rng.uniform(3, 12)]
        labels[(rows - y) ** 2 + (columns - x) ** 2 < r**2] = 3 * k
    return labels
