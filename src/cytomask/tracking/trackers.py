"""All trackers of a run at once: each gets what the run tells, and none of them ever stops it."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cytomask._version import __version__
from cytomask.errors import ConfigError, OutputError
from cytomask.output import replacing
from cytomask.progress import warn
from cytomask.tracking.config import TrackingConfig
from cytomask.tracking.flat import flat_settings, system_information
from cytomask.tracking.tracker import Status, Tracker

RECORD = "tracking.json"
#: The name under which a run's model is sent.
MODEL = "bundle"
#: A tracker that failed is let alone for so many seconds, twice as long after each further time.
_PAUSE, _LONGEST_PAUSE = 30.0, 900.0
#: What cannot be sent so often is given up; so many things wait at most.
_ATTEMPTS, _MOST_WAITING = 3, 20_000
_TITLES = {"mlflow": "MLflow", "clearml": "ClearML", "wandb": "Weights & Biases"}


class Trackers:
    """What a run tells goes to all trackers; without trackers, nothing happens.

    A tracker that fails is warned of once. What it missed waits, and is sent when it answers again; what is left at the
    end is told. Used with ``with``, the end of the block is the end of the stage: finished, failed, or killed.

    Examples
    --------
    >>> with open_trackers(TrackingConfig(), Path("runs/a"), "a") as trackers:
    ...     trackers.metrics("train", {"train/loss": 0.5}, step=0)
    """

    def __init__(self, openers: Mapping[str, Callable[[Any], Tracker]], config: TrackingConfig, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._record = _read_record(folder) if openers else {}
        self._outlets = {
            name: _Outlet(_TITLES.get(name, name), opener, self._record.get(name)) for name, opener in openers.items()
        }
        self._pictures, self._closed = 0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        stopped = kind is not None and not issubclass(kind, Exception)
        # Ctrl-C in training arrives as an exception of this name.
        stopped = stopped or (kind is not None and kind.__name__ == "Interrupted")
        self.close("finished" if kind is None else "killed" if stopped else "failed")

    def __bool__(self) -> bool:
        return bool(self._outlets)

    def settings(self, values: Mapping[str, Any]) -> None:
        """Record settings, nested or flat, such as the whole experiment."""
        if self._outlets:
            flat = flat_settings(values)
            self._tell(lambda tracker: tracker.settings(flat))

    def tags(self, values: Mapping[str, str | None]) -> None:
        """Record words by which runs are found, such as the model's family; None is left out."""
        told = {name: str(value) for name, value in values.items() if value is not None}
        self._tell(lambda tracker: tracker.tags(told))

    def metrics(self, stage: str, values: Mapping[str, float | None], step: int | None = None) -> None:
        """Record figures of a stage; without a step, they are results of the whole run. What is not finite is left out.

        A name that has a slash stays as it is (``val/score``); others get the stage before it.
        """
        told = {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
        if told:
            self._tell(lambda tracker: tracker.metrics(stage, told, step))

    def picture(self, name: str, path: str | Path) -> None:
        """Record a picture; beyond ``tracking.pictures`` of a stage, no more are sent."""
        if self._outlets and self._pictures < self._config.pictures and _is_there(Path(path)):
            self._pictures += 1
            self._tell(lambda tracker: tracker.picture(name, Path(path)))

    def file(self, name: str, path: str | Path) -> None:
        """Record a file, or a folder; one called ``bundle`` is the model, and is sent if ``tracking.model`` says so."""
        if self._outlets and (name != MODEL or self._config.model) and _is_there(Path(path)):
            self._tell(lambda tracker: tracker.file(name, Path(path)))

    def close(self, status: Status = "finished") -> None:
        """Send what waits, end the stage, and keep in ``tracking.json`` what another process needs to go on."""
        if self._closed:
            return
        self._closed = True
        for outlet in self._outlets.values():
            outlet.close(status)
        self._keep()

    def _tell(self, action: Callable[[Tracker], None]) -> None:
        if self._closed:
            return
        opened = False
        for outlet in self._outlets.values():
            opened |= outlet.tell(action)
        if opened:
            self._keep()  # at once: a process that is killed leaves its runs to be gone on with

    def _keep(self) -> None:
        for name, outlet in self._outlets.items():
            if (record := outlet.record()) is not None:
                self._record[name] = record
        if not self._outlets:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / RECORD) as path:
                path.write_text(json.dumps(self._record, indent=2) + "\n", encoding="utf-8")
        except (OutputError, OSError) as error:
            warn(f"{RECORD} could not be written, so that later stages will make runs of their own: {error}")


