"""YAML as people write settings: every value knows its line; what YAML can hide is refused."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cytomask.errors import ConfigError

#: Where in a tree of settings: keys of tables, numbers of list items.
Place = tuple[Hashable, ...]
#: Files beyond these are no settings.
LARGEST, DEEPEST = 1 << 20, 40
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Settings:
    """A tree of settings, and where each was written.

    Attributes
    ----------
    values
        Tables, lists and plain values.
    origins
        For each place the file and line, or the option, that says it.
    """

    values: dict[Any, Any]
    origins: dict[Place, str] = field(default_factory=dict)

    def origin(self, place: Place) -> str:
        """Where a place was written, or else the table that would hold it.

        Examples
        --------
        >>> Settings({"a": {}}, {("a",): "my.yaml, line 3"}).origin(("a", "b"))
        'my.yaml, line 3'
        """
        while place and place not in self.origins:
            place = place[:-1]
        return self.origins.get(place, "")


def read_yaml(path: Path) -> Settings:
    """Read a file of settings.

    Parameters
    ----------
    path
        A YAML file that holds a table.

    Raises
    ------
    ConfigError
        If it cannot be read, is not YAML or not a table, says a key twice, or has anchors and aliases, with which a
        small file can become a huge table.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError("the file is too large for settings", where=path, expected="at most 1 MB of YAML")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("the experiment cannot be read", where=path, found=str(error), expected="YAML") from error
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError("tables are nested too deeply", where=_line(path, event.start_mark))
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(
                    "aliases are not allowed in an experiment", where=_line(path, event.start_mark),
                    found=f"*{event.anchor}", fix="write the value out, or use extends",
                )  # fmt: skip
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Settings({})
            if not isinstance(node, yaml.MappingNode):
                raise ConfigError(
                    "the experiment is not a table of settings", where=path, found=node.tag.rpartition(":")[2],
                    expected="lines such as: training: {epochs: 50}",
                )  # fmt: skip
            origins: dict[Place, str] = {}
            return Settings(_value(node, (), path, loader, origins), origins)
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        found = getattr(error, "problem", None) or str(error) or type(error).__name__
        where = path if mark is None else _line(path, mark)
        raise ConfigError("the experiment cannot be read", where=where, found=found, expected="YAML") from error


def _line(path: Path, mark: Any) -> str:
    return f"{path}, line {mark.line + 1}"


def _value(node: Any, place: Place, path: Path, loader: Any, origins: dict[Place, str]) -> Any:
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN:
        raise ConfigError("the experiment cannot be read", where=_line(path, node.start_mark), found=node.tag,
                          expected="plain tables and lists")  # fmt: skip
    origins.setdefault(place, _line(path, node.start_mark))
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, k), path, loader, origins) for k, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    table: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        where = _line(path, key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError("a key is not a name", where=where, fix="quote it, or write `key: value`")
        key = loader.construct_object(key_node) if key_node.tag != "tag:yaml.org,2002:merge" else key_node.value
        if key in table:
            raise ConfigError(
                "a setting is said twice", where=where, found=".".join(map(str, (*place, key))),
                fix=f"keep one of them; the other is in {origins[(*place, key)]}",
            )  # fmt: skip
        origins[(*place, key)] = where
        table[key] = _value(value_node, (*place, key), path, loader, origins)
    return table


def read_value(text: str) -> Any:
    """Read one value, as in ``--set key=value``.

    Raises
    ------
    ConfigError
        If it is not YAML.

    Examples
    --------
    >>> read_value("[1, 2]"), read_value("null"), read_value("true")
    ([1, 2], None, True)
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ConfigError("aliases are not allowed in settings", found=text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError("the value of an override is not YAML", found=text) from error
