"""Report: one page that tells all of the run."""

from __future__ import annotations

from cytomask.workflows.experiment import Experiment
from cytomask.workflows.report import write_report
from cytomask.workflows.run_folder import RunFolder


def run_stage(run: RunFolder, experiment: Experiment) -> list[str]:  # noqa: ARG001
    """Write ``report.html`` from what the other stages left.

    Returns
    -------
    list of str
        Where the page is, for people.
    """
    return [f"report: {write_report(run.path)}"]
