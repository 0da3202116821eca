"""``cytomask report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A run's folder, for its report; or logs of trainings: detectron2's metrics.json, log.txt or output "
            "folder, and runs' folders, if there are several."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="For a run, the page (report.html in its folder); for logs, a folder (training-report)."
        ),
    ] = None,
) -> None:
    """Report a run: data, training, scores and pictures on one page. Of logs: their curves, laid over each other."""
    from cytomask.formats.training_logs import is_run_folder

    # A run that has not come to its training yet has a record of its stages only.
    if len(sources) == 1 and (is_run_folder(sources[0]) or (Path(sources[0]) / "stages.json").is_file()):
        from cytomask.workflows.report import write_report

        typer.echo(f"look at {write_report(Path(sources[0]), out)}")
        return
    from cytomask.workflows.report_logs import report_logs

    for line in report_logs(sources, out or Path("training-report")).lines():
        typer.echo(line)
