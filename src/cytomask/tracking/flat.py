"""Settings as trackers take them: one value by a dotted name. And what machine and software a run had."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cytomask._version import __version__

Flat = str | int | float | bool | None


def flat_settings(values: Mapping[str, Any], within: str = "") -> dict[str, Flat]:
    """Write nested settings flat; lists, and what is none of text, number, truth value and null, become text.

    Examples
    --------
    >>> flat_settings({"model": {"rays": 32, "widths": [8, 16]}, "tune": {}, "seed": None})
    {'model.rays': 32, 'model.widths': '[8, 16]', 'tune': '{}', 'seed': None}
    """
    flat: dict[str, Flat] = {}
    for name, value in values.items():
        dotted = f"{within}.{name}" if within else str(name)
        if isinstance(value, Mapping) and value:
            flat.update(flat_settings(value, dotted))
        elif value is None or isinstance(value, str | int | float | bool):
            flat[dotted] = value
        else:
            flat[dotted] = json.dumps(value, default=str, ensure_ascii=False)
    return flat


def system_information() -> dict[str, Flat]:
    """What the run has to do with: versions, system, processors.

    (Torch is asked only if it is there already: importing it takes seconds.)
    """
    import os
    import sys

    found: dict[str, Flat] = {
        "cytomask": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }
    for package in ("torch", "lightning", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))
    return found
