"""Which part of a batch this process has: losses and random choices must be those of the whole batch.

Processes that train together have a part of each batch each, and the gradient is the mean of theirs. So that it is the
gradient of the whole batch, a loss that divides by a count of its batch (pixels, boxes) divides by the mean count of
the processes; one that is no sum over the batch's items is computed from sums over all processes; and what is drawn at
random for an item follows from its number in the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor


@dataclass(frozen=True)
class BatchPart:
    """The part of a batch that a process has.

    Attributes
    ----------
    seed
        What is drawn at random for the batch follows from it.
    first
        Number of this part's first item in the whole batch.
    whole
        Items of the whole batch.
    processes
        How many processes share it.
    """

    seed: int
    first: int
    whole: int
    processes: int = 1


_part: ContextVar[BatchPart | None] = ContextVar("part", default=None)


@contextmanager
def part_of_batch(part: BatchPart) -> Iterator[None]:
    """Compute the losses of a part of a batch.

    With several processes, each must do so at the same time.

    Examples
    --------
    >>> with part_of_batch(BatchPart(seed=7, first=0, whole=4)):
    ...     first = random_of_items([1, 1], (2,), "points")
    >>> with part_of_batch(BatchPart(seed=7, first=1, whole=4)):
    ...     second = random_of_items([1], (2,), "points")
    >>> torch.equal(first[1:], second)
    True
    """
    before = _part.set(part)
    torch.manual_seed(part.seed)
    try:
        yield
    finally:
        _part.reset(before)


def processes() -> int:
    """How many processes share the present batch: 1 outside of :func:`part_of_batch`."""
    part = _part.get()
    return 1 if part is None else part.processes


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over the processes that share the batch; no gradient flows through it.

    Examples
    --------
    >>> mean_over_processes(torch.tensor(3.0))
    tensor(3.)
    """
    count = processes()
    if count == 1:
        return values
    # A copy: what was given stays as it is.
    total = values.detach().clone()
    torch.distributed.all_reduce(total)
    return total / count


def largest_over_processes(values: Tensor) -> Tensor | None:
    """The largest of each number over the processes that share the batch; None where there is only one."""
    if processes() == 1:
        return None
    largest = values.clone()
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return largest


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of a tensor over the processes that share the batch, through which gradients flow.

    Each process must compute the same from it.

    Examples
    --------
    >>> sum_over_processes(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    count = processes()
    return values if count == 1 else _Sum.apply(values, count)


class _Sum(torch.autograd.Function):
    """All processes have the same loss of the sum, so each knows what all gradients add up to."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, count: int) -> Tensor:
        ctx.count = count
        total = values.detach().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.count, None


def generator_of_item(item: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator | None:
    """What decides the random choices for an item of this part of the batch; None, torch's own, where there is no part.

    Parameters
    ----------
    item
        Its number in this part.
    purpose
        What is drawn: a name for each place that draws, so that they draw different numbers.
    device
        Where it is drawn.
    """
    part = _part.get()
    if part is None:
        return None
    key = (part.seed, part.first + item, *purpose.encode())
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(seed)


def random_of_items(
    counts: Sequence[int], shape: tuple[int, ...], purpose: str, device: torch.device | str = "cpu"
) -> Tensor:
    """Uniform random numbers for ``counts[i]`` things of each item: float32 ``(sum of counts, *shape)``.

    Examples
    --------
    >>> random_of_items([2, 0, 1], (5,), "points").shape
    torch.Size([3, 5])
    """
    if _part.get() is None:
        return torch.rand(sum(counts), *shape, device=device)
    drawn = [
        torch.rand(count, *shape, generator=generator_of_item(item, purpose, device), device=device)
        for item, count in enumerate(counts)
    ]
    return torch.cat(drawn) if drawn else torch.rand(0, *shape, device=device)


def random_of_batch(items: int, device: torch.device | str = "cpu") -> Tensor:
    """One uniform random number for each of this part's items, of those drawn for the whole batch.

    It takes the next numbers of torch's own generator: all processes must draw the same things one after another.

    Examples
    --------
    >>> with part_of_batch(BatchPart(seed=7, first=0, whole=4)):
    ...     whole = random_of_batch(4)
    >>> with part_of_batch(BatchPart(seed=7, first=2, whole=4)):
    ...     part = random_of_batch(2)
    >>> torch.equal(whole[2:], part)
    True
    """
    part = _part.get()
    if part is None:
        return torch.rand(items, device=device)
    return torch.rand(part.whole, device=device)[part.first : part.first + items]
