"""The table of model families. Adding a family is one line here and one folder beside ``star``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from cytomask.errors import ConfigError, first_problem
from cytomask.models.segmenter_config import Postprocess, SegmenterConfig

if TYPE_CHECKING:
    from cytomask.models.segmenter import Segmenter


class Family(NamedTuple):
    """Where the parts of a family are: its package, and the names of three classes."""

    package: str
    segmenter: str
    config: str
    postprocess: str


#: Family name -> its parts, imported when first used: settings from ``config``, the network from ``segmenter``.
FAMILIES: dict[str, Family] = {
    "star": Family("cytomask.models.star", "StarSegmenter", "StarConfig", "StarPostprocess"),
    "region": Family("cytomask.models.region", "RegionSegmenter", "RegionConfig", "RegionPostprocess"),
    "dense": Family("cytomask.models.dense", "DenseSegmenter", "DenseConfig", "DensePostprocess"),
}


def _parts(family: str) -> Family:
    if family not in FAMILIES:
        raise ConfigError("there is no such model family", found=family, expected=", ".join(sorted(FAMILIES)))
    return FAMILIES[family]


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
    parts = _parts(family)
    return getattr(import_module(f"{parts.package}.segmenter"), parts.segmenter)


def family_config(family: str) -> type[SegmenterConfig]:
    """Find the settings of a family's networks; nothing that computes is imported.

    Raises
    ------
    ConfigError
        If there is no such family.

    Examples
    --------
    >>> family_config("star")(rays=64).rays
    64
    """
    parts = _parts(family)
    return getattr(import_module(f"{parts.package}.config"), parts.config)


def family_postprocess(family: str) -> type[Postprocess]:
    """Find the settings of a family's post-processing; nothing that computes is imported.

    Raises
    ------
    ConfigError
        If there is no such family.

    Examples
    --------
    >>> family_postprocess("dense").competing
    False
    """
    parts = _parts(family)
    return getattr(import_module(f"{parts.package}.config"), parts.postprocess)


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
