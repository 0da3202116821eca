"""What became of every object, on cases made by hand and by what must hold for all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.evaluation.error_kinds import PREDICTION_KINDS, TRUTH_KINDS, error_kinds, kind_counts
from cytomask.evaluation.matching import match
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers

from .label_pairs import LabelPair, blobs, pairs_of_labels


def line(text: str) -> np.ndarray:
    """A label image of one row: a letter is an object, a dot the background."""
    return np.array([[0 if letter == "." else ord(letter) - 96 for letter in text]])


def named(truth: str, prediction: str, threshold: float = 0.5) -> tuple[dict[str, str], dict[str, str]]:
    found = error_kinds(line(truth), line(prediction), threshold)
    sides = (
        (found.truth_ids, found.truth_kinds, TRUTH_KINDS),
        (found.prediction_ids, found.prediction_kinds, PREDICTION_KINDS),
    )
    first, second = ({chr(96 + i): names[k] for i, k in zip(ids, kinds)} for ids, kinds, names in sides)
    return first, second


CASES = {
    # name: truth, prediction, kinds of the truth, kinds of the prediction
    "hit": ("aaaa....", "xxx.....", {"a": "hit"}, {"x": "hit"}),
    "hit at exactly a half": ("aaaa", "xx..", {"a": "hit"}, {"x": "hit"}),
    "missed and spurious": ("aaaa....", "......xx", {"a": "missed"}, {"x": "spurious"}),
    "no objects": ("....", "....", {}, {}),
    "split in two": ("aaaaaaaaaa", "xxxx.yyyy.", {"a": "split"}, {"x": "split", "y": "split"}),
    "split in three": ("aaaaaaaaa", "xxxyyyzzz", {"a": "split"}, {"x": "split", "y": "split", "z": "split"}),
    "merged": ("aaaabbbb", "xxxxxxxx", {"a": "hit", "b": "merged"}, {"x": "hit"}),
    "merged with a gap": ("aaaa.bbbb", "xxxxxxxxx", {"a": "merged", "b": "merged"}, {"x": "merged"}),
    "merged three": ("aaa.bbb.ccc", "xxxxxxxxxxx", dict.fromkeys("abc", "merged"), {"x": "merged"}),
    "poor: too small": ("aaaaaaaaaa", "xxx.......", {"a": "poor"}, {"x": "poor"}),
    "poor: too large": ("aaa.......", "xxxxxxxxxx", {"a": "poor"}, {"x": "poor"}),
    "poor: shifted": ("aaaaaa....", "....xxxxxx", {"a": "poor"}, {"x": "poor"}),
    "neighbours are no pair": ("aaaaaaaaaa.........", ".........xxxxxxxxxx", {"a": "missed"}, {"x": "spurious"}),
    "pieces that cover too little": (
        "aaaaaaaaaa", "x........y", {"a": "poor"}, {"x": "poor", "y": "spurious"},
    ),
    "a hit and a crumb": ("aaaaaaaaaa", "xxxxxxx..y", {"a": "hit"}, {"x": "hit", "y": "split"}),
    "a hit that swallows a small one": ("aaaaaaaabb", "xxxxxxxxxx", {"a": "hit", "b": "merged"}, {"x": "hit"}),
    "one of two touched": ("aaaabbbbbb", "xxxxx.....", {"a": "hit", "b": "missed"}, {"x": "hit"}),
    "two compete for one": ("aaaa", "xx.y", {"a": "hit"}, {"x": "hit", "y": "split"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cases_by_hand(name: str) -> None:
    truth, prediction, of_truth, of_prediction = CASES[name]
    assert named(truth, prediction) == (of_truth, of_prediction)


def test_the_threshold_makes_hits_poor() -> None:
    assert named("aaaaaaaa..", "..xxxxxxxx", 0.5)[0] == {"a": "hit"}
    assert named("aaaaaaaa..", "..xxxxxxxx", 0.7) == ({"a": "poor"}, {"x": "poor"})


def test_exactly_a_half_is_not_mainly() -> None:
    # Half of a lies in x, which holds b: no merger. Half of y lies in a, which holds x: no split.
    assert named("aaaa.bbbbbb", "..xxxxxxxxx", 0.8) == ({"a": "missed", "b": "poor"}, {"x": "poor"})
    assert named("aaaaaaaa....", "xxxx..yyyy..", 0.8) == ({"a": "poor"}, {"x": "poor", "y": "spurious"})
    # A pixel more, and they are.
    assert named("aaaa.bbbbbb", ".xxxxxxxxxx", 0.8)[0] == {"a": "merged", "b": "merged"}
    assert named("aaaaaaaa....", "xxxx.yyyy...", 0.8)[0] == {"a": "split"}


def test_the_best_partner_is_told() -> None:
    found = error_kinds(line("aaaa..bb"), line("xxx.y..y"))
    np.testing.assert_allclose(found.truth_iou, [3 / 4, 1 / 3])
    assert [chr(96 + i) for i in found.truth_partner] == ["x", "y"]
    np.testing.assert_allclose(found.prediction_iou, [3 / 4, 1 / 3])
    assert [chr(96 + i) for i in found.prediction_partner] == ["a", "b"]
    alone = error_kinds(line("aa.."), line("...x"))
    assert (alone.truth_iou.tolist(), alone.truth_partner.tolist()) == ([0], [0])


def test_masks_that_overlap() -> None:
    # Two predictions, one over the other, on one object: the better is a hit, the other a piece.
    crops = [np.ones((1, 8), bool), np.ones((1, 4), bool)]
    both = Instances.from_crops((1, 8), crops, [(0, 0), (0, 0)])
    found = error_kinds(line("aaaaaaaa"), both)
    assert [PREDICTION_KINDS[k] for k in found.prediction_kinds] == ["hit", "split"]


def test_crowds_have_no_kind() -> None:
    truth = LabelLayers.from_labels(line("aaaa..bb"), crowd={1})
    found = error_kinds(truth, line("xx....yy"))
    assert found.truth_ids.tolist() == [2]
    assert found.prediction_ids.tolist() == [25]


@given(pairs_of_labels(), st.sampled_from([0.5, 0.3, 0.75]))
@settings(deadline=None, max_examples=150)
def test_every_object_has_one_kind_and_hits_are_matches(pair: LabelPair, threshold: float) -> None:
    found = error_kinds(*pair, threshold)
    matched = match(*pair, [threshold])
    counts = kind_counts(found)
    assert counts.sum(axis=1).tolist() == [matched.n_true, matched.n_pred]
    assert counts[:, 0].tolist() == [matched.tp[0], matched.tp[0]]
    # Poor objects come in pairs, too; a split needs a true object or a crumb beside a hit.
    assert counts[0, 1] == counts[1, 1]
    assert counts[0, 2] == 0 or counts[1, 2] + counts[1, 3] >= 2
    assert counts[1, 3] == 0 or counts[0, 3] >= 1
    as_instances = error_kinds(*(Instances.from_labels(labels) for labels in pair), threshold)
    np.testing.assert_array_equal(as_instances.truth_kinds, found.truth_kinds)
    np.testing.assert_array_equal(as_instances.prediction_kinds, found.prediction_kinds)


def test_other_ids_change_nothing() -> None:
    rng = np.random.default_rng(3)
    for _ in range(8):
        truth, prediction = blobs(rng), blobs(rng)
        prediction[truth > 40] = truth[truth > 40] // 2
        tables = [np.concatenate([[0], rng.permutation(200) + 1]) for _ in range(2)]
        found, again = error_kinds(truth, prediction), error_kinds(tables[0][truth], tables[1][prediction])
        for side, table in zip(("truth", "prediction"), tables):
            before = dict(zip(table[getattr(found, f"{side}_ids")], getattr(found, f"{side}_kinds")))
            after = dict(zip(getattr(again, f"{side}_ids"), getattr(again, f"{side}_kinds")))
            assert before == after
        assert len(np.unique(found.truth_kinds)) >= 3


def test_swapping_the_sides_swaps_splits_and_merges() -> None:
    truth, prediction = line("aaaa.bbbb..cccccccccc"), line("xxxxxxxxx..yyyy.zzzz.")
    there, back = error_kinds(truth, prediction).counts(), error_kinds(prediction, truth).counts()
    assert there["truth"] == {"hit": 0, "poor": 0, "split": 1, "merged": 2, "missed": 0}
    assert back["truth"] == {"hit": 0, "poor": 0, "split": 1, "merged": 2, "missed": 0}
    assert there["prediction"] == {"hit": 0, "poor": 0, "split": 2, "merged": 1, "spurious": 0}
