"""Data sets in buckets and on web servers: brought here, then opened as any other."""

from __future__ import annotations

from pathlib import Path

from cytomask.data.dataset_config import CONFIG_NAMES, DatasetConfig, inside, read_config
from cytomask.data.splits import TableSplits
from cytomask.errors import ConfigError
from cytomask.storage.file_lock import locked
from cytomask.storage.names import check_name
from cytomask.storage.remote import is_remote, kept_at, local_file, local_folder
from cytomask.storage.systems import as_url, lists, name_of
from cytomask.storage.unpacking import is_archive, unpack

_YAML = (".yaml", ".yml")


def local_data(path: str | Path) -> Path:
    """Give the path here of a data set that may be elsewhere; a path of this machine is given back.

    Parameters
    ----------
    path
        A path, or the address of: a bucket's folder; a YAML or annotation file in a bucket, with the folder that it
        lies in; a zip or tar, in a bucket or on a web server; a ``dataset.yaml`` on a web server that lists ``pairs``.

    Returns
    -------
    Path
        In the cache, for an address.

    Raises
    ------
    DownloadError
        If it cannot be fetched, or is a folder of a web server.
    ConfigError
        If a web server's YAML file does not list its files.
    DataError
        If an archive is broken or must not be unpacked.

    Examples
    --------
    >>> local_data("here/data")
    PosixPath('here/data')
    """
    if not is_remote(path):
        return Path(path)
    url = as_url(path)
    name = name_of(url)
    if is_archive(name):
        return unpacked(local_file(url))
    suffix = Path(name).suffix.lower()
    if not lists(url):
        if suffix not in _YAML:
            # A folder, most likely: says what a web server can give.
            return local_folder(url)
        return _listed_files(url)
    if suffix in (*_YAML, ".json", ".ndjson", ".xml", ".csv", ".geojson"):
        return local_folder(url.rpartition("/")[0]) / name
    return local_folder(url)


def unpacked(archive: Path) -> Path:
    """The folder that an archive in the cache was unpacked to, beside it; unpacked anew when the archive is."""
    stat = archive.stat()
    place = archive.parent / f"unpacked-{stat.st_size}-{stat.st_mtime_ns}"
    with locked(archive.parent / "unpacking"):
        if not place.is_dir():
            unpack(archive, place, lift=True)
    return place


def _listed_files(url: str) -> Path:
    """Fetch a YAML file of a web server, and the files that it lists, in the same places relative to it."""
    config = read_config(local_file(url))
    folder = url.rpartition("/")[0]
    root = kept_at(folder).parent / "listed"
    listed = [one for pair in config.pairs or () for one in (pair.image, pair.labels)]
    splits = config.splits if isinstance(config.splits, TableSplits) else None
    tables = [config.table, None if splits is None else splits.csv, _table_of_classes(config)]
    if config.pairs is None or config.root != ".":
        raise ConfigError(
            "a data set on a web server must list its files", where=url,
            found="root:" if config.root != "." else "no pairs:",
            expected="pairs: with an image and its labels each, relative to the file",
            fix="list the pairs, or pack the folder into one zip and name that",
        )  # fmt: skip
    for named in [*listed, *(table for table in tables if table is not None)]:
        target = inside(root, check_name(named, url), Path(name_of(url)), "pairs")
        _link(local_file(f"{folder}/{named}"), target)
    target = root / (name_of(url) if name_of(url) not in CONFIG_NAMES else CONFIG_NAMES[0])
    _link(local_file(url), target)
    return target


def _table_of_classes(config: DatasetConfig) -> str | None:
    return None if config.object_classes is None else config.object_classes.csv


def _link(source: Path, target: Path) -> None:
    """Put a file at another place too, without a copy where the disk can do so."""
    from cytomask.output import output_folder, replacing

    output_folder(target.parent)
    with replacing(target) as temporary:
        try:
            temporary.hardlink_to(source)
        except OSError:
            temporary.write_bytes(source.read_bytes())
