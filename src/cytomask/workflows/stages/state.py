"""What each stage of a run was last done with, and why it must be done again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cytomask
from cytomask._version import __version__
from cytomask.errors import OutputError
from cytomask.output import replacing
from cytomask.workflows.stages.digests import FileDigests, digest_of, files_below
from cytomask.workflows.stages.table import STAGES, Stage

_FORMAT = 1
_PACKAGE = Path(cytomask.__file__).parent
#: So many changes are named; of the rest, the number.
_NAMED = 3
#: Longer values are cut.
_LONGEST = 60


@dataclass(frozen=True)
class Inputs:
    """All that a stage's result follows from.

    Attributes
    ----------
    settings
        Settings of the experiment, by dotted names.
    data
        Identity of the data set; None for a stage that does not read it.
    code
        Checksum of the program's files that the result depends on.
    initial
        Checksum of the weights that training begins with, where they are files.
    reads
        Checksum of each file or folder of earlier stages that is read; None for what is not known yet.
    """

    settings: dict[str, Any]
    data: str | None
    code: str
    initial: str | None = None
    reads: dict[str, str | None] = field(default_factory=dict)


@dataclass
class StageRecord:
    """How a stage was last done.

    Attributes
    ----------
    status
        Whether it ended.
    inputs
        With what.
    version
        Of cytomask.
    minutes
        How long it took; of one that was broken off and went on, the last part.
    files
        Checksums of what it wrote, by path in the run's folder.
    said
        What it said at its end.
    """

    status: Literal["running", "done"]
    inputs: Inputs
    version: str = __version__
    minutes: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


class StageStates:
    """The file that says what was done with what.

    Parameters
    ----------
    path
        The file; it need not be there.

    Raises
    ------
    OutputError
        If there is a file that is no such record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, StageRecord] = {}
        if not path.is_file():
            return
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']}")
            for name, fields in content["stages"].items():
                self._records[name] = StageRecord(**{**fields, "inputs": Inputs(**fields["inputs"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                "the record of what was run cannot be read",
                where=path,
                found=str(error),
                fix="remove it, and all stages are run again",
            ) from error

    def __getitem__(self, stage: str) -> StageRecord | None:
        return self._records.get(stage)

    def put(self, stage: str, record: StageRecord) -> None:
        """Record a stage, at once and whole."""
        # As a file gives it back: tuples are lists there.
        self._records[stage] = record
        order = [name for name in STAGES if name in self._records]
        content = {"format": _FORMAT, "stages": {name: asdict(self._records[name]) for name in order}}
        with replacing(self.path) as path:
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def digest_of(self, path: str) -> str | None:
        """Checksum of a file or folder of a stage, as the stage left it; None if no stage did."""
        for record in self._records.values():
            parts = [(f, d) for f, d in sorted(record.files.items()) if f == path or f.startswith(f"{path}/")]
            if parts:
                return digest_of(parts)
        return None


def code_digest(parts: Sequence[str], root: Path = _PACKAGE) -> str:
    """Checksum of parts of the program: folders of the package, or patterns of its files.

    Examples
    --------
    >>> code_digest(["geometry"]) == code_digest(["geometry"]) != code_digest(["models"])
    True
    """
    files: set[Path] = set()
    for part in parts:
        matches = root.glob(part)
        files |= {f for match in matches for f in ([match] if match.is_file() else match.rglob("*.py"))}
    # The version alone changes no result.
    chosen = sorted(f for f in files if f.name != "_version.py")
    return digest_of((f.relative_to(root).as_posix(), f.read_bytes()) for f in chosen)


def initial_digest(initial: str | None, digests: FileDigests) -> str | None:
    """Checksum of the weights that a training begins with, where they are files on this machine."""
    if initial is None:
        return None
    place = Path(initial).expanduser()
    if (place / "bundle" / "model.yaml").is_file():
        place = place / "bundle"
    files = files_below(place)
    return digest_of((file.relative_to(place).as_posix(), digests.of(file)) for file in files) if files else None


def current_inputs(
    stage: Stage, experiment: Mapping[str, Any], data: str | None, states: StageStates, digests: FileDigests
) -> Inputs:
    """What a stage would be done with now."""
    # As they are read back from a file.
    settings = json.loads(json.dumps(stage.settings(experiment)))
    return Inputs(
        settings=settings,
        data=data if stage.data else None,
        code=code_digest(stage.code),
        initial=initial_digest(settings.get("initial"), digests),
        reads={path: states.digest_of(path) for path in stage.reads},
    )


def written_files(stage: Stage, folder: Path, digests: FileDigests) -> dict[str, str]:
    """Checksums of what a stage wrote."""
    without = [folder / name for name in stage.unwatched]
    files = [file for place in stage.places for file in files_below(folder / place, without)]
    return {file.relative_to(folder).as_posix(): digests.of(file) for file in files}


def damaged_files(record: StageRecord, folder: Path, digests: FileDigests) -> list[str]:
    """Files of a stage that are gone, or not as it left them."""
    found = []
    for name, digest in record.files.items():
        file = folder / name
        if not file.is_file() or digests.of(file) != digest:
            found.append(name)
    return found


def differ_in_told(stage: Stage, before: Inputs, now: Inputs) -> bool:
    """Whether nothing has changed but what the stage's result only tells of."""
    rest, rest_now = (replace(one, settings=stage.without_told(one.settings)) for one in (before, now))
    return rest == rest_now


def changes(before: Inputs, now: Inputs, version: str) -> list[str]:
    """In what a stage's inputs differ, for people.

    Examples
    --------
    >>> before = Inputs({"tune.metric": "accuracy"}, "a", "b")
    >>> changes(before, Inputs({"tune.metric": "iou"}, "c", "b"), "0.1")
    ['tune.metric changed: accuracy → iou', 'the data changed']
    """
    found = []
    old, new = before.settings, now.settings
    names = [name for name in {**old, **new} if old.get(name, _NONE) != new.get(name, _NONE)]
    found += [
        f"{name} changed: {_shown(old.get(name, _NONE))} → {_shown(new.get(name, _NONE))}" for name in names[:_NAMED]
    ]
    if len(names) > _NAMED:
        found.append(f"and {len(names) - _NAMED} more settings")
    if before.data != now.data:
        found.append("the data changed")
    if before.initial != now.initial:
        found.append("the initial weights changed")
    read = [name for name in now.reads if before.reads.get(name, _NONE) != now.reads[name]]
    if read:
        found.append(f"{', '.join(read)} changed")
    if before.code != now.code:
        found.append(
            f"cytomask changed: {version} → {__version__}" if version != __version__ else "cytomask's code changed"
        )
    return found


_NONE = object()


def _shown(value: object) -> str:
    if value is _NONE:
        return "not there"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text or '""'
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
