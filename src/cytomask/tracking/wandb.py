"""Weights & Biases: a run on its server, or in a folder that ``wandb sync`` sends."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytomask.tracking.config import WandbConfig
from cytomask.tracking.flat import Flat
from cytomask.tracking.mlflow import metric_name
from cytomask.tracking.tracker import Status

_EXIT = {"finished": 0, "failed": 1, "killed": 130}
_MODEL = "bundle"


class WandbTracker:
    """Keeps a record with Weights & Biases.

    Online, each process goes on with the same run. What lies offline cannot be gone on with, so that each process makes
    a run of its own there; all of them are in one group, which has the first one's name.

    Parameters
    ----------
    config
        Where.
    name
        What the run is called.
    folder
        The run's folder, in which ``wandb`` is made.
    record
        What :meth:`record` gave in an earlier process, to go on with that run.
    """

    def __init__(self, config: WandbConfig, name: str, folder: Path, record: Mapping[str, Any] | None = None) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        before = dict(record or {})
        same = before.get("mode") == config.mode and before.get("project") == config.project
        wanted = {
            "silent": True, "console": "off", "disable_git": True, "init_timeout": 30.0, "login_timeout": 20.0,
            "finish_timeout": 300.0,
        }  # fmt: skip
        known = wandb.Settings.model_fields
        settings = wandb.Settings(**{key: value for key, value in wanted.items() if key in known})
        going_on = same and config.mode == "online"
        self.run = wandb.init(
            project=config.project,
            entity=config.entity,
            name=name,
            dir=folder,
            mode=config.mode,
            settings=settings,
            id=before.get("run") if going_on else None,
            resume="allow" if going_on else None,
            group=before.get("group") if same else None,
        )
        self._config = config
        self._group = str(before["group"]) if same and before.get("group") else f"{name}-{self.run.id}"
        self._first = str(before["run"]) if same and before.get("run") else str(self.run.id)
        if config.mode == "offline":
            self.run.config.update({"runs_of_one": self._group}, allow_val_change=True)
        self._defined: set[str] = set()

    def settings(self, values: Mapping[str, Flat]) -> None:
        self.run.config.update(dict(values), allow_val_change=True)

    def tags(self, values: Mapping[str, str]) -> None:
        told = tuple(f"{name}:{value}"[:64] for name, value in values.items())
        self.run.tags = tuple(dict.fromkeys((*(self.run.tags or ()), *told)))

    def metrics(self, stage: str, values: Mapping[str, float], step: int | None) -> None:
        named = {metric_name(stage, name): value for name, value in values.items()}
        if step is None:
            self.run.summary.update(named)
            return
        # Stages count their steps each by itself; the own steps of a run only rise.
        axis = f"{stage}/step"
        for name in (axis, *named):
            if name not in self._defined:
                self.run.define_metric(name, step_metric=None if name == axis else axis)
                self._defined.add(name)
        self.run.log({axis: step, **named})

    def picture(self, name: str, path: Path) -> None:
        import wandb

        self.run.log({f"pictures/{name}": wandb.Image(str(path))})

    def file(self, name: str, path: Path) -> None:
        import wandb

        called = re.sub(r"[^\w.-]", "_", f"{self.run.name or self.run.id}-{name}")[:128]
        artifact = wandb.Artifact(called, type="model" if name == _MODEL else "file")
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def close(self, status: Status) -> None:
        self.run.finish(exit_code=_EXIT[status])

    def record(self) -> dict[str, Any]:
        return {
            "run": self._first, "group": self._group, "mode": self._config.mode, "project": self._config.project,
        }  # fmt: skip
