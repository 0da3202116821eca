"""Where runs are recorded besides their own folder."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", frozen=True)


class MlflowConfig(BaseModel):
    """MLflow: a server, or a store of files and SQLite on this machine."""

    model_config = _STRICT

    uri: str = Field("sqlite:///mlruns.db", description="tracking server or store; a relative SQLite file is meant "
                     "from the folder of the experiment's file")  # fmt: skip
    experiment: str = Field("cytomask", description="MLflow's experiment, which holds many runs")


class ClearmlConfig(BaseModel):
    """ClearML."""

    model_config = _STRICT

    project: str = "cytomask"
    mode: Literal["online", "offline"] = Field("online", description="offline: a session folder that can be imported")


class WandbConfig(BaseModel):
    """Weights & Biases."""

    model_config = _STRICT

    project: str = "cytomask"
    entity: str | None = Field(None, description="team or user; null: the one who is logged in")
    mode: Literal["online", "offline"] = Field("online", description="offline: a folder that `wandb sync` sends")


class TrackingConfig(BaseModel):
    """Which trackers keep a record; CSV and TensorBoard are always written into the run's folder."""

    model_config = _STRICT

    mlflow: MlflowConfig | None = Field(None, description="extra `track`")
    clearml: ClearmlConfig | None = Field(None, description="extra `track`")
    wandb: WandbConfig | None = Field(None, description="extra `track`")
    pictures: int = Field(8, ge=0, description="at most so many example pictures are sent")
    model: bool = Field(True, description="the model bundle is sent, too")
