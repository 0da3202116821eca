"""Where a network runs, and with what numbers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from cytomask.errors import ConfigError
from cytomask.progress import warn

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Find the number format of the network's activations.

    Parameters
    ----------
    precision
        ``"auto"``: float16 on a CUDA GPU with tensor cores, whose ten bits of fraction keep lengths of a hundred pixels
        to a tenth of a pixel (bfloat16 keeps half a pixel); float32 elsewhere. Or the name of a format.
    device
        Where the network runs.

    Raises
    ------
    ConfigError
        If there is no such precision.

    Examples
    --------
    >>> choose_precision("auto", torch.device("cpu"))
    torch.float32
    """
    if precision == "auto":
        tensor_cores = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
        return torch.float16 if tensor_cores else torch.float32
    if precision not in PRECISIONS:
        raise ConfigError(
            "there is no such precision",
            where="--precision",
            found=precision,
            expected="auto, " + ", ".join(PRECISIONS),
        )
    if device.type == "cpu" and precision != "float32" and not (precision == "bfloat16" and cpu_has_bfloat16()):
        warn(f"this processor does not compute in {precision}; float32 is used")
        return torch.float32
    return PRECISIONS[precision]


@cache
def cpu_has_bfloat16() -> bool:
    """Say whether the processor computes in bfloat16 itself (emulated, it is slower than float32)."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error tells that memory ran out, on whatever device.

    Examples
    --------
    >>> out_of_memory(MemoryError()), out_of_memory(ValueError("a shape"))
    (True, False)
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
