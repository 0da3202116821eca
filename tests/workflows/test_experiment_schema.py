"""The JSON Schema says of a file what the reader says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cytomask.errors import ConfigError
from cytomask.models.registry import FAMILIES, family_config
from cytomask.workflows.experiment import RECIPES, Experiment, read_experiment
from cytomask.workflows.experiments.schema import experiment_schema, write_schema

EXPERIMENTS = [
    path
    for folder in (RECIPES, Path(__file__).parents[2] / "benchmarks" / "experiments")
    for path in sorted(folder.glob("*.yaml"))
    if not path.stem.endswith("-data")
]


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = experiment_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_are_valid(path: Path, validator: Any) -> None:
    validator.validate(yaml.safe_load(path.read_text()))
    read_experiment(path)


@pytest.mark.parametrize(
    "text",
    [
        "training: {epoch: 3}",
        "training: {epochs: 0}",
        "training: {epochs: many}",
        "training: {phases: [{freeze: true}]}",
        "model: {family: stars}",
        "model: {family: star, network: {}}",
        "model: {rayz: 3}",
        "model: {family: region, backbone: {depth: 19}}",
        "data: {normalisation: {method: none}}",
        "data: {channels: {mode: colour}}",
        "augmentation: {intensity: {blurr: {}}}",
        "model: {family: dense}\nprediction: {postprocess: {max_objects: 3}}",
        "prediction: {postprocess: {score_treshold: 0.3}}",
        "extends: [nuclei, phase]",
        "tracking: {wandb: {mode: off}}",
        "images: here",
    ],
)
def test_what_the_reader_refuses_is_not_valid(text: str, validator: Any, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(text)
    assert not validator.is_valid(yaml.safe_load(text))
    with pytest.raises(ConfigError):
        read_experiment(tmp_path / "e.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "extends: nuclei\ntraining: {ema_decay: null, epochs: null}\nmodel: {loss: null}",
        "extends: my/base.yaml\nmodel: {rays: 64}\naugmentation:",
        "data: {channels: {mode: program, program: cd4, layout: {below: 3, above: [4, x]}}}",
        "data: {channels: {mode: grey}, normalisation: {low: 2}}",
        "model: {family: dense, loss: {terms: {dice: null}}}",
    ],
)
def test_what_may_be_written_is_valid(text: str, validator: Any) -> None:
    validator.validate(yaml.safe_load(text))


def test_every_setting_is_in_the_schema_with_its_default(validator: Any) -> None:
    schema = validator.schema
    assert list(schema["properties"]) == ["extends", *Experiment.model_fields]
    training = schema["$defs"]["TrainingConfig"]["properties"]
    assert training["validate_every"]["default"] == 1
    assert training["validate_every"]["description"] == "epochs between validations"
    for family in FAMILIES:
        validator.validate({"model": {"family": family}})
        known = schema["$defs"][family_config(family).__name__]["properties"]
        assert set(known) == {"family", *family_config(family).model_fields}


def test_resolved_experiments_are_valid(validator: Any) -> None:
    for name in ("nuclei", "channels", "cascade", "phase"):
        validator.validate(json.loads(read_experiment(name).model_dump_json()))


def test_it_is_written_as_json(tmp_path: Path) -> None:
    path = write_schema(tmp_path / "s.json")
    assert json.loads(path.read_text())["$schema"].endswith("2020-12/schema")
