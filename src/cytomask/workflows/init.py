"""Begin an experiment: look at the data and the machine, and write a file with proposals and the reasons for them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytomask.errors import ConfigError, OutputError
from cytomask.output import replacing
from cytomask.progress import say
from cytomask.workflows.experiment import RECIPES, Experiment, read_experiment, recipe_names
from cytomask.workflows.experiments.schema import SCHEMA_NAME, write_schema

if TYPE_CHECKING:
    from cytomask.workflows.proposals.facts import DataFacts
    from cytomask.workflows.proposals.rules import Machine, Proposal

#: So long, in seconds, a training may take without a GPU, and with one, if nobody says otherwise.
_PATIENCE, _PATIENCE_GPU = 3600.0, 3 * 3600.0
#: Most epochs that are proposed, and fewest steps of all together: with less, networks have learnt little.
_MOST_EPOCHS, _FEWEST_STEPS = 100, 1500


def recipe_purposes() -> dict[str, str]:
    """What each recipe is for: the first line of its file.

    Examples
    --------
    >>> recipe_purposes()["demo"]
    'A small model that trains in about two minutes on two cores: used by `cytomask demo --train`.'
    """
    texts = {name: (RECIPES / f"{name}.yaml").read_text(encoding="utf-8") for name in recipe_names()}
    return {name: text.partition("\n")[0].removeprefix("#").strip() for name, text in texts.items()}


def begin_experiment(
    data: str | Path | None = None,
    *,
    recipe: str | None = None,
    family: str | None = None,
    name: str | None = None,
    out: str | Path = "experiment.yaml",
    overrides: Sequence[str] = (),
    force: bool = False,
    timing: bool = True,
) -> tuple[Path, Experiment]:
    """Write the file of an experiment, and the JSON Schema for editors beside it.

    Parameters
    ----------
    data
        The data set that is looked at; may be left out with a recipe.
    recipe
        Extend this recipe: only what differs for the data is written.
    family
        Model family; None chooses by the objects' shapes.
    name
        Of the experiment; None: the data's or the recipe's.
    out
        The file.
    overrides
        Settings ``key.path=value`` that are written in place of proposals.
    force
        Replace a file that is there.
    timing
        Do a step of training to tell how long all of it will take.

    Returns
    -------
    Path, Experiment
        The file, and what it says.

    Raises
    ------
    ConfigError
        If there is neither data nor recipe, no such recipe, or a setting is wrong.
    DataError
        If there is no such data.
    OutputError
        If the file is there already.
    """
    out = Path(out)
    if out.exists() and not force:
        raise OutputError("the file is there already", where=out, fix="name another with --out, or give --force")
    if data is None and recipe is None:
        raise ConfigError("there is neither data nor a recipe to begin with", fix="give --data PATH or --recipe NAME")
    if recipe is not None and recipe not in recipe_names():
        raise ConfigError("there is no such recipe", found=recipe, expected=", ".join(recipe_names()))
    if recipe is not None and family is not None:
        raise ConfigError(
            "a recipe has its model family", found=f"--recipe {recipe} --family {family}", fix="leave one of them out"
        )
    from cytomask.workflows.proposals.writing import experiment_text

    facts, machine, settings = _settings(data, recipe, family)
    chosen = _named(name or (Path(str(data)).stem if data is not None else recipe) or "experiment")
    path = [_data_path(data, out.parent)] if data is not None else []
    settings = _in_order([*_identity(chosen, recipe, facts), *path, *settings])
    settings = _with_overrides(settings, overrides)
    tail = [] if data is not None else ["# data: {path: PATH/TO/DATA}  # or: cytomask run FILE --data PATH"]
    head = _head(out, facts)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_schema(out.parent / SCHEMA_NAME)
    if facts is not None and timing and machine is not None:
        settings = _timed(settings, experiment_text(head, settings, tail), out, facts, machine, overrides)
    with replacing(out) as temporary:
        temporary.write_text(experiment_text(head, settings, tail), encoding="utf-8")
        # What is written is what `cytomask run` reads; a wrong setting is told before the file is there.
        _read_as(temporary, out)
    return out, read_experiment(out)


def _read_as(temporary: Path, out: Path) -> Experiment:
    try:
        return read_experiment(temporary)
    except ConfigError as error:
        found = str(error.found or "").replace(str(temporary), str(out))
        raise ConfigError("the settings do not go together", where=out, found=found, fix=error.fix) from error


def _settings(
    data: str | Path | None, recipe: str | None, family: str | None
) -> tuple[DataFacts | None, Machine | None, list[Proposal]]:
    if data is None:
        return None, None, []
    from cytomask.workflows.proposals.facts import look_at_data
    from cytomask.workflows.proposals.recipes import differing
    from cytomask.workflows.proposals.rules import propose, this_machine

    facts, machine = look_at_data(data), this_machine()
    return facts, machine, propose(facts, machine, family) if recipe is None else differing(recipe, facts, machine)


def _named(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "experiment"


def _data_path(data: str | Path, folder: Path) -> Proposal:
    from cytomask.workflows.proposals.rules import Proposal

    text = str(data)
    if "://" in text:
        return Proposal(("data", "path"), text)
    # Links stay what they are: data are often linked into a project's folder.
    path = Path(os.path.relpath(Path(data).absolute(), folder.absolute()))
    if path.parts.count("..") > 2:
        return Proposal(("data", "path"), Path(os.path.normpath(Path(data).absolute())).as_posix())
    return Proposal(("data", "path"), path.as_posix(), "from this file's folder")


def _identity(name: str, recipe: str | None, facts: DataFacts | None) -> list[Proposal]:
    from cytomask.workflows.proposals.rules import Proposal

    found = [Proposal(("name",), name)]
    if recipe is not None:
        found.insert(0, Proposal(("extends",), recipe, recipe_purposes()[recipe]))
    if facts is None:
        return found
    licence = facts.dataset.licence
    said = "is kept in the model" if licence else "of the data; kept in the model: fill it in before you share that"
    # A recipe with a licence is that of a shipped model, and its description is of the data that this was trained on.
    of_others = recipe is not None and read_experiment(recipe).data.licence is not None
    if of_others:
        found.append(Proposal(("description",), "", "the recipe's is of other data: say what these are"))
    if recipe is None or licence:
        found.append(Proposal(("data", "licence"), licence, said))
    elif of_others:
        found.append(Proposal(("data", "licence"), None, "the recipe's is of other data: fill in that of these"))
    return found


def _in_order(settings: Sequence[Proposal]) -> list[Proposal]:
    """As the schema has them, so that files of experiments look alike."""
    from cytomask.workflows.experiments.sections import DataSection

    order = {name: k for k, name in enumerate(DataSection.model_fields)}
    return sorted(settings, key=lambda one: order.get(one.place[1], 99) if one.place[0] == "data" else 0)


def _with_overrides(settings: Sequence[Proposal], overrides: Sequence[str]) -> list[Proposal]:
    """Put what was said in place of what is proposed."""
    from cytomask.workflows.experiments.strict_yaml import read_value
    from cytomask.workflows.proposals.rules import Proposal

    found = list(settings)
    for text in overrides:
        key, equals, said = text.partition("=")
        place = tuple(key.strip().split("."))
        if not equals or not all(place):
            raise ConfigError("an override is not of the form key.path=value", where="--set", found=text)
        value = read_value(said)
        # A proposal for a table of which one setting is given keeps the others.
        for k, one in enumerate(found):
            rest = place[len(one.place) :]
            if rest and one.place == place[: len(one.place)] and isinstance(one.value, dict):
                found[k] = replace(one, value=_put(one.value, rest, value), reason=one.reason)
                break
        else:
            kept = [one for one in found if one.place[: len(place)] != place]
            at = next((k for k, one in enumerate(found) if one.place[: len(place)] == place), len(kept))
            kept.insert(at, Proposal(place, value, "as you said"))
            found = kept
    return found


def _put(table: Mapping[str, Any], keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    key, *rest = keys
    inner = table.get(key)
    return {**table, key: _put(inner if isinstance(inner, dict) else {}, tuple(rest), value) if rest else value}


def _head(out: Path, facts: DataFacts | None) -> list[str]:
    lines = [f"# yaml-language-server: $schema={SCHEMA_NAME}"]
    if facts is None:
        return [*lines, f"# Run it with: cytomask run {out.name}"]
    low, median, high = facts.objects
    counted = f"{low}" if low == high else f"{low} to {high} (median {median:.0f})"
    sizes = facts.sizes
    unit = ""
    if facts.pixel_size is not None:
        unit = f"; a pixel is {facts.pixel_size[0]:.3g} x {facts.pixel_size[1]:.3g} µm"
    lines += [
        f"# {facts.dataset.describe()}",
        f"# objects an image: {counted}; diameters {sizes['diameter_p5']:.0f} to "
        f"{sizes['diameter_p95']:.0f} px (5th to 95th percentile, median {sizes['diameter_p50']:.0f} px){unit}.",
        "# What is proposed stands under its reason; what is not said has a default. "
        f"Run it with: cytomask run {out.name}",
    ]
    return lines


def _timed(
    settings: list[Proposal], text: str, out: Path, facts: DataFacts, machine: Machine, overrides: Sequence[str]
) -> list[Proposal]:
    """Say how long training takes, and propose as many epochs as the patience for it allows."""
    from cytomask.workflows.proposals.rules import Proposal, find
    from cytomask.workflows.proposals.timing import seconds_per_step

    draft = out.with_name(f".{out.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        experiment = read_experiment(draft)
    finally:
        draft.unlink(missing_ok=True)
    say("timing a step of training")
    try:
        step = seconds_per_step(experiment, facts.train)
    except (RuntimeError, MemoryError, ConfigError) as error:
        say(f"a step of training could not be timed: {str(error).splitlines()[0]}")
        return settings
    steps = experiment.training.steps_per_epoch
    proposed = find(settings, "training", "epochs")
    fixed = any(text.split("=")[0].strip() == "training.epochs" for text in overrides)
    if proposed is None or fixed or experiment.training.phases:
        epochs = experiment.training.epochs
    else:
        patience = _PATIENCE if machine.gpu is None else _PATIENCE_GPU
        epochs = min(max(round(patience / (steps * step)), -(-_FEWEST_STEPS // steps)), _MOST_EPOCHS)
    said = (
        f"about {_duration(epochs * steps * step)} on this machine ({machine.words()}; {step:.2g} s a step, measured "
        "once), and validations"
    )
    if machine.gpu is None and epochs < _MOST_EPOCHS:
        said += "; more epochs make it better, a GPU makes it faster"
    place = ("training", "epochs")
    if proposed is None:
        # With phases, epochs are the sum of theirs.
        told = [] if experiment.training.phases else [Proposal(place, epochs, f"the recipe's: {said}")]
        return [*settings, *told]
    return [replace(one, value=epochs, reason=said) if one.place == place else one for one in settings]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
