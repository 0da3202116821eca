"""Silence for Lightning's advice: what concerns the user is said in cytomask's own words."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda", "lightning.pytorch")
_ADVICE = (
    ".*does not have many workers.*",
    ".*Checkpoint directory.*",
    # A run may be moved before it goes on.
    ".*dirpath has changed.*",
    ".*log_every_n_steps.*",
    ".*isinstance.treespec.*",
    ".*LeafSpec.*",
    ".*exists and is not empty.*",
    ".*GPU available but not used.*",
    ".*lr_scheduler.step.*",
    ".*have no `val_dataloader`.*",
    # What is logged is the same in all processes already.
    ".*sync_dist=True.*",
    # With phases, parts of the network have no gradient for a while.
    ".*find_unused_parameters.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Let Lightning say errors only."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for pattern in _ADVICE:
                warnings.filterwarnings("ignore", pattern)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
