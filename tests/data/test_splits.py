"""Splits: given in every way, and drawn so that nothing ever moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cytomask.data.splits import (
    Assignment,
    DrawnSplits,
    ListedSplits,
    NamedSplits,
    SplitConfig,
    TableSplits,
    assign_splits,
    draw_split,
)

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
NAMES = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=40)


def read(value: object) -> object:
    return TypeAdapter(SplitConfig).validate_python(value)


def test_the_draw_depends_on_seed_and_name_alone() -> None:
    # These must never change: models trained long ago rely on them.
    drawn = [draw_split(f"img{i}", FRACTIONS) for i in range(1, 9)]
    assert drawn == ["train", "test", "test", "train", "train", "train", "train", "train"]
    assert draw_split("img1", FRACTIONS, seed=1) == "test"


@given(NAMES, NAMES, st.integers(0, 5))
def test_adding_images_never_moves_old_ones(old: list[str], new: list[str], seed: int) -> None:
    config = DrawnSplits(seed=seed)
    before = assign_splits(config, old, {}).splits
    after = assign_splits(config, sorted({*old, *new}), {}).splits
    assert before == {name: after[name] for name in old}


def test_shares_are_about_right() -> None:
    drawn = [draw_split(f"image_{i:05}", {"a": 0.5, "none": 0, "b": 0.3, "c": 0.2}, seed=7) for i in range(20_000)]
    assert drawn.count("a") / 20_000 == pytest.approx(0.5, abs=0.012)
    assert drawn.count("b") / 20_000 == pytest.approx(0.3, abs=0.012)
    assert drawn.count("none") == 0


def test_names_that_are_no_unicode_can_be_drawn() -> None:
    assert draw_split("bad\udcff", FRACTIONS) in FRACTIONS


def test_equal_values_stay_together() -> None:
    rows = {f"{p}_{i}": {"patient": f"p{p}"} for p in range(30) for i in range(5)}
    config = DrawnSplits(fractions={"train": 0.5, "val": 0.5}, together="patient")
    splits = assign_splits(config, list(rows), rows).splits
    assert all(len({splits[f"{p}_{i}"] for i in range(5)}) == 1 for p in range(30))
    assert set(splits.values()) == {"train", "val"}


def test_an_image_without_the_value_is_a_problem() -> None:
    found = assign_splits(DrawnSplits(together="patient"), ["a", "b"], {"a": {"patient": "1"}, "b": {"patient": " "}})
    assert found.problems == ["b: has no value of 'patient', by which images are kept together"]


def test_by_table() -> None:
    rows = {"a": {"set": "Training"}, "b": {"set": "validation"}, "c": {"set": "GNB-I"}, "d": {"set": ""}}
    found = assign_splits(TableSplits(column="set"), ["a", "b", "c", "d", "e"], rows, "m.csv")
    assert found.splits == {"a": "train", "b": "val", "c": "GNB-I"}
    assert found.names == ("train", "val", "GNB-I")
    assert found.problems == ["e: is not listed in m.csv, so its split is unknown"]


def test_validation_can_be_drawn_out_of_train() -> None:
    rows = {f"i{i}": {"split": "train" if i < 200 else "test"} for i in range(260)}
    found = assign_splits(TableSplits(validation=0.25), list(rows), rows)
    counts = {split: list(found.splits.values()).count(split) for split in found.names}
    assert counts["test"] == 60
    assert 30 < counts["val"] < 70
    fewer = {name: row for name, row in rows.items() if not name.endswith("3")}
    again = assign_splits(TableSplits(validation=0.25), list(fewer), fewer)
    assert again.splits == {name: found.splits[name] for name in fewer}


def test_validation_is_not_drawn_where_there_is_one() -> None:
    found = assign_splits(TableSplits(validation=0.25), ["a"], {"a": {"split": "val"}}, "m.csv")
    assert found.problems == ["m.csv has a validation split already, so none is drawn: remove `validation`"]


def test_by_lists_of_names_and_patterns() -> None:
    config = read({"train": ["train_*"], "val": ["val_1.tif", "sub/x.ome.tif"], "test": ["*9"]})
    names = ["train_1", "train_2", "val_1", "sub/x", "other", "9"]
    found = assign_splits(config, names, {})
    assert found.splits == {"train_1": "train", "train_2": "train", "val_1": "val", "sub/x": "val", "9": "test"}
    assert found.problems == []


def test_lists_that_contradict_themselves() -> None:
    found = assign_splits(ListedSplits({"train": ["a", "b", "gone"], "val": ["b"], "test": []}), ["a", "b"], {})
    assert found.problems == [
        "split 'train': no image is called 'gone'",
        "split 'test': its list is empty",
        "b: is in several splits: train, val",
    ]
    assert found.names == ("train", "val", "test")


def test_by_prefixes() -> None:
    found = assign_splits(read("prefixes"), ["Training_a", "deep/val-b", "test_", "c"], {})
    assert found.splits == {"Training_a": "train", "deep/val-b": "val"}
    assert found.problems == [f"{name}: does not begin with a split's name" for name in ("test_", "c")]


def test_by_folders() -> None:
    found = assign_splits(read("folders"), ["training/a", "val/deep/b", "c"], {})
    assert found.splits == {"training/a": "train", "val/deep/b": "val"}
    assert found.problems == ["c: lies in no split's folder"]


@pytest.mark.parametrize(
    "names, rows, how",
    [
        (["a"], {"a": {"split": "train"}}, "column"),
        (["train/a", "test/b"], {}, "by folders"),
        (["train_01", "val_02"], {}, "by the beginning of the names"),
        (["train_01", "02"], {}, "drawn"),
        (["test_01", "test_02"], {}, "drawn"),
        (["train/a", "other/b"], {}, "drawn"),
        (["a"], {"a": {"stain": "DAPI"}}, "drawn"),
        ([], {}, "drawn"),
    ],
)
def test_what_is_done_when_nothing_is_said(names: list[str], rows: dict, how: str) -> None:
    assert assign_splits(None, names, rows).how.startswith(how)


@pytest.mark.parametrize(
    "value, kind",
    [
        ({"csv": "m.csv", "column": "s"}, TableSplits),
        ({"column": "s"}, TableSplits),
        ({}, TableSplits),
        ({"fractions": {"train": 1.0}}, DrawnSplits),
        ({"seed": 3}, DrawnSplits),
        ({"together": "patient", "seed": 3}, DrawnSplits),
        ({"train": ["a"], "val": []}, ListedSplits),
        ({"fold1": ["a"], "fold2": ["b"]}, ListedSplits),
        ("folders", NamedSplits),
        ("prefixes", NamedSplits),
    ],
)
def test_forms_are_told_apart(value: object, kind: type) -> None:
    assert isinstance(read(value), kind)


def test_usual_names_of_fractions() -> None:
    assert read({"fractions": {"training": 0.7, "valid": 0.3}}).fractions == {"train": 0.7, "val": 0.3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"fractions": {"train": 0.8, "val": 0.1}},
        {"fractions": {"train": 1.2, "val": -0.2}},
        {"fractions": {"val": 0.5, "valid": 0.5}},
        {"fraction": {"train": 1.0}},
        {"csv": "m.csv", "colum": "s"},
        {"train": {"a": 1}},
        {"validation": 1.5},
        "folder",
        17,
    ],
)
def test_wrong_splits_are_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        read(wrong)


@pytest.mark.parametrize("make", [DrawnSplits, TableSplits])
def test_no_images_are_no_error(make: Callable[[], DrawnSplits | TableSplits]) -> None:
    found = assign_splits(make(), [], {})
    assert isinstance(found, Assignment)
    assert found.splits == {}


def test_a_table_in_yaml_may_carve_validation_out_of_training() -> None:
    from cytomask.data.dataset_config import DatasetConfig

    splits = DatasetConfig.model_validate({"splits": {"csv": "folds.csv", "column": "fold", "validation": 0.1}}).splits
    assert isinstance(splits, TableSplits)
    assert splits.validation == 0.1
