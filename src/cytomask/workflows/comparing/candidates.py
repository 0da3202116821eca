"""What is to be compared: find out what each argument is, give it a name, and train what is not trained yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from cytomask.errors import BundleError, ConfigError
from cytomask.models.bundle import SPEC_NAME
from cytomask.progress import say
from cytomask.storage.systems import as_url, is_remote, name_of
from cytomask.workflows.experiment import RECIPES, Experiment, recipe_names
from cytomask.workflows.models import find_model, shipped_models
from cytomask.workflows.run_folder import BUNDLE_IN_RUN, RunFolder

Kind = Literal["model", "experiment", "predictions", "annotator"]
#: A run's table of epochs.
EPOCHS_NAME = "metrics.csv"


@dataclass(frozen=True)
class Candidate:
    """Something to compare.

    Attributes
    ----------
    name
        Unlike that of any other.
    kind
        A model, an experiment that must be trained first, predictions that are there already, or an annotator.
    source
        What was named.
    paths
        Bundles of a model (several for an ensemble), or the one place of anything else.
    run
        The folder of the training, where it is known.
    """

    name: str
    kind: Kind
    source: str
    paths: tuple[Path, ...]
    run: Path | None = None


def find_candidates(
    runs: Sequence[str | Path], named: Sequence[str] = (), annotators: Sequence[str | Path] = ()
) -> list[Candidate]:
    """Find out what each argument is.

    Parameters
    ----------
    runs
        Runs' folders, bundles, shipped models, experiments, recipes, predictions; ``A+B`` is an ensemble of models.
    named
        ``NAME=RUN``: the name of one of the runs, or of a further one.
    annotators
        Annotations by people, compared as if they were predictions.

    Raises
    ------
    ConfigError
        If there is nothing, or a name occurs twice.
    BundleError
        If an argument is nothing that can be compared.

    Examples
    --------
    >>> [(one.name, one.kind) for one in find_candidates(["nuclei"], ["mine=granules"])]
    [('nuclei', 'model'), ('mine', 'experiment')]
    """
    wanted: dict[str, str | None] = dict.fromkeys(map(str, runs))
    for text in named:
        name, equals, run = text.partition("=")
        if not equals or not name.strip() or not run:
            raise ConfigError("a name is not of the form NAME=RUN", where="--name", found=text, expected="mine=runs/a")
        wanted[run] = name.strip()
    if not wanted:
        raise ConfigError("there is nothing to compare", expected="runs, bundles, shipped models, experiments")
    found = [(_candidate(run), name) for run, name in wanted.items()]
    found += [(Candidate(Path(a).stem, "annotator", str(a), (Path(a),)), None) for a in annotators]
    given = [name for _, name in found if name is not None]
    if len(set(given)) < len(given):
        raise ConfigError("two runs have the same name", where="--name", found=", ".join(given))
    names = _unlike((candidate for candidate, name in found if name is None), taken=given)
    return [_renamed(candidate, name or names[candidate.source]) for candidate, name in found]


def _renamed(candidate: Candidate, name: str) -> Candidate:
    return Candidate(name, candidate.kind, candidate.source, candidate.paths, candidate.run)


def _candidate(run: str) -> Candidate:
    path = Path(run)
    parts = run.split("+")
    if len(parts) > 1 and not path.exists():
        members = [_candidate(part) for part in parts]
        for member in members:
            if member.kind != "model":
                raise BundleError(
                    "an ensemble is made of models", where=run, found=f"{member.source}: {member.kind}",
                    expected="bundles, finished runs or shipped models, joined by +",
                )  # fmt: skip
        return Candidate(run, "model", run, tuple(path for member in members for path in member.paths))
    if is_remote(run):
        return Candidate(name_of(as_url(run)).removesuffix(".zip"), "model", run, (find_model(run),))
    if run in shipped_models() and not path.exists():
        if run in recipe_names():
            say(f"{run}: the shipped model; the recipe of this name is {RECIPES.name}/{run}.yaml")
        return Candidate(run, "model", run, (find_model(run),))
    if _is_bundle(path):
        bundle = find_model(path)
        run_folder = path if path / BUNDLE_IN_RUN == bundle else bundle.parent
        trained = RunFolder(run_folder).trained()
        in_run = (trained / EPOCHS_NAME).is_file()
        name = run_folder.resolve().name if in_run else path.resolve().stem
        return Candidate(name, "model", run, (bundle,), trained if in_run else None)
    if (path.is_dir() and (path / "experiment.yaml").is_file()) or path.suffix.lower() == ".zip":
        find_model(path)  # says how to finish the run
        return Candidate(path.stem, "model", run, (path,))
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml") and _is_experiment(path):
        return Candidate(path.stem, "experiment", run, (path,))
    if path.exists():
        return Candidate(path.resolve().stem, "predictions", run, (path,))
    if run in recipe_names():
        return Candidate(run, "experiment", run, (path,))
    raise BundleError(
        "there is nothing of that name to compare", where=run,
        expected="a run's folder, a bundle, a shipped model (" + ", ".join(shipped_models()) + "), an experiment's "
        "YAML file, a recipe (" + ", ".join(recipe_names()) + "), or predictions",
    )  # fmt: skip


def _is_bundle(path: Path) -> bool:
    return (path / SPEC_NAME).is_file() or (path / BUNDLE_IN_RUN / SPEC_NAME).is_file()


def _is_experiment(path: Path) -> bool:
    """Whether a YAML file has the sections of an experiment; what is wrong in them is told when it is read."""
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    sections = set(Experiment.model_fields) - {"name", "description"}
    return isinstance(fields, dict) and bool(sections & fields.keys())


def _unlike(candidates: Iterable[Candidate], taken: Sequence[str]) -> dict[str, str]:
    """A name for each by what was named; those that would be alike get the folder before, then numbers."""
    names: dict[str, str] = {}
    used = set(taken)
    for candidate in candidates:
        name = candidate.name
        if name in used:
            place = (candidate.run or candidate.paths[0]).resolve()
            name = f"{place.parent.name}/{name}"
        plain, number = name, 2
        while name in used:
            name, number = f"{plain} {number}", number + 1
        used.add(name)
        names[candidate.source] = name
    return names
