"""Channel programs: what each expression and number means, by chance and without, and what is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cytomask.data.channel_codes import CODES, LAYOUTS, STRATEGIES
from cytomask.data.channel_mix import ChannelMix, mixed
from cytomask.data.channels import ChannelExpectation, program_channels, select_channels
from cytomask.errors import ChannelError
from cytomask.image import Image

DRAWS = 3000


def stack(count: int = 16, names: tuple[str, ...] | None = None) -> Image:
    """Channel ``i`` is full of ``i + 1``."""
    names = names or tuple(f"c{i}" for i in range(count))
    pixels = np.stack([np.full((2, 3), i + 1, np.uint16) for i in range(len(names))])
    return Image.from_array(pixels, axes="CYX", channels=names)


def expect(*program: Any, **settings: Any) -> ChannelExpectation:
    return ChannelExpectation.model_validate({"mode": "program", "program": list(program), **settings})


def settled(expected: ChannelExpectation, image: Image) -> tuple[list[int], ChannelMix]:
    """The numbers of the channels that may be used, and the mix of these."""
    selected, mix, _ = program_channels(image, expected)
    assert selected.channels == mix.names
    return [image.channels.index(name) for name in mix.names], mix


def fixed(item: Any, image: Image | None = None, **settings: Any) -> dict[int, float]:
    """Weights of an expression without chance, by the channels' numbers."""
    used, mix = settled(expect(item, **settings), image or stack())
    (row,) = mix.matrix()
    return {channel: pytest.approx(float(w)) for channel, w in zip(used, row) if w}


def drawn(item: Any, image: Image | None = None, draws: int = DRAWS, **settings: Any) -> Counter[tuple[Any, ...]]:
    """How often each set of weights is drawn."""
    used, mix = settled(expect(item, **settings), image or stack())
    rng = np.random.default_rng(0)
    rows = (mix.draw(rng)[0] for _ in range(draws))
    return Counter(tuple((c, round(float(w), 6)) for c, w in zip(used, row) if w) for row in rows)


def evenly(counts: Counter[tuple[Any, ...]], channels: list[int]) -> bool:
    """Whether one channel is drawn at a time, each about equally often (five standard deviations)."""
    share = 1 / len(channels)
    margin = 5 * (share * (1 - share) / DRAWS) ** 0.5
    return set(counts) == {((c, 1.0),) for c in channels} and all(
        abs(n / DRAWS - share) < margin for n in counts.values()
    )


FLUORESCENCE, BELOW, ABOVE, BRIGHTFIELD = [0, 3, 6], [9, 10, 11], [13, 14, 15], list(range(9, 16))

#: Number: what is taken without chance, and what is chosen from by chance (None: nothing is).
TABLE: dict[int, tuple[dict[int, float], list[int] | None]] = {
    100: (dict.fromkeys(FLUORESCENCE, 1 / 3), None),
    101: ({10: 1}, BELOW),
    102: ({14: 1}, ABOVE),
    103: ({12: 1}, BRIGHTFIELD),
    104: (dict.fromkeys(BRIGHTFIELD, 1 / 7), None),
    107: ({7: 1}, list(range(16))),
    108: ({3: 1}, FLUORESCENCE),
    110: ({}, None),
    111: (dict.fromkeys(FLUORESCENCE, 1 / 3), None),
    121: ({0: 1 / 2, 1: 1 / 2}, None),
    122: ({2: 1}, None),
    123: ({5: 1}, [4, 5, 6]),
}


def test_the_table_is_whole() -> None:
    assert TABLE.keys() == CODES.keys()


@pytest.mark.parametrize("code", TABLE)
def test_numbers_mean_what_they_meant(code: int) -> None:
    without, choices = TABLE[code]
    assert fixed(code) == without
    if choices is None:
        assert set(drawn(code, draws=20)) == {tuple((c, round(w, 6)) for c, w in without.items())}
    else:
        assert evenly(drawn(code), choices)


