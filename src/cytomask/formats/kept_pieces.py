"""The pieces of large images that were unpacked last: neighbouring windows touch the same tiles and chunks.

All images of a process share the room for them.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict

import numpy as np

#: Bytes of unpacked pieces that are kept.
KEPT = 128 * 2**20

Key = tuple[int, ...]
_numbers = itertools.count()


def new_number() -> int:
    """Give an image a number of its own, with which its keys begin."""
    return next(_numbers)


class KeptPieces:
    """Pieces by key, up to ``KEPT`` bytes, the one that was used least lately dropped first; safe for threads."""

    def __init__(self) -> None:
        self._pieces: OrderedDict[Key, np.ndarray] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> np.ndarray | None:
        """Find a piece, which must not be written to; None if it is not kept."""
        with self._lock:
            piece = self._pieces.get(key)
            if piece is not None:
                self._pieces.move_to_end(key)
            return piece

    def put(self, key: Key, piece: np.ndarray) -> None:
        """Keep a piece, if it is not larger than all the room."""
        with self._lock:
            if key in self._pieces or piece.nbytes > KEPT:
                return
            self._pieces[key] = piece
            self._size += piece.nbytes
            while self._size > KEPT:
                _, old = self._pieces.popitem(last=False)
                self._size -= old.nbytes

    def forget(self) -> None:
        """Drop all pieces."""
        with self._lock:
            self._pieces.clear()
            self._size = 0


kept = KeptPieces()
