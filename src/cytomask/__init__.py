"""cytomask: find every cell, nucleus and organelle in microscope images, and measure them.

Examples
--------
>>> import cytomask
>>> model = cytomask.load("nuclei")                     # doctest: +SKIP
>>> instances = model.predict("cells.tif")              # doctest: +SKIP
>>> instances.to_labels()                               # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cytomask._version import __version__

if TYPE_CHECKING:
    from cytomask.formats.images import read_image
    from cytomask.image import Image
    from cytomask.instances import Instances
    from cytomask.workflows.ensemble import ModelEnsemble, load_ensemble
    from cytomask.workflows.model import Model, load
    from cytomask.workflows.preview_augmentation import preview_augmentation

__all__ = [
    "Image", "Instances", "Model", "ModelEnsemble", "__version__", "load", "load_ensemble", "preview_augmentation",
    "read_image",
]  # fmt: skip

# Imported when first used: `import cytomask` and `cytomask --help` stay instant.
_LAZY = {
    "Image": "cytomask.image",
    "Instances": "cytomask.instances",
    "Model": "cytomask.workflows.model",
    "ModelEnsemble": "cytomask.workflows.ensemble",
    "load": "cytomask.workflows.model",
    "load_ensemble": "cytomask.workflows.ensemble",
    "preview_augmentation": "cytomask.workflows.preview_augmentation",
    "read_image": "cytomask.formats.images",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cytomask' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
