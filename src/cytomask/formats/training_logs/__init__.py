"""Logs of trainings: our own tables of a run, and what detectron2 writes."""

from cytomask.formats.training_logs.log import ApTable, Series, TrainingLog
from cytomask.formats.training_logs.reading import is_run_folder, read_training_log

__all__ = ["ApTable", "Series", "TrainingLog", "is_run_folder", "read_training_log"]