def open_trackers(config: TrackingConfig, folder: str | Path, name: str, base: str | Path | None = None) -> Trackers:
    """Open the trackers that an experiment names.

    Where they have a run of this folder already, they go on with it, if they can.

    Parameters
    ----------
    config
        Which trackers, and where they are.
    folder
        The run's folder; ``tracking.json`` is kept there.
    name
        What the run is called.
    base
        The folder from which relative stores are meant, that of the experiment's file; None for the current one.

    Raises
    ------
    ConfigError
        If a tracker's library is not installed. Nothing else that goes wrong with a tracker is raised.
    """
    folder, base = Path(folder), Path.cwd() if base is None else Path(base)
    openers: dict[str, Callable[[Any], Tracker]] = {}
    for tracker in ("mlflow", "clearml", "wandb"):
        if getattr(config, tracker) is None:
            continue
        if importlib.util.find_spec(tracker) is None:
            raise ConfigError(
                f"{_TITLES[tracker]} is not installed",
                where=f"tracking.{tracker}",
                fix='pip install "cytomask[track]", or take it out of the experiment',
            )
        openers[tracker] = _opener(tracker, config, folder, name, base)
    trackers = Trackers(openers, config, folder)
    if openers:
        trackers.settings({"system": system_information()})
        trackers.tags({"cytomask": __version__})
    return trackers


def _opener(tracker: str, config: TrackingConfig, folder: Path, name: str, base: Path) -> Callable[[Any], Tracker]:
    def opened(record: Any) -> Tracker:
        folder.mkdir(parents=True, exist_ok=True)
        if config.mlflow is not None and tracker == "mlflow":
            from cytomask.tracking.mlflow import MlflowTracker

            return MlflowTracker(config.mlflow, name, base, record)
        if config.clearml is not None and tracker == "clearml":
            from cytomask.tracking.clearml import ClearmlTracker

            return ClearmlTracker(config.clearml, name, folder, record)
        from cytomask.tracking.wandb import WandbTracker

        assert config.wandb is not None
        return WandbTracker(config.wandb, name, folder, record)

    return opened


class _Outlet:
    """One tracker, with what waits for it while it does not answer."""

    def __init__(self, title: str, opener: Callable[[Any], Tracker], record: Any) -> None:
        self._title, self._opener, self._known = title, opener, record if isinstance(record, dict) else None
        self._tracker: Tracker | None = None
        self._waiting: deque[Callable[[Tracker], None]] = deque()
        self._failures = self._attempts = self._lost = 0
        self._not_before = -math.inf
        self._warned = False

    def tell(self, action: Callable[[Tracker], None]) -> bool:
        """Send, or let it wait; return whether the tracker was opened by this."""
        self._waiting.append(action)
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1
        was_open = self._tracker is not None
        if time.monotonic() >= self._not_before:
            self._send()
        return self._tracker is not None and not was_open

    def record(self) -> Any:
        return self._known if self._tracker is None else self._tracker.record()

    def close(self, status: Status) -> None:
        # What cannot be sent holds up nothing behind it any longer; a tracker that takes nothing at all is left alone.
        for _ in range(_ATTEMPTS):
            self._attempts = _ATTEMPTS
            self._send()
            if not self._waiting or self._tracker is None:
                break
        if self._tracker is not None:
            try:
                self._tracker.close(status)
            except Exception as error:
                self._warn(error)
        missing = self._lost + len(self._waiting)
        if missing:
            warn(f"{self._title} did not get {missing} of the things that it was told; the run's folder has them all")

    def _send(self) -> None:
        while self._waiting:
            try:
                if self._tracker is None:
                    self._tracker = self._opener(self._known)
                self._waiting[0](self._tracker)
            except Exception as error:
                self._warn(error)
                self._not_before = time.monotonic() + min(_LONGEST_PAUSE, _PAUSE * 2**self._failures)
                self._failures += 1
                if self._tracker is not None:
                    self._attempts += 1
                    if self._attempts >= _ATTEMPTS:
                        self._give_up_first()
                return
            self._waiting.popleft()
            self._attempts = self._failures = 0

    def _give_up_first(self) -> None:
        self._waiting.popleft()
        self._lost += 1
        self._attempts = 0

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            told = " ".join(str(error).split())[:300] or type(error).__name__
            warn(f"{self._title} does not take the record of this run, which goes on without it: {told}")
        self._warned = True


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        warn(f"{path} cannot be read, so that trackers make runs of their own: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _is_there(path: Path) -> bool:
    if not path.exists():
        warn(f"{path} is not there, so that no tracker gets it")
        return False
    return True
