"""The table of model families. Adding a family is one line here and one folder beside ``star``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pydantic import ValidationError

from cytomask.errors import ConfigError, first_problem
from cytomask.models.segmenter import Segmenter

#: Family name -> module and class, imported when first used.
FAMILIES: dict[str, tuple[str, str]] = {
    "star": ("cytomask.models.star.segmenter", "StarSegmenter"),
    "region": ("cytomask.models.region.segmenter", "RegionSegmenter"),
    "dense": ("cytomask.models.dense.segmenter", "DenseSegmenter"),
}


def family_class(family: str) -> type[Segmenter]:
    """Find the class of a family.

    Raises
    ------
    ConfigError
        If there is no such family.

    Examples
    --------
    >>> family_class("star").__name__
    'StarSegmenter'
    """
    if family not in FAMILIES:
        raise ConfigError("there is no such model family", found=family, expected=", ".join(sorted(FAMILIES)))
    module, name = FAMILIES[family]
    return getattr(import_module(module), name)


def build_segmenter(family: str, config: dict[str, Any]) -> Segmenter:
    """Build a network with fresh weights from the fields of its family's configuration.

    Raises
    ------
    ConfigError
        If the family is unknown, or a field is unknown or has a wrong value.
    """
    segmenter = family_class(family)
    try:
        return segmenter(segmenter.config_class.model_validate(config))
    except ValidationError as error:
        raise ConfigError(f"the settings of the {family} model are wrong", found=first_problem(error)) from error
