"""What is wrong in an experiment, in words: line, setting, value, what is allowed, the nearest right name."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cytomask.errors import ConfigError
from cytomask.workflows.experiments.strict_yaml import Place, Settings

#: So many are told at once; of the rest, the number.
TOLD = 10
#: The longest value that is quoted.
_LONGEST = 60


def check_against(model: type[BaseModel], values: Any, place: Place = ()) -> list[dict[str, Any]]:
    """Find what a model says is wrong with settings.

    Parameters
    ----------
    model
        Their model.
    values
        The settings.
    place
        Where they are in the experiment.

    Returns
    -------
    list of dict
        pydantic's findings; ``loc`` begins with ``place``.
    """
    try:
        model.model_validate(values)
    except ValidationError as error:
        return [{**found, "loc": (*place, *found["loc"])} for found in error.errors(include_url=False)]
    return []


def place_of(loc: Sequence[Any], values: Any) -> Place:
    """Tell which setting a finding is about: ``loc`` without the names of the kinds that pydantic tried.

    Examples
    --------
    >>> place_of(("data", "normalisation", "percentile", "low"), {"data": {"normalisation": {"low": -1}}})
    ('data', 'normalisation', 'low')
    """
    found: list[Any] = []
    for k, part in enumerate(loc):
        if isinstance(values, dict):
            key = next((known for known in values if known == part or str(known) == part), None)
            if key is not None:
                values = values[key]
                found.append(key)
            elif k == len(loc) - 1 and isinstance(part, str) and part.isidentifier():
                found.append(part)
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
            found.append(part)
    return tuple(found)


def without_nulls(problems: Sequence[Mapping[str, Any]], values: dict[Any, Any]) -> list[Place]:
    """The settings that are null but cannot be off: null unsets them, and they have their defaults again."""
    places = []
    for problem in problems:
        place = place_of(problem["loc"], values)
        if problem["input"] is None and place and problem["type"] != "missing" and _at(values, place) is None:
            places.append(place)
    return list(dict.fromkeys(places))


def drop(values: dict[Any, Any], place: Place) -> dict[Any, Any]:
    """Leave out one setting; the given table is not changed.

    Examples
    --------
    >>> drop({"a": {"b": None, "c": 1}}, ("a", "b"))
    {'a': {'c': 1}}
    """
    key, *rest = place
    if not rest:
        return {k: v for k, v in values.items() if k != key}
    inner = values[key]
    if isinstance(inner, list):
        return values
    return {**values, key: drop(inner, tuple(rest))}


def _at(values: Any, place: Place) -> Any:
    for key in place:
        if isinstance(values, dict) and key not in values:
            return ...
        values = values[key]
    return values


def fault_of(
    problems: Sequence[Mapping[str, Any]], settings: Settings, roots: Mapping[Place, type[BaseModel]], where: object
) -> ConfigError:
    """Make an error of findings.

    Parameters
    ----------
    problems
        pydantic's findings, at least one.
    settings
        The settings, and where each is written.
    roots
        Models by the place of the table that they describe, ``()`` among them.
    where
        The experiment's file.
    """
    told: dict[tuple[str, str], tuple[str, str | None]] = {}
    for problem in problems:
        place = place_of(problem["loc"], settings.values)
        if problem["type"] == "union_tag_invalid":
            place = (*place, str(problem["ctx"]["discriminator"]).strip("'"))
        origin = settings.origin(place)
        name = ".".join(map(str, place)) or "(top level)"
        said, fix = _in_words(problem, place, roots)
        # Of a union's members the first that complains is the one that pydantic thinks nearest.
        told.setdefault((origin, name), (said, fix))
    rows = sorted(told.items(), key=_by_line)[:TOLD]
    if len(told) == 1:
        (origin, name), (said, fix) = rows[0]
        return ConfigError(
            "the experiment has a wrong setting", where=origin or str(where), found=f"{name}: {said}", fix=fix
        )
    lines = []
    for (origin, name), (said, fix) in rows:
        lines.append(f"{_short(origin, where)}{name}: {said}" + (f" - {fix}" if fix else ""))
    if len(told) > TOLD:
        lines.append(f"and {len(told) - TOLD} more")
    return ConfigError(
        f"the experiment has {len(told)} wrong settings", where=str(where), found="\n            ".join(lines)
    )


def _by_line(row: tuple[tuple[str, str], Any]) -> tuple[str, int]:
    file, _, line = row[0][0].rpartition(", line ")
    return file, int(line) if line.isdigit() else 0


def _short(origin: str, where: object) -> str:
    """The line alone where all are in one file."""
    origin = origin.removeprefix(f"{where}, ")
    return f"{origin}: " if origin and origin != str(where) else ""


def _in_words(
    problem: Mapping[str, Any], place: Place, roots: Mapping[Place, type[BaseModel]]
) -> tuple[str, str | None]:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(place, roots)
    if kind == "missing":
        return "is needed, but not there", None
    # What our own validators say is marked as a Python exception, which tells users nothing.
    said = problem["msg"].removeprefix("Value error, ")
    said = re.sub("^(Input|Tuple|List|Dictionary|String|Value) should ", "should ", said)
    if kind == "union_tag_invalid":
        said = f"should be one of {context['expected_tags']}"
        given = problem["input"].get(place[-1]) if isinstance(problem["input"], dict) else problem["input"]
        return f"{said} (got {_quoted(given)})", _nearest(given, _names(context["expected_tags"]))
    if kind == "union_tag_not_found":
        return f"needs the key {context['discriminator']}", None
    if kind == "literal_error":
        return f"{said} (got {_quoted(problem['input'])})", _nearest(problem["input"], _names(context["expected"]))
    if kind == "model_type":
        said = "should be a table of settings"
    return f"{said} (got {_quoted(problem['input'])})", None


def _names(listed: str) -> list[str]:
    return [name.strip().strip("'") for name in listed.replace(" or ", ",").split(",")]


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _nearest(wrong: Any, known: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(str(wrong), list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else None


def _unknown(place: Place, roots: Mapping[Place, type[BaseModel]]) -> tuple[str, str | None]:
    """There is no such setting: name the nearest here, or one of that name elsewhere, or all that are here."""
    *parents, wrong = place
    known = sorted(_known(tuple(parents), roots), key=str.lower)
    said = "there is no such setting"
    near = _nearest(wrong, known)
    if near:
        return said, near
    elsewhere = [".".join(path) for path in _all(roots) if path[-1] == wrong and path[:-1] != tuple(parents)]
    if elsewhere:
        return said, "it is a setting of " + " and of ".join(
            one.rpartition(".")[0] or "the top level" for one in elsewhere[:3]
        )
    return said, ("known here: " + ", ".join(known)) if known else None


def _known(parents: Place, roots: Mapping[Place, type[BaseModel]]) -> set[str]:
    root = max((one for one in roots if parents[: len(one)] == one), key=len)
    models: list[Any] = [roots[root]]
    for part in parents[len(root) :]:
        if isinstance(part, int):
            continue
        models = [
            inner
            for model in models
            for name, field in model.model_fields.items()
            if name == part
            for inner in models_of(field.annotation)
        ]
    extra = {one[-1] for one in roots if one and one[:-1] == parents}
    return {name for model in models for name in model.model_fields} | {str(name) for name in extra}


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation allows, in lists and tuples too.

    Examples
    --------
    >>> from cytomask.training.config import EarlyStopping, Phase
    >>> models_of(EarlyStopping | None) == [EarlyStopping], models_of(tuple[Phase, ...]) == [Phase]
    (True, True)
    """
    if get_origin(annotation) is Annotated or get_origin(annotation) in (Union, types.UnionType, tuple, list):
        return [model for part in get_args(annotation) for model in models_of(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _all(roots: Mapping[Place, type[BaseModel]]) -> Iterator[tuple[str, ...]]:
    for root, model in roots.items():
        yield from _below(model, tuple(map(str, root)))


def _below(model: type[BaseModel], place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*place, name)
        for inner in models_of(field.annotation):
            yield from _below(inner, (*place, name))
