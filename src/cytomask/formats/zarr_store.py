"""Where the chunks of a zarr array lie: a folder, out of which no link leads, with files of a believable size."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any, Self

from zarr.storage import LocalStore


class BoundedStore(LocalStore):
    """A folder whose files are read only if they lie in it and are not larger than a limit.

    Attributes
    ----------
    limit
        Most bytes of a file, packed or unpacked; None for any number.
    is_blosc
        Whether each file is one block of Blosc, whose announced sizes are compared with what is there: its decoder
        does not, and gives what lies behind the block in memory for the missing part of a file that is cut off.
    """

    limit: int | None = None
    is_blosc: bool = False

    def with_read_only(self, read_only: bool = False) -> Self:
        """Give the same store, with or without leave to write."""
        store = super().with_read_only(read_only)
        store.limit, store.is_blosc = self.limit, self.is_blosc
        return store

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Read a file, or a part of it; None if it is not there."""
        await asyncio.to_thread(_check, self.root, key, self.limit)
        found = await super().get(key, *args, **kwargs)
        if found is not None and self.is_blosc:
            _check_blosc(found[:16].to_bytes(), len(found), key, self.limit)
        return found


def _check(root: Path, key: str, limit: int | None) -> None:
    path = root / key
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{key} leads out of the folder")
    if limit is not None and path.is_file() and path.stat().st_size > limit:
        raise ValueError(f"{key} has {path.stat().st_size} bytes, of at most {limit} that its chunk can need")


def _check_blosc(header: bytes, size: int, key: str, limit: int | None) -> None:
    """Compare the sizes in the header of a block: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst."""
    if size < 16:
        raise ValueError(f"{key} is cut off after {size} bytes")
    unpacked, _, packed = struct.unpack_from("<III", header, 4)
    if packed != size:
        raise ValueError(f"{key} has {size} bytes of {packed}")
    if limit is not None and unpacked > limit:
        raise ValueError(f"{key} unpacks to {unpacked} bytes, of at most {limit} that its chunk can need")
