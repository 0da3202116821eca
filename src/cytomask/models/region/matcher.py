"""Which true object a box stands for (Ren et al. 2015, section 3.1.2).

The overlaps of all boxes with all objects never exist at once: they are made for a few boxes and those objects that
reach into the region of these boxes. So the memory does not grow with the number of objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cytomask.models.region.boxes import coverage, pairwise_iou

#: At most so many boxes, and so many pairs of a box and an object, are compared at once.
MAX_BOXES = 4096
MAX_PAIRS = 2**20

#: Boxes covered more than this by one crowd region teach nothing.
MAX_COVERAGE = 0.5


@torch.no_grad()
def match(
    truth_boxes: Tensor, boxes: Tensor, thresholds: Sequence[float], labels: Sequence[int], keep_best: bool
) -> tuple[Tensor, Tensor]:
    """Find the object that each box overlaps most, and label the box by how much.

    Parameters
    ----------
    truth_boxes
        float32 ``(T, 4)``.
    boxes
        float32 ``(N, 4)``: anchors or proposals.
    thresholds
        Rising overlaps (intersection over union).
    labels
        One more than thresholds: the label below the first, between the first and the second, …; of ``-1`` (to be
        ignored), ``0`` (background), ``1`` (object).
    keep_best
        Boxes that no other surpasses in the overlap with some object are labelled 1, however small the overlap. (An
        object that touches no box has no best one.)

    Returns
    -------
    matched
        int64 ``(N,)``: the object; of two with the same overlap the first.
    labelled
        int8 ``(N,)``.

    Examples
    --------
    >>> truth = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    >>> boxes = torch.tensor([[0.0, 0, 10, 9], [20, 20, 24, 30], [40, 40, 50, 50]])
    >>> match(truth, boxes, (0.3, 0.7), (0, -1, 1), keep_best=False)
    (tensor([0, 1, 0]), tensor([ 1, -1,  0], dtype=torch.int8))
    >>> match(truth, boxes, (0.3, 0.7), (0, -1, 1), keep_best=True)[1]
    tensor([1, 1, 0], dtype=torch.int8)
    """
    n, n_truths = len(boxes), len(truth_boxes)
    matched = torch.zeros(n, dtype=torch.int64, device=boxes.device)
    overlap = torch.zeros(n, dtype=torch.float32, device=boxes.device)
    if n_truths == 0 or n == 0:
        return matched, torch.full((n,), labels[0], dtype=torch.int8, device=boxes.device)

    best = torch.zeros(n_truths, dtype=torch.float32, device=boxes.device)
    candidates: list[tuple[Tensor, Tensor, Tensor]] = []
    step = max(1, min(MAX_BOXES, MAX_PAIRS // n_truths))
    for start in range(0, n, step):
        part = boxes[start : start + step]
        near = _reaching_into(truth_boxes, part)
        if len(near) == 0:
            continue
        iou = pairwise_iou(truth_boxes[near], part)
        value, which = iou.max(dim=0)
        matched[start : start + step] = torch.where(value > 0, near[which], 0)
        overlap[start : start + step] = value
        if keep_best:
            highest = iou.amax(dim=1)
            best[near] = torch.maximum(best[near], highest)
            row, column = torch.nonzero((iou == highest[:, None]) & (iou > 0), as_tuple=True)
            candidates.append((near[row], column + start, highest[row]))

    bins = torch.bucketize(overlap, torch.tensor(tuple(thresholds), device=boxes.device), right=True)
    labelled = torch.tensor(tuple(labels), dtype=torch.int8, device=boxes.device)[bins]
    for truth, box, value in candidates:
        labelled[box[value == best[truth]]] = 1
    return matched, labelled


@torch.no_grad()
def ignore_covered(labelled: Tensor, boxes: Tensor, ignored: Tensor) -> Tensor:
    """Label background that lies more than half in one of the ``ignored`` boxes -1.

    What matches an annotated object stays: the object is known, whatever is around it.

    Parameters
    ----------
    labelled
        int8 ``(N,)``, from :func:`match`.
    boxes
        float32 ``(N, 4)``.
    ignored
        float32 ``(M, 4)``: crowd regions.

    Examples
    --------
    >>> boxes = torch.tensor([[0.0, 0, 4, 4], [3, 0, 7, 4]])
    >>> ignore_covered(torch.zeros(2, dtype=torch.int8), boxes, torch.tensor([[0.0, 0, 4, 9]]))
    tensor([-1,  0], dtype=torch.int8)
    """
    if len(ignored) == 0:
        return labelled
    step = max(1, min(MAX_BOXES, MAX_PAIRS // len(ignored)))
    covered = [(coverage(part, ignored) > MAX_COVERAGE).any(dim=1) for part in boxes.split(step)]
    return torch.where((labelled == 0) & torch.cat(covered), -1, labelled) if covered else labelled


def _reaching_into(truth_boxes: Tensor, part: Tensor) -> Tensor:
    """Positions of the objects that overlap the smallest box around ``part``."""
    (x0, y0), (x1, y1) = part[:, :2].amin(dim=0), part[:, 2:].amax(dim=0)
    tx0, ty0, tx1, ty1 = truth_boxes.unbind(1)
    return torch.nonzero((tx0 < x1) & (tx1 > x0) & (ty0 < y1) & (ty1 > y0)).flatten()
