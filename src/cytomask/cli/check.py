"""``cytomask check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    data: Annotated[
        Path, typer.Argument(help="A data set: its YAML file or folder, or annotations with their images.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for check.html, with pictures, and check.json.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Look at this split only.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Compare the objects with what this model can find: nuclei, a bundle, a run.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(help="Write a repaired copy of the data into this new folder, with repairs.csv.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings count as errors for the exit code.")] = False,
) -> None:
    """Find what is wrong with annotated data before training; exit with 1 if there are errors."""
    from cytomask.reporting.check_table import print_report
    from cytomask.workflows.check import check_data

    report = check_data(data, out, split=split, model=model, fix=fix)
    print_report(report)
    objects = report.statistics.get("objects", {}).get("all", 0)
    if model is not None and objects and not any(found.kind.startswith("model-") for found in report.findings):
        typer.echo(f"{model} fits: the objects are of sizes that it knows, and no --diameter is needed")
    if out is not None:
        typer.echo(f"wrote {out / 'check.html'} and {out / 'check.json'}")
    if fix is not None:
        typer.echo(f"wrote the repaired copy {fix}; {fix / 'repairs.csv'} says what was done and what is left")
    if report.count("error") or (strict and report.count("warning")):
        raise typer.Exit(1)
