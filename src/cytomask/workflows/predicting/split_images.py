"""The images of one split of a data set, for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cytomask.data.dataset import open_dataset
from cytomask.errors import ConfigError


def images_of_split(data: Sequence[str | Path], split: str) -> list[Path]:
    """List the images of one split of one data set.

    Parameters
    ----------
    data
        The data set, as one path: a YAML, or a folder with ``images/`` and ``labels/``.
    split
        The split's name.

    Raises
    ------
    ConfigError
        If more than one path is given.
    DataError
        If there is no such data set or split.
    """
    if len(data) != 1:
        raise ConfigError("a split is of one data set", found=f"{len(data)} paths", expected="one path with --split")
    return [sample.image_path for sample in open_dataset(data[0]).split(split)]
