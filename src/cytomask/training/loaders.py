"""What brings training items and validation images to the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cytomask.models.segmenter import Segmenter
from cytomask.training.config import TrainingConfig
from cytomask.training.distributed import ALONE, Place, workers_of_process


class ShareOfBatches(Sampler[list[int]]):
    """The numbers of a process's items of each batch: the batches are the same, however many processes share them.

    Parameters
    ----------
    items
        Of an epoch; those that make no whole batch at its end are left out.
    batch_size
        Items of the whole batch, a multiple of the processes.
    place
        Of this process.

    Examples
    --------
    >>> list(ShareOfBatches(9, 4, Place(rank=1, processes=2)))
    [[2, 3], [6, 7]]
    """

    def __init__(self, items: int, batch_size: int, place: Place = ALONE) -> None:
        assert batch_size % place.processes == 0, f"{batch_size} items for {place.processes} processes"
        self.batches, self.batch_size, self.share = items // batch_size, batch_size, batch_size // place.processes
        self.first = place.rank * self.share

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.batches):
            first = batch * self.batch_size + self.first
            yield list(range(first, first + self.share))


def train_loader(
    dataset: Dataset, config: TrainingConfig, device: torch.device, segmenter: Segmenter, place: Place = ALONE
) -> DataLoader:
    """Batches of training items, in their order; of each, this process's share."""
    # Workers live for one epoch, so that each sees the epoch that was set; forking them costs milliseconds.
    return DataLoader(
        dataset,
        batch_sampler=ShareOfBatches(len(dataset), config.batch_size, place),  # type: ignore[arg-type]
        num_workers=workers_of_process(config, place),
        pin_memory=device.type == "cuda",
        collate_fn=type(segmenter).collate,
    )


def validation_loader(dataset: Dataset | None) -> DataLoader | None:
    """Validation images one by one, as they are."""
    return None if dataset is None else DataLoader(dataset, batch_size=None, collate_fn=_as_is)


def _as_is(item: Any) -> Any:
    return item


def on_device(value: Any, device: torch.device) -> Any:
    """Bring the tensors in dictionaries and lists to a device; all else stays as it is.

    Examples
    --------
    >>> on_device({"sizes": [(3, 4)], "image": torch.zeros(1)}, torch.device("meta"))["image"].device
    device(type='meta')
    """
    if isinstance(value, dict):
        return {key: on_device(inner, device) for key, inner in value.items()}
    if isinstance(value, list):
        return [on_device(inner, device) for inner in value]
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
