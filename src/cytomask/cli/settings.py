"""Settings given as ``name=value`` on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` texts; values are YAML: numbers, true and false, words.

    Raises
    ------
    ConfigError
        If a text is of another form.

    Examples
    --------
    >>> read_settings(["seed_threshold=0.4", "objects=shape", "fill_holes=false"])
    {'seed_threshold': 0.4, 'objects': 'shape', 'fill_holes': False}
    """
    if not texts:
        return {}
    import yaml

    from cytomask.errors import ConfigError

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            read = yaml.safe_load(value) if equals else None
        except yaml.YAMLError:
            read = None
        if not name.strip() or read is None:
            raise ConfigError(
                "a setting is not of the form name=value", where="--set", found=text, expected="seed_threshold=0.4"
            )
        found[name.strip()] = read
    return found


def given(**options: Any) -> dict[str, Any]:
    """Those options that were given.

    Examples
    --------
    >>> given(score_threshold=0.3, nms=None)
    {'score_threshold': 0.3}
    """
    return {name: value for name, value in options.items() if value is not None}
