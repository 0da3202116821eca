"""What the tiles of a giant image propose, kept on disk until their conflicts are settled.

A folder holds one file of records per tile, beside it the fates of the proposals as far as they are known, and what the
survivors look like. Every file appears complete or not at all, and says the same however often it is written: so work
that is broken off at any moment, the process killed or not, goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytomask.geometry.fate import KEPT, OPEN
from cytomask.instances import Instances
from cytomask.models.proposals import Proposals
from cytomask.output import replacing
from cytomask.prediction.tiles import Tile

#: Fields of a record that every family has; those of the family's own data have ``data:`` before their names.
_OWN = "data:"


class Spool:
    """The proposals and objects of one image's tiles in a folder.

    Parameters
    ----------
    folder
        Where the files lie; made when it is not there. What it holds of the same plan is used.

    Attributes
    ----------
    tiles
        The plan; empty until :meth:`begin`.

    Examples
    --------
    >>> import tempfile
    >>> from cytomask.prediction.tiles import plan_tiles
    >>> spool = Spool(Path(tempfile.mkdtemp()) / "spool")
    >>> spool.begin(plan_tiles((64, 128), tile=64), 64, 1)
    >>> one = Proposals(np.zeros((1, 2), np.float32), np.ones(1, np.float32), np.ones(1, np.int32), {})
    >>> spool.add(0, one, np.array([[-2.0, -2.0, 3.0, 3.0]]))
    >>> spool.finished(), spool.counts()
    ({0}, (1, 2))
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tiles: tuple[Tile, ...] = ()

    # The plan, and what is done of it

    def plan(self) -> dict[str, Any] | None:
        """The plan that the files belong to: ``tile`` and ``batch`` of the predictor; None without files."""
        try:
            plan = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        sizes = [plan.get("tile"), plan.get("batch")] if isinstance(plan, dict) else [None]
        return plan if all(isinstance(size, int) and size > 0 for size in sizes) else None

    def begin(self, tiles: Sequence[Tile], tile: int, batch: int) -> None:
        """Take up a plan; files of another plan are deleted.

        Parameters
        ----------
        tiles
            The tiles, of which one is meant by its place in this list.
        tile, batch
            Side of a tile and tiles per batch, from which the plan follows.
        """
        self.tiles = tuple(tiles)
        plan = {"tile": tile, "batch": batch, "tiles": [[repr(t.core), repr(t.read)] for t in tiles]}
        if self.plan() == plan:
            for number in self.finished():
                if not self._readable(number):
                    self._file("proposals", number).unlink()
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with replacing(self.folder / "plan.json") as path:
            path.write_text(json.dumps(plan), encoding="utf-8")

    def join(self, tiles: Sequence[Tile]) -> None:
        """Take up the plan that another process has begun, and leave all files as they are."""
        self.tiles = tuple(tiles)

    def finished(self) -> set[int]:
        """The tiles whose proposals are there."""
        return {n for n in range(len(self.tiles)) if self._file("proposals", n).is_file()}

    def counts(self) -> tuple[int, int]:
        """How many tiles are finished, and how many there are."""
        return len(self.finished()), len(self.tiles)

    def bands(self) -> list[list[int]]:
        """The tiles row by row: all points of a row's tiles come, in canonical order, before those of the next."""
        rows: dict[float, list[int]] = {}
        for number, tile in enumerate(self.tiles):
            rows.setdefault(tile.core[0], []).append(number)
        return [rows[top] for top in sorted(rows)]

    def write_reach(self, reach: np.ndarray) -> None:
        """Write the boxes around all that each tile's proposals compete for, ``(T, 4)``, for those who join."""
        with replacing(self.folder / "reach.npy") as path:
            np.save(path, reach, allow_pickle=False)

    def read_reach(self) -> np.ndarray:
        """Read what :meth:`write_reach` wrote."""
        return np.asarray(np.load(self.folder / "reach.npy", allow_pickle=False))

    # Proposals and their fates

    def add(self, number: int, proposals: Proposals, bounds: np.ndarray) -> None:
        """Write what one tile proposes and owns, with the boxes around all that it competes for."""
        columns: dict[str, np.ndarray] = {
            "points": np.asarray(proposals.points, np.float32),
            "scores": np.asarray(proposals.scores, np.float32),
            "classes": np.asarray(proposals.classes, np.int32),
            "bounds": np.asarray(bounds, np.float32).reshape(-1, 4),
            **{f"{_OWN}{name}": values for name, values in proposals.data.items()},
        }
        records = np.empty(len(proposals), [(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
        for name, values in columns.items():
            records[name] = values
        with replacing(self._file("proposals", number)) as path:
            np.save(path, records, allow_pickle=False)

    def records(self, number: int) -> np.ndarray:
        """Read the proposals of one tile as records, for :meth:`proposals` when they have been picked."""
        return np.asarray(np.load(self._file("proposals", number), allow_pickle=False))

    @staticmethod
    def proposals(records: np.ndarray) -> Proposals:
        """Turn records into proposals."""
        names = records.dtype.names or ()
        data = {name[len(_OWN) :]: np.ascontiguousarray(records[name]) for name in names if name.startswith(_OWN)}
        points, scores, classes = (np.ascontiguousarray(records[name]) for name in ("points", "scores", "classes"))
        return Proposals(points, scores, classes, data)

    def fates(self, number: int, count: int) -> npt.NDArray[np.uint8]:
        """Fates of one tile's proposals as far as they are known, uint8 ``(count,)``."""
        try:
            fates = np.load(self._file("fates", number), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            fates = np.zeros(0, np.uint8)
        return fates if fates.shape == (count,) else np.full(count, OPEN, np.uint8)

    def write_fates(self, number: int, fates: npt.NDArray[np.uint8]) -> None:
        """Write the fates of one tile's proposals."""
        with replacing(self._file("fates", number)) as path:
            np.save(path, fates, allow_pickle=False)

    def survivors(self, number: int) -> Proposals:
        """The proposals of one tile that are kept, in canonical order."""
        records = self.records(number)
        return self.proposals(records[self.fates(number, len(records)) == KEPT]).in_canonical_order()

    # Objects

    def write_objects(self, number: int, objects: Instances, points: np.ndarray) -> None:
        """Write the objects that one tile owns, and the points of their proposals."""
        names = ("windows", "bits", "offsets", "boxes", "classes", "scores")
        with replacing(self._file("objects", number, ".npz")) as path:
            np.savez(path, points=points, **{name: getattr(objects, name) for name in names})

    def has_objects(self, number: int) -> bool:
        """Whether the objects of one tile have been written."""
        return self._loaded("objects", number, ".npz") is not None

    def points(self, number: int) -> np.ndarray:
        """The points of the proposals that became one tile's objects, float32 ``(N, 2)``."""
        return self._columns(number)["points"]

    def reach(self, number: int) -> tuple[int, int, int, int]:
        """The box ``(y0, x0, y1, x1)``, in native pixels, around all objects of one tile; empty without any."""
        windows = self._columns(number)["windows"]
        if not len(windows):
            return 0, 0, 0, 0
        (y0, x0), (y1, x1) = windows[:, :2].min(axis=0).tolist(), windows[:, 2:].max(axis=0).tolist()
        return y0, x0, y1, x1

    def write_ids(self, number: int, ids: npt.NDArray[np.int32]) -> None:
        """Write the numbers of one tile's objects."""
        with replacing(self._file("ids", number)) as path:
            np.save(path, ids, allow_pickle=False)

    def objects(self, number: int, shape: tuple[int, int], class_names: tuple[str, ...]) -> Instances:
        """The numbered objects of one tile, in the frame of the native image of this shape."""
        columns = self._columns(number)
        columns.pop("points")
        ids = np.load(self._file("ids", number), allow_pickle=False)
        return Instances.from_packed(shape=shape, ids=ids, class_names=class_names, **columns)

    def _columns(self, number: int) -> dict[str, np.ndarray]:
        columns = self._loaded("objects", number, ".npz")
        if columns is None:
            raise FileNotFoundError(self._file("objects", number, ".npz"))
        return columns

    def _loaded(self, kind: str, number: int, suffix: str) -> dict[str, np.ndarray] | None:
        try:
            with np.load(self._file(kind, number, suffix), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError):
            return None

    def _readable(self, number: int) -> bool:
        try:
            np.load(self._file("proposals", number), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        return True

    def _file(self, kind: str, number: int, suffix: str = ".npy") -> Path:
        return self.folder / f"{kind}-{number:06d}{suffix}"
