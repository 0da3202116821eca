"""The JSON Schema of experiment files, with which editors complete, explain and check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cytomask.models.registry import FAMILIES, family_config, family_postprocess
from cytomask.output import replacing
from cytomask.workflows.experiments.layers import EXTENDS, recipe_names
from cytomask.workflows.experiments.sections import Experiment

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: What the schema is called where an experiment is written.
SCHEMA_NAME = "experiment.schema.json"
_TEXT = {"type": "string"}


def experiment_schema() -> dict[str, Any]:
    """Make the schema, draft 2020-12.

    It is that of the file, not of the resolved experiment: there is ``extends``, everything may be left out or null,
    and the section ``model`` has the settings of its family.

    Returns
    -------
    dict
        Plain JSON.

    Examples
    --------
    >>> schema = experiment_schema()
    >>> schema["$defs"]["Optimiser"]["properties"]["learning_rate"]["default"]
    0.0003
    """
    families = list(FAMILIES)
    models: list[type[BaseModel]] = [Experiment, *map(family_config, families), *map(family_postprocess, families)]
    references, schema = models_json_schema([(model, "validation") for model in models])
    definitions = schema["$defs"]
    names = [references[model, "validation"]["$ref"].rpartition("/")[2] for model in models]
    items = _in_lists(definitions)
    for name, definition in definitions.items():
        _soften(definition, keep_required=name in items)
        if name not in items:
            definition["type"] = ["object", "null"]
    _free_channels(definitions["ChannelExpectation"]["properties"])
    root = definitions.pop(names[0])
    configs = dict(zip(families, names[1 : len(families) + 1]))
    postprocesses = dict(zip(families, names[len(families) + 1 :]))
    for family, name in configs.items():
        settings = definitions[name]["properties"]
        definitions[name]["properties"] = {"family": {"const": family, "description": "the model family"}, **settings}
    said = root["properties"]["model"].get("description", "")
    root["properties"]["model"] = {"description": said, **_by_family(configs)}
    definitions["PredictionSection"]["properties"]["postprocess"] |= _any_of(postprocesses)
    recipes = recipe_names()
    extends = {
        "description": "a recipe, or a file from the folder of this one, whose settings hold where this one says none",
        "anyOf": [{"enum": recipes}, _TEXT],
    }
    return {
        "$schema": DIALECT,
        "title": "cytomask experiment",
        "description": root.get("description", ""),
        "type": "object",
        "additionalProperties": False,
        "properties": {EXTENDS: extends, **root["properties"]},
        "allOf": [_postprocess_of(family, name) for family, name in postprocesses.items()],
        "$defs": definitions,
    }


def write_schema(path: str | Path) -> Path:
    """Write the schema into a file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(experiment_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _any_of(names: dict[str, str]) -> dict[str, Any]:
    return {"anyOf": [*map(_ref, names.values()), {"type": "null"}]}


def _says(family: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"family": {"const": family}}, "required": ["family"]}


def _by_family(configs: dict[str, str]) -> dict[str, Any]:
    """The settings of the family that is named; where none is, of any."""
    unnamed = {"type": "object", "not": {"required": ["family"]}}
    return {
        "type": ["object", "null"],
        "properties": {"family": {"enum": list(configs), "description": "the model family"}},
        "allOf": [
            *({"if": _says(family), "then": _ref(name)} for family, name in configs.items()),
            {"if": unnamed, "then": {"anyOf": [*map(_ref, configs.values())]}},
        ],
    }


def _postprocess_of(family: str, name: str) -> dict[str, Any]:
    inner = {"properties": {"postprocess": {"anyOf": [_ref(name), {"type": "null"}]}}}
    return {
        "if": {"properties": {"model": _says(family)}, "required": ["model"]},
        "then": {"properties": {"prediction": inner}},
    }


def _soften(node: Any, *, keep_required: bool = False) -> None:
    """Make pydantic's schema that of settings that may be laid over others; in place."""
    if isinstance(node, list):
        for part in node:
            _soften(part)
        return
    if not isinstance(node, dict):
        return
    node.pop("title", None)
    node.pop("discriminator", None)
    if "oneOf" in node:
        # Without its kind, as where only one setting of the base is changed, a table fits several.
        node["anyOf"] = node.pop("oneOf")
    if isinstance(node.get("description"), str):
        # The first paragraph of a docstring, without its markup.
        node["description"] = " ".join(node["description"].split("\n\n")[0].replace("``", "`").split())
    if not keep_required:
        node.pop("required", None)
    for name, part in node.get("properties", {}).items():
        part.pop("title", None)
        _soften(part)
        node["properties"][name] = part if keep_required else _or_null(part)
    if isinstance(node.get("additionalProperties"), dict):
        node["additionalProperties"] = _or_null(node["additionalProperties"])
    for name in ("anyOf", "prefixItems", "items", "additionalProperties"):
        _soften(node.get(name))


def _or_null(node: dict[str, Any]) -> dict[str, Any]:
    null = {"type": "null"}
    if "anyOf" in node:
        return node if null in node["anyOf"] else {**node, "anyOf": [*node["anyOf"], null]}
    if "enum" in node:
        return {**{k: v for k, v in node.items() if k != "type"}, "enum": [*node["enum"], None]}
    # A table that may be null says so in its own definition.
    return (
        {**node, "type": [node["type"], "null"]} if isinstance(node.get("type"), str) and "const" not in node else node
    )


def _in_lists(definitions: dict[str, Any]) -> set[str]:
    """Names of what is an item of a list: lists are replaced, so these are never laid over others."""
    found: set[str] = set()

    def walk(node: Any, listed: bool) -> None:
        if isinstance(node, dict):
            if listed and "$ref" in node:
                found.add(node["$ref"].rpartition("/")[2])
            for key, part in node.items():
                walk(part, listed or key in ("items", "prefixItems"))
        elif isinstance(node, list):
            for part in node:
                walk(part, listed)

    for definition in definitions.values():
        walk(definition, False)
    return found


def _free_channels(properties: dict[str, Any]) -> None:
    """What is allowed in the file beyond what is kept: names of ready programs and layouts, groups of one channel."""
    properties["program"]["anyOf"].append(_TEXT)
    properties["layout"]["anyOf"] += [_TEXT, {"type": "object"}]
    properties["mode"]["enum"].append("grey")
