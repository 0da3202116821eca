"""Train an experiment into a folder, unless that was done before: what comparisons and sweeps are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cytomask.errors import OutputError
from cytomask.models.bundle import SPEC_NAME
from cytomask.output import output_folder, replacing
from cytomask.progress import say
from cytomask.workflows.experiment import experiment_to_yaml, read_experiment
from cytomask.workflows.models import BUNDLE_IN_RUN

#: What a run's folder holds as soon as training has begun, and when it has ended.
_BEGUN, _ENDED = "experiment.yaml", "run.yaml"


def train_once(
    source: str | Path, folder: str | Path, *, data: str | Path | None = None, overrides: Sequence[str] = ()
) -> bool:
    """Train an experiment; take what is there if it is finished already, go on with it if it was broken off.

    Beside the run's folder, ``NAME.yaml`` keeps the experiment as it was asked for: only a run of the same settings is
    taken.

    Parameters
    ----------
    source
        An experiment's YAML file or a recipe's name.
    folder
        The run's folder.
    data
        The data set, instead of the experiment's own.
    overrides
        Settings as ``key.path=value``.

    Returns
    -------
    bool
        False if training was interrupted (Ctrl-C).

    Raises
    ------
    OutputError
        If the folder holds a run with other settings, or something else.
    ConfigError, DataError, TrainingError
        As :func:`~cytomask.workflows.train.train_experiment`.
    """
    folder = Path(folder)
    experiment = read_experiment(source, overrides)
    if data is not None:
        experiment.data.path = str(Path(data).resolve())
    asked, record = experiment_to_yaml(experiment), folder.with_name(f"{folder.name}.yaml")
    begun, ended = (folder / _BEGUN).is_file(), is_finished(folder)
    if folder.is_dir() and any(folder.iterdir()) and (
        not record.is_file() or record.read_text(encoding="utf-8") != asked
    ):  # fmt: skip
        raise OutputError(
            "the folder holds a run with other settings", where=folder, found=f"{record.name} says what was asked for",
            fix="choose another --out, or remove this folder",
        )  # fmt: skip
    if ended:
        say(f"{folder.name}: trained before")
        return True
    output_folder(folder.parent)
    with replacing(record) as path:
        path.write_text(asked, encoding="utf-8")
    # Training is slow to import, and not needed where all is there.
    from cytomask.workflows.train import train_experiment

    say(f"{folder.name}: training")
    if begun:
        result = train_experiment(folder, resume=True)
    else:
        result = train_experiment(source, data=data, overrides=overrides, out=folder)
    return not result.interrupted


def is_finished(folder: str | Path) -> bool:
    """Whether a run's folder holds a model and the record that is written last."""
    return (Path(folder) / _ENDED).is_file() and (Path(folder) / BUNDLE_IN_RUN / SPEC_NAME).is_file()
