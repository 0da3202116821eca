"""What a bucket or a web server holds: sizes and versions of files, listings, and their bytes.

Buckets are reached through fsspec: ``s3://`` by s3fs, ``gs://`` by gcsfs, ``az://`` by adlfs. Credentials come from the
environment, as each of them takes them (for S3: ``AWS_ACCESS_KEY_ID``, ``~/.aws``, ``AWS_ENDPOINT_URL`` …); without
any, a bucket is asked as everybody may. ``http://`` and ``https://`` need nothing further, and list nothing.
"""

from __future__ import annotations

import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from cytomask._version import __version__
from cytomask.errors import ConfigError, DownloadError
from cytomask.storage import downloads

_T = TypeVar("_T")
#: For each scheme: the package that fsspec needs, and how to get it.
_PACKAGES = {
    "s3": ("s3fs", 'pip install "cytomask[remote]"'),
    "gs": ("gcsfs", "pip install gcsfs"),
    "gcs": ("gcsfs", "pip install gcsfs"),
    "az": ("adlfs", "pip install adlfs"),
    "abfs": ("adlfs", "pip install adlfs"),
}
WEB = ("http", "https")
SCHEMES = (*_PACKAGES, *WEB)
_REMOTE = re.compile(rf"({'|'.join(SCHEMES)}):/+(?=[^/])", re.IGNORECASE)
#: What tells that there are no credentials at all: names of exceptions of botocore and the like.
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError")
_SECONDS = 30


class Unreachable(DownloadError):
    """The other side does not answer, or is in trouble: what was fetched before may still serve."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the other side.

    Attributes
    ----------
    size
        Bytes; None if the server does not tell.
    version
        Its ETag, or else when it was changed; empty if the server tells neither.
    """

    size: int | None
    version: str


def is_remote(text: str | Path) -> bool:
    """Whether a text is the address of something in a bucket or on a web server.

    A :class:`~pathlib.Path` that was made of an address is known, too, though it has lost one of two slashes.

    Examples
    --------
    >>> is_remote("s3://bucket/data"), is_remote(Path("https://a.org/b.tif")), is_remote("C:/data"), is_remote("s3")
    (True, True, False, False)
    """
    return _REMOTE.match(str(text)) is not None


def as_url(text: str | Path) -> str:
    """An address with both slashes after its scheme, and none at its end.

    Examples
    --------
    >>> as_url(Path("s3://bucket/data/"))
    's3://bucket/data'
    """
    text = str(text)
    if (found := _REMOTE.match(text)) is None:
        raise ConfigError("this is no address of a bucket or a web server", found=text, expected=", ".join(SCHEMES))
    return f"{found[1].lower()}://{text[found.end() :]}".rstrip("/")


def scheme_of(url: str) -> str:
    """What stands before ``://``."""
    return url.partition("://")[0]


def name_of(url: str) -> str:
    """What a file is called: the last part of its address, without a web address's query.

    Examples
    --------
    >>> name_of("https://a.org/files/my%20data.zip?download=1"), name_of("s3://bucket/b.tif")
    ('my data.zip', 'b.tif')
    """
    if scheme_of(url) in WEB:
        parts = urlsplit(url)
        return unquote(parts.path).rstrip("/").rpartition("/")[2] or parts.netloc
    return url.rpartition("/")[2]


def lists(url: str) -> bool:
    """Whether the other side tells what a folder holds."""
    return scheme_of(url) not in WEB


def stat(url: str) -> RemoteFile | None:
    """What is known of a file; None if there is no such file (but perhaps a folder).

    Raises
    ------
    DownloadError
        If it may not be read, or (:class:`Unreachable`) the other side does not answer.
    ConfigError
        If a package is missing.
    """
    if not lists(url):
        return _web_stat(url)
    info = _asked(url, lambda system, path: _info(system, path))
    return None if info is None or info["type"] != "file" else _remote_file(info)


def list_files(url: str) -> dict[str, RemoteFile]:
    """All files below a folder, by their names relative to it; empty if there is none.

    Raises
    ------
    DownloadError, ConfigError
        As :func:`stat`.
    """

    def listed(system: Any, path: str) -> dict[str, RemoteFile]:
        below = path.rstrip("/") + "/"
        found = {}
        for key, info in system.find(path, detail=True).items():
            name = str(key).removeprefix(below)
            # Some tools put an empty object in place of a folder.
            if name and not name.endswith("/") and str(key).startswith(below):
                found[name] = _remote_file(info)
        return found

    return _asked(url, listed)


def read_blocks(url: str, start: int = 0) -> Iterator[bytes]:
    """The bytes of a bucket's file from a place on, some MB at a time.

    Raises
    ------
    DownloadError, ConfigError
        As :func:`stat`.
    """
    opened = _asked(url, lambda system, path: system.open(path, "rb", block_size=8 * 2**20, cache_type="none"))
    with opened:
        opened.seek(start)
        while block := _asked(url, lambda system, path: opened.read(8 * 2**20)):  # noqa: ARG005
            yield block


