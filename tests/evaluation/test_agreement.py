"""How far annotators agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytomask.errors import LabelError
from cytomask.evaluation.agreement import FIGURES, Agreement
from cytomask.evaluation.aji import aggregated_jaccard_index
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.matching import match
from cytomask.formats.label_images import read_labels
from cytomask.label_layers import LabelLayers

from .label_pairs import blobs


def test_figures_are_symmetric_and_those_of_the_matching() -> None:
    rng = np.random.default_rng(0)
    first, second, model = blobs(rng), blobs(rng), blobs(rng)
    second[first > 30] = np.roll(first, 1, axis=0)[first > 30]
    summaries = []
    for names in (["A", "B"], ["B", "A"]):
        agreement = Agreement("model", names)
        agreement.add("x", {"A": first, "B": second, "model": model})
        summaries.append(agreement.summary())
    there, back = (one["pairs"][-1] for one in summaries)
    assert (there["first"], there["second"], back["first"], back["second"]) == ("A", "B", "B", "A")
    for name in FIGURES:
        assert there["figures"][name] == pytest.approx(back["figures"][name], abs=1e-6), name
    expected = match(first, second).at(0.5)
    assert there["figures"]["f1_50"] == expected["f1"]
    assert there["figures"]["accuracy_50"] == expected["accuracy"]
    both_ways = aggregated_jaccard_index(first, second), aggregated_jaccard_index(second, first)
    assert there["figures"]["aji"] == pytest.approx(np.mean(both_ways))
    assert both_ways[0] != both_ways[1]
    assert there["error_kinds"]["first"]["hit"] == expected["tp"]
    assert summaries[0]["ceiling"] == there["figures"]
    with_model = [one["figures"]["aji"] for one in summaries[0]["pairs"][:2]]
    assert summaries[0]["model"]["aji"] == pytest.approx(np.mean(with_model))


def test_three_annotators_make_three_pairs_and_intervals() -> None:
    rng = np.random.default_rng(1)
    agreement = Agreement("model", ["A", "B", "C"])
    for k in range(4):
        truth = blobs(rng)
        sides = {name: np.roll(truth, k % (j + 1), axis=1) for j, name in enumerate(("A", "B", "C", "model"))}
        if k == 3:
            del sides["C"]
        agreement.add(f"i{k}", sides)
    found = agreement.summary(Bootstrap(resamples=50))
    assert [(p["first"], p["second"], p["n_images"]) for p in found["pairs"]] == [
        ("A", "model", 4), ("B", "model", 4), ("C", "model", 3), ("A", "B", 4), ("A", "C", 3), ("B", "C", 3),
    ]  # fmt: skip
    for pair in found["pairs"]:
        for name, (low, high) in pair["confidence_intervals"].items():
            assert low <= pair["figures"][name] + 1e-9
            assert pair["figures"][name] <= high + 1e-9


def test_crowds_of_either_are_left_out() -> None:
    labels = np.array([[1, 1, 0, 2, 2, 2]])
    crowd = LabelLayers.from_labels(labels, crowd={2})
    agreement = Agreement("model", ["A", "B"])
    agreement.add("x", {"A": crowd, "B": crowd, "model": labels})
    for pair in agreement.summary()["pairs"]:
        assert (pair["n_first"], pair["n_second"], pair["figures"]["f1_50"]) == (1, 1, 1)


def test_agreement_is_the_same_both_ways_whoever_drew_a_crowd() -> None:
    single, region = np.zeros((12, 24), int), np.zeros((12, 24), int)
    single[2:6, 2:6], single[2:6, 14:18], single[7:11, 19:23] = 1, 2, 3
    region[2:6, 2:7] = 1
    region[1:12, 12:24] = 2
    with_crowd = LabelLayers.from_labels(region, crowd={2})
    found = []
    for names in (("A", "B"), ("B", "A")):
        agreement = Agreement("model", names)
        agreement.add("x", {"A": single, "B": with_crowd})
        (pair,) = agreement.summary()["pairs"]
        assert (pair["n_first"], pair["n_second"], pair["figures"]["aji"]) == (1, 1, 0.8)
        found.append(pair["figures"])
    assert found[0] == found[1]


def test_another_size_names_both() -> None:
    agreement = Agreement("model", ["A", "B"])
    with pytest.raises(LabelError, match="differ in size") as caught:
        agreement.add("x", {"A": np.eye(3, dtype=int), "B": np.eye(4, dtype=int)})
    assert "x: B and A" in str(caught.value)


def test_two_experts_of_a_real_field(shared_data: Path) -> None:
    first, second = (read_labels(shared_data / "codex" / f"cells_expert{k}.tif") for k in (1, 2))
    agreement = Agreement("model", ["expert 1", "expert 2"])
    agreement.add("field", {"expert 1": first, "expert 2": second, "model": second})
    found = agreement.summary()
    between = found["pairs"][-1]
    assert (between["n_first"], between["n_second"]) == (3431, 2094)
    assert found["pairs"][1]["figures"]["f1_50"] == 1
    # They disagree widely: the first drew more cells, and larger ones; the second drew hardly any of its own.
    assert 0.3 < between["figures"]["f1_50"] < 0.4
    assert between["error_kinds"]["second"]["alone"] < 20
    assert between["error_kinds"]["first"]["alone"] > 500
