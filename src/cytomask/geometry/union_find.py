"""Disjoint sets, for kernels that join pixels or runs of pixels (Tarjan 1975)."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def root(parents, node):  # type: ignore[no-untyped-def]
    """Find the set that a member belongs to, by the member that stands for it; paths are halved on the way.

    Parameters
    ----------
    parents
        int array: each member's parent, or the member itself where it stands for its set.
    node
        The member.

    Examples
    --------
    >>> import numpy as np
    >>> root(np.array([0, 0, 1, 3]), 2)
    0
    """
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node
