"""Which device and number format to train on."""

from __future__ import annotations

from pathlib import Path

import torch

from cytomask.errors import ConfigError


def resolve_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` into a device that exists.

    Raises
    ------
    ConfigError
        If the device is unknown or not on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ConfigError("there is no such device", found=device, expected="auto, cpu, cuda or cuda:N") from error
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            "the GPU is not available",
            found=device,
            expected=f"{torch.cuda.device_count()} CUDA device(s) seen",
            fix="use --device cpu, or install the driver and a CUDA build of torch",
        )
    return resolved


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic runs in hardware, and so faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return "avx512_bf16" in flags or "amx_bf16" in flags


def lightning_precision(precision: str, device: torch.device) -> str:
    """Name the precision as Lightning does.

    Examples
    --------
    >>> lightning_precision("float32", torch.device("cpu"))
    '32-true'
    """
    if precision == "auto":
        if has_native_bfloat16(device):
            return "bf16-mixed"
        return "16-mixed" if device.type == "cuda" else "32-true"
    return {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}[precision]