@pytest.mark.parametrize("number", [0, 12, 50])
def test_small_numbers_are_channels(number: int) -> None:
    assert fixed(number, stack(60)) == {number: 1}
    assert fixed({"channel": 55}, stack(60)) == {55: 1}


@pytest.mark.parametrize("code", [0, 12, *TABLE])
def test_200_and_more_lose_the_channel_sometimes(code: int) -> None:
    without = fixed(code)
    assert fixed(200 + code, channel_dropout=0.4) == without
    counts = drawn(200 + code, channel_dropout=0.4)
    assert counts[()] / DRAWS == pytest.approx(0.4 if without else 1, abs=0.05)
    assert () not in drawn(200 + code) or not without
    # The number keeps its own meaning: what is drawn is what is drawn without dropout.
    assert set(counts) - {()} == set(drawn(code)) - {()}


def test_200_twice() -> None:
    assert drawn(412, channel_dropout=0.5)[()] / DRAWS == pytest.approx(0.75, abs=0.05)


def test_dropout_within_a_merge_dims_it() -> None:
    counts = drawn(111, merge_dropout=0.3)
    kept = Counter(len(key) for key in counts.elements())
    assert all(weight == round(1 / 3, 6) for key in counts for _, weight in key)
    assert [kept[n] / DRAWS for n in range(4)] == pytest.approx([0.027, 0.189, 0.441, 0.343], abs=0.04)
    # Number 100 is whole at any rate, and 121 follows it.
    assert len(drawn(100, merge_dropout=0.3, draws=50)) == 1
    assert drawn(121, merge_dropout=0.3)[()] / DRAWS == pytest.approx(0.09, abs=0.03)
    assert fixed(111, merge_dropout=0.9) == dict.fromkeys(FLUORESCENCE, 1 / 3)


def test_311_keeps_the_dropout_of_the_merge() -> None:
    counts = drawn(311, merge_dropout=0.5, channel_dropout=0.2)
    assert counts[()] / DRAWS == pytest.approx(0.2 + 0.8 / 8, abs=0.04)
    assert counts[((0, 0.333333), (6, 0.333333))] / DRAWS == pytest.approx(0.8 / 8, abs=0.03)


@pytest.mark.parametrize("number", [105, 106, 109, 112, 120, 124, 199, 51, 99, -1, 305, 251])
def test_numbers_without_meaning_are_refused(number: int) -> None:
    with pytest.raises(ValidationError, match=f"number {number}.* means nothing; known are 0-50, 100, 101"):
        expect(number)


def test_written_out() -> None:
    image = stack(names=("DAPI", "CD4", "CD8", "membrane"))
    groups = {"t_cells": ["CD4", 2], "edge": "membrane"}
    assert fixed("dapi", image) == {0: 1}
    assert fixed("edge", image, layout=groups) == {3: 1}
    assert fixed({"merge": "t_cells"}, image, layout=groups) == {1: 0.5, 2: 0.5}
    assert fixed({"merge": ["t_cells", "edge", "DAPI"]}, image, layout=groups) == dict.fromkeys([0, 1, 2, 3], 0.25)
    assert fixed({"random": ["CD8", "DAPI"]}, image) == {2: 1}
    assert fixed({"merge": ["DAPI", {"merge": ["CD4", "CD8"]}]}, image) == {0: 0.5, 1: 0.25, 2: 0.25}
    assert fixed({"random": "all"}, image) == {1: 1}
    assert fixed({"merge": "all"}, image) == dict.fromkeys(range(4), 0.25)
    assert fixed("black", image) == {}
    counts = drawn({"random": ["CD8", "DAPI"], "dropout": 0.5}, image)
    assert [counts[key] / DRAWS for key in ((), ((0, 1.0),), ((2, 1.0),))] == pytest.approx([0.5, 0.25, 0.25], abs=0.05)
    assert drawn({"channel": 1, "dropout": 0.25}, image)[()] / DRAWS == pytest.approx(0.25, abs=0.04)
    assert drawn({"merge": ["CD4", "CD8"], "dropout": 1}, image, draws=9) == {(): 9}


