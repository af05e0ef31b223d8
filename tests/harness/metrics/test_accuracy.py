"""Accuracies and their means: worked examples and properties."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.errors import InvalidArgument
from harness.metrics.accuracy import (
    accuracy,
    family_means,
    mean_accuracy,
    per_image_means,
    severity_curves,
    union_verdicts,
)

MATRIX = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 0]], dtype=np.bool_)


def test_worked_example() -> None:
    """Three perturbations of four images, counted by hand."""
    assert accuracy(MATRIX[0]) == 3 / 4
    assert mean_accuracy(MATRIX) == 7 / 12
    assert per_image_means(MATRIX).tolist() == [1, 2 / 3, 0, 2 / 3]
    assert union_verdicts(MATRIX).tolist() == [True, False, False, False]


matrices = st.integers(1, 6).flatmap(
    lambda rows: st.integers(1, 12).flatmap(
        lambda images: st.lists(
            st.lists(st.booleans(), min_size=images, max_size=images), min_size=rows, max_size=rows
        ).map(lambda lists: np.array(lists, dtype=np.bool_))
    )
)


@given(matrices, st.randoms(use_true_random=False))
def test_means_are_bounded_and_ignore_order(matrix: NDArray[np.bool_], random: Random) -> None:
    """In [0, 1]; order is irrelevant; it is a mean of means either way; the union is at most each row's accuracy."""
    rows, images = (random.sample(range(side), side) for side in matrix.shape)
    shuffled = matrix[rows][:, images]
    value = mean_accuracy(matrix)
    assert 0 <= value <= 1
    assert mean_accuracy(shuffled) == value
    assert accuracy(union_verdicts(shuffled)) == accuracy(union_verdicts(matrix))
    assert per_image_means(matrix).mean() == pytest.approx(value, abs=1e-12)
    assert np.mean([accuracy(row) for row in matrix]) == pytest.approx(value, abs=1e-12)
    assert accuracy(union_verdicts(matrix)) <= min(accuracy(row) for row in matrix)


@given(matrices, st.data())
def test_one_more_right_verdict_never_lowers_a_mean(matrix: NDArray[np.bool_], data: st.DataObject) -> None:
    """Monotone in every single verdict, by exactly one part in rows x images."""
    row = data.draw(st.integers(0, matrix.shape[0] - 1))
    image = data.draw(st.integers(0, matrix.shape[1] - 1))
    better = matrix.copy()
    better[row, image] = True
    gain = 0 if matrix[row, image] else 1 / matrix.size
    assert mean_accuracy(better) - mean_accuracy(matrix) == pytest.approx(gain, abs=1e-12)
    assert accuracy(union_verdicts(better)) >= accuracy(union_verdicts(matrix))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((0, 3), dtype=np.bool_), np.zeros((2, 0), dtype=np.bool_), np.zeros(3, dtype=np.bool_), np.zeros((2, 3))],
    ids=["no rows", "no images", "one dimension", "floats"],
)
def test_bad_matrices(bad: NDArray[np.bool_]) -> None:
    """Nothing is guessed from values: empty, misshapen and float input is refused."""
    for function in (mean_accuracy, per_image_means, union_verdicts):
        with pytest.raises(InvalidArgument, match="verdicts"):
            function(bad)


def test_bad_row() -> None:
    """One perturbation is a row of bools."""
    cases: list[NDArray[Any]] = [np.zeros(0, dtype=np.bool_), MATRIX, np.ones(3, dtype=np.uint8)]
    for bad in cases:
        with pytest.raises(InvalidArgument, match="bits"):
            accuracy(bad)


def test_family_means() -> None:
    """By hand; a corruption without accuracy is named."""
    accuracies = {"snow": 0.5, "fog": 0.7, "blur": 0.2}
    families = {"weather": ("snow", "fog"), "rest": ("blur",)}
    assert family_means(accuracies, families) == pytest.approx({"weather": 0.6, "rest": 0.2})
    with pytest.raises(InvalidArgument, match="frost"):
        family_means(accuracies, {"weather": ("snow", "frost")})
    with pytest.raises(InvalidArgument, match="empty"):
        family_means(accuracies, {"empty": ()})


def test_severity_curves() -> None:
    """The table is sorted by severity whatever the order of the cells; holes and unknown severities are named."""
    cells = {(name, severity): severity / 10 for severity in (5, 3, 1, 2, 4) for name in ("snow", "fog")}
    assert severity_curves(cells) == {"snow": (0.1, 0.2, 0.3, 0.4, 0.5), "fog": (0.1, 0.2, 0.3, 0.4, 0.5)}
    del cells["fog", 3]
    with pytest.raises(InvalidArgument, match="'fog', 3"):
        severity_curves(cells)
    with pytest.raises(InvalidArgument, match="got 6"):
        severity_curves({("snow", 6): 0.1})
    with pytest.raises(InvalidArgument, match="at least one"):
        severity_curves({})
