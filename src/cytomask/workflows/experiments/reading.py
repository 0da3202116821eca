"""Read the file of an experiment, with all that it extends, and say everything that is wrong in it at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from cytomask.models.registry import FAMILIES, family_config, family_postprocess
from cytomask.workflows.experiments.faults import check_against, drop, fault_of, without_nulls
from cytomask.workflows.experiments.layers import RECIPES, find_experiment, layered, recipe_names
from cytomask.workflows.experiments.sections import Experiment
from cytomask.workflows.experiments.strict_yaml import Place, Settings

__all__ = ["RECIPES", "experiment_to_yaml", "read_experiment", "recipe_names"]

#: Where the settings of the model family are, and those of its post-processing.
_MODEL, _POSTPROCESS = ("model",), ("prediction", "postprocess")


def read_experiment(source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a YAML file or a recipe's name, and apply ``key.path=value`` overrides.

    ``extends`` names a recipe or a file that this one builds on: tables are merged deeply, lists and plain values are
    replaced, and null unsets what has no meaning of its own for null. A relative ``data.path`` is meant from the folder
    of the file that says it.

    Parameters
    ----------
    source
        A file, or the name of a recipe.
    overrides
        Such as ``training.epochs=3`` or ``training.phases.0.epochs=3``; values are YAML.

    Raises
    ------
    ConfigError
        If the file is missing or wrong, or settings are: up to ten are told at once, each with file and line.

    Examples
    --------
    >>> read_experiment("nuclei", ["training.epochs=3"]).training.epochs
    3
    """
    path = find_experiment(source)
    settings = layered(path, overrides)
    roots: dict[Place, type[BaseModel]] = {(): Experiment}
    roots |= _family_models(settings.values)
    while True:
        problems = _problems(settings.values, roots)
        nulls = without_nulls(problems, settings.values)
        if not nulls:
            break
        values = settings.values
        for place in nulls:
            values = drop(values, place)
        settings = Settings(values, settings.origins)
    if problems:
        raise fault_of(problems, settings, roots, path)
    return Experiment.model_validate(settings.values)


def experiment_to_yaml(experiment: Experiment) -> str:
    """Write an experiment with all its defaults filled in."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _family_models(values: Mapping[Any, Any]) -> dict[Place, type[BaseModel]]:
    """The models of the family's own settings; none where only the initial weights will tell the family."""
    model = values.get("model")
    family = model.get("family") if isinstance(model, dict) else None
    if family is None and values.get("initial") is None:
        family = "star"
    if not isinstance(family, str) or family not in FAMILIES:
        return {}
    return {_MODEL: family_config(family), _POSTPROCESS: family_postprocess(family)}


def _problems(values: dict[Any, Any], roots: Mapping[Place, type[BaseModel]]) -> list[dict[str, Any]]:
    problems = check_against(Experiment, values)
    model = values.get("model")
    if isinstance(model, dict):
        problems += _model_problems(model, roots.get(_MODEL))
    prediction = values.get("prediction")
    given = prediction.get("postprocess") if isinstance(prediction, dict) else None
    if isinstance(given, dict) and _POSTPROCESS in roots:
        seen = {tuple(one["loc"][:3]) for one in problems}
        problems += [one for one in check_against(roots[_POSTPROCESS], given, _POSTPROCESS)
                     if tuple(one["loc"][:3]) not in seen]  # fmt: skip
    return problems


def _model_problems(model: dict[str, Any], config: type[BaseModel] | None) -> list[dict[str, Any]]:
    family = model.get("family")
    if family is not None and family not in FAMILIES:
        return [{
            "type": "literal_error", "loc": ("model", "family"), "input": family, "msg": "there is no such family",
            "ctx": {"expected": ", ".join(repr(name) for name in FAMILIES)},
        }]  # fmt: skip
    if config is None:
        return []
    own = {key: value for key, value in model.items() if key != "family"}
    problems = check_against(config, own, _MODEL)
    # What follows from the data or from initial weights is not there yet: classes, and of what kind a part is.
    return [
        one for one in problems
        if one["type"] != "union_tag_not_found" and (one["loc"] != _MODEL or "classes" in model)
    ]  # fmt: skip