def test_definitions() -> None:
    definitions = {"infocus": {"channel": 12}, 60: {"merge": [0, 1]}, "both": {"merge": [60, "infocus"]}, 105: "black"}
    assert fixed("infocus", definitions=definitions) == {12: 1}
    assert fixed(60, definitions=definitions) == {0: 0.5, 1: 0.5}
    assert fixed("both", definitions=definitions) == {0: 0.25, 1: 0.25, 12: 0.5}
    assert fixed(105, definitions=definitions) == {}
    assert drawn(260, definitions=definitions, channel_dropout=0.5)[()] / DRAWS == pytest.approx(0.5, abs=0.05)


def test_layouts() -> None:
    seven = stack(7)
    assert fixed(100, seven, layout="external") == {0: 0.5, 1: 0.5}
    assert fixed(101, seven, layout="external") == {2: 1}
    assert evenly(drawn(102, seven, layout="external"), [4, 5, 6])
    # Brightfield is below, in and above focus; all is what the image has.
    assert evenly(drawn(103, seven, layout="external"), [2, 3, 4, 5, 6])
    assert evenly(drawn(107, seven, layout="external"), list(range(7)))
    assert fixed(101, stack(3), layout={"below": ["c2"]}) == {2: 1}


@pytest.mark.parametrize("name", STRATEGIES)
def test_ready_programs(name: str) -> None:
    expected = ChannelExpectation(mode="program", program=name)
    assert expected.count == 3
    _, mix = settled(expected, stack())
    assert mix.matrix().shape[0] == 3


