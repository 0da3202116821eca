"""Where the chunks of a zarr array lie: a folder, out of which no link leads, with files of a believable size."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self

from zarr.storage import LocalStore


class BoundedStore(LocalStore):
    """A folder whose files are read only if they lie in it and are not larger than a limit.

    Attributes
    ----------
    limit
        Most bytes of a file; None for any number.
    """

    limit: int | None = None

    def with_read_only(self, read_only: bool = False) -> Self:
        """Give the same store, with or without leave to write."""
        store = super().with_read_only(read_only)
        store.limit = self.limit
        return store

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Read a file, or a part of it; None if it is not there."""
        await asyncio.to_thread(_check, self.root, key, self.limit)
        return await super().get(key, *args, **kwargs)


def _check(root: Path, key: str, limit: int | None) -> None:
    path = root / key
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{key} leads out of the folder")
    if limit is not None and path.is_file() and path.stat().st_size > limit:
        raise ValueError(f"{key} has {path.stat().st_size} bytes, of at most {limit} that its chunk can need")
