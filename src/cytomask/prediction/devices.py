"""With what numbers a network runs, and when its memory is out."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import cache
from typing import Any

import torch

from cytomask.errors import ConfigError
from cytomask.models.devices import cpu_has_bfloat16
from cytomask.progress import warn

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Find the number format of the network's activations.

    Parameters
    ----------
    precision
        ``"auto"``: float16 on a CUDA GPU with tensor cores, whose ten bits of fraction keep lengths of a hundred pixels
        to a tenth of a pixel (bfloat16 keeps half a pixel); bfloat16 on a CPU that computes in it, which is twice as
        fast and, as many features are averaged into one distance, as accurate (see the benchmarks); float32 elsewhere.
        Or the name of a format: results are comparable between machines to the last pixel with ``"float32"``.
    device
        Where the network runs.

    Raises
    ------
    ConfigError
        If there is no such precision.

    Examples
    --------
    >>> choose_precision("float32", torch.device("cpu"))
    torch.float32
    """
    if precision == "auto":
        if device.type == "cuda":
            return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32
        return torch.bfloat16 if device.type == "cpu" and cpu_has_bfloat16() else torch.float32
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


def give_back_memory() -> None:
    """Give memory that is free, but still with the process, back to the system; on Linux, elsewhere nothing.

    Features of many tiles come and go between small things that stay. The C library then keeps ever more of the gaps,
    in a long run more than a gigabyte.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    if sys.platform == "linux":
        # Not every C library has it.
        with suppress(OSError, AttributeError):
            return ctypes.CDLL(None).malloc_trim
    return None