def test_ready_programs_are_as_published() -> None:
    def chosen(name: str) -> list[dict[int, float]]:
        used, mix = settled(ChannelExpectation(mode="program", program=name), stack())
        return [{c: float(w) for c, w in zip(used, row) if w} for row in mix.matrix()]

    assert chosen("fluorescence") == [{0: 1}, {3: 1}, {6: 1}]
    assert chosen("above_and_below") == [{10: 1}, {12: 1}, {14: 1}]
    assert chosen("all_black") == [{}, {}, {}]
    assert chosen("merge_and_brightfield")[1:] == [{12: 1}, {14: 1}]
    with pytest.raises(ValidationError, match="no ready program 'abov_and_below'; did you mean 'above_and_below'"):
        ChannelExpectation(mode="program", program="abov_and_below")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"program": []}, "needs program, a list"),
    ({"program": None}, "needs program, a list"),
    ({"program": ["DAPI"], "count": 2}, "count is 2, but the program has 1"),
    ({"program": [[1, 2]]}, r"a list alone says nothing; say \{random: 1, 2\}"),
    ({"program": [True]}, "True is no expression"),
    ({"program": [None]}, "None is no expression"),
    ({"program": [{"rnd": "below"}]}, "rnd is unknown"),
    ({"program": [{"random": "below", "merge": "above"}]}, "2 of channel, random, merge are given"),
    ({"program": [{"dropout": 0.5}]}, "0 of channel, random, merge are given"),
    ({"program": [{"random": []}]}, "channel 1, random: the list is empty"),
    ({"program": [{"merge": "below", "dropout": 1.5}]}, "chance from 0 to 1, not 1.5"),
    ({"program": [{"merge": "below", "dropout": True}]}, "chance from 0 to 1"),
    ({"program": [{"channel": -1}]}, "not -1"),
    ({"program": [{"merge": [2, 2]}]}, "2 is named twice"),
    ({"program": [{"random": ["fluorescence", 3]}]}, "3 is named twice"),
    ({"program": ["below"]}, r"below is a group of channels; say \{random: below\}"),
    ({"program": ["all"]}, "all is a group"),
    ({"program": [101], "layout": {"focus": [1]}}, "number 101 needs the group below.* it has focus"),
    ({"program": [103], "layout": {"fluorescence": [1]}}, "number 103 needs the group brightfield"),
    ({"program": [301], "layout": {"focus": [1]}}, "number 301 needs the group below"),
    ({"program": [1], "layout": "selinumi"}, "no layout 'selinumi'; known are polarisation, external"),
    ({"program": [1], "layout": {"below": []}}, "the group below of the layout is empty"),
    ({"program": [1], "layout": {"below": [1, 1]}}, "names a channel twice: 1, 1"),
    ({"program": [1], "layout": {"black": [1]}}, "cannot be called black"),
    ({"program": [1], "definitions": {"below": 2}}, "a definition and also a group"),
    ({"program": [1], "definitions": {"black": 2}}, "a definition and also"),
    ({"program": [1], "definitions": {"12": 2}}, "number 12 cannot be defined"),
    ({"program": [1], "definitions": {"101": 2}}, "number 101 cannot be defined"),
    ({"program": [1], "definitions": {"200": 2}}, "number 200 cannot be defined"),
    ({"program": [1], "definitions": {"a": "b", "b": {"merge": ["a"]}}}, "leads back to itself: a → b → a"),
    ({"program": [1], "definitions": {"a": 105}}, "definition a: the number 105 means nothing"),
    ({"program": [10**400]}, "means nothing"),
    (
        {"program": ["a19"], "definitions": {"a0": 1} | {f"a{i}": {"merge": [f"a{i - 1}"]} for i in range(1, 20)}},
        "deep",
    ),
    (
        {
            "program": [1],
            "definitions": {"a0": 1} | {f"a{i}": {"merge": [f"a{i - 1}", {"merge": f"a{i - 1}"}]} for i in range(1, 9)},
        },
        "deep",
    ),
    ({"program": [1], "channel_dropout": 1.1}, "less than or equal to 1"),
    ({"program": ["DAPI"], "mode": "gray"}, "program is given, but mode is gray"),
    ({"merge_dropout": 0.1, "mode": "gray"}, "merge_dropout is given, but mode is gray"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_makes_no_sense_is_refused_before_any_image_is_read(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ChannelExpectation.model_validate({"mode": "program", **fields})


def test_a_channel_that_the_image_has_not() -> None:
    with pytest.raises(ChannelError) as caught:
        select_channels(stack(names=("DAPI", "CD4")), expect("DAPI", {"random": ["CD4", "CD44"]}))
    assert "names 'CD44'" in str(caught.value)
    assert "0: DAPI, 1: CD4" in str(caught.value)
    assert "fluorescence, below, focus, above, black" in str(caught.value)
    assert "did you mean 'CD4'?" in str(caught.value)
    with pytest.raises(ChannelError, match="names 12: the image has no channel number 12"):
        select_channels(stack(7), expect(12))
    with pytest.raises(ChannelError, match="several channels are called 'DAPI'"):
        select_channels(stack(names=("DAPI", "DAPI")), expect("DAPI"))
    with pytest.raises(ChannelError, match=r"twice in one list(.|\n)*0: DAPI"):
        select_channels(stack(names=("DAPI", "CD4")), expect({"merge": [0, "DAPI"]}))
    # A group that nothing uses may name what is not there.
    assert fixed("c1", stack(2), layout={"below": [40]}) == {1: 1}


def test_only_what_may_be_used_is_kept_and_it_is_told() -> None:
    image = stack()
    selected, told = select_channels(image, expect({"random": "below"}, 12, {"merge": [3, 0]}, 110))
    assert selected.channels == ("c0", "c3", "c9", "c10", "c11", "c12")
    assert told == "the network's channels: 1 c10 (the middle one of 3), 2 c12, 3 mean of c3 and c0, 4 black"
    selected, told = select_channels(image, expect("black"))
    assert selected.n_channels == 1
    assert told == "the network's channels: 1 black"
    picture = Image.from_array(np.zeros((2, 3, 3), np.uint8), axes="YXS")
    # Channels of a program are not one colour picture, even if they are all of one.
    assert not select_channels(picture, expect("red", "green", "blue"))[0].rgb


def test_chosen_channels_are_the_stack() -> None:
    selected, mix, told = program_channels(stack(), expect(0, {"random": "all"}), ["c5", 2, "c7"])
    assert selected.channels == ("c5", "c2", "c7")
    assert mix.matrix().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert told.startswith("channels chosen: c5, c2, c7; ")
    # A model remembers them by name.
    remembered = expect(0, {"random": "all"}, names=["c5", "c2", "c7"])
    again, _, told = program_channels(stack(), remembered)
    assert again.channels == selected.channels
    assert told.startswith("channels chosen by the model's names: c5, c2, c7; ")
    with pytest.raises(ChannelError, match="expected: 3 channels"):
        program_channels(stack(2), remembered)


def test_a_model_says_all_of_its_program() -> None:
    short = expect(107, "x", layout="external", definitions={"x": {"merge": "below"}}, merge_dropout=0.25)
    saved = short.model_dump(mode="json")
    assert saved["layout"] == {name: list(group) for name, group in LAYOUTS["external"].items()}
    assert saved["count"] == 2
    again = ChannelExpectation.model_validate(saved)
    assert again == short
    assert again.channel_program == short.channel_program
    assert "program" not in ChannelExpectation(mode="rgb").model_dump(mode="json")
    assert ChannelExpectation.model_validate({"program": "all_black"}).mode == "program"


def test_a_program_that_would_grow_beyond_all_bounds_is_refused() -> None:
    def often(inner: str | int) -> dict[str, Any]:
        return {"merge": [{"random": inner, "dropout": i / 100} for i in range(40)]}

    with pytest.raises(ValidationError, match="or are more than 10000"):
        expect("a", definitions={"a": often("b"), "b": often("c"), "c": often(0)})
    assert expect("b", definitions={"b": often("c"), "c": often(0)}).count == 1


ITEMS = st.recursive(
    st.one_of(st.integers(0, 15), st.sampled_from([*CODES, "black", "c3", 212, 311])),
    lambda inner: st.builds(
        lambda kind, members, dropout: {kind: members, "dropout": dropout},
        st.sampled_from(["random", "merge"]),
        st.lists(inner, min_size=1, max_size=4, unique_by=repr),
        st.floats(0, 1),
    ),
    max_leaves=8,
)


@given(st.lists(ITEMS, min_size=1, max_size=4), st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1))
def test_any_program(items: list[Any], seed: int, lost: float, left_out: float) -> None:
    expected = {"mode": "program", "program": items, "channel_dropout": lost, "merge_dropout": left_out}
    try:
        used, mix = settled(ChannelExpectation.model_validate(expected), stack())
    except (ValidationError, ChannelError) as error:
        if "twice" not in str(error):
            raise
        return
    without = mix.matrix()
    one, other = (mix.draw(np.random.default_rng(seed)) for _ in range(2))
    assert (one == other).all()
    for matrix in (without, one):
        assert matrix.shape == (len(items), len(used))
        assert matrix.dtype == np.float32
        assert (matrix >= 0).all()
        # Means of channels are no brighter than channels.
        assert (matrix.sum(axis=1) <= 1 + 1e-6).all()
    assert (mix.matrix() == without).all()
    # No channel is read that no drawing can use.
    ever = sum((mix.draw(np.random.default_rng(i)) for i in range(3)), without)
    assert ever.shape == without.shape


@given(st.integers(0, 2**32))
def test_sums_of_planes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    planes = rng.random((5, 4, 6), np.float32)
    matrix = (rng.random((3, 5)) * (rng.random((3, 5)) < 0.5)).astype(np.float32)
    asked: list[int] = []

    def give(channel: int) -> np.ndarray:
        asked.append(channel)
        return planes[channel]

    result = mixed(matrix, give, (4, 6))
    np.testing.assert_allclose(result, np.einsum("nc,cyx->nyx", matrix.astype(float), planes), atol=1e-6)
    assert asked == [c for c in range(5) if matrix[:, c].any()]
    part = mixed(matrix, lambda c: planes[c, 1:3, 2:5], (2, 3))
    assert (part == result[:, 1:3, 2:5]).all()
