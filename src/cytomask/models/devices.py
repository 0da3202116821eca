"""Which devices there are, and what they compute natively."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from cytomask.errors import ConfigError


def choose_device(device: str) -> torch.device:
    """Find the device: ``"auto"`` takes a CUDA GPU where there is one, else the CPU.

    Raises
    ------
    ConfigError
        If there is no such device.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            "there is no such device",
            where="--device",
            found=device,
            expected="auto, cpu" + (", cuda" if torch.cuda.is_available() else " (PyTorch finds no GPU here)"),
        ) from error
    return chosen


@cache
def cpu_has_bfloat16() -> bool:
    """Say whether the processor computes in bfloat16 itself (emulated, it is slower than float32)."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
