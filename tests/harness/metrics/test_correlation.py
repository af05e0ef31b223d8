"""Rank correlation: against SciPy, closed forms with ties, enumeration, and the coverage of its intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from harness.errors import InvalidArgument
from harness.metrics.correlation import PermutationTest, mean_over_models, rank_correlation, spearman

FEW = st.integers(0, 4)


@given(st.integers(3, 25).flatmap(lambda n: st.tuples(*[st.lists(FEW, min_size=n, max_size=n)] * 2)))
def test_spearman_equals_scipy(case: tuple[list[int], list[int]]) -> None:
    """SciPy's rho on lists full of ties; None exactly where a side is constant."""
    x, y = case
    found = spearman([float(value) for value in x], [float(value) for value in y])
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(float(spearmanr(x, y).statistic), abs=1e-12)


def test_closed_forms() -> None:
    """Without ties 1 - 6 sum d^2 / (n (n^2 - 1)); with them the formula of corrected sums, worked by hand."""
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: sum of d^2 is 4, so 1 - 24 / 120.
    assert spearman([1, 2, 3, 4, 5], [20, 10, 40, 30, 50]) == pytest.approx(0.8)
    # x has ranks 1 2.5 2.5 4, y 1 2 3 4: d^2 sums to .5; sums of squares are 5 - .5 and 5;
    # rho = (4.5 + 5 - .5) / (2 sqrt(4.5 x 5)) = 9 / (2 sqrt 22.5).
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(9 / (2 * math.sqrt(22.5)))
    assert spearman([1, 2, 3], [5, 4, -9]) == -1.0


@pytest.mark.parametrize("designs", [None, [0, 0, 1, 1, 2, 2]])
def test_permutation_test_by_enumeration(designs: list[int] | None) -> None:
    """All orders of models, or of whole designs, written out with SciPy's rho: the same share is as extreme."""
    x, y = [1.0, 2.0, 2.0, 5.0, 4.0, 7.0], [3.0, 1.0, 2.0, 6.0, 6.0, 9.0]
    found = rank_correlation(x, y, designs, resamples=10)
    assert found is not None
    blocks = [[at] for at in range(6)] if designs is None else [[0, 1], [2, 3], [4, 5]]
    observed = abs(float(spearmanr(x, y).statistic))
    rhos = []
    for order in itertools.permutations(blocks):
        shuffled = [y[at] for block in order for at in block]
        rhos.append(abs(float(spearmanr(x, shuffled).statistic)))
    assert found.test is not None
    assert found.test.exact
    assert found.test.p_value == pytest.approx(float(np.mean(np.array(rhos) >= observed - 1e-9)))


def test_designs_of_unequal_size_have_no_p() -> None:
    """They cannot be exchanged whole, and exchanging models would be another test; the intervals stay."""
    x, y = [1.0, 2.0, 2.0, 5.0, 4.0, 7.0], [3.0, 1.0, 2.0, 6.0, 6.0, 9.0]
    found = rank_correlation(x, y, ["a", "a", "a", "b", "b", "c"], resamples=10)
    assert found is not None
    assert found.test is None
    assert found.rho.designs == 3


def test_reversed_designs_are_no_mirror_image() -> None:
    """Models keep their order inside a design, so that the observed order of six designs can be extreme by itself."""
    x = np.arange(12.0)
    found = rank_correlation(x, x, np.repeat(np.arange(6), 2).tolist(), resamples=10)
    assert found is not None
    assert found.test == PermutationTest(p_value=1 / 720, exact=True)


def test_random_permutations_near_the_t_approximation() -> None:
    """With 40 models p is that of SciPy's t approximation to within the noise of 10,000 orders."""
    draw = np.random.default_rng(3)
    x = draw.normal(size=40)
    y = 0.35 * x + draw.normal(size=40)
    found = rank_correlation(x, y, resamples=10_000)
    assert found is not None
    assert found.test is not None
    assert not found.test.exact
    assert found.test.p_value == pytest.approx(float(spearmanr(x, y).pvalue), abs=0.01)
    assert 0 < found.test.p_value < 0.2


