"""Write label images too large for memory: an OME-Zarr of one plane, block by block, with a pyramid.

The labels are a multiscale image of their own whose metadata say ``image-label``, so that napari, QuPath and
``ome-zarr`` open the folder itself; there is no image above it, as there is when labels lie in an image's ``labels``.
Until :meth:`LabelZarrWriter.finish` the folder has no OME metadata: no program takes an unfinished one for a result.

Source: OME-NGFF 0.4 (https://ngff.openmicroscopy.org/0.4) and 0.5 (https://ngff.openmicroscopy.org/0.5), sections
"multiscales" and "image-label".
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from cytomask.errors import LabelError, OutputError

if TYPE_CHECKING:
    import zarr

#: The pyramid ends with the first level whose longer side is at most this many pixels.
SMALLEST_LEVEL = 512
#: The zarr format of each version of OME-NGFF.
_ZARR_FORMATS: dict[str, Literal[2, 3]] = {"0.4": 2, "0.5": 3}
#: Our own entry in the attributes of the root: what is needed to go on, and whether it is finished.
_STATE = "cytomask"
#: Bytes of equal weight lie together, in the two ways of saying so.
_SHUFFLE: dict[bool, dict[str, Any]] = {True: {"shuffle": 1}, False: {"shuffle": "shuffle"}}
_DTYPES = (np.uint8, np.uint16, np.uint32, np.int32)


class LabelZarrWriter:
    """A label image on disk that is written in rectangles, in any order, and may be continued after an interruption.

    A block is on disk when :meth:`write` returns; each file of the folder is replaced whole, so a process that is
    killed leaves no half-written chunk. Writing a block twice is the same as writing it once. Blocks made of whole
    chunks are fastest, and only they may be written by several processes at a time.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "cells_labels.ome.zarr"
    >>> writer = LabelZarrWriter.create(path, (2000, 3000), pixel_size=(0.5, 0.5))
    >>> writer.write(1000, 1990, np.full((3, 4), 7, np.uint32))
    >>> writer = LabelZarrWriter.open(path)
    >>> writer.read(1001, 1003, 1988, 1992).tolist()
    [[0, 0, 7, 7], [0, 0, 7, 7]]
    >>> writer.finish()
    >>> writer.complete, sorted(entry.name for entry in path.iterdir())
    (True, ['.zattrs', '.zgroup', '0', '1', '2', '3'])
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        self._state: dict[str, Any] = dict(group.attrs[_STATE])  # type: ignore[arg-type]
        array = group["0"]
        self._array: Any = array

    @classmethod
    def create(
        cls,
        path: str | Path,
        shape: tuple[int, int],
        *,
        chunk: int = 1024,
        dtype: np.dtype | type = np.uint32,
        pixel_size: tuple[float, float] | None = None,
        version: str = "0.4",
        name: str = "labels",
        overwrite: bool = False,
    ) -> Self:
        """Begin a label image in which everything is background.

        Parameters
        ----------
        path
            The folder to make, by convention ``….ome.zarr``.
        shape
            Height and width.
        chunk
            Side of a chunk, in pixels.
        dtype
            uint8, uint16, uint32 or int32.
        pixel_size
            µm along y and x.
        version
            Of OME-NGFF: ``"0.4"`` (zarr v2), which Bio-Formats, Fiji, QuPath and napari open, or ``"0.5"`` (zarr v3),
            which Bio-Formats, and so QuPath, did not open yet in 2026.
        name
            Name of the image in the metadata.
        overwrite
            Delete what is at ``path``, if it is a zarr folder.

        Raises
        ------
        OutputError
            If there is something at ``path`` already, or it cannot be written.
        LabelError
            If shape, dtype, chunk or version is none that can be written.
        """
        path = Path(path)
        _check(path, shape, chunk, np.dtype(dtype), version)
        _make_room(path, overwrite)
        state: dict[str, Any] = {
            "complete": False,
            "version": version,
            "name": name,
            "pixel_size": [float(size) for size in pixel_size] if pixel_size is not None else None,
        }
        try:
            group = _open_group(path, "w-", _ZARR_FORMATS[version])
            _create_level(group, 0, shape, chunk, np.dtype(dtype))
            # Last, so that whatever has a state has an array.
            group.attrs[_STATE] = state
        except OSError as error:
            raise _unwritable(path, error) from error
        return cls(path, group)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a label image that :meth:`create` began, to go on with it or to read it.

        Raises
        ------
        OutputError
            If there is none at ``path``.
        """
        path = Path(path)
        fix = "name the folder that an earlier run began, or begin anew"
        if not path.is_dir():
            raise OutputError("there is no label image to continue", where=path, found="no folder", fix=fix)
        try:
            return cls(path, _open_group(path, "r+", None))
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise OutputError(
                "the folder is no label image that this program began",
                where=path,
                found=f"{type(error).__name__}: {error}",
                fix=fix,
            ) from error

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self._array.shape
        return int(height), int(width)

    @property
    def dtype(self) -> np.dtype:
        """The labels' dtype."""
        return np.dtype(self._array.dtype)

    @property
    def chunk(self) -> int:
        """Side of a chunk in pixels."""
        return int(max(self._array.chunks))

    @property
    def complete(self) -> bool:
        """Whether it was finished."""
        return bool(self._state["complete"])

    def write(self, y0: int, x0: int, block: np.ndarray) -> None:
        """Write a rectangle of labels, the upper left corner of which is at ``y0``, ``x0``.

        Raises
        ------
        IndexError
            If it leaves the image.
        LabelError
            If a label does not fit the dtype.
        OutputError
            If the label image is finished already, or cannot be written.
        """
        if self.complete:
            raise OutputError(
                "the label image is finished, and its pyramid would no longer fit",
                where=self.path,
                fix="create it anew with overwrite",
            )
        block = np.asarray(block)
        self._check_window(y0, y0 + block.shape[0], x0, x0 + block.shape[1])
        if block.size == 0:
            return
        if block.dtype != self.dtype:
            limits = np.iinfo(self.dtype)
            lowest, highest = int(block.min()), int(block.max())
            if block.dtype.kind not in "bui" or lowest < limits.min or highest > limits.max:
                raise LabelError(
                    "the labels do not fit the label image",
                    where=self.path,
                    found=f"{block.dtype}, {lowest} to {highest}",
                    expected=f"{limits.min} to {limits.max} ({self.dtype})",
                )
            block = block.astype(self.dtype)
        try:
            self._array[y0 : y0 + block.shape[0], x0 : x0 + block.shape[1]] = block
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Read the rows ``y0`` to ``y1`` and the columns ``x0`` to ``x1`` (half-open), ``(y1 - y0, x1 - x0)``.

        Raises
        ------
        IndexError
            If the window leaves the image.
        """
        self._check_window(y0, y1, x0, x1)
        return np.asarray(self._array[y0:y1, x0:x1])

    def finish(self) -> None:
        """Build the pyramid, write the OME metadata and mark the label image complete.

        A level holds every second pixel of every second row of the one before it, so no label is made up. It is built
        block by block: memory for five chunks is enough. Levels of an interrupted ``finish`` are built anew.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if self.complete:
            return
        try:
            shapes = [self.shape]
            while max(shapes[-1]) > SMALLEST_LEVEL:
                height, width = shapes[-1]
                shapes.append((-(-height // 2), -(-width // 2)))
            source = self._array
            for level, shape in enumerate(shapes[1:], start=1):
                target = _create_level(self._group, level, shape, self.chunk, self.dtype)
                _halve(source, target, self.chunk)
                source = target
            for leftover in self.path.rglob("*.partial"):  # of a process that was killed while it wrote a chunk
                leftover.unlink(missing_ok=True)
            self._state["complete"] = True
            self._group.attrs.update({**self._metadata(len(shapes)), _STATE: self._state})
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _metadata(self, n_levels: int) -> dict[str, Any]:
        size = self._state["pixel_size"]
        unit = {"unit": "micrometer"} if size else {}
        multiscale = {
            "name": self._state["name"],
            "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
            "datasets": [
                {
                    "path": str(level),
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [length * 2**level for length in size or (1.0, 1.0)]}
                    ],
                }
                for level in range(n_levels)
            ],
            "type": "nearest neighbour",
        }
        version = self._state["version"]
        if version == "0.4":
            return {"multiscales": [{"version": version, **multiscale}], "image-label": {"version": version}}
        return {"ome": {"version": version, "multiscales": [multiscale], "image-label": {"version": version}}}

    def _check_window(self, y0: int, y1: int, x0: int, x1: int) -> None:
        height, width = self.shape
        if not (0 <= y0 <= y1 <= height and 0 <= x0 <= x1 <= width):
            raise IndexError(f"the window {y0}:{y1}, {x0}:{x1} leaves the label image of {height} x {width} px")


def _check(path: Path, shape: tuple[int, int], chunk: int, dtype: np.dtype, version: str) -> None:
    found = None
    if len(shape) != 2 or min(shape) < 1:
        found, expected = f"shape {shape}", "a height and a width of at least 1"
    elif dtype not in [np.dtype(known) for known in _DTYPES]:
        found, expected = str(dtype), ", ".join(np.dtype(known).name for known in _DTYPES)
    elif not 16 <= chunk <= 16384:
        found, expected = f"chunks of {chunk} px", "16 to 16384 px"
    elif version not in _ZARR_FORMATS:
        found, expected = f"OME-NGFF {version}", " or ".join(_ZARR_FORMATS)
    if found:
        raise LabelError("such a label image cannot be written", where=path, found=found, expected=expected)


def _make_room(path: Path, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        return
    is_zarr = path.is_dir() and not path.is_symlink() and any((path / n).is_file() for n in ("zarr.json", ".zgroup"))
    is_empty = path.is_dir() and not any(path.iterdir())
    if not (is_empty or (overwrite and is_zarr)):
        raise OutputError(
            "there is something in the place of the label image",
            where=path,
            found="a zarr folder" if is_zarr else "a folder" if path.is_dir() else "a file",
            fix="name another folder, or move that one out of the way",
        )
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _open_group(path: Path, mode: Literal["r+", "w-"], zarr_format: Literal[2, 3] | None) -> zarr.Group:
    import zarr

    return zarr.open_group(str(path), mode=mode, zarr_format=zarr_format, use_consolidated=False)


def _create_level(group: zarr.Group, level: int, shape: tuple[int, int], chunk: int, dtype: np.dtype) -> Any:
    import numcodecs
    from zarr.codecs import BloscCodec

    old_format = group.metadata.zarr_format == 2
    size = min(chunk, max(shape))
    # Blosc is what readers of either version have, in Java too; zstd in it packs labels best.
    compressor: Any = (numcodecs.Blosc if old_format else BloscCodec)(cname="zstd", clevel=3, **_SHUFFLE[old_format])
    return group.create_array(
        str(level),
        shape=shape,
        chunks=(size, size),
        dtype=dtype,
        compressors=[compressor],
        fill_value=0,
        overwrite=True,
        chunk_key_encoding={"name": "v2" if old_format else "default", "separator": "/"},
        dimension_names=None if old_format else ["y", "x"],
    )


def _halve(source: Any, target: Any, chunk: int) -> None:
    """Copy every second pixel of every second row, one chunk of the target at a time."""
    height, width = target.shape
    for y in range(0, height, chunk):
        for x in range(0, width, chunk):
            rows, columns = min(chunk, height - y), min(chunk, width - x)
            block = source[2 * y : 2 * (y + rows), 2 * x : 2 * (x + columns)][::2, ::2]
            if block.any():
                target[y : y + rows, x : x + columns] = block


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        "the label image cannot be written",
        where=path,
        found=error.strerror or error,
        fix="check the folder, its permissions and the free disk space",
    )
