"""The experiment: one YAML file that says everything, from the data to the report.

Its sections are in :mod:`cytomask.workflows.experiments.sections`, its reader in
:mod:`cytomask.workflows.experiments.reading`; all names are to be had here.
"""

from __future__ import annotations

from cytomask.workflows.experiments.reading import RECIPES, experiment_to_yaml, read_experiment, recipe_names
from cytomask.workflows.experiments.sections import (
    DataSection,
    EvaluationSection,
    Experiment,
    PatchSection,
    PredictionSection,
    ReportSection,
    TuneSection,
    VisualiseSection,
)

__all__ = [
    "RECIPES",
    "DataSection",
    "EvaluationSection",
    "Experiment",
    "PatchSection",
    "PredictionSection",
    "ReportSection",
    "TuneSection",
    "VisualiseSection",
    "experiment_to_yaml",
    "read_experiment",
    "recipe_names",
]