def test_resampled_rho_is_that_of_the_copied_models() -> None:
    """Weights in place of copies: the interval of two designs is among rhos of the samples that can be drawn."""
    x, y, designs = [1.0, 2.0, 4.0, 3.0], [1.0, 3.0, 2.0, 5.0], ["a", "a", "b", "b"]
    possible = []
    for drawn in itertools.product([[0, 1], [2, 3]], repeat=2):
        places = [at for block in drawn for at in block]
        possible.append(float(spearmanr([x[at] for at in places], [y[at] for at in places]).statistic))
    found = rank_correlation(x, y, designs)
    assert found is not None
    assert (found.rho.low, found.rho.high) == pytest.approx((min(possible), max(possible)))
    assert found.rho.designs == 2
    assert found.rho.models == 4


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000))
def test_designs_make_the_interval_wider(seed: int) -> None:
    """Five seeds a design that only repeat it: models pretend to be 30 points, designs know that they are 6."""
    draw = np.random.default_rng(seed)
    x = np.repeat(draw.permutation(6).astype(float), 5)
    y = np.repeat(draw.permutation(6).astype(float), 5)
    found = rank_correlation(x, y, np.repeat(np.arange(6), 5).tolist(), resamples=1000)
    assert found is not None
    rho = found.rho
    assert rho.low <= rho.value <= rho.high
    assert rho.high - rho.low >= rho.high_models - rho.low_models


def test_cluster_interval_covers_where_that_of_models_does_not() -> None:
    """Designs without any correlation, three alike models each: 0 is inside nearly as often as 95 %, unlike models'."""
    draw = np.random.default_rng(11)
    inside = inside_models = 0
    rounds = 100
    for _ in range(rounds):
        x = np.repeat(draw.normal(size=12), 3) + 0.05 * draw.normal(size=36)
        y = np.repeat(draw.normal(size=12), 3) + 0.05 * draw.normal(size=36)
        found = rank_correlation(x, y, np.repeat(np.arange(12), 3).tolist(), resamples=200)
        assert found is not None
        inside += found.rho.low <= 0 <= found.rho.high
        inside_models += found.rho.low_models <= 0 <= found.rho.high_models
    assert inside / rounds >= 0.86
    assert inside_models / rounds <= 0.8


def test_mean_over_models() -> None:
    """The mean, its interval near SciPy's normal one for single models, wider for designs that repeat themselves."""
    draw = np.random.default_rng(5)
    values = np.repeat(draw.normal(1.0, 0.5, size=20), 4)
    found = mean_over_models(values, np.repeat(np.arange(20), 4).tolist())
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / math.sqrt(80)
    assert (found.low_models, found.high_models) == pytest.approx((found.value - half, found.value + half), abs=0.02)
    assert found.high - found.low == pytest.approx(2 * (found.high_models - found.low_models), rel=0.1)


def test_same_seed_same_interval_and_monotone_invariance() -> None:
    """Deterministic; a monotone change of either side changes nothing, a reversal mirrors it; no relation to tau."""
    draw = np.random.default_rng(9)
    x, y = draw.normal(size=18), draw.normal(size=18)
    designs = np.repeat(np.arange(6), 3).tolist()
    found = rank_correlation(x, y, designs)
    assert found == rank_correlation(np.exp(x), y**3, designs)
    mirrored = rank_correlation(-x, y, designs)
    assert found is not None
    assert mirrored is not None
    assert mirrored.rho.value == pytest.approx(-found.rho.value)
    assert mirrored.test == found.test
    assert found.rho.value != pytest.approx(float(kendalltau(x, y).statistic), abs=1e-3)


@pytest.mark.parametrize(
    ("x", "y", "designs", "name"),
    [
        ([1.0, 2.0], [1.0, 2.0], None, "x"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], None, "y"),
        ([1.0, 2.0, math.nan], [1.0, 2.0, 3.0], None, "x"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, math.inf], None, "y"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1, 2], "designs"),
    ],
)
def test_refuses(x: list[float], y: list[float], designs: list[int] | None, name: str) -> None:
    """Too few, unequal or infinite numbers are named."""
    with pytest.raises(InvalidArgument, match=name):
        rank_correlation(x, y, designs)


def test_constant_side_has_no_correlation() -> None:
    """None, not 0 and not NaN; at least one resample is asked for."""
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    barely = rank_correlation([1.0, 1.0, 2.0], [1.0, 2.0, 2.0], [0, 1, 2], resamples=1, seed=1)
    assert barely is not None
    assert (barely.rho.low, barely.rho.high) == (-1.0, 1.0)  # the one sample that was drawn has no rho
    with pytest.raises(InvalidArgument, match="resamples"):
        rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], resamples=0)
