"""Records of runs outside their folders: MLflow, ClearML, Weights & Biases."""

from cytomask.tracking.trackers import Trackers, open_trackers

__all__ = ["Trackers", "open_trackers"]
