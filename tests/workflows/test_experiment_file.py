"""Reading experiments: what extends what, where each setting was said, and what errors tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cytomask.errors import ConfigError
from cytomask.workflows.experiment import Experiment, read_experiment, recipe_names

FULL = Path(__file__).parent / "recipes_in_full"


def written(folder: Path, **files: str) -> Path:
    """Write files by their stem; the first is returned."""
    for stem, text in files.items():
        (folder / f"{stem}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_experiment(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in FULL.glob("*.yaml")))
def test_recipes_that_extend_others_are_what_they_are_in_full(name: str) -> None:
    recipe, full = read_experiment(name), read_experiment(FULL / f"{name}.yaml")
    assert recipe == full
    assert recipe.model == full.model


def test_tables_are_merged_and_lists_replaced(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        mine="extends: base.yaml\nmodel: {backbone: {widths: [8, 16], blocks: [1, 1]}}\ntraining: {epochs: 2}",
        base="extends: nuclei\ntraining: {epochs: 5, batch_size: 3}",
    )
    found, recipe = read_experiment(path), read_experiment("nuclei")
    assert (found.training.epochs, found.training.batch_size) == (2, 3)
    assert found.training.optimiser == recipe.training.optimiser
    assert found.model["backbone"] == {"kind": "residual", "widths": [8, 16], "blocks": [1, 1], "features": 64}
    assert found.model["rays"] == recipe.model["rays"]


def test_null_is_off_where_that_means_something_and_unsets_elsewhere(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        mine="extends: base.yaml\ntraining: {ema_decay: null, steps_per_epoch: null, schedule: null}\n"
        "model: {loss: {distance_weight: null}}\naugmentation:\n",
        base="extends: nuclei\naugmentation: {flips: 0.25}\ntraining: {ema_decay: 0.5}",
    )
    found, plain = read_experiment(path), Experiment()
    assert found.training.ema_decay is None
    assert found.training.steps_per_epoch == plain.training.steps_per_epoch
    assert found.training.schedule == plain.training.schedule
    assert found.augmentation == plain.augmentation
    assert found.model["loss"] == {"distance": "relative"}


def test_null_takes_one_entry_out_of_a_table_of_many(tmp_path: Path) -> None:
    path = written(tmp_path, mine="extends: phase-cells\nmodel: {loss: {terms: {dice: null, focal: 2}}}")
    assert read_experiment(path).model["loss"]["terms"] == {"cross_entropy": 1.0, "focal": 2}


@pytest.mark.parametrize(
    ("said", "kept", "gone"),
    [
        ("model: {family: dense}", "family", "rays"),
        ("model: {backbone: {kind: unet}}", "rays", "family.widths"),
        ("data: {channels: {mode: gray}}", "family", "nothing"),
    ],
)
def test_a_table_of_another_kind_takes_the_place_of_all(tmp_path: Path, said: str, kept: str, gone: str) -> None:
    found = read_experiment(written(tmp_path, mine=f"extends: nuclei\n{said}"))
    assert kept in found.model
    assert gone not in found.model
    assert "widths" not in found.model.get("backbone", {}) or "backbone" not in said


def test_a_relative_data_path_is_meant_from_the_file_that_says_it(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    written(tmp_path / "lab", base="data: {path: images_of_the_lab}")
    path = written(tmp_path, mine="extends: lab/base.yaml")
    assert read_experiment(path).data.path == str((tmp_path / "lab" / "images_of_the_lab").resolve())
    path = written(tmp_path, mine="data: {path: 's3://bucket/data'}")
    assert read_experiment(path).data.path == "s3://bucket/data"


def test_circles_are_refused_with_the_chain(tmp_path: Path) -> None:
    path = written(tmp_path, a="extends: b.yaml", b="extends: c.yaml", c="extends: a.yaml")
    assert "a.yaml -> b.yaml -> c.yaml -> a.yaml" in refused(path)


def test_a_file_may_be_called_like_the_recipe_that_it_extends(tmp_path: Path) -> None:
    assert read_experiment(written(tmp_path, nuclei="extends: nuclei")).model["rays"] == 32


@pytest.mark.parametrize(
    ("base", "told"),
    [("https://a.b/c.yaml", "from elsewhere"), ("nucle", "'nuclei'"), ("[a, b]", "one file"), ("gone.yaml", "a file")],
)
def test_wrong_bases(tmp_path: Path, base: str, told: str) -> None:
    message = refused(written(tmp_path, mine=f"name: x\nextends: {base}"))
    assert told in message
    assert "mine.yaml, line 2" in message


def test_overrides_reach_into_lists_and_come_last(tmp_path: Path) -> None:
    path = written(tmp_path, mine="extends: channels\ntraining: {epochs: null}")
    found = read_experiment(
        path, ["training.phases.0.epochs=3", "training.phases.1.epochs=4", "model.network.depth=18"]
    )
    assert [phase.epochs for phase in found.training.phases] == [3, 4]
    assert found.training.phases[0].freeze
    assert found.training.epochs == 7
    assert found.model["network"] == {"kind": "resnet_unet", "depth": 18}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.phases.7.epochs=3", "from 0 to 1"),
        ("training.phases.x.epochs=3", "from 0 to 1"),
        ("training.batch_size.x=3", "not a table"),
        ("=3", "key.path=value"),
        ("a..b=3", "key.path=value"),
        ("training.epochs=[", "not YAML"),
        ("training.epochs=&a [*a]", "aliases"),
        ("extends=nuclei", "in its file"),
        ("training.epoch=3", "--set training.epoch=3"),
        ("model.rays=1", "no such setting"),
    ],
)
def test_wrong_overrides(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")):
        read_experiment("channels", [override])


def test_all_problems_are_told_at_once_by_line(tmp_path: Path) -> None:
    message = refused(
        written(
            tmp_path,
            mine="""\
