"""Intervals: against SciPy, by simulation, and the claim that pooling cells is too narrow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

from harness.errors import InvalidArgument
from harness.metrics import intervals
from harness.metrics.intervals import bootstrap_means, mean_interval, percentile_interval, wilson


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_equals_scipy(case: tuple[int, int], confidence: float) -> None:
    """SciPy's Wilson interval, for every count and confidence; the share is always inside."""
    successes, n = case
    low, high = wilson(successes, n, confidence)
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


def test_wilson_at_the_ends() -> None:
    """Exact ends, and the textbook figure for 0 of 10: z^2 / (n + z^2) = 0.2775."""
    assert wilson(0, 10)[0] == 0.0
    assert wilson(0, 10)[1] == pytest.approx(0.27753, abs=1e-5)
    assert wilson(500, 500)[1] == 1.0


@pytest.mark.parametrize(
    ("successes", "n", "confidence", "name"),
    [(0, 0, 0.95, "n"), (-1, 5, 0.95, "successes"), (6, 5, 0.95, "successes"), (1, 5, 1.0, "confidence")],
)
def test_wilson_refuses(successes: int, n: int, confidence: float, name: str) -> None:
    """Arguments out of range are named."""
    with pytest.raises(InvalidArgument, match=name):
        wilson(successes, n, confidence)


def hard_images(samples: int, n: int, cells: int, seed: int) -> NDArray[np.bool_]:
    """Samples x cells x n verdicts of images that differ in difficulty: an image's cells go together."""
    generator = np.random.default_rng(seed)
    chance = generator.beta(0.6, 0.4, (samples, 1, n))  # mean 0.6
    verdicts: NDArray[np.bool_] = generator.random((samples, cells, n)) < chance
    return verdicts


def test_bootstrap_agrees_with_scipy() -> None:
    """The same method with other draws: SciPy's percentile bootstrap gives the same bounds within its noise."""
    values = hard_images(1, 200, 15, seed=1)[0].mean(axis=0)
    ours = percentile_interval(bootstrap_means(values[None], resamples=20_000)[:, 0])
    theirs = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_bootstrap_has_the_standard_error() -> None:
    """The spread of resampled means is the plug-in standard error; their centre is the mean."""
    values = hard_images(1, 400, 15, seed=3)[0].mean(axis=0)
    means = bootstrap_means(values[None], resamples=8000)[:, 0]
    error = values.std() / np.sqrt(400)
    assert means.std() == pytest.approx(error, rel=0.04)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * error / np.sqrt(8000))


def test_coverage_and_the_cost_of_pooling() -> None:
    """Over 1,000 samples of 150 images x 15 cells, about 95 % of the intervals hold the true mean 0.6.

    Wilson on the pooled 2,250 verdicts is the tempting mistake: it covers far less, at less than half the width.
    """
    samples, n, cells = 1000, 150, 15
    verdicts = hard_images(samples, n, cells, seed=4)
    means = bootstrap_means(verdicts.mean(axis=1))
    bounds = np.array([percentile_interval(column) for column in means.T])
    pooled = np.array([wilson(int(sample.sum()), n * cells) for sample in verdicts])
    covered = np.mean((bounds[:, 0] <= 0.6) & (bounds[:, 1] >= 0.6))
    covered_pooled = np.mean((pooled[:, 0] <= 0.6) & (pooled[:, 1] >= 0.6))
    assert 0.93 <= covered <= 0.97
    assert covered_pooled < 0.65
    assert np.ptp(pooled, axis=1).mean() < 0.5 * np.ptp(bounds, axis=1).mean()


def test_single_verdicts_agree_with_wilson() -> None:
    """For one verdict an image, bootstrap and Wilson are two ways to the same interval (n = 1,000)."""
    bits = (np.arange(1000) < 700).astype(float)
    assert mean_interval(bits, (0, 1)) == pytest.approx(wilson(700, 1000), abs=0.003)


def test_draws_are_paired_and_shared() -> None:
    """A model's column is the same alone and among others; equal models have equal columns but for rounding."""
    values = np.random.default_rng(5).random((7, 60))
    values[6] = values[0]
    together = bootstrap_means(values)
    for model in range(7):
        assert np.allclose(together[:, [model]], bootstrap_means(values[[model]]), rtol=0, atol=1e-14)
    assert np.allclose(together[:, 6], together[:, 0], rtol=0, atol=1e-14)
    assert np.allclose(bootstrap_means(values, resamples=30), together[:30], rtol=0, atol=1e-14)
    assert not np.allclose(bootstrap_means(values, seed=1), together)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small working memory gives the same resamples as large."""
    values = np.random.default_rng(6).random((2, 50))
    whole = bootstrap_means(values, resamples=101)
    monkeypatch.setattr(intervals, "CHUNK_BYTES", 350)
    assert np.allclose(bootstrap_means(values, resamples=101), whole, rtol=0, atol=1e-14)


def test_resamples_draw_with_replacement() -> None:
    """Each resample has n images; an image is left out of a share (1 - 1/n)^n of them."""
    weights = intervals._weights(0, 40, 0, 3000)
    assert (weights.sum(axis=1) == 40).all()
    assert np.mean(weights == 0) == pytest.approx((1 - 1 / 40) ** 40, abs=0.01)
    assert weights.mean(axis=0) == pytest.approx(np.ones(40), abs=0.1)


def test_equal_values_are_no_certainty() -> None:
    """20 images that are all fully right bound the mean as 20 single verdicts do; on a wider scale, scaled."""
    assert mean_interval(np.ones(20), (0, 1)) == wilson(20, 20)
    low, high = wilson(10, 20)
    assert mean_interval(np.full(20, 0.5), (0, 1)) == pytest.approx((low, high))
    assert mean_interval(np.full(20, 50.0), (0, 100)) == pytest.approx((100 * low, 100 * high))
    assert mean_interval(np.ones(1), (0, 1)) == wilson(1, 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_interval_holds_the_mean(values: list[float]) -> None:
    """Within the bounds, and around the mean."""
    array = np.array(values)
    low, high = mean_interval(array, (0, 1))
    assert -1e-12 <= low <= high <= 1 + 1e-12
    assert low - 1e-9 <= array.mean() <= high + 1e-9


def test_bad_input() -> None:
    """Empty and non-finite values, no resamples and values out of bounds are named."""
    for bad in (np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), np.array([[np.nan, 1.0]])):
        with pytest.raises(InvalidArgument, match="per_image"):
            bootstrap_means(bad)
    with pytest.raises(InvalidArgument, match="resamples"):
        bootstrap_means(np.ones((1, 2)), resamples=0)
    with pytest.raises(InvalidArgument, match="values"):
        mean_interval(np.array([0.5, 2.0]), (0, 1))
    with pytest.raises(InvalidArgument, match="means"):
        percentile_interval(np.zeros(0))
