"""Experiments that build on one another: ``extends``, and settings given on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cytomask.errors import ConfigError
from cytomask.tracking.config import MlflowConfig
from cytomask.tracking.mlflow import store_uri
from cytomask.workflows.experiments.strict_yaml import Place, Settings, read_value, read_yaml

RECIPES = Path(__file__).parents[1] / "recipes"
EXTENDS = "extends"
#: A longer chain is a mistake.
_LONGEST = 10
#: Keys that tell of what kind a table is: with another value the table has other settings, and takes the place of all.
_KINDS = ("family", "kind", "method")
#: Tables whose kind is told by other means.
_ALSO: dict[Place, tuple[str, ...]] = {("data", "channels"): ("mode",)}
_WHOLE: tuple[Place, ...] = (("data", "resize"),)
_REMOTE = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")


def recipe_names() -> list[str]:
    """Names of the recipes that come with cytomask."""
    return sorted(p.stem for p in RECIPES.glob("*.yaml"))


def find_experiment(source: str | Path) -> Path:
    """Find the file of an experiment, or of a recipe.

    Raises
    ------
    ConfigError
        If there is neither.

    Examples
    --------
    >>> find_experiment("nuclei").name
    'nuclei.yaml'
    """
    path = Path(source)
    if path.is_file():
        return path
    if not path.suffix and str(source) in recipe_names():
        return RECIPES / f"{source}.yaml"
    raise ConfigError(
        "there is no such experiment",
        where=path,
        expected="a YAML file, or a recipe: " + ", ".join(recipe_names()),
        fix=f"it is a folder; name the file in it, such as {path / 'experiment.yaml'}" if path.is_dir() else None,
    )


def layered(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a file with all that it extends, and apply overrides.

    Tables are merged deeply, lists and plain values replaced. A table of another kind (``family``, ``kind`` or
    ``method`` says another) takes the place of the whole table. A relative ``data.path`` is meant from the folder of
    the file that says it, and so is a relative store of MLflow.

    Parameters
    ----------
    path
        The file.
    overrides
        Texts ``key.path=value``; items of lists are named by their number, from 0.

    Raises
    ------
    ConfigError
        If a file is wrong, extends itself, or an override is wrong.
    """
    settings = _with_base(path, ())
    for override in overrides:
        settings = merged(settings, _override(override, settings.values))
    # Where nothing is said, MLflow's own store lies beside the experiment's file, or for a recipe in this folder.
    _anchor_store(settings, Path.cwd() if path.parent == RECIPES else path.parent, MlflowConfig().uri)
    return settings


def _with_base(path: Path, chain: tuple[Path, ...]) -> Settings:
    resolved = path.resolve()
    if resolved in chain or len(chain) >= _LONGEST:
        raise ConfigError(
            "experiments extend one another in a circle" if resolved in chain else "too many experiments extend others",
            where=chain[0],
            found=" -> ".join(_short(one, chain[0].parent) for one in (*chain, resolved)),
        )
    own = read_yaml(path)
    _anchor_data(own, path)
    _anchor_store(own, path.parent)
    base = own.values.pop(EXTENDS, None)
    where = own.origins.pop((EXTENDS,), str(path))
    if base is None:
        return own
    return merged(_with_base(_base_file(base, path, where), (*chain, resolved)), own)


def _short(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _base_file(base: Any, path: Path, where: str) -> Path:
    if not isinstance(base, str) or not base.strip():
        raise ConfigError(
            "extends names one recipe or one file", where=where, found=base, expected=", ".join(recipe_names())
        )
    if _REMOTE.match(base):
        raise ConfigError(
            "an experiment cannot extend a file from elsewhere", where=where, found=base,
            fix="copy the file beside this one, and name it",
        )  # fmt: skip
    found = path.parent / Path(base).expanduser()
    if base in recipe_names():
        return RECIPES / f"{base}.yaml"
    if found.is_file():
        return found
    from difflib import get_close_matches

    close = get_close_matches(base, recipe_names(), n=1)
    raise ConfigError(
        "there is nothing of that name to extend", where=where, found=base,
        expected="a file, from the folder of this one, or a recipe: " + ", ".join(recipe_names()),
        fix=f"did you mean {close[0]!r}?" if close else None,
    )  # fmt: skip


def _anchor_data(settings: Settings, path: Path) -> None:
    data = settings.values.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str) and not _REMOTE.match(data["path"]):
        data["path"] = str((path.parent / Path(data["path"]).expanduser()).resolve())


