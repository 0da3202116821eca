"""One zarr array in a folder that nobody vouches for: its metadata checked, its windows read."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import ImageError
from cytomask.formats.kept_pieces import KEPT, kept, new_number
from cytomask.formats.limits import MAX_PIECE, check_unpacked_size
from cytomask.lazy_pixels import places, whole_index

#: Ways of packing that give plain numbers, and run nothing that the file names.
_V2_CODECS = {"blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "delta", "shuffle", "packbits", "crc32", "adler32"}
_V3_CODECS = {"bytes", "transpose", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed"} | {
    f"numcodecs.{name}" for name in _V2_CODECS
}
_V2_DTYPE = re.compile(r"[<>|](b1|[iu][1248]|f[248])")
_V3_DTYPES = {"bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
              "float16", "float32", "float64"}  # fmt: skip
_MOST_AXES = 8
#: How often a chunk may be larger in the file than unpacked: packing hardly ever enlarges.
_ENLARGED, _SLACK = 2, 2**20


def array_metadata(path: Path, read_json: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Read and check the metadata of an array.

    Returns
    -------
    dict
        ``shape``, ``chunks`` (what is unpacked together), ``files`` (what a file of the folder holds), ``names`` of
        axes, ``format`` (2 or 3), and ``blosc``: whether each file is one block of it.

    Raises
    ------
    ImageError
        If it holds no plain numbers, is packed in a way that is not accepted, or in chunks that are too large.
    """
    files: Any
    chunks: Any
    if (path / "zarr.json").is_file():
        content = read_json(path / "zarr.json")
        if content.get("node_type") != "array":
            raise _unreadable(path, f"a {content.get('node_type')}", "an array")
        codecs = content.get("codecs") or []
        dtype, known = content.get("data_type"), content.get("data_type") in _V3_DTYPES
        grid = content.get("chunk_grid") or {}
        files = chunks = (grid.get("configuration") or {}).get("chunk_shape")
        if grid.get("name") != "regular":
            raise _unreadable(path, f"a chunk grid {grid.get('name')!r}", "a regular one")
        inner = [_checked_codec(codec, path) for codec in codecs]
        chunks = next((shape for shape in inner if shape), chunks)
        names = content.get("dimension_names") or []
        blosc = bool(codecs) and codecs[-1]["name"] in ("blosc", "numcodecs.blosc")
        version = 3
    else:
        content = read_json(path / ".zarray")
        dtype = content.get("dtype")
        known = isinstance(dtype, str) and _V2_DTYPE.fullmatch(dtype) is not None
        files = chunks = content.get("chunks")
        for codec in [content.get("compressor"), *(content.get("filters") or [])]:
            if codec is not None and codec.get("id") not in _V2_CODECS:
                raise _unreadable(path, f"the packing {codec.get('id')!r}", ", ".join(sorted(_V2_CODECS)))
        attributes = read_json(path / ".zattrs") if (path / ".zattrs").is_file() else {}
        names = attributes.get("_ARRAY_DIMENSIONS") or []
        blosc = (content.get("compressor") or {}).get("id") == "blosc"
        version = 2
    if not known:
        raise _unreadable(path, f"values of the type {dtype!r}", "integers, or floats of at most 64 bits")
    shape: Any = content.get("shape")
    if not all(_is_shape(sizes) for sizes in (shape, chunks, files)) or not len(shape) == len(chunks) == len(files):
        raise _unreadable(path, f"shape {shape} in chunks of {chunks}", f"2 to {_MOST_AXES} axes, and whole numbers")
    itemsize = _itemsize(str(dtype))
    if math.prod(chunks) * itemsize > MAX_PIECE:
        raise ImageError(
            "the image is packed in chunks that are too large to be unpacked",
            where=path,
            found=f"chunks of {' x '.join(map(str, chunks))} values",
            expected=f"at most {MAX_PIECE >> 20} MiB each",
            fix="save it in smaller chunks",
        )
    names = names if isinstance(names, list) and len(names) == len(shape) and all(names) else []
    found = {"shape": tuple(shape), "chunks": tuple(chunks), "files": tuple(files), "names": names}
    return {**found, "format": version, "blosc": blosc}


