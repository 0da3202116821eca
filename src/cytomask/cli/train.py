"""``cytomask train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    experiment: Annotated[
        str, typer.Argument(help="An experiment's YAML file, or a recipe's name (nuclei, granules …).")
    ],
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="The data set, instead of the experiment's data.path.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Override a setting: training.epochs=50. May be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder (default: runs/NAME).")] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            help="Train a run for each value of a setting, and compare them: loss.class_weights=[0.1,1,10]. Given "
            "several times: each combination."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1, help="Devices of this machine that train together (on CPUs: processes); they share a batch."
        ),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Machines that train together; started by torchrun or srun.")
    ] = None,
) -> None:
    """Train a model on annotated images; writes a run folder with the model bundle."""
    if sweep:
        counts = [f"training.{name}={n}" for name, n in (("devices", devices), ("nodes", nodes)) if n is not None]
        _sweep(experiment, sweep, data, [*(set_ or []), *counts], out, resume)
        return
    from cytomask.workflows.train import train_experiment

    result = train_experiment(
        experiment, data=data, overrides=set_ or [], out=out, resume=resume, devices=devices, nodes=nodes
    )  # fmt: skip
    for line in result.lines():
        typer.echo(line)
    if result.interrupted:
        raise typer.Exit(130)


def _sweep(
    experiment: str, sweep: list[str], data: str | None, overrides: list[str], out: Path | None, resume: bool
) -> None:
    from cytomask.errors import ConfigError
    from cytomask.workflows.sweep import sweep_experiment

    if resume:
        raise ConfigError("a sweep goes on by itself", found="--sweep with --resume", fix="leave out --resume")
    result = sweep_experiment(experiment, sweep, data=data, overrides=overrides, out=out)
    for line in result.lines():
        typer.echo(line)
    if result.interrupted:
        raise typer.Exit(130)
