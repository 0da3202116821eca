"""Beginning an experiment: what is proposed for which data, and the file that is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from cytomask.cli.app import app
from cytomask.errors import ConfigError, DataError, OutputError
from cytomask.formats.label_images import write_labels
from cytomask.label_layers import LabelLayers
from cytomask.workflows.experiment import read_experiment, recipe_names
from cytomask.workflows.init import begin_experiment, recipe_purposes
from cytomask.workflows.proposals.facts import DataFacts, look_at_data, overlapping_ids, star_fits, touching_ids
from cytomask.workflows.proposals.rules import Machine, Proposal, batch_sizes, choose_family, propose
from cytomask.workflows.proposals.writing import experiment_text

SMALL = Machine(None, 16 * 2**30, 4)
LARGE = Machine("A GPU", 40 * 2**30, 16)


def draw_data(folder: Path, splits: dict[str, int], *, shape: str = "disc", colour: bool = False) -> Path:
    """Write images of bright objects on dark ground, and their labels."""
    from PIL import Image

    rng = np.random.default_rng(3)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    y, x = np.mgrid[:128, :160]
    for split, count in splits.items():
        for k in range(count):
            labels = np.zeros((128, 160), np.int32)
            for number, (cy, cx) in enumerate(((25, 25), (25, 100), (80, 40), (85, 120)), 1):
                dy, dx = y - cy - rng.integers(-3, 4), x - cx - rng.integers(-3, 4)
                radius = 8 + 2 * number
                inside = np.hypot(dy, dx) < radius
                if shape == "sickle":
                    inside &= np.hypot(dy, dx) > radius - 4
                    inside &= dx < 3
                labels[inside] = number
            pixels = np.uint8(20 + 150 * (labels > 0) + rng.integers(0, 20, labels.shape))
            if colour:
                pixels = np.stack([pixels, pixels // 2, 255 - pixels], axis=-1)
            Image.fromarray(pixels).save(folder / "images" / f"{split}_{k}.png")
            write_labels(folder / "labels" / f"{split}_{k}.png", labels)
    return folder


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data(tmp_path_factory.mktemp("discs") / "beads", {"train": 3, "val": 1, "test": 1})


@pytest.fixture(scope="module")
def facts(discs: Path) -> DataFacts:
    return look_at_data(discs)


def proposed(facts: DataFacts, machine: Machine = SMALL, family: str | None = None) -> dict[tuple[str, ...], Proposal]:
    return {one.place: one for one in propose(facts, machine, family)}


def changed(facts: DataFacts, **fields: Any) -> DataFacts:
    from dataclasses import replace

    return replace(facts, **fields)


def test_what_is_found_in_data(facts: DataFacts) -> None:
    assert facts.counts == {"train": 3, "val": 1, "test": 1}
    assert facts.n_looked == 3
    assert facts.objects == (4, 4.0, 4)
    assert facts.class_counts == {"object": 12}
    assert (facts.shapes, facts.dtypes, facts.n_channels) == ((128, 128.0, 160), ("uint8",), (1, 1))
    assert facts.touching == facts.overlapping == 0
    assert facts.colour == 0
    assert 0.1 < facts.covered < 0.2
    assert facts.star_fit[32][1] > 0.9


def test_stars_fit_discs_and_not_sickles(tmp_path: Path, facts: DataFacts) -> None:
    sickles = look_at_data(draw_data(tmp_path / "sickles", {"train": 2}, shape="sickle"))
    assert sickles.star_fit[32][0] < 0.85 < facts.star_fit[32][0]
    assert choose_family(facts)[0] == "star"
    assert choose_family(sickles)[0] == "dense"
    assert choose_family(changed(sickles, overlapping=0.5))[0] == "region"
    assert choose_family(changed(facts, overlapping=0.5))[0] == "region"


def test_the_fit_of_a_polygon_is_its_iou() -> None:
    square = np.zeros((40, 40), np.int32)
    square[4:35, 4:35] = 1
    # Rays meet the corners of a square, and cut none of it off.
    assert star_fits(LabelLayers.from_labels(square), 5).min() > 0.97
    cross = np.zeros((61, 61), np.int32)
    cross[28:33], cross[:, 28:33] = 1, 1
    few, more, most = star_fits(LabelLayers.from_labels(cross), 5)[0]
    assert few < 0.75 < more < most
    ring = np.zeros((61, 61), np.int32)
    ring[np.abs(np.hypot(*np.mgrid[-30:31, -30:31]) - 20) < 4] = 1
    assert star_fits(LabelLayers.from_labels(ring), 5).max() < 0.4
    assert star_fits(LabelLayers.from_labels(np.zeros((9, 9), np.int32)), 5).shape == (0, 3)


def test_touching_and_overlapping_objects() -> None:
    first = np.zeros((8, 8), np.int32)
    first[0:2, 0:4], first[2:4, 0:4], first[6:8, 6:8] = 1, 2, 5
    assert touching_ids(first[None]) == {1, 2}
    second = np.zeros_like(first)
    second[0:1, 0:1] = 3
    second[6:8, 5:8] = 4
    # One pixel of eight is more than a tenth; all of 5 lies in 4.
    assert overlapping_ids(np.stack([first, second])) == {1, 3, 4, 5}
    assert overlapping_ids(first[None]) == set()


@pytest.mark.parametrize("family", ["star", "dense", "region"])
@pytest.mark.parametrize("machine", [SMALL, LARGE], ids=["cpu", "gpu"])
def test_all_proposals_go_together_and_have_reasons(
    facts: DataFacts, tmp_path: Path, family: str, machine: Machine
) -> None:
    settings = propose(facts, machine, family)
    (tmp_path / "e.yaml").write_text(experiment_text([], settings))
    experiment = read_experiment(tmp_path / "e.yaml")
    assert experiment.model["family"] == family
    assert [one.place for one in settings if not one.reason and one.place != ("training", "epochs")] == []
    small = machine.gpu is None
    assert experiment.model.get("backbone", experiment.model.get("network"))["kind"] == {
        "star": "residual" if small else "unet", "dense": "resnet_unet", "region": "resnet"
    }[family]  # fmt: skip
    # The network that is proposed can be built.
    import torch

    from cytomask.models.registry import build_segmenter

    config = {key: value for key, value in experiment.model.items() if key != "family"}
    with torch.device("meta"):
        segmenter = build_segmenter(family, {**config, "in_channels": experiment.data.channels.count})
    assert experiment.patches.size % segmenter.stride == 0


def test_what_the_data_change(facts: DataFacts) -> None:
    plain = proposed(facts)
    assert plain["data", "channels"].value == {"mode": "gray"}
    assert ("data", "balance") not in plain
    assert plain["data", "test"].value == "test"
    stained = proposed(changed(facts, n_channels=(1, 3), colour=0.5))
    assert stained["data", "channels"].value == {"mode": "rgb"}
    assert ("augmentation", "intensity", "colour", "probability") in stained
    many = changed(facts, n_channels=(5, 5), channels=("CD4", "DAPI", "membrane", "x", "y"))
    assert proposed(many)["data", "channels"].value == {"mode": "select", "names": ["DAPI", "membrane"]}
    uneven = proposed(changed(facts, groups={"stain": {"a": 90, "b": 10}}))
    assert uneven["data", "balance"].value == "stain"
    assert uneven["evaluation", "group_by"].value == ["stain"]
    even = proposed(changed(facts, groups={"stain": {"a": 50, "b": 40}}))
    assert ("data", "balance") not in even
    sparse = proposed(changed(facts, covered=0.03), family="dense")
    assert sparse["model", "loss"].value["class_weights"] == "balanced"
    large = proposed(changed(facts, sizes={**facts.sizes, "diameter_p95": 240.0}, shapes=(900, 900.0, 900)))
    assert large["patches", "size"].value == 512
    assert "too few" in proposed(changed(facts, class_counts={"a": 50, "b": 2}, dataset=_with_classes(facts)))[
        "model", "classes"].reason  # fmt: skip


def _with_classes(facts: DataFacts) -> Any:
    from dataclasses import replace

    return replace(facts.dataset, classes=("a", "b"))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"train": 8, "val": 1, "test": 1}, ("train", "val", "test")),
        ({"train": 8, "val": 1}, ("train", "val", "val")),
        ({"train": 1, "val": 0, "test": 0}, ("train", "val", "train")),
        ({"train": 5, "test": 2}, ("train", "train", "test")),
        ({"training": 5, "validation": 2}, ("training", "validation", "validation")),
    ],
)
def test_splits_that_are_missing(facts: DataFacts, counts: dict[str, int], expected: tuple[str, ...]) -> None:
    found = proposed(changed(facts, counts=counts))
    assert tuple(found["data", key].value for key in ("train", "validation", "test")) == expected
    if expected[2] != "test":
        assert "figures" in found["data", "test"].reason


def test_the_batch_fits_the_memory() -> None:
    assert batch_sizes("star", SMALL, 256) == (8, 1)
    batch, parts = batch_sizes("region", Machine("a small GPU", 4 * 2**30, 4), 512)
    assert batch * parts == 8
    assert batch == 1 < batch_sizes("region", LARGE, 512)[0]


def test_a_file_is_written_that_can_be_read(discs: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine" / "e.yaml"
    path, experiment = begin_experiment(
        discs, out=out, timing=False, overrides=["training.epochs=2", "tune.enabled=false"]
    )
    text = path.read_text()
    schema = json.loads((out.parent / "experiment.schema.json").read_text())
    assert text.startswith("# yaml-language-server: $schema=experiment.schema.json\n")
    Draft202012Validator(schema).validate(yaml.safe_load(text))
    assert experiment.name == "beads"
    assert experiment.data.path == str(discs.resolve())
    assert (experiment.training.epochs, experiment.tune.enabled) == (2, False)
    assert max(map(len, text.splitlines())) <= 120
    assert sorted(p.name for p in out.parent.iterdir()) == ["e.yaml", "experiment.schema.json"]
    with pytest.raises(OutputError, match="there already"):
        begin_experiment(discs, out=out, timing=False)
    assert out.read_text() == text
    begin_experiment(discs, out=out, timing=False, force=True, name="other")
    assert read_experiment(out).name == "other"


def test_a_step_is_timed_and_epochs_follow(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cytomask.workflows.proposals import rules as init_proposals
    from cytomask.workflows.proposals import timing as init_timing

    monkeypatch.setattr(init_proposals, "this_machine", lambda: SMALL)
    measured = init_timing.seconds_per_step
    steps: list[float] = []

    def step(*given: Any) -> float:
        steps.append(measured(*given))
        return 2.0

    monkeypatch.setattr(init_timing, "seconds_per_step", step)
    path, experiment = begin_experiment(
        discs, out=tmp_path / "e.yaml", overrides=["patches.size=64", "training.steps_per_epoch=60"]
    )
    assert steps[0] > 0
    assert experiment.training.epochs == 30
    assert "about 60 min on this machine" in path.read_text()


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_is_extended_by_what_differs(recipe: str, discs: Path, tmp_path: Path) -> None:
    _, experiment = begin_experiment(discs, recipe=recipe, out=tmp_path / "e.yaml", timing=False, name="mine")
    written = yaml.safe_load((tmp_path / "e.yaml").read_text())
    base = read_experiment(recipe)
    assert written["extends"] == recipe
    assert experiment.training.optimiser == base.training.optimiser
    assert experiment.augmentation == base.augmentation
    assert experiment.data.balance is None
    assert experiment.data.path == str(discs.resolve())
    assert set(written) <= {"extends", "name", "description", "data", "model", "training"}
    if base.data.licence is not None:
        # It names the data of the shipped model, and would be kept in this one as what it was trained on.
        assert base.description
        assert (experiment.description, experiment.data.licence) == ("", None)


def test_a_recipe_without_data(tmp_path: Path) -> None:
    path, experiment = begin_experiment(recipe="phase", out=tmp_path / "e.yaml")
    assert experiment.model == read_experiment("phase").model
    assert "--data PATH" in path.read_text()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "neither"),
        ({"recipe": "nope"}, "no such recipe"),
        ({"recipe": "nuclei", "family": "star"}, "leave one"),
        ({"recipe": "nuclei", "overrides": ["training.epoch=3"]}, "'epochs'"),
        ({"recipe": "nuclei", "overrides": ["training"]}, "key.path"),
    ],
)
def test_what_cannot_be_begun(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        begin_experiment(out=tmp_path / "e.yaml", **options)
    assert not (tmp_path / "e.yaml").exists()


def test_data_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        begin_experiment(tmp_path / "nowhere", out=tmp_path / "e.yaml")
    assert list(tmp_path.iterdir()) == []


def test_the_command(discs: Path, tmp_path: Path) -> None:
    out, schema = tmp_path / "e.yaml", tmp_path / "s.json"
    done = CliRunner().invoke(
        app, ["-q", "init", "--data", str(discs), "--out", str(out), "--quick", "--family", "dense"]
    )
    assert done.exit_code == 0, done.output
    assert f"cytomask run {out}" in done.output
    assert read_experiment(out).model["family"] == "dense"
    listed = CliRunner().invoke(app, ["init"])
    assert all(name in listed.output for name in recipe_names())
    assert CliRunner().invoke(app, ["init", "--schema", str(schema)]).exit_code == 0
    assert "$defs" in json.loads(schema.read_text())


def test_every_recipe_says_what_it_is_for() -> None:
    for name, said in recipe_purposes().items():
        assert len(said) > 20, name
        assert said.endswith((".", ")")), name


def test_real_cells(shared_data: Path, tmp_path: Path) -> None:
    path, experiment = begin_experiment(shared_data / "livecell", out=tmp_path / "e.yaml", timing=False)
    assert experiment.model["family"] == "star"
    assert experiment.model["classes"] == ["cell"]
    assert (experiment.data.channels.mode, experiment.data.test) == ("gray", "val")
    assert "there is no test split" in path.read_text()
