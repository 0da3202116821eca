"""Fills in the reference pages from the code when the site is built, so that they cannot go stale.

A page holds markers, each on a line of its own:

``<!-- settings: cytomask.training.config.TrainingConfig -->``
    A table of the settings of a pydantic model, of each model in a union, or of the models in a dictionary. A field's
    name after the model's means the field's type. ``depth=0`` leaves out the settings inside of settings.
``<!-- command: models export -->``
    Usage, arguments and options of a command; ``cytomask`` stands for the options of all commands.
``<!-- commands -->``
    A table of all commands.
``<!-- texts: cytomask.evaluation.definitions.DEFINITIONS -->``
    A table of a dictionary of texts.
``<!-- recipe: nuclei -->``
    The text of a recipe.
``<!-- formats -->``
    A table of the annotation formats, and what each can hold.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, RootModel

#: Roles of Sphinx, as docstrings have them; in HTML only the name is left of them.
ROLE = re.compile(r":(?:class|func|meth|attr|mod|data|exc):<code>~?(?:[\w.]*\.)?(\w+)</code>")
MARKER = re.compile(r"^<!-- (settings|commands?|texts|recipe|formats)(?:: (.+?))? -->$", re.MULTILINE)
_SIGNS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("multiple_of", "a multiple of"))
_PLAIN = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Any: "any", Path: "path"}
_COUNTS = {2: "two", 3: "three", 4: "four"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of a page; called by mkdocs."""
    return fill_in(markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Tidy what comes out of docstrings; called by mkdocs."""
    return ROLE.sub(r"<code>\1</code>", html)


def fill_in(markdown: str) -> str:
    """Replace the markers in a text.

    Raises
    ------
    LookupError
        If a marker names something that there is not.
    """
    return MARKER.sub(lambda found: _render(found[1], found[2] or ""), markdown)


def _render(kind: str, text: str) -> str:
    name, *options = text.split(" ") if kind == "settings" else [text]
    chosen = dict(option.split("=") for option in options)
    if kind == "settings":
        return settings_tables(find(name), int(chosen.get("depth", 9)))
    if kind == "command":
        return command_text(name)
    if kind == "commands":
        commands = [c for c in list_commands() if c.name != PROGRAM]
        return table(("command", "what it does"), ((f"[`{c.name}`](#{c.anchor})", c.summary) for c in commands))
    if kind == "formats":
        return formats_table()
    if kind == "texts":
        return table(("name", "meaning"), ((f"`{key}`", _escaped(value)) for key, value in find(name).items()))
    return recipe_text(name)


def find(place: str) -> Any:
    """Import what a dotted name means; of a model's field, the type."""
    module, _, name = place.rpartition(".")
    owner, _, model = module.rpartition(".")
    try:
        if model[:1].isupper():
            return getattr(import_module(owner), model).model_fields[name].annotation
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, KeyError, ValueError) as error:
        raise LookupError(f"a marker names {place!r}, which there is not: {error!r}") from error


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a Markdown table, without the columns in which nothing stands."""
    head, cells = list(head), [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    shown = [k for k in range(len(head)) if any(row[k] for row in cells)]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line[k] for k in shown) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Keep Markdown from reading signs in plain text; what is quoted as code stays."""
    parts = text.split("`")
    return "`".join(re.sub(r"([*<\[\]])", r"\\\1", part) if k % 2 == 0 else part for k, part in enumerate(parts))


def formats_table() -> str:
    """Write the table of annotation formats: a column for each feature that some cannot hold."""
    place = "cytomask.formats.annotations.annotation_formats"
    rows, features = find(f"{place}.ANNOTATION_FORMATS"), find(f"{place}.FEATURES")
    head = ("format", "what it is", "written as", *features)
    cells = []
    for row in rows.values():
        shape = f"a file `{row.suffix}`" if row.kind == "file" else "a folder"
        cells.append((f"`{row.name}`", row.title, shape, *("yes" if f in row.holds else "–" for f in features)))
    return table(head, cells)


# Settings


HEAD = ("setting", "value", "default", "meaning")


def settings_tables(target: Any, depth: int = 9) -> str:
    """Write the table of a model, or those of a union's models, one after the other."""
    if isinstance(target, Mapping):
        return table(HEAD, (row for name, model in target.items() for row in _rows_of_nested(model, name, depth=depth)))
    members = _members(target)
    if len(members) == 1:
        return table(HEAD, _rows(members[0], depth=depth))
    parts = []
    for member in members:
        key, value = _discriminator(member)
        parts.append(f"**`{key}: {value}`**: {first_paragraph(member)}")
        parts.append(table(HEAD, (row for row in _rows(member, depth=depth) if row[0] != f"`{key}`")))
    return "\n\n".join(parts)