def put_file(source: Path, url: str, *, new: bool = False) -> bool:
    """Send a file to a bucket; ``new`` refuses to replace one that is there, and tells whether it was sent.

    Raises
    ------
    DownloadError, ConfigError
        As :func:`stat`.
    """

    def sent(system: Any, path: str) -> bool:
        try:
            if not new:
                system.put_file(str(source), path)
            elif scheme_of(url) == "s3":
                # One request, which the server refuses if somebody else was faster.
                system.pipe_file(path, source.read_bytes(), mode="create")
            elif system.exists(path):
                return False
            else:
                system.put_file(str(source), path)
        except FileExistsError:
            return False
        return True

    return _asked(url, sent)


def remove_file(url: str) -> None:
    """Remove a file from a bucket."""
    _asked(url, lambda system, path: system.rm_file(path))


@cache
def _anonymous() -> set[str]:
    """Buckets that are asked as everybody may."""
    return set()


def _system(url: str) -> tuple[Any, str]:
    scheme = scheme_of(url)
    # What credentials and addresses come from; and a forked process needs connections of its own.
    environment = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(("AWS_", "GOOGLE_", "AZURE_"))))
    try:
        system = _made(scheme, url.split("/")[2] in _anonymous(), (os.getpid(), *environment))
    except (ImportError, ValueError) as error:
        package, install = _PACKAGES[scheme]
        raise ConfigError(
            f"{scheme}:// needs a package that is not installed", where=url, found=error, expected=package, fix=install
        ) from error
    return system, url.partition("://")[2]


@lru_cache(maxsize=16)
def _made(scheme: str, anonymous: bool, environment: tuple[Any, ...]) -> Any:  # noqa: ARG001
    import fsspec

    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if scheme == "s3":
        options["anon"] = anonymous
        options["config_kwargs"] = {
            "connect_timeout": _SECONDS,
            "read_timeout": 2 * _SECONDS,
            # Here, everything is tried again as a whole.
            "retries": {"total_max_attempts": 1, "mode": "standard"},
        }
    return fsspec.filesystem(scheme, **options)


def _info(system: Any, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = system.info(path)
    except FileNotFoundError as error:
        if "bucket" in str(error).lower() and "key" not in str(error).lower():
            raise
        return None
    return found


def _remote_file(info: dict[str, Any]) -> RemoteFile:
    tag = info.get("ETag") or info.get("etag") or info.get("md5Hash") or ""
    changed = info.get("LastModified") or info.get("last_modified") or info.get("mtime") or info.get("updated") or ""
    return RemoteFile(int(info["size"]) if info.get("size") is not None else None, str(tag or changed).strip('"'))


def _asked(url: str, what: Callable[[Any, str], _T]) -> _T:
    """Ask a bucket, again and again while it is in trouble, and put what goes wrong into words."""
    bucket = "/".join(url.split("/")[:3])
    for attempt in range(downloads.ATTEMPTS):
        system, path = _system(url)
        try:
            return what(system, path)
        except FileNotFoundError as error:
            raise DownloadError(
                "there is nothing of that name", where=url, found=_words(error), fix="check the name of the bucket too"
            ) from error
        except PermissionError as error:
            raise DownloadError(
                "this may not be read or written", where=url, found=_words(error),
                fix=f"check the credentials: they need leave for {bucket}; without any, only what is public is read",
            ) from error  # fmt: skip
        except Exception as error:
            if type(error).__name__ in _NO_CREDENTIALS and bucket.partition("://")[2] not in _anonymous():
                _anonymous().add(bucket.partition("://")[2])
                continue
            if not _is_network(error):
                raise
            problem: Exception = error
        time.sleep(downloads.PATIENCE * 2**attempt)
    raise Unreachable(
        "the bucket cannot be reached, or is in trouble", where=url, found=_words(problem),
        fix="try again later; what has arrived stays. Another server than Amazon's is named by AWS_ENDPOINT_URL",
    )  # fmt: skip


def _is_network(error: Exception) -> bool:
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or module in ("botocore", "aiobotocore", "aiohttp", "gcsfs", "azure")


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _web_stat(url: str) -> RemoteFile | None:
    headers = {"User-Agent": f"cytomask/{__version__}", "Accept-Encoding": "identity"}
    problem: object = None
    for attempt in range(downloads.ATTEMPTS):
        # Some servers answer no HEAD: those are asked for the file, and not listened to.
        for method in ("HEAD", "GET"):
            try:
                request = urllib.request.Request(url, headers=headers, method=method)
                with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                    length = answer.headers.get("Content-Length", "")
                    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
                    return RemoteFile(int(length) if length.isdigit() else None, version)
            except urllib.error.HTTPError as error:
                problem = f"{error.code} {error.reason}"
                if error.code in (404, 410):
                    return None
                if error.code >= 500 or error.code == 429:
                    break
                if method == "GET":
                    raise DownloadError("the server does not give the file", where=url, found=problem) from error
            except (urllib.error.URLError, OSError) as error:
                problem = getattr(error, "reason", None) or error
                if not isinstance(error, TimeoutError):
                    raise _no_server(url, problem) from error
                break
        if attempt + 1 < downloads.ATTEMPTS:
            time.sleep(downloads.PATIENCE * 2**attempt)
    raise _no_server(url, problem)


def _no_server(url: str, problem: object) -> Unreachable:
    return Unreachable(
        "the server cannot be reached, or is in trouble", where=url, found=problem,
        expected="a connection to the internet", fix="try again later",
    )  # fmt: skip
