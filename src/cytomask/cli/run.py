"""``cytomask run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    experiment: Annotated[
        str, typer.Argument(help="An experiment's YAML file, a recipe's name, or the folder of a run.")
    ] = "experiment.yaml",
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="The data set, instead of the experiment's data.path.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Override a setting: tune.metric=iou. May be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder (default: runs/NAME).")] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this stage: prepare, train, tune, evaluate, visualise or report. May be repeated; those before "
            "it must be up to date."
        ),
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Only this stage and all after it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run stages that are up to date, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be run, and why.")] = False,
) -> None:
    """Run an experiment from the data to the report: each stage whose inputs have changed since it was last done."""
    from cytomask.workflows.run import run_experiment

    result = run_experiment(
        experiment, data=data, overrides=set_ or [], out=out, stages=stage or [], start=from_, force=force,
        dry_run=dry_run,
    )  # fmt: skip
    for line in result.lines():
        typer.echo(line)
