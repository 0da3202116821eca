"""Names of channels and classes, made fit for names of columns."""

from __future__ import annotations

import re
from collections.abc import Sequence


def safe_names(names: Sequence[str], thing: str = "channel") -> list[str]:
    """Make names fit for column names: letters, digits and underscores only, none twice.

    Examples
    --------
    >>> safe_names(["DAPI", "anti-CD3 (488)", "dapi", "", "anti CD3/488"])
    ['DAPI', 'anti_CD3_488', 'dapi_2', 'channel_3', 'anti_CD3_488_2']
    """
    fit: list[str] = []
    taken: set[str] = set()
    for number, given in enumerate(names):
        base = re.sub(r"\W+", "_", given).strip("_") or f"{thing}_{number}"
        name, again = base, 1
        while name.casefold() in taken:
            again += 1
            name = f"{base}_{again}"
        taken.add(name.casefold())
        fit.append(name)
    return fit