def _checked_codec(codec: Mapping[str, Any], path: Path) -> list[int] | None:
    """Refuse a packing that is not known; give the shape of the inner chunks if it is sharding."""
    name = codec.get("name")
    if name not in _V3_CODECS:
        raise _unreadable(path, f"the packing {name!r}", ", ".join(sorted(_V3_CODECS)))
    configuration = codec.get("configuration") or {}
    for inner in [*(configuration.get("codecs") or []), *(configuration.get("index_codecs") or [])]:
        _checked_codec(inner, path)
    return configuration.get("chunk_shape") if name == "sharding_indexed" else None


def _is_shape(sizes: Any) -> bool:
    whole = isinstance(sizes, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sizes)
    return whole and 2 <= len(sizes) <= _MOST_AXES


def _itemsize(dtype: str) -> int:
    return np.dtype(dtype).itemsize


def _unreadable(path: Path, found: str, expected: str) -> ImageError:
    return ImageError(
        "the zarr array cannot be read",
        where=path,
        found=found,
        expected=expected,
        fix="save it anew as OME-Zarr or as TIFF in tiles",
    )


class ZarrWindows:
    """A zarr array that is read window by window.

    Parameters
    ----------
    path
        Its folder.
    metadata
        What :func:`array_metadata` found.
    """

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        import zarr

        from cytomask.formats.zarr_store import BoundedStore

        self.path = path
        self.axis_names: list[str] = metadata["names"]
        self.coarser: tuple[ZarrWindows, ...] = ()
        array: Any = zarr.open_array(BoundedStore(path, read_only=True), mode="r", zarr_format=metadata["format"])
        self._array = array
        self._number = new_number()
        self.shape: tuple[int, ...] = metadata["shape"]
        self.chunks: tuple[int, ...] = tuple(max(1, n) for n in metadata["chunks"])
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        array.store.limit = _ENLARGED * math.prod(metadata["files"]) * self.dtype.itemsize + _SLACK
        array.store.is_blosc = metadata["blosc"]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        parts = whole_index(index, self.ndim)
        ranges = [places(part, size) for part, size in zip(parts, self.shape)]
        grids = [range(r[0] // c, r[-1] // c + 1) if r else range(0) for r, c in zip(ranges, self.chunks)]
        n_bytes = math.prod(len(grid) for grid in grids) * math.prod(self.chunks) * self.dtype.itemsize
        if n_bytes > KEPT // 2 or any(r.step != 1 for r in ranges):
            return self._read(tuple(parts))
        out = np.empty([len(r) for r in ranges], self.dtype)
        for place in itertools.product(*grids):
            chunk = self._chunk(place)
            starts = [i * size for i, size in zip(place, self.chunks)]
            ends = [start + size for start, size in zip(starts, chunk.shape)]
            shared = [(max(a, r.start), min(b, r.stop)) for a, b, r in zip(starts, ends, ranges)]
            of_chunk = tuple(slice(a - start, b - start) for (a, b), start in zip(shared, starts))
            out[tuple(slice(a - r.start, b - r.start) for (a, b), r in zip(shared, ranges))] = chunk[of_chunk]
        return out.squeeze(tuple(axis for axis, part in enumerate(parts) if not isinstance(part, slice)))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_number"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._number = new_number()

    def _chunk(self, place: tuple[int, ...]) -> np.ndarray:
        key = (self._number, *place)
        chunk = kept.get(key)
        if chunk is None:
            chunk = self._read(tuple(slice(i * size, (i + 1) * size) for i, size in zip(place, self.chunks)))
            kept.put(key, chunk)
        return chunk

    def _read(self, index: tuple[int | slice, ...]) -> np.ndarray:
        try:
            return np.asarray(self._array[index], self.dtype)
        except Exception as error:  # whatever a decoder raises on a damaged chunk
            raise ImageError(
                "a part of the zarr array is damaged, or packed in a way that cannot be read",
                where=self.path,
                found=f"{type(error).__name__}: {error}",
                fix="copy or export it again",
            ) from error

    def whole(self, part: Any) -> np.ndarray:
        """Read a part of it, or all, at once.

        Raises
        ------
        ImageError
            If it is too large.
        """
        # Background takes no room in a folder at all.
        check_unpacked_size(part.shape, part.dtype.itemsize, self.path, packed=False)
        return np.asarray(part[tuple(slice(None) for _ in part.shape)])
