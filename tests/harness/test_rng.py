"""Draws: the published generator, the same anywhere, independent of order and batch."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness import rng, rng_torch
from harness.errors import InvalidArgument

indices_lists = st.lists(st.integers(0, 2**62), min_size=1, max_size=6)


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 as the paper's figure has it, in Python integers: the independent implementation."""
    mask = (1 << 64) - 1
    x, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(x[0] * 0xD2E7470EE14C6C93, 1 << 64)
        high1, low1 = divmod(x[2] * 0xCA5A826395121157, 1 << 64)
        x = [high1 ^ x[1] ^ k[0], low1, high0 ^ x[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return x


def test_the_independent_implementation_knows_the_published_vector() -> None:
    """Known answer of Random123 (kat_vectors, philox4x64 10, all zeros)."""
    assert philox([0] * 4, [0] * 2) == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]


def test_words_are_philox_at_the_documented_counter() -> None:
    """Key from (seed, purpose); counter (position, restart, image index, 0), positions from 1."""
    key = list(rng.stream_key(7, "test"))
    expected = [word for position in (1, 2) for word in philox([position, 3, 41, 0], key)]
    halves = [half for word in expected for half in (word & 0xFFFFFFFF, word >> 32)]
    assert rng.words(7, "test", [41], 16, restart=3)[0].tolist() == halves


@given(st.integers(0, 2**63 - 1), st.text(max_size=20), indices_lists, st.integers(1, 40), st.integers(0, 2**40))
def test_the_torch_twin_draws_the_same_words(
    seed: int, purpose: str, indices: list[int], count: int, restart: int
) -> None:
    """Word for word, and so float for float."""
    host = rng.words(seed, purpose, indices, count, restart=restart)
    twin = rng_torch.words(seed, purpose, torch.tensor(indices), count, restart=restart)
    assert np.array_equal(host.astype(np.int64), twin.numpy())
    assert np.array_equal(rng.to_uniform(host), rng_torch.to_uniform(twin).numpy())
    assert np.array_equal(rng.to_normal(host), rng_torch.to_normal(twin).numpy())


@given(indices_lists, st.integers(1, 30), st.randoms(use_true_random=False))
def test_an_image_draws_the_same_in_any_batch(indices: list[int], count: int, shuffler: random.Random) -> None:
    """Subsets, permutations and longer draws begin with the same words."""
    whole = rng.words(1, "p", indices, count)
    order = list(range(len(indices)))
    shuffler.shuffle(order)
    shuffled = rng.words(1, "p", [indices[at] for at in order], count + 9)[:, :count]
    assert np.array_equal(shuffled, whole[order])


def test_streams_differ() -> None:
    """Seed, purpose, index and restart each give other words."""
    base = rng.words(0, "a", [0], 8)
    others = [
        rng.words(1, "a", [0], 8),
        rng.words(0, "b", [0], 8),
        rng.words(0, "a", [1], 8),
        rng.words(0, "a", [0], 8, restart=1),
    ]
    assert all(not np.array_equal(base, other) for other in others)


def test_global_state_is_left_alone() -> None:
    """Drawing reads and writes no global generator."""
    np.random.seed(5)  # noqa: NPY002 - the global state is the subject
    torch.manual_seed(5)
    before = str(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002 - as above
    rng.normal(0, "x", [1, 2], (3, 3))
    rng_torch.normal(0, "x", torch.tensor([1, 2]), (3, 3))
    assert str(np.random.get_state()) == before[0]  # noqa: NPY002 - as above
    assert torch.equal(torch.get_rng_state(), before[1])


def test_uniform_numbers_are_uniform() -> None:
    """Kolmogorov-Smirnov on 200,000 draws, and the range is [0, 1)."""
    drawn = rng.uniform(0, "uniform", range(20), (10_000,)).reshape(-1)
    assert 0 <= drawn.min() < drawn.max() < 1
    assert stats.kstest(drawn, "uniform").pvalue > 0.01


def test_normal_numbers_are_normal_to_the_tails() -> None:
    """Kolmogorov-Smirnov on 200,000 draws; quantiles of extreme words against SciPy; exact antisymmetry of the body."""
    drawn = rng.normal(0, "normal", range(20), (10_000,)).reshape(-1)
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    extremes = np.array([0, 0xFFFF, 0xFFFF0000, 0xFFFFFFFF], dtype=np.uint32)
    expected = stats.norm.ppf([0.5 / 2**32, 65535.5 / 2**32])
    found = rng.to_normal(extremes)
    np.testing.assert_allclose(found[:2], expected, rtol=1e-5)
    assert found[2] == -found[0]
    assert found[3] == -found[1]
    body, _ = rng.normal_tables()
    assert np.array_equal(body, -body[::-1])


@given(st.integers(1, 2**31))
def test_integers_stay_below_their_bound(bound: int) -> None:
    """[0, bound), from the smallest and the largest word too."""
    words = np.array([0, 1, 2**31, 2**32 - 1], dtype=np.uint32)
    drawn = rng.to_integer(words, bound)
    assert drawn.min() >= 0
    assert drawn.max() == bound - 1 if bound > 1 else drawn.max() == 0


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True])
def test_bad_seeds_are_refused(seed: object) -> None:
    """A seed is an integer from 0 to 2**63 - 1."""
    with pytest.raises(InvalidArgument, match="seed"):
        rng.words(seed, "x", [0], 1)  # type: ignore[arg-type]  # the wrong type is the subject
