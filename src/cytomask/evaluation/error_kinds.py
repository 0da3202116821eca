"""Name the error of every object: split, merged, missed, spurious or poorly outlined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: What may become of a true object, and of a predicted one; positions are the codes in :class:`ErrorKinds`.
TRUTH_KINDS = ("hit", "poor", "split", "merged", "missed")
PREDICTION_KINDS = ("hit", "poor", "split", "merged", "spurious")


@dataclass(frozen=True, slots=True, eq=False)
class ErrorKinds:
    """What became of every object of one image.

    Attributes
    ----------
    truth_ids, prediction_ids
        int32 ``(N,)`` and ``(M,)``.
    truth_kinds, prediction_kinds
        uint8: positions in :data:`TRUTH_KINDS` and :data:`PREDICTION_KINDS`.
    truth_iou, prediction_iou
        float32: the largest IoU with any object of the other side.
    truth_partner, prediction_partner
        int32: the id of that object, 0 where there is none.
    """

    truth_ids: np.ndarray
    truth_kinds: np.ndarray
    truth_iou: np.ndarray
    truth_partner: np.ndarray
    prediction_ids: np.ndarray
    prediction_kinds: np.ndarray
    prediction_iou: np.ndarray
    prediction_partner: np.ndarray