def _rows(model: Any, prefix: str = "", values: Any = None, depth: int = 9) -> Iterator[tuple[str, str, str, str]]:
    """Rows of a model's fields; ``values`` is an instance whose values are the defaults."""
    for name, field in model.model_fields.items():
        key, members = prefix + (field.alias or name), _members(field.annotation)
        needed = field.is_required() and values is None
        current = None
        if not needed:
            current = getattr(values, name) if values is not None else field.get_default(call_default_factory=True)
        said, meaning = kind(field.annotation, field.metadata), _description(model, name)
        if len(members) == 1:
            yield from _rows_of_nested(members[0], key, said, meaning, current, depth)
        else:
            yield f"`{key}`", said, "**needed**" if needed else written(current), meaning


def _rows_of_nested(
    model: Any, key: str, said: str = "", meaning: str = "", values: Any = None, depth: int = 9
) -> Iterator[tuple[str, str, str, str]]:
    # The rows below tell the defaults, except for settings that are off.
    default = "`null`" if "`null`" in said and values is None else ""
    yield f"**`{key}`**", said, default, meaning or first_paragraph(model)
    if depth > 0:
        yield from _rows(model, f"{key}.", values, depth - 1)


def _description(model: Any, name: str) -> str:
    """What a field means; one that a model redefines means what it means in the model that it comes from."""
    fields = [base.model_fields[name] for base in model.__mro__ if name in getattr(base, "model_fields", {})]
    return _rst(next((field.description for field in fields if field.description), ""))


def _members(annotation: Any) -> list[Any]:
    """The models with settings of their own that an annotation allows, leaving None and plain values aside."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for part in get_args(annotation) for member in _members(part)]
    return [annotation] if hasattr(annotation, "model_fields") and not issubclass(annotation, RootModel) else []


def _discriminator(model: Any) -> tuple[str, str]:
    """The field that tells a model of a union, and its value there."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal:
            return name, str(get_args(field.annotation)[0])
    raise LookupError(f"nothing tells {model.__name__} from the other models of its union")


def kind(annotation: Any, limits: Iterable[Any] = ()) -> str:
    """Say in words what values a type allows."""
    limits = list(limits)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(parts[0], [*parts[1:], *limits])
    if origin in (Union, types.UnionType):
        models = _members(annotation)
        if _told_apart(models):
            keys, values = zip(*map(_discriminator, models))
            return f"table with `{keys[0]}`: " + ", ".join(f"`{value}`" for value in values)
        said = dict.fromkeys(kind(part, limits) for part in parts if part is not type(None))
        return " or ".join([*said, *(["`null`"] if type(None) in parts else [])])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin is tuple and Ellipsis not in parts:
        return f"list of {_COUNTS[len(parts)]} {_plural(kind(parts[0]))}" + _limits(limits)
    if origin in (tuple, list):
        least = max((limit.min_length for limit in limits if hasattr(limit, "min_length")), default=0)
        if parts[0] is Any:
            return "list"
        return f"list of {f'at least {least} ' if least > 1 else ''}{_plural(kind(parts[0]))}"
    if origin is dict or hasattr(annotation, "model_fields"):
        return "table"
    return _PLAIN.get(annotation, str(annotation)) + _limits(limits)


def _plural(text: str) -> str:
    return re.sub(r"\b(number|text|table|list)\b", r"\1s", text)


def _told_apart(models: list[Any]) -> bool:
    return len(models) > 1 and all(
        any(get_origin(field.annotation) is Literal for field in model.model_fields.values()) for model in models
    )


def _limits(limits: Iterable[Any]) -> str:
    found = {name: getattr(limit, name) for limit in limits for name, _ in _SIGNS if hasattr(limit, name)}
    return _range(found)


def _range(limits: Mapping[str, float]) -> str:
    """Write limits, by the names that pydantic gives them, in words that are not broken over lines."""
    rest, said = dict(limits), []
    if {"ge", "le"} <= rest.keys():
        said.append(f"{rest.pop('ge'):g} to {rest.pop('le'):g}")
    said += [f"{sign}\N{NO-BREAK SPACE}{rest[name]:g}" for name, sign in _SIGNS if name in rest]
    return " " + ", ".join(said) if said else ""


def written(value: Any) -> str:
    """Write a default as it would stand in a YAML file."""
    if isinstance(value, BaseModel):
        key, name = _discriminator(type(value))
        return f"`{key}: {name}`"
    return "" if value == "" else f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    return str(value)


