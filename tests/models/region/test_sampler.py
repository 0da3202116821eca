"""The random choice of boxes for a loss."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from cytomask.models.region.sampler import sample


@given(st.lists(st.integers(-1, 3), max_size=40), st.integers(1, 30), st.sampled_from([0.25, 0.5, 1.0]))
def test_objects_up_to_their_share_and_background_for_the_rest(labels: list[int], count: int, positive: float) -> None:
    objects, others = sample(torch.tensor(labels, dtype=torch.int64), count, positive, background=3)
    n_objects = sum(label in (0, 1, 2) for label in labels)
    assert len(objects) == min(n_objects, int(count * positive))
    assert len(others) == min(labels.count(3), count - len(objects))
    assert all(labels[i] in (0, 1, 2) for i in objects)
    assert all(labels[i] == 3 for i in others)
    assert len({*objects.tolist(), *others.tolist()}) == len(objects) + len(others)


def test_the_global_generator_decides_and_every_box_has_a_chance() -> None:
    labels = torch.tensor([1, 0] * 20)
    torch.manual_seed(3)
    first = sample(labels, 8, 0.5, background=0)
    torch.manual_seed(3)
    second = sample(labels, 8, 0.5, background=0)
    assert torch.equal(torch.cat(first), torch.cat(second))
    seen = {int(i) for _ in range(200) for part in sample(labels, 8, 0.5, background=0) for i in part}
    assert seen == set(range(40))
