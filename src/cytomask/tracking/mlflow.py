"""MLflow: a run in a store of SQLite or files on this machine, or on a server."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytomask.tracking.config import MlflowConfig
from cytomask.tracking.flat import Flat
from cytomask.tracking.tracker import Status

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

#: A server that is away is asked for seconds, not for the minutes that MLflow has by default.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
#: Nothing is told to those who make it.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true"}
_LONGEST, _AT_ONCE = 5000, 100
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_SQLITE = "sqlite:///"


class MlflowTracker:
    """Keeps a record with MLflow.

    Parameters
    ----------
    config
        Where.
    name
        What the run is called.
    base
        From where a relative store is meant.
    record
        What :meth:`record` gave in an earlier process, to go on with that run.
    """

    def __init__(self, config: MlflowConfig, name: str, base: Path, record: Mapping[str, Any] | None = None) -> None:
        for variable, value in {**_PATIENCE, **_QUIET}.items():
            os.environ.setdefault(variable, value)
        # Of a new store, the making of each table would be told.
        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        self.uri = store_uri(config.uri, base)
        self.client: MlflowClient = MlflowClient(tracking_uri=self.uri)
        before = dict(record or {})
        if before.get("uri") == self.uri and self._is_there(str(before.get("run"))):
            self.run = str(before["run"])
            self.client.update_run(self.run, status="RUNNING")
        else:
            experiment = self._experiment(config.experiment)
            tags = {"mlflow.source.name": "cytomask"}
            self.run = self.client.create_run(experiment, run_name=name, tags=tags).info.run_id

    def settings(self, values: Mapping[str, Flat]) -> None:
        from mlflow.entities import Param, RunTag

        known = self.client.get_run(self.run).data.params
        texts = {_key(name): str(value)[:_LONGEST] for name, value in values.items()}
        new = [Param(name, value) for name, value in texts.items() if name not in known]
        # MLflow's parameters stay as they were; what has changed since is told by tags.
        changed = [RunTag(f"changed.{n}", v) for n, v in texts.items() if n in known and known[n] != v]
        for k in range(0, len(new), _AT_ONCE):
            self.client.log_batch(self.run, params=new[k : k + _AT_ONCE])
        for k in range(0, len(changed), _AT_ONCE):
            self.client.log_batch(self.run, tags=changed[k : k + _AT_ONCE])

    def tags(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            self.client.set_tag(self.run, _key(name), value[:_LONGEST])

    def metrics(self, stage: str, values: Mapping[str, float], step: int | None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        found = [Metric(_key(metric_name(stage, name)), value, now, step or 0) for name, value in values.items()]
        for k in range(0, len(found), _AT_ONCE):
            self.client.log_batch(self.run, metrics=found[k : k + _AT_ONCE])

    def picture(self, name: str, path: Path) -> None:
        self.client.log_artifact(self.run, str(path), _folder_of(f"pictures/{name}", path))

    def file(self, name: str, path: Path) -> None:
        if path.is_dir():
            self.client.log_artifacts(self.run, str(path), _key(name))
        else:
            self.client.log_artifact(self.run, str(path), _folder_of(name, path))

    def close(self, status: Status) -> None:
        self.client.set_terminated(self.run, _STATUS[status])

    def record(self) -> dict[str, Any]:
        return {"uri": self.uri, "run": self.run}

    def _is_there(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None
        if self.uri.startswith(_SQLITE):
            # Beside the store, wherever it is opened from.
            place = (Path(self.uri.removeprefix(_SQLITE)).parent / "mlartifacts").absolute().as_uri()
        return str(self.client.create_experiment(name, artifact_location=place))


def store_uri(uri: str, base: Path) -> str:
    """A store's address with its whole path, so that it is the same from everywhere.

    Examples
    --------
    >>> store_uri("sqlite:///mlruns.db", Path("/home/me"))
    'sqlite:////home/me/mlruns.db'
    >>> store_uri("mlruns", Path("/home/me")), store_uri("https://mlflow.example.org", Path("/home/me"))
    ('file:///home/me/mlruns', 'https://mlflow.example.org')
    """
    if uri.startswith(_SQLITE):
        path = uri.removeprefix(_SQLITE)
        return _SQLITE + (base.absolute() / path).as_posix()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", uri) or uri == "databricks":
        return uri
    return (base.absolute() / uri).as_uri()


def metric_name(stage: str, name: str) -> str:
    """A figure's name with its stage, unless it says already what it is of.

    Examples
    --------
    >>> metric_name("evaluate", "f1_50"), metric_name("train", "val/score")
    ('evaluate/f1_50', 'val/score')
    """
    return name if "/" in name else f"{stage}/{name}"


def _key(name: str) -> str:
    """A name as MLflow takes it, which is in letters, digits, and few signs."""
    return re.sub(r"[^\w\-. /]", "_", name).strip("/ ")[:250] or "_"


def _folder_of(name: str, path: Path) -> str | None:
    """Where a file comes to lie that is called ``name``: MLflow keeps the last part of its path.

    Examples
    --------
    >>> _folder_of("report.html", Path("runs/a/report.html")), _folder_of("pictures/best", Path("a/00.png"))
    (None, 'pictures/best')
    """
    *folders, last = name.split("/")
    if last not in (path.name, path.stem):
        folders.append(last)
    return _key("/".join(folders)) if folders else None
