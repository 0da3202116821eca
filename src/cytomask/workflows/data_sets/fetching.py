"""Fetch a published data set, and make it one that opens at once.

Downloads lie in ``.NAME.download`` beside the folder until the data set is complete, so that an interrupted one goes on
where it ended. The folder appears whole or not at all. ``source.json`` in it says what came from where, with checksums
and the size of each file; by it, a second call finds what is missing or damaged, and mends it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cytomask._version import __version__
from cytomask.data.dataset import open_dataset
from cytomask.errors import ConfigError, DataError, DownloadError, OutputError
from cytomask.output import output_folder, replacing
from cytomask.storage.downloads import Checksum, fetch
from cytomask.storage.file_lock import locked
from cytomask.storage.unpacking import is_archive, unpack
from cytomask.workflows.data_sets.catalogue import DataSetEntry, Pairs, SourceFile, find_data_set

SOURCE, CONFIG, TABLE = "source.json", "dataset.yaml", "manifest.csv"
_MOST_BYTES = 2**40


@dataclass(frozen=True)
class GotDataSet:
    """What :func:`get_data_set` did.

    Attributes
    ----------
    folder
        Where the data set is.
    done
        ``"there"``: nothing was to be done; ``"fetched"``; or ``"repaired"``.
    lines
        What people should know, a line each.
    """

    folder: Path
    done: str
    lines: tuple[str, ...]


def get_data_set(
    name: str, out: str | Path | None = None, *, accept_licence: bool = False, sha256: Mapping[str, str] | None = None
) -> GotDataSet:
    """Fetch a data set of the catalogue, unless it is there and whole.

    Parameters
    ----------
    name
        Its name in the catalogue.
    out
        The folder to make; of the data set's name if None.
    accept_licence
        That its licence is known and accepted; needed where it forbids commercial use.
    sha256
        Checksums of downloaded files by their names, where the catalogue knows none, or ``""`` for the only file.

    Raises
    ------
    ConfigError
        If there is no such data set, its licence was not accepted, or a checksum is no checksum.
    DownloadError
        If a file cannot be fetched or has the wrong checksum.
    DataError
        If an archive is broken, or what it holds is not what the catalogue says.
    OutputError
        If the folder holds something else, cannot be written, or the disk is full.
    """
    entry = find_data_set(name)
    folder = Path(out) if out is not None else Path(entry.name)
    before = _read_source(folder)
    given = _given_checksums(entry, sha256 or {})
    if before is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            "the folder holds something else", where=folder, expected=f"a new folder, or the data set {entry.name}",
            fix="name another folder with --out",
        )  # fmt: skip
    if before is not None and before["name"] != entry.name:
        raise OutputError("the folder holds another data set", where=folder, found=before["name"], expected=entry.name)
    wrong = [] if before is None else _wrong_files(folder, before["files"])
    if before is not None and not wrong:
        _compare_checksums(before["downloads"], given, folder)
        return GotDataSet(folder, "there", (f"{entry.name} is there and whole: {folder}",))
    if not (entry.commercial or accept_licence):
        raise ConfigError(
            "the licence of the data set must be accepted first: it forbids commercial use",
            where=entry.homepage, found=entry.licence, fix="read it, and say --accept-licence",
        )  # fmt: skip
    output_folder(folder.parent)
    downloads = folder.parent / f".{folder.name}.download"
    with locked(output_folder(downloads) / "lock"):
        known = given if before is None else {**before["downloads"], **given}
        hashes = {file.name: _download(file, downloads, known) for file in entry.files}
        made = downloads / "made"
        shutil.rmtree(made, ignore_errors=True)
        _assemble(entry, downloads, made)
        _write_config(entry, made)
        images = len(open_dataset(made))
        _write_source(entry, made, hashes)
        if before is None:
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
        else:
            _mend(made, folder, wrong)
    shutil.rmtree(downloads, ignore_errors=True)
    lines = [f"{'repaired' if before else 'fetched'} {entry.name}: {images} images in {folder}"]
    lines += [f"mended: {len(wrong)} files, such as {wrong[0]}"] if wrong else []
    lines += [
        f"no checksum of {file.name} is published; this one is kept and checked from now on: sha256 {hashes[file.name]}"
        for file in entry.files if file.sha256 is None and file.name not in given
    ]  # fmt: skip
    return GotDataSet(folder, "repaired" if before else "fetched", tuple(lines))


def _given_checksums(entry: DataSetEntry, sha256: Mapping[str, str]) -> dict[str, str]:
    names = [file.name for file in entry.files]
    given = {}
    for name, digits in sha256.items():
        if len(digits) != 64 or set(digits.lower()) - set("0123456789abcdef"):
            raise ConfigError("this is no SHA-256 checksum", found=digits, expected="64 hexadecimal digits")
        if name not in names and not (name == "" and len(names) == 1):
            raise ConfigError(
                "a checksum is for a file that the data set has not", found=name or "no file's name",
                expected=", ".join(names), fix="--sha256 FILE=DIGITS",
            )  # fmt: skip
        given[name or names[0]] = digits.lower()
    return given


def _compare_checksums(kept: Mapping[str, str], given: Mapping[str, str], folder: Path) -> None:
    for name, digits in given.items():
        if kept.get(name) != digits:
            raise DownloadError(
                "the data set was made of another file", where=folder / SOURCE,
                found=f"{name}: sha256 {kept.get(name)}",
                expected=f"sha256 {digits}",
            )  # fmt: skip


def _download(file: SourceFile, downloads: Path, known: Mapping[str, str]) -> str:
    """Fetch one file; give its SHA-256."""
    digits = file.sha256 or known.get(file.name)
    path = downloads / file.name
    checksum = None if digits is None else Checksum("sha256", digits)
    if path.is_file() and checksum is not None and not checksum.fits(path):
        path.unlink()
    fetch(file.url, path, checksum, _MOST_BYTES)
    return digits or Checksum("sha256", "").of(path)


def _assemble(entry: DataSetEntry, downloads: Path, made: Path) -> None:
    """Put together what the files hold; archives that are broken in spite of all are removed."""
    made.mkdir()
    for file in entry.files:
        source, target = downloads / file.name, made / file.into
        if not is_archive(file.name):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / file.name)
            continue
        place = downloads / "unpacked"
        shutil.rmtree(place, ignore_errors=True)
        try:
            unpack(source, place, lift=True)
        except DataError as error:
            source.unlink()
            raise DataError(
                error.what, where=file.url, found=error.found, expected=error.expected,
                fix="the download was removed; try again, or tell those who publish it",
            ) from error  # fmt: skip
        target.mkdir(parents=True, exist_ok=True)
        for one in place.iterdir():
            if (target / one.name).exists():
                raise DataError("two of the files hold the same", where=file.url, found=one.name)
            one.rename(target / one.name)
        place.rmdir()


def _write_config(entry: DataSetEntry, made: Path) -> None:
    settings: dict[str, Any] = {
        "name": entry.name, "description": f"{entry.title}. {entry.citation}", "licence": entry.licence, **entry.dataset
    }  # fmt: skip
    if entry.pairs is not None:
        settings["pairs"] = _write_pairs(entry, entry.pairs, made)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100)
    head = f"# From {entry.homepage}, by cytomask {__version__}\n"
    (made / CONFIG).write_text(head + text, encoding="utf-8")


def _write_pairs(entry: DataSetEntry, how: Pairs, made: Path) -> list[dict[str, str]]:
    """List the pairs, and write what the folders tell into a table."""
    pairs, rows = [], []
    for image in sorted(made.glob(how.images)):
        path = image.relative_to(made)
        labels = Path("/" + path.as_posix()).as_posix().replace(*how.labels, 1).lstrip("/")
        if how.suffix is not None:
            labels = Path(labels).with_suffix(how.suffix).as_posix()
        if (made / labels).is_file():
            name = "/".join([path.parts[0], path.stem])
            pairs.append({"image": path.as_posix(), "labels": labels, "name": name})
            rows.append([name, *path.parts[: len(how.columns)]])
    if not pairs:
        raise DataError(
            "the files are not laid out as they were", where=entry.homepage,
            found=", ".join(sorted(p.name for p in made.iterdir())[:10]), expected=how.images,
        )  # fmt: skip
    if how.columns:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([["name", *how.columns], *rows])
        (made / TABLE).write_text(text.getvalue(), encoding="utf-8")
    return pairs


def _write_source(entry: DataSetEntry, made: Path, hashes: Mapping[str, str]) -> None:
    files = {p.relative_to(made).as_posix(): p.stat().st_size for p in sorted(made.rglob("*")) if p.is_file()}
    # What was made here is told apart by its content: a setting may change, and the size stay.
    source = {
        "name": entry.name,
        "title": entry.title,
        "homepage": entry.homepage,
        "licence": entry.licence,
        "citation": entry.citation,
        "cytomask_version": __version__,
        "downloads": dict(hashes),
        "urls": {file.name: file.url for file in entry.files},
        "fingerprint": hashlib.sha256(repr(files).encode()).hexdigest(),
        "files": files,
    }
    (made / SOURCE).write_text(json.dumps(source, indent=1, ensure_ascii=False), encoding="utf-8")


def _read_source(folder: Path) -> dict[str, Any] | None:
    """What a folder says of itself; None if it is not one that was fetched here."""
    try:
        found = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        files = found["files"]
        whole = found["fingerprint"] == hashlib.sha256(repr(files).encode()).hexdigest()
        return found if whole and isinstance(found["name"], str) and isinstance(found["downloads"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _wrong_files(folder: Path, files: Mapping[str, int]) -> list[str]:
    """Files that are missing or cut off; the settings and the table, which people may change, need only be there."""
    wrong = []
    for name, size in files.items():
        path = folder / name
        if not path.is_file() or (name not in (CONFIG, TABLE) and path.stat().st_size != size):
            wrong.append(name)
    return wrong


def _mend(made: Path, folder: Path, wrong: list[str]) -> None:
    for name in [*wrong, SOURCE]:
        if (made / name).is_file():
            output_folder((folder / name).parent)
            with replacing(folder / name) as temporary:
                shutil.move(made / name, temporary)
