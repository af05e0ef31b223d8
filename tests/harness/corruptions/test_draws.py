"""The engine's draws against SciPy's distributions, and the torch branches against the NumPy ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from harness import rng
from harness.corruptions.draws import EngineDraws, normal_from, poisson_counts

CPU = torch.device("cpu")


def make(name: str = "test", *, images: int = 4, host: bool = True) -> EngineDraws:
    """Draws for some images; `host=False` takes the branch for other devices, on this one."""
    draws = EngineDraws(7, name, 3, np.arange(10, 10 + images), CPU)
    draws.on_host = host
    return draws


def test_normal_numbers_are_those_of_the_plain_tables() -> None:
    """Equal to `harness.rng.to_normal`, the two outer cells with their own tables included."""
    raw = rng.words(0, "normal", [5], 20_000)
    raw[0, :500] &= np.uint32(0xFFFF)
    raw[0, 500:1000] |= np.uint32(0xFFFF0000)
    np.testing.assert_array_equal(normal_from(raw).numpy(), rng.to_normal(raw)[0])


@pytest.mark.parametrize("photons", [3, 12, 60, 500])
def test_poisson_counts_invert_the_distribution(photons: float) -> None:
    """For every grey level, 300 words and both extremes: SciPy's quantile function at the word's midpoint."""
    raw = rng.words(0, "poisson", [5], 256 * 300).reshape(256, 300)
    raw[:, 0], raw[:, 1] = 0, 0xFFFFFFFF
    raw[:, 2:100] >>= np.uint32(12)  # deep into the lower tail
    raw[:, 100:150] |= np.uint32(0xFFFFF000)  # and into the upper one
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 300, axis=1)
    counts = poisson_counts(levels, raw, photons)
    wanted = stats.poisson.ppf((raw + 0.5) / 2.0**32, levels / 255.0 * photons)
    wanted[0] = 0  # SciPy has no Poisson law of mean 0
    # SciPy's quantile of the topmost words is limited by float64's spacing below 1.
    sure = raw < np.uint32(0xFFFFFFF0)
    np.testing.assert_array_equal(counts[sure], wanted[sure])


def test_poisson_samples_pass_a_chi_square_test() -> None:
    """100,000 counts of mean 30: p > 0.001; with this many a mean off by 1 % would give p < 1e-6 (checked as well)."""
    image = torch.full((1, 100_000), 255, dtype=torch.uint8)
    counts = make(images=1).poisson(image, 30.0).numpy().ravel()
    edges = np.arange(12, 50)

    def p_value(mean: float) -> float:
        shares = np.diff(stats.poisson.cdf(edges, mean), prepend=0, append=1)
        seen = np.bincount(np.searchsorted(edges, counts, side="left"), minlength=len(shares))
        return float(stats.chisquare(seen, shares * len(counts)).pvalue)

    assert p_value(30.0) > 0.001
    assert p_value(30.3) < 1e-6


def test_salt_and_pepper_has_its_rates() -> None:
    """Hits at rate 0.17, salt at 1/2 and independent of the hits: exact binomial tests at p > 0.001."""
    hit, salt = make(images=1).salt_and_pepper((200_000,), 0.17)
    assert stats.binomtest(int(hit.sum()), 200_000, 0.17).pvalue > 0.001
    assert stats.binomtest(int(salt[hit].sum()), int(hit.sum()), 0.5).pvalue > 0.001


@pytest.mark.parametrize("bound", [2, 4, 6, 8])
def test_pairs_are_uniform_on_the_square(bound: int) -> None:
    """Both numbers in range, all cells equally likely: chi-square at p > 0.001."""
    pairs = make(images=1).pairs(bound, 100_000)
    cells = np.bincount(pairs.numpy().ravel(), minlength=bound * bound)
    assert len(cells) == bound * bound
    assert stats.chisquare(cells).pvalue > 0.001


def test_angles_and_integers_stay_in_range() -> None:
    """One number an image; Kolmogorov-Smirnov for the angles at p > 0.001."""
    draws = make(images=2000)
    angles = draws.angles(-45, 45)
    assert stats.kstest(angles, stats.uniform(-45, 90).cdf).pvalue > 0.001
    numbers = draws.integers([1 + i % 7 for i in range(2000)])
    assert all(0 <= number < 1 + i % 7 for i, number in enumerate(numbers))


def test_the_branch_for_devices_gives_the_same_numbers() -> None:
    """Every kind of request, taken through the torch twin on this machine: equal to the host's."""
    host, other = make(), make(host=False)
    images = torch.from_numpy(rng.words(0, "image", [1, 2, 3, 4], 48).astype(np.uint8))
    for ask in (
        lambda d: d.normal(5, 3),
        lambda d: d.uniform(7),
        lambda d: d.pairs(6, 40).long(),
        lambda d: torch.stack(d.salt_and_pepper((9, 2), 0.4)),
        lambda d: d.poisson(images, 25.0).long(),
    ):
        torch.testing.assert_close(ask(host), ask(other), rtol=0, atol=0)


def test_requests_are_independent_and_numbered() -> None:
    """The second request of an image differs from the first; asking again from the start repeats both."""
    draws = make()
    first, second = draws.uniform(8), draws.uniform(8)
    assert not torch.equal(first, second)
    again = make()
    assert torch.equal(again.uniform(8), first)
    assert torch.equal(again.uniform(8), second)
