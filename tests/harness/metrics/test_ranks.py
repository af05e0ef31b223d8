"""Rank ranges: a worked example, exact McNemar, ties, and false alarms by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from harness.errors import InvalidArgument
from harness.metrics.ranks import rank_ranges


def bits(*right: int, n: int = 200) -> NDArray[np.bool_]:
    """One row a model: right on the first k images."""
    return np.arange(n) < np.array(right)[:, None]


def test_worked_example() -> None:
    """Of 200 nested images: 180 and 178 cannot be told apart, both beat 120, and so does everyone 20.

    A lead of 2 images out of 2 that differ proves nothing; one of 58 out of 58 does.
    """
    ranks = rank_ranges(bits(178, 20, 180, 120))
    assert ranks.rank.tolist() == [2, 4, 1, 3]
    assert ranks.low.tolist() == [1, 4, 1, 3]
    assert ranks.high.tolist() == [2, 4, 2, 3]


def test_direction() -> None:
    """For errors the smallest is best."""
    errors = 1.0 - bits(178, 20, 180, 120)
    ranks = rank_ranges(errors, higher_is_better=False)
    assert ranks.rank.tolist() == [2, 4, 1, 3]
    assert ranks.low.tolist() == [1, 4, 1, 3]
    assert rank_ranges(errors).rank.tolist() == [3, 1, 4, 2]


def test_identical_models_tie_exactly() -> None:
    """Copies share the best rank and the whole range, wherever they stand, also for sums that round."""
    one = np.random.default_rng(0).random(313) / 3
    worse = np.where(np.arange(313) < 100, one - 0.3, one)
    ranks = rank_ranges(np.stack([one, worse, one, one[::1].copy(), worse]))
    assert ranks.rank.tolist() == [1, 4, 1, 1, 4]
    assert ranks.low.tolist() == [1, 4, 1, 1, 4]
    assert ranks.high.tolist() == [3, 5, 3, 3, 5]


def test_equal_values_share_a_rank_despite_rounding() -> None:
    """0.1 + 0.2 + 0.3 in any order is one value."""
    ranks = rank_ranges(np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1]]))
    assert ranks.rank.tolist() == [1, 1, 1]


def pair(only_first: int, only_second: int, n: int = 400) -> NDArray[np.bool_]:
    """Two models that differ on the given numbers of images and are both right on half of the rest."""
    first = np.arange(n) % 2 == 0
    second = first.copy()
    first[:only_first], second[:only_first] = True, False
    end = only_first + only_second
    first[only_first:end], second[only_first:end] = False, True
    return np.stack([first, second])


def separated(matrix: NDArray[np.bool_]) -> bool:
    """The first of two models is significantly better."""
    ranks = rank_ranges(matrix)
    return bool(ranks.low.tolist() == [1, 2] and ranks.high.tolist() == [1, 2])


@pytest.mark.parametrize(
    ("only_first", "only_second"),
    [(0, 0), (3, 0), (5, 0), (6, 0), (9, 1), (8, 8), (12, 5), (15, 4), (30, 18), (40, 18), (60, 30), (70, 60)],
)
def test_agrees_with_exact_mcnemar(only_first: int, only_second: int) -> None:
    """On single verdicts the decision is that of the exact McNemar test; none of the cases is close to the line."""
    differing = only_first + only_second
    p = binomtest(only_first, differing).pvalue if differing else 1.0
    assert p < 0.032 or p > 0.06
    assert separated(pair(only_first, only_second)) == (p < 0.05)


def test_false_alarms_are_rare() -> None:
    """Four times 400 models of equal skill on shared images: about 5 % of the pairs are called different."""
    shares = []
    for seed in range(4):
        generator = np.random.default_rng(seed)
        chance = generator.beta(1, 1, 250)
        models = (generator.random((400, 15, 250)) < chance).mean(axis=1)
        shares.append((rank_ranges(models).low - 1).sum() / (400 * 399 / 2))
    assert 0.04 <= np.mean(shares) <= 0.055


def test_pairing_sees_what_separate_intervals_do_not() -> None:
    """A model that is right wherever the other is, and on 12 images more, is better, though their intervals overlap."""
    assert separated(pair(12, 0))
    independent = np.stack([bits(106)[0], np.roll(bits(94)[0], 100)])
    assert not separated(independent)


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 2**32 - 1), st.booleans())
def test_ranges_hold_ranks(models: int, n: int, seed: int, higher: bool) -> None:
    """1 <= low <= rank <= high <= M; the order of models and images does not matter."""
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 4, (models, n)) / 3
    ranks = rank_ranges(values, higher, resamples=200)
    assert (ranks.low >= 1).all()
    assert (ranks.low <= ranks.rank).all()
    assert (ranks.rank <= ranks.high).all()
    assert (ranks.high <= models).all()
    assert ranks.rank.min() == 1
    order = generator.permutation(models)
    again = rank_ranges(values[order], higher, resamples=200)
    assert again.rank.tolist() == ranks.rank[order].tolist()
    assert again.low.tolist() == ranks.low[order].tolist()
    assert again.high.tolist() == ranks.high[order].tolist()


def test_a_few_resamples_cannot_prove_anything() -> None:
    """With 39 resamples p is at least 2 / 40 = 0.05, with 38 it is above."""
    assert rank_ranges(bits(200, 0), resamples=39).low.tolist() == [1, 2]
    assert rank_ranges(bits(200, 0), resamples=38).low.tolist() == [1, 1]


def test_bad_input() -> None:
    """No models, no images and values that are not finite are named."""
    for bad in (np.zeros((0, 5)), np.zeros((5, 0)), np.array([[np.inf, 1.0]])):
        with pytest.raises(InvalidArgument, match="per_image"):
            rank_ranges(bad)
