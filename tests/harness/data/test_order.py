"""The stratified order, on labels of every shape."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.data.order import round_robin


@given(st.lists(st.integers(0, 6), max_size=80))
def test_round_robin_is_a_balanced_permutation(labels: list[int]) -> None:
    """Every image once, a class in its own order; in no prefix is a class that has images left behind by 2."""
    array = np.array(labels, dtype=np.int64)
    order = round_robin(array)
    assert sorted(order.tolist()) == list(range(len(labels)))
    totals = {label: labels.count(label) for label in labels}
    seen: dict[int, list[int]] = {label: [] for label in totals}
    for position in order.tolist():
        seen[labels[position]].append(position)
        counts = {label: len(positions) for label, positions in seen.items()}
        behind = [count for label, count in counts.items() if count < totals[label]]
        assert not behind or max(counts.values()) - min(behind) <= 1
    assert all(positions == sorted(positions) for positions in seen.values())


def test_worked_example() -> None:
    """Classes 0, 0, 2, 2, 2 (class 1 is absent): 0, 2, 0, 2, 2."""
    assert round_robin(np.array([0, 0, 2, 2, 2])).tolist() == [0, 2, 1, 3, 4]