def _anchor_store(settings: Settings, folder: Path, default: str | None = None) -> None:
    tracking = settings.values.get("tracking")
    mlflow = tracking.get("mlflow") if isinstance(tracking, dict) else None
    if isinstance(mlflow, dict) and isinstance(uri := mlflow.get("uri", default), str):
        mlflow["uri"] = store_uri(uri, folder)


def merged(base: Settings, over: Settings) -> Settings:
    """Lay settings over others; neither is changed.

    Examples
    --------
    >>> base = Settings({"model": {"backbone": {"kind": "unet", "depth": 3}, "rays": 32}})
    >>> over = Settings({"model": {"backbone": {"depth": 4}}})
    >>> merged(base, over).values
    {'model': {'backbone': {'kind': 'unet', 'depth': 4}, 'rays': 32}}
    >>> merged(base, Settings({"model": {"backbone": {"kind": "residual"}}})).values
    {'model': {'backbone': {'kind': 'residual'}, 'rays': 32}}
    """
    origins = dict(base.origins)
    values = _merge(base.values, over.values, (), origins)
    return Settings(values, {**origins, **over.origins})


def _merge(base: Any, over: Any, place: Place, origins: dict[Place, str]) -> Any:
    if isinstance(base, dict) and isinstance(over, dict) and not _other_kind(base, over, place):
        result = dict(base)
        for key, value in over.items():
            result[key] = _merge(base[key], value, (*place, key), origins) if key in base else value
        return result
    for told in [one for one in origins if one[: len(place)] == place]:
        del origins[told]
    return over


def _other_kind(base: dict[Any, Any], over: dict[Any, Any], place: Place) -> bool:
    if place in _WHOLE and not base.keys() & over.keys():
        return True
    if place == ("data", "channels") and "program" in over and "mode" not in over:
        # A program says the mode by itself.
        return bool(base.get("mode", "program") != "program")
    return any(key in over and key in base and over[key] != base[key] for key in (*_KINDS, *_ALSO.get(place, ())))


def _override(text: str, values: dict[Any, Any]) -> Settings:
    """The table that an override stands for, with all of a list of which it changes an item."""
    name, equals, said = text.partition("=")
    keys: list[Any] = name.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            "an override is not of the form key.path=value", where="--set", found=text, expected="training.epochs=50"
        )
    if keys[0] == EXTENDS:
        raise ConfigError("what an experiment extends is said in its file", where="--set", found=text)
    place = tuple(int(key) if key.isdigit() else key for key in keys)
    return Settings(_changed({}, values, keys, read_value(said), text), {place: f"--set {text}"})


def _changed(table: dict[Any, Any], present: Any, keys: list[Any], value: Any, text: str) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(present, list):
        if not key.isdigit() or int(key) >= len(present):
            raise ConfigError(
                "an override names no item of the list", where="--set", found=text,
                expected=f"a number from 0 to {len(present) - 1} for {key!r}" if present else "a longer list",
            )  # fmt: skip
        items = list(present)
        inner = _changed({}, items[int(key)], rest, value, text)
        if isinstance(items[int(key)], dict) and isinstance(inner, dict):
            inner = _merge(items[int(key)], inner, (), {})
        items[int(key)] = inner
        return items
    if isinstance(present, dict):
        # Numbers may be keys, too.
        key = next((known for known in present if str(known) == key), key)
        return {**table, key: _changed({}, present.get(key), rest, value, text)}
    if present is not None and not isinstance(present, dict):
        raise ConfigError(
            "an override reaches into a setting that is not a table", where="--set", found=text,
            expected=f"a table, not {present!r}",
        )  # fmt: skip
    return {**table, key: _changed({}, None, rest, value, text)}
