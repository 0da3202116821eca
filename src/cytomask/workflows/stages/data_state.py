"""Whether the data of a run are as they were: by checksums, and so quickly that asking costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytomask.errors import ConfigError
from cytomask.workflows.stages.digests import FileDigests, digest_of, files_below

if TYPE_CHECKING:
    from cytomask.data.dataset import Dataset

_NOTE = "data"


def data_identity(source: str | None, digests: FileDigests) -> str:
    """Checksum of a data set: names, splits, groups, how files are read, and their contents.

    The first time all files are read. Later only names, sizes and times of change are looked at, and files that differ
    in these are read again; where anything differs, the data set is opened anew.

    Parameters
    ----------
    source
        The data set, as :func:`~cytomask.data.dataset.open_dataset` takes it.
    digests
        Where checksums are kept.

    Raises
    ------
    ConfigError
        If no data set is named.
    DataError
        If the data set cannot be opened, or a file cannot be read.
    """
    if source is None:
        raise ConfigError("the experiment names no data", fix="give --data PATH, or set data.path in the file")
    noted = digests.notes.get(_NOTE)
    # What lies elsewhere is asked for anew each time.
    if isinstance(noted, dict) and noted.get("source") == source and "://" not in source and _is_same(noted):
        return str(noted["identity"])
    # Data sets are slow to import, and not needed where nothing has changed.
    from cytomask.data.dataset import open_dataset

    dataset = open_dataset(source)
    parts: list[object] = [dataset.classes]
    files: list[Path] = []
    contents: dict[Path, str] = {}
    for sample in dataset.samples:
        own = []
        for place in (sample.image_path, sample.label_path):
            if place not in contents:
                below = files_below(place)
                files += below
                contents[place] = digest_of((file.name, digests.of(file)) for file in below)
            own.append(contents[place])
        parts.append((sample.name, sample.split, sorted(sample.group.items()), repr(sample.reading), own))
    identity = digest_of(parts)
    files += _other_files(dataset)
    folders = {file.parent for file in files} | {dataset.source if dataset.source.is_dir() else dataset.source.parent}
    digests.note(
        _NOTE,
        {
            "source": source,
            "identity": identity,
            "files": {str(file): _status(file) for file in files},
            "folders": {str(folder): _listing(folder) for folder in sorted(folders)},
        },
    )
    return identity


def data_files(dataset: Dataset) -> list[Path]:
    """All files of a data set: images, annotations, tables, and what says how they are read."""
    samples = [file for s in dataset.samples for place in (s.image_path, s.label_path) for file in files_below(place)]
    return list(dict.fromkeys([*samples, *_other_files(dataset)]))


def _other_files(dataset: Dataset) -> list[Path]:
    """What besides images and annotations may tell of them: the YAML file, tables, all that lies beside these."""
    from cytomask.data.dataset_config import CONFIG_NAMES, read_config

    source = dataset.source
    config_file = source
    if source.is_dir():
        config_file = next((source / name for name in CONFIG_NAMES if (source / name).is_file()), source)
    found = [config_file] if config_file.is_file() else []
    root = source if source.is_dir() else source.parent
    named: list[Any] = []
    if config_file.is_file() and config_file.suffix.lower() in (".yaml", ".yml"):
        config = read_config(config_file)
        root = root / config.root
        named = [config.table, getattr(config.splits, "csv", None), getattr(config.object_classes, "csv", None)]
    found += [root / text for text in named if isinstance(text, str) and (root / text).is_file()]
    beside = [entry for entry in root.iterdir() if entry.is_file()] if root.is_dir() else []
    return list(dict.fromkeys([*found, *(file for file in beside if not file.name.startswith("."))]))


def _is_same(noted: dict[str, Any]) -> bool:
    try:
        return all(_status(Path(file)) == kept for file, kept in noted["files"].items()) and all(
            _listing(Path(folder)) == kept for folder, kept in noted["folders"].items()
        )
    except (OSError, KeyError, AttributeError):
        return False


def _status(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _listing(folder: Path) -> str:
    """Checksum of the names in a folder."""
    return digest_of(sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")))
