"""cytomask: find every cell, nucleus and organelle in microscope images, and measure them.

Examples
--------
>>> import cytomask
>>> model = cytomask.load("nuclei")                     # doctest: +SKIP
>>> instances = model.predict("cells.tif")              # doctest: +SKIP
>>> instances.to_labels()                               # doctest: +SKIP
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cytomask._version import __version__

if TYPE_CHECKING:
    from cytomask.data.dataset import open_dataset
    from cytomask.formats.images import read_image
    from cytomask.image import Image
    from cytomask.instances import Instances
    from cytomask.workflows.check import check_data as check
    from cytomask.workflows.compare import compare_models as compare
    from cytomask.workflows.ensemble import ModelEnsemble, load_ensemble
    from cytomask.workflows.evaluate import evaluate_predictions as evaluate
    from cytomask.workflows.measure import measure
    from cytomask.workflows.model import Model, load
    from cytomask.workflows.notebook import show
    from cytomask.workflows.predict import predict_images as predict
    from cytomask.workflows.preview_augmentation import preview_augmentation
    from cytomask.workflows.train import train_experiment as train

# Imported when first used: `import cytomask` and `cytomask --help` stay instant.
_LAZY = {
    "Image": "cytomask.image",
    "Instances": "cytomask.instances",
    "Model": "cytomask.workflows.model",
    "ModelEnsemble": "cytomask.workflows.ensemble",
    "check": "cytomask.workflows.check:check_data",
    "compare": "cytomask.workflows.compare:compare_models",
    "evaluate": "cytomask.workflows.evaluate:evaluate_predictions",
    "load": "cytomask.workflows.model",
    "load_ensemble": "cytomask.workflows.ensemble",
    "measure": "cytomask.workflows.measure",
    "open_dataset": "cytomask.data.dataset",
    "predict": "cytomask.workflows.predict:predict_images",
    "preview_augmentation": "cytomask.workflows.preview_augmentation",
    "read_image": "cytomask.formats.images",
    "show": "cytomask.workflows.notebook",
    "train": "cytomask.workflows.train:train_experiment",
}

__all__ = [
    "Image", "Instances", "Model", "ModelEnsemble", "__version__", "check", "compare", "evaluate", "load",
    "load_ensemble", "measure", "open_dataset", "predict", "preview_augmentation", "read_image", "show", "train",
]  # fmt: skip

# In a notebook, objects, images, models and metrics are shown as pictures and tables.
if "IPython" in sys.modules:
    from cytomask.workflows.notebook import register

    register()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cytomask' has no attribute {name!r}")
    from importlib import import_module

    module, _, there = _LAZY[name].partition(":")
    return getattr(import_module(module), there or name)


def __dir__() -> list[str]:
    return sorted(__all__)
