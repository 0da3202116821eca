"""ClearML: a task on its server, or a session in a zip that can be imported later."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytomask.tracking.config import ClearmlConfig
from cytomask.tracking.flat import Flat
from cytomask.tracking.mlflow import metric_name
from cytomask.tracking.tracker import Status

if TYPE_CHECKING:
    from clearml import Task

#: What ClearML hooks into unless each is switched off: libraries, and a search through the code that runs, which takes
#: minutes, and which would send the user's own code.
_HOOKS = (
    "detect_repository", "hydra", "scikit", "joblib", "matplotlib", "tensorflow", "tensorboard", "tfdefines", "pytorch",
    "megengine", "xgboost", "catboost", "fastai", "lightgbm", "gradio",
)  # fmt: skip
#: Where offline sessions lie in the run's folder.
SESSIONS = "clearml"


class ClearmlTracker:
    """Keeps a record with ClearML.

    Online, each process goes on with the same task. An offline session ends with its process, so that each process
    makes one of its own, in ``clearml/ID.zip`` of the run's folder; all have the tag ``run:ID`` of the first.

    Parameters
    ----------
    config
        Where.
    name
        What the task is called.
    folder
        The run's folder.
    record
        What :meth:`record` gave in an earlier process, to go on with that task.
    """

    #: Whether this process was switched to offline mode here, and may be switched back.
    _switched = False

    def __init__(self, config: ClearmlConfig, name: str, folder: Path, record: Mapping[str, Any] | None = None) -> None:
        from clearml import Task

        before = dict(record or {})
        same = before.get("mode") == config.mode and before.get("project") == config.project
        self._config, self._folder = config, folder
        self._offline = config.mode == "offline"
        if self._offline and not Task.is_offline():
            Task.set_offline(True)
            ClearmlTracker._switched = True
        elif not self._offline and ClearmlTracker._switched:
            # Not at the end of an offline session: going online asks the server, or misses its address.
            Task.set_offline(False)
            ClearmlTracker._switched = False
        self.task: Task = Task.init(
            project_name=config.project,
            task_name=name,
            continue_last_task=str(before["task"]) if same and not self._offline else False,
            reuse_last_task_id=False,
            # What the run tells is all that is recorded: no hooks in libraries, no copy of the terminal.
            auto_connect_arg_parser=False,
            auto_connect_frameworks=dict.fromkeys(_HOOKS, False),
            auto_connect_streams=False,
            auto_resource_monitoring=not self._offline,
        )
        if same and not self._offline:
            self.task.set_initial_iteration(0)  # steps are counted by the run, not on from the last
        self._first = str(before["task"]) if same and before.get("task") else str(self.task.id)
        self._sessions = list(before.get("sessions", [])) if same else []
        if self._offline:
            self.task.add_tags([f"run:{self._first}"])

    def settings(self, values: Mapping[str, Flat]) -> None:
        # ClearML has sections of parameters: the first part of a name, before its slash.
        told = {f"{name.partition('.')[0]}/{name.partition('.')[2] or name}": value for name, value in values.items()}
        self.task.update_parameters({name: "" if value is None else value for name, value in told.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        self.task.add_tags([f"{name}:{value}" for name, value in values.items()])

    def metrics(self, stage: str, values: Mapping[str, float], step: int | None) -> None:
        logger = self.task.get_logger()
        for name, value in values.items():
            title, _, series = metric_name(stage, name).partition("/")
            if step is None:
                logger.report_single_value(f"{title}/{series}", value)
            else:
                logger.report_scalar(title, series, value, step)

    def picture(self, name: str, path: Path) -> None:
        self.task.get_logger().report_image("pictures", name, iteration=0, local_path=str(path))

    def file(self, name: str, path: Path) -> None:
        # A folder is sent as a zip.
        if not self.task.upload_artifact(name, artifact_object=str(path), wait_on_upload=True):
            raise OSError(f"ClearML did not take {path}")

    def close(self, status: Status) -> None:
        if not self._offline:
            self.task.flush(wait_for_uploads=True)
            if status == "failed":
                self.task.mark_failed(ignore_errors=True, status_message="the stage failed")
            elif status == "killed":
                self.task.mark_stopped(force=True, status_message="the stage was interrupted")
            self.task.close()
            return
        self.task.add_tags([f"status:{status}"])
        session = Path(str(self.task.get_offline_mode_folder()))
        self.task.close()
        packed = session.with_name(f"{session.name}.zip")
        target = self._folder / SESSIONS / packed.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(packed, target)
        shutil.rmtree(session, ignore_errors=True)
        self._sessions.append(f"{SESSIONS}/{packed.name}")

    def record(self) -> dict[str, Any]:
        return {
            "task": self._first, "mode": self._config.mode, "project": self._config.project, "sessions": self._sessions,
        }  # fmt: skip