extends: base.yaml
data:
  normalisation: {method: percentil}
training:
  epochs: 0
  learning_rate: 1.0e-3
  optimiser: {name: adamv}
model:
  rayz: 3
augmentation: {intensity: {blurr: {}}}
prediction: {postprocess: {score_treshold: 0.3}}
""",
            base="extends: nuclei\nmodel:\n  grid: 3",
        )
    )
    lines = [line.strip().removeprefix("found:").strip() for line in message.splitlines()[2:]]
    numbers = [int(line.partition(":")[0].rpartition("line ")[2]) for line in lines[1:]]
    assert numbers == [3, 5, 6, 7, 9, 10, 11]
    assert lines[0].endswith("base.yaml, line 3: model.grid: should be 1, 2, 4 or 8 (got 3)")
    for line, told in zip(
        lines[1:],
        ["'percentile'?", "(got 0)", "training.optimiser", "'adam'?", "'rays'?", "'blur'?", "'score_threshold'?"],
        strict=True,
    ):
        assert told in line


def test_no_more_than_ten_problems_are_told(tmp_path: Path) -> None:
    message = refused(written(tmp_path, mine="".join(f"wrong_{k}: 1\n" for k in range(14))))
    assert "14 wrong settings" in message
    assert "and 4 more" in message
    assert message.count("no such setting") == 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: {family: stars}", "'star'"),
        ("model: {family: region, mask: {kind: pointrend, stepz: 1}}", "'steps'"),
        ("model: {family: region, cascade: [{iou: 2, weights: [1, 1, 1, 1]}]}", "model.cascade.0.iou"),
        ("model: {family: dense, loss: {terms: {dyce: 1}}}", "model.loss.terms"),
        ("model: {family: star, in_channels: 0}", "model.in_channels"),
        ("model: {family: dense}\nprediction: {postprocess: {max_objects: 3}}", "prediction.postprocess.max_objects"),
        ("data: {resize: {height: 5, width: 64}}", "data.resize.height"),
        ("data: {channels: {mode: select}}", "count or names"),
        ("training: {phases: [{epochs: 0}]}", "training.phases.0.epochs"),
        ("tracking: {wand: {}}", "'wandb'"),
        ("name: a\nname: b", "said twice"),
        ("training: {epochs: 3, epochs: 3}", "said twice"),
        ("a: &a [1, 2]\nb: *a", "aliases"),
        ("a: &a {b: 1}\nc: {<<: *a}", "aliases"),
        ("name: !!python/object/apply:os.system [true]", "cannot be read"),
        ("? [a, b]\n: 1", "not a name"),
        ("a: " + "[" * 500 + "]" * 500, "nested too deeply"),
        ("a: " + "[" * 20000 + "]" * 20000, "nested too deeply"),
        ("# " + "x" * (2 << 20), "too large"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, told: str) -> None:
    assert told in refused(written(tmp_path, mine=text))


def test_an_unset_number_of_classes_leaves_their_weights_to_the_data(tmp_path: Path) -> None:
    text = "model: {family: dense, output: softmax, loss: {class_weights: [1, 2, 3]}%s}"
    assert read_experiment(written(tmp_path, mine=text % "")).model["family"] == "dense"
    assert "class_weights" in refused(written(tmp_path, mine=text % ", classes: [cell]"))


def test_a_family_that_initial_weights_will_tell_is_not_guessed(tmp_path: Path) -> None:
    path = written(tmp_path, mine="initial: phase\nmodel: {loss: {distance_weight: 3}}")
    assert read_experiment(path).model == {"loss": {"distance_weight": 3}}


def test_an_empty_file_is_an_experiment(tmp_path: Path) -> None:
    assert read_experiment(written(tmp_path, mine="# nothing yet\n")) == Experiment()


def test_a_folder_is_told_from_a_file(tmp_path: Path) -> None:
    assert "it is a folder" in refused(tmp_path)


def test_every_recipe_says_what_it_is_for() -> None:
    assert {"nuclei", "granules", "phase"} <= set(recipe_names())


def test_reading_imports_nothing_that_computes() -> None:
    code = (
        "import sys; from cytomask.workflows.experiment import read_experiment, recipe_names\n"
        "for name in recipe_names(): read_experiment(name)\n"
        "print(sorted({'torch', 'numba', 'scipy', 'lightning', 'skimage'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
