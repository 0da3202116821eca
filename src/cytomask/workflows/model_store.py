"""Models in a folder or bucket that people share: ``NAME/VERSION/`` holds a bundle's files and a manifest.

A version is never overwritten. Its manifest, with the checksum of each file, is written last: without it, there is no
such version, so that nobody sees half of one. Before anything is sent, a claim on the version is laid down, which only
one of several who push at the same time can do; it is taken back when the push fails.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cytomask._version import __version__
from cytomask.errors import BundleError, DownloadError, OutputError
from cytomask.models.bundle import CARD_NAME, SPEC_NAME, WEIGHTS_NAME, load_bundle, read_spec, unzip_bundle
from cytomask.output import new_folder, output_folder, replacing
from cytomask.progress import say
from cytomask.storage import systems
from cytomask.storage.downloads import Checksum, cache_folder
from cytomask.storage.systems import as_url, is_remote, lists

MANIFEST, CLAIM = "manifest.json", "claim.json"
LATEST = "latest"
#: What names and versions may be of.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FILES = (SPEC_NAME, WEIGHTS_NAME, CARD_NAME)


@dataclass(frozen=True)
class StoredModel:
    """One version of a model in a store.

    Attributes
    ----------
    name, version
        What it is called.
    manifest
        What its manifest says: files with checksums, family, classes, and when it was pushed.
    """

    name: str
    version: str
    manifest: dict[str, Any]


class _Store:
    """A folder or bucket; all paths in it are relative, with ``/``."""

    def __init__(self, place: str | Path) -> None:
        self.remote = is_remote(place)
        self.place = as_url(place) if self.remote else str(place)
        if self.remote and not lists(self.place):
            raise DownloadError(
                "models cannot be kept on a web server", where=self.place, expected="a folder or a bucket: s3://…",
                fix="a model's zip on a web server can be named as a model by itself",
            )  # fmt: skip

    def files(self, below: str = "") -> list[str]:
        """Files of a model's versions, ``VERSION/FILE``, or of all models, ``NAME/VERSION/FILE``."""
        if self.remote:
            return sorted(systems.list_files(f"{self.place}/{below}".rstrip("/")))
        root = Path(self.place) / below
        # No deeper: what is asked may be a large folder of something else.
        found = root.glob("*/*" if below else "*/*/*") if root.is_dir() else ()
        return sorted(p.relative_to(root).as_posix() for p in found if p.is_file())

    def read(self, path: str) -> bytes | None:
        if not self.remote:
            file = Path(self.place) / path
            return file.read_bytes() if file.is_file() else None
        url = f"{self.place}/{path}"
        return b"".join(systems.read_blocks(url)) if systems.stat(url) is not None else None

    def fetch(self, path: str, target: Path) -> None:
        if not self.remote:
            shutil.copyfile(Path(self.place) / path, target)
            return
        with target.open("wb") as file:
            for block in systems.read_blocks(f"{self.place}/{path}"):
                file.write(block)

    def put(self, source: Path, path: str) -> None:
        if self.remote:
            systems.put_file(source, f"{self.place}/{path}")
            return
        target = Path(self.place) / path
        output_folder(target.parent)
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)

    def create(self, text: str, path: str) -> bool:
        """Write a small file unless there is one; tell whether there was none."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "file"
            file.write_text(text, encoding="utf-8")
            if self.remote:
                return systems.put_file(file, f"{self.place}/{path}", new=True)
            target = Path(self.place) / path
            output_folder(target.parent)
            try:
                with target.open("x", encoding="utf-8") as opened:
                    opened.write(text)
            except FileExistsError:
                return False
            return True

    def remove(self, path: str) -> None:
        if self.remote:
            systems.remove_file(f"{self.place}/{path}")
        else:
            (Path(self.place) / path).unlink(missing_ok=True)


def list_stored(store: str | Path) -> list[StoredModel]:
    """All versions of all models in a store, by name and in the order in which they were pushed.

    Raises
    ------
    DownloadError
        If the bucket cannot be read.
    """
    opened, found = _Store(store), []
    for path in opened.files():
        parts = path.split("/")
        if len(parts) == 3 and parts[2] == MANIFEST and (manifest := _manifest(opened, parts[0], parts[1])):
            found.append(StoredModel(parts[0], parts[1], manifest))
    return sorted(found, key=lambda one: (one.name, *_order(one)))


def describe_stored(store: str | Path) -> list[str]:
    """One line per version of a model."""
    lines = [
        f"{one.name}@{one.version:<10} {one.manifest.get('family', '?')}, classes "
        f"{', '.join(one.manifest.get('classes', []))}; pushed {one.manifest.get('pushed', '?')}"
        for one in list_stored(store)
    ]
    return lines or [f"no models in {store}"]


def push_model(bundle: Path, store: str | Path, *, name: str | None = None, version: str | None = None) -> str:
    """Put a model into a store as a new version, and make sure that it arrived.

    Parameters
    ----------
    bundle
        The model's folder or zip; it is loaded first.
    store
        A folder, or a bucket's address.
    name
        What to call it; its own name if None.
    version
        A new version; if None, the number after the highest.

    Returns
    -------
    str
        ``NAME@VERSION``.

    Raises
    ------
    BundleError
        If the model does not work.
    OutputError
        If the version is there, somebody else is pushing it, a name is not allowed, or it did not arrive whole.
    """
    spec = load_bundle(bundle).spec
    opened = _Store(store)
    name = _allowed(name or spec.name, "name")
    if version is not None:
        _allowed(version, "version")
        if version == LATEST:
            raise OutputError("a version cannot be called so", found=version, fix="latest is what the newest is called")
    with tempfile.TemporaryDirectory() as folder:
        source = bundle
        if bundle.is_file():
            source = unzip_bundle(bundle, Path(folder) / "bundle")
        files = [source / one for one in _FILES if (source / one).is_file()]
        sha256 = Checksum("sha256", "")
        claim = secrets.token_hex(16)
        version = _claim(opened, name, version, claim)
        place = f"{name}/{version}"
        manifest = {
            "name": name, "version": version, "family": spec.family, "classes": list(spec.config.get("classes", [])),
            "cytomask_version": __version__, "pushed": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {one.name: {"sha256": sha256.of(one), "bytes": one.stat().st_size} for one in files},
        }  # fmt: skip
        try:
            for one in files:
                say(f"sending {one.name} ({one.stat().st_size / 2**20:.1f} MB) to {store}/{place}")
                opened.put(one, f"{place}/{one.name}")
            _check_arrived(opened, place, manifest, Path(folder) / "back")
            text = json.dumps(manifest, indent=1)
            if not opened.create(text, f"{place}/{MANIFEST}"):
                raise OutputError("the version is there already", where=f"{store}/{place}")
        except BaseException:
            # Without its manifest it is no version; what was sent is taken back, as far as that can be done.
            for done in (*(one.name for one in files), CLAIM):
                with suppress(Exception):
                    opened.remove(f"{place}/{done}")
            raise
        with suppress(Exception):
            opened.remove(f"{place}/{CLAIM}")
    return f"{name}@{version}"


def _claim(opened: _Store, name: str, version: str | None, claim: str) -> str:
    """Lay down a claim on a version, and give the version; a free number is looked for if None."""
    text = json.dumps({"claim": claim, "since": datetime.now(UTC).isoformat(timespec="seconds")})
    for _ in range(20):
        taken = {path.split("/")[0] for path in opened.files(name)}
        wanted = version or str(1 + max((int(one) for one in taken if one.isdecimal()), default=0))
        if wanted not in taken and opened.create(text, f"{name}/{wanted}/{CLAIM}"):
            # A store that knows no exclusive creation lets two believe it: the one whose claim lies there has won.
            kept = opened.read(f"{name}/{wanted}/{CLAIM}")
            complete = opened.read(f"{name}/{wanted}/{MANIFEST}") is not None
            if kept is not None and json.loads(kept).get("claim") == claim and not complete:
                return wanted
        if version is not None:
            done = opened.read(f"{name}/{wanted}/{MANIFEST}") is not None
            raise OutputError(
                "the version is there already" if done else "somebody else is pushing this version, or broke off",
                where=f"{opened.place}/{name}/{wanted}",
                expected="a new version: none is ever overwritten",
                fix="name another --version, or none to take the next number"
                + ("" if done else f"; if nobody is, remove {CLAIM} there"),
            )
    raise OutputError("no free version was found", where=f"{opened.place}/{name}", fix="name one with --version")


def _check_arrived(opened: _Store, place: str, manifest: dict[str, Any], folder: Path) -> None:
    folder.mkdir()
    for file, facts in manifest["files"].items():
        opened.fetch(f"{place}/{file}", folder / file)
        _check(folder / file, facts, f"{opened.place}/{place}/{file}", OutputError)


def _check(path: Path, facts: dict[str, Any], where: str, error: Callable[..., Exception]) -> None:
    found = Checksum("sha256", "").of(path)
    if found != facts["sha256"]:
        raise error(
            "a file of the model is not what it should be", where=where, found=f"sha256 {found[:16]}…",
            expected=f"sha256 {str(facts['sha256'])[:16]}…", fix="try again",
        )  # fmt: skip


def split_address(address: str) -> tuple[str, str, str]:
    """Take ``STORE/NAME@VERSION`` apart; the version is ``latest`` if none is told.

    Examples
    --------
    >>> split_address("s3://bucket/models/nuclei@3"), split_address("shared/nuclei")
    (('s3://bucket/models', 'nuclei', '3'), ('shared', 'nuclei', 'latest'))
    """
    text = as_url(address) if is_remote(address) else str(address).rstrip("/\\").replace("\\", "/")
    store, _, last = text.rpartition("/")
    name, _, version = last.partition("@")
    return store or ".", name, version or LATEST


def find_stored(address: str) -> StoredModel | None:
    """The version of a model that ``STORE/NAME[@VERSION]`` means; None if there is none.

    Raises
    ------
    DownloadError
        If the bucket cannot be read.
    """
    store, name, version = split_address(address)
    if _NAME.fullmatch(name) is None or _NAME.fullmatch(version) is None:
        return None
    opened = _Store(store)
    if version == LATEST:
        paths = [path.split("/") for path in opened.files(name)]
        versions = [parts[0] for parts in paths if len(parts) == 2 and parts[1] == MANIFEST]
        known = [StoredModel(name, one, m) for one in versions if (m := _manifest(opened, name, one))]
        return max(known, key=_order, default=None)
    manifest = _manifest(opened, name, version)
    return None if manifest is None else StoredModel(name, version, manifest)


def pull_model(address: str, folder: str | Path) -> Path:
    """Copy a model of a store into a new folder, and make sure that it is whole and works.

    Parameters
    ----------
    address
        ``STORE/NAME`` or ``STORE/NAME@VERSION``.
    folder
        The folder to make.

    Raises
    ------
    BundleError
        If there is no such model or version, or it does not work.
    DownloadError
        If it cannot be fetched, or is not what it should be. Nothing is left then.
    OutputError
        If the folder is not empty or cannot be written.
    """
    store, name, _ = split_address(address)
    found = find_stored(address)
    if found is None:
        there = [f"{one.name}@{one.version}" for one in list_stored(store)]
        raise BundleError(
            "there is no such model in the store", where=address, found=", ".join(there[-10:]) or "no models",
            expected="STORE/NAME or STORE/NAME@VERSION",
        )  # fmt: skip
    opened, place = _Store(store), f"{name}/{found.version}"
    with new_folder(folder) as temporary:
        for file, facts in found.manifest["files"].items():
            if file not in _FILES:
                raise DownloadError("the manifest names a file that is none of a model's", where=place, found=file)
            opened.fetch(f"{place}/{file}", temporary / file)
            _check(temporary / file, facts, f"{opened.place}/{place}/{file}", DownloadError)
        load_bundle(temporary)
    return Path(folder)


def stored_model(address: str) -> Path | None:
    """The bundle here of a model in a store, fetched unless it is in the cache; None if there is none.

    What was pulled once serves when the store cannot be reached, if its version is told.
    """
    _, name, version = split_address(address)
    base = cache_folder() / "models" / _digest(address)
    if version != LATEST and (base / version / name / SPEC_NAME).is_file():
        return base / version / name  # versions do not change
    found = find_stored(address)
    if found is None:
        return None
    place = base / found.version / name
    if not (place / SPEC_NAME).is_file():
        say(f"fetching {name}@{found.version} from {split_address(address)[0]}")
        output_folder(place.parent)
        pull_model(f"{split_address(address)[0]}/{name}@{found.version}", place)
    return place


def _digest(address: str) -> str:
    store, name, _ = split_address(address)
    where = store if is_remote(store) else Path(store).resolve().as_posix()
    return hashlib.sha256(f"{where}/{name}".encode()).hexdigest()[:20]


def _manifest(opened: _Store, name: str, version: str) -> dict[str, Any] | None:
    raw = opened.read(f"{name}/{version}/{MANIFEST}")
    if raw is None:
        return None
    try:
        found = json.loads(raw)
        facts = list(found["files"].values())
        whole = SPEC_NAME in found["files"] and all(isinstance(one["sha256"], str) for one in facts)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DownloadError("the model's manifest is broken", where=f"{opened.place}/{name}/{version}/{MANIFEST}")
    return dict(found)


def _order(one: StoredModel) -> tuple[int, str, str]:
    """Numbers by their size; else what was pushed later is newer."""
    return int(one.version) if one.version.isdecimal() else -1, str(one.manifest.get("pushed", "")), one.version


def _allowed(text: str, what: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise OutputError(
            f"a model's {what} in a store cannot be this", found=text,
            expected="letters, digits, . _ and -, and a letter or digit first", fix=f"name another --{what}",
        )  # fmt: skip
    return text


def spec_of(folder: Path) -> str:
    """What a pulled model is, in one line."""
    spec = read_spec(folder)
    return f"{spec.name}: {spec.family}, classes {', '.join(spec.config.get('classes', []))}"