def first_paragraph(thing: Any) -> str:
    """The first paragraph of a docstring, as Markdown on one line."""
    return _rst(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0])


def _rst(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return _escaped(" ".join(text.replace("``", "`").split()))


# Commands

PROGRAM = "cytomask"


@dataclass(frozen=True)
class Parameter:
    """An argument (without names) or an option of a command."""

    variable: str
    names: tuple[str, ...]
    hint: Any
    default: Any
    help: str
    limits: tuple[float | None, float | None]

    @property
    def required(self) -> bool:
        """Whether the command cannot do without it."""
        return self.default is inspect.Parameter.empty

    @property
    def title(self) -> str:
        """What it is called in the table."""
        return ", ".join(f"`{name}`" for name in self.names or (self.metavar,))

    @property
    def metavar(self) -> str:
        """What stands for the value in the usage."""
        several = get_origin(self.hint) is list and not self.names
        return self.variable.strip("_").upper().replace("_", "-") + ("..." if several else "")


@dataclass(frozen=True)
class Command:
    """A command as the typer app defines it."""

    name: str
    help: str
    parameters: tuple[Parameter, ...]

    @property
    def summary(self) -> str:
        """Its help on one line."""
        return _rst(self.help.split("\n\n")[0])

    @property
    def anchor(self) -> str:
        """Its heading's place on the page."""
        return self.name.replace(" ", "-")


def list_commands() -> list[Command]:
    """Read all commands and their options from the typer app; the first holds the options of all commands."""
    from typer.main import get_command

    app = find("cytomask.cli.app.app")
    root = get_command(app)
    common = tuple(_parameters(root, app.registered_callback.callback))
    return [Command(PROGRAM, root.help or "", common), *_commands(app, root, "")]


def _commands(app: Any, group: Any, prefix: str) -> Iterator[Command]:
    for info in app.registered_commands:
        name = info.name or info.callback.__name__.replace("_", "-")
        command = group.commands[name]
        yield Command(prefix + name, command.help or "", tuple(_parameters(command, info.callback)))
    for inner in app.registered_groups:
        yield from _commands(inner.typer_instance, group.commands[inner.name], f"{prefix}{inner.name} ")


def _parameters(command: Any, function: Any) -> Iterator[Parameter]:
    """Names and defaults as the parser has them; values and limits as the function's signature has them."""
    hints = get_type_hints(function, include_extras=True)
    for parameter in command.params:
        hint, info = get_args(hints[parameter.name])
        if get_origin(hint) in (Union, types.UnionType):
            hint = next(part for part in get_args(hint) if part is not type(None))
        names = (*parameter.opts, *parameter.secondary_opts) if parameter.param_type_name == "option" else ()
        default = inspect.Parameter.empty if parameter.required else parameter.default
        yield Parameter(parameter.name, names, hint, default, parameter.help or "", (info.min, info.max))


def command_text(name: str) -> str:
    """Write what a command does, how it is called, and its arguments and options."""
    command = next((c for c in list_commands() if c.name == name), None)
    if command is None:
        raise LookupError(f"a marker names the command {name!r}, which there is not")
    rows = [(p.title, _allowed(p), _default(p), _rst(p.help)) for p in command.parameters]
    rows_text = table(("argument or option", "value", "default", "meaning"), rows) if rows else ""
    if name == PROGRAM:
        return rows_text
    needed = [p for p in command.parameters if p.required]
    words = [f"{p.names[0]} {p.metavar}" if p.names else p.metavar for p in needed]
    usage = " ".join([PROGRAM, name, *words, *(["[OPTIONS]"] if len(needed) < len(command.parameters) else [])])
    return "\n\n".join(part for part in (command.help, f"```\n{usage}\n```", rows_text) if part)


def _allowed(parameter: Parameter) -> str:
    if parameter.hint is bool:
        return ""
    hint = get_args(parameter.hint)[0] if get_origin(parameter.hint) is list else parameter.hint
    limits = dict(zip(("ge", "le"), parameter.limits))
    return _PLAIN.get(hint, str(hint)) + _range({name: limit for name, limit in limits.items() if limit is not None})


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "**needed**"
    return "" if parameter.default in (None, False) else f"`{parameter.default}`"


# Recipes


def recipe_text(name: str) -> str:
    """Quote a recipe."""
    path = find("cytomask.workflows.experiment.RECIPES") / f"{name}.yaml"
    if not path.is_file():
        raise LookupError(f"a marker names the recipe {name!r}, which there is not")
    return f"```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```"
