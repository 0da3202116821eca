"""Which number format to train in."""

from __future__ import annotations

import torch

from cytomask.models.devices import cpu_has_bfloat16


def lightning_precision(precision: str, device: torch.device) -> str:
    """Name the precision as Lightning does; ``auto`` is mixed precision where the device computes it natively.

    Examples
    --------
    >>> lightning_precision("float32", torch.device("cpu"))
    '32-true'
    """
    if precision == "auto":
        if device.type == "cuda":
            return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
        return "bf16-mixed" if cpu_has_bfloat16() else "32-true"
    return {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}[precision]
