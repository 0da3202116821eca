"""The experiment file: recipes, overrides, and errors that help."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cytomask.errors import ConfigError
from cytomask.models.region.config import RegionConfig, RegionPostprocess
from cytomask.models.registry import build_segmenter
from cytomask.workflows.experiment import experiment_to_yaml, read_experiment, recipe_names
from cytomask.workflows.trainings.initial_weights import KNOWN, completed


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_its_network_can_be_built(name: str) -> None:
    experiment = read_experiment(name)
    settings = dict(experiment.model)
    # Large networks take no memory there.
    with torch.device("meta"):
        segmenter = build_segmenter(settings.pop("family"), settings)
    assert segmenter.stride > 0
    parameters = sum(p.numel() for p in segmenter.parameters())
    assert parameters < 200_000_000


def test_written_out_and_read_again(tmp_path: Path) -> None:
    experiment = read_experiment("nuclei", ["training.epochs=7", "data.path=/somewhere"])
    path = tmp_path / "all.yaml"
    path.write_text(experiment_to_yaml(experiment))
    assert read_experiment(path) == experiment


def test_a_relative_data_path_is_meant_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("data: {path: mine}")
    assert read_experiment(tmp_path / "e.yaml").data.path == str(tmp_path.resolve() / "mine")


def test_overrides_are_yaml() -> None:
    experiment = read_experiment("nuclei", ["training.early_stopping=null", "training.optimiser.learning_rate=1e-2"])
    assert experiment.training.early_stopping is None
    assert experiment.training.optimiser.learning_rate == 0.01


def test_a_misspelt_key_names_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("training: {epoch: 3}")
    with pytest.raises(ConfigError, match="'epochs'"):
        read_experiment(tmp_path / "e.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [("training: {epochs: 0}", "epochs"), ("- a", "not a table"), ("a: [", "cannot be read"), ("name: a b", "name")],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_experiment(tmp_path / "e.yaml")


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="nuclei"):
        read_experiment("nucleus")


def test_a_bad_override() -> None:
    with pytest.raises(ConfigError, match=r"key\.path=value"):
        read_experiment("nuclei", ["training.epochs"])


@pytest.mark.parametrize("name", ["granules", "granules-small", "cascade", "pointrend"])
def test_recipes_describe_the_network_that_their_weights_are_of(name: str) -> None:
    experiment = read_experiment(name)
    assert experiment.initial is not None
    settings = {key: value for key, value in experiment.model.items() if key != "family"}
    recipe = RegionConfig.model_validate(settings)
    assert RegionConfig.model_validate(completed(settings, KNOWN[experiment.initial].models["region"])) == recipe
    published = RegionConfig.model_validate({**KNOWN[experiment.initial].models["region"], "in_channels": 3})
    assert recipe.backbone == published.backbone
    if experiment.initial.startswith("coco/"):
        assert (recipe.stages, recipe.box, recipe.mask) == (published.stages, published.box, published.mask)
        assert recipe.anchors == published.anchors
        assert recipe.pyramid == published.pyramid


def test_the_recipes_see_crowded_fields() -> None:
    for name in ("granules", "cascade", "pointrend"):
        experiment = read_experiment(name)
        assert experiment.model["rpn"]["test_after"] >= RegionPostprocess().max_objects
