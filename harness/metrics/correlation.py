"""Rank correlation over models: Spearman's rho with bootstrapped intervals and a permutation test.

The unit that is resampled decides what an interval says. Models of one design (one setting of what was varied, trained
with several seeds) resemble each other, so they are not as many independent designs: resampling whole designs gives the
honest interval for a claim about the setting, resampling models the one that pretends independence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidArgument
from harness.rng import to_integer, words

F64: TypeAlias = NDArray[np.float64]

RESAMPLES: Final = 10_000
ENUMERATED: Final = 7
"""Up to this many designs all orders are gone through (5,040), above that `RESAMPLES` random ones."""
LEAST: Final = 3
"""Models below which no correlation is given: two always have rho -1 or 1."""
MOST: Final = 500
"""Models above which none is given: the memory of the bootstrap grows with them."""
_TIE: Final = 1e-9
_CHUNK: Final = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with 95 % percentile intervals of two bootstraps."""

    value: float
    low: float
    high: float
    """Whole designs resampled: the interval that verdicts rest on."""
    low_models: float
    high_models: float
    """Models resampled one by one, as if seeds of one design were designs of their own."""
    models: int
    designs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutationTest:
    """A test of rho that exchanges designs; see `rank_correlation`."""

    p_value: float
    """Two-sided, of |rho|."""
    exact: bool
    """True over all orders of the designs, False over random ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCorrelation:
    """Spearman's rho over models."""

    rho: Estimate
    test: PermutationTest | None
    """None where the designs are of unequal size."""


def spearman(x: Sequence[float] | F64, y: Sequence[float] | F64) -> float | None:
    """Spearman's rho: the Pearson correlation of ranks, ties at their mean rank (C. Spearman, 1904).

    Args:
        x: n finite numbers, n at least 3 and at most 500.
        y: as many.

    Returns:
        rho in [-1, 1]; None where either side is constant.

    Raises:
        InvalidArgument: other lengths, or a value that is not finite.
    """
    first, second = _checked(x, y)
    value = float(_weighted_rho(first, second, np.ones((1, len(first))))[0])
    return None if math.isnan(value) else value


def rank_correlation(
    x: Sequence[float] | F64,
    y: Sequence[float] | F64,
    designs: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> RankCorrelation | None:
    """Spearman's rho with intervals and a p-value.

    Intervals are percentiles of rho over bootstrap samples (B. Efron, Annals of Statistics 7, 1979), of designs drawn
    with replacement with all their models (the cluster bootstrap; Davison & Hinkley, "Bootstrap Methods and their
    Application", 1997, section 3.8) and of models. Copies tie in rank, so with few designs the interval leans to 0.
    Samples in which a side is constant have no rho and are left out.
    The permutation test exchanges whole designs, whose models keep their order, which should be that of seeds: exactly
    up to 7 designs, with random orders above (p counts the observed order; the same book, section 4.3). Designs of
    unequal size cannot be exchanged, and there is no p: one over their models would take seeds for designs.

    Args:
        x: n finite numbers, one a model; n from 3 to 500.
        y: as many.
        designs: which design each model belongs to; None if each is its own.
        seed: of the draws.
        resamples: of the bootstraps, and of the permutations where not all orders are gone through.

    Returns:
        None where a side is constant.

    Raises:
        InvalidArgument: other lengths, a value that is not finite, or no resamples.
    """
    first, second = _checked(x, y)
    blocks = _blocks(designs, len(first))
    value = spearman(first, second)
    if value is None:
        return None

    def statistic(weights: F64) -> F64:
        return _weighted_rho(first, second, weights)

    low, high = _interval(statistic(_draws(blocks, len(first), "designs", seed, resamples)))
    low_models, high_models = _interval(
        statistic(_draws(_blocks(None, len(first)), len(first), "models", seed, resamples))
    )
    return RankCorrelation(
        rho=Estimate(
            value=value,
            low=low,
            high=high,
            low_models=low_models,
            high_models=high_models,
            models=len(first),
            designs=len(blocks),
        ),
        test=_permutation_test(first, second, blocks, seed=seed, resamples=resamples),
    )


def mean_over_models(
    values: Sequence[float] | F64,
    designs: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean of one number a model (such as a difference within it) with the intervals of `rank_correlation`.

    Raises:
        InvalidArgument: as `rank_correlation`.
    """
    given, _ = _checked(values, values)
    blocks = _blocks(designs, len(given))

    def means(weights: F64) -> F64:
        result: F64 = (weights @ given) / weights.sum(axis=1)
        return result

    low, high = _interval(means(_draws(blocks, len(given), "designs", seed, resamples)))
    low_models, high_models = _interval(means(_draws(_blocks(None, len(given)), len(given), "models", seed, resamples)))
    return Estimate(
        value=float(given.mean()),
        low=low,
        high=high,
        low_models=low_models,
        high_models=high_models,
        models=len(given),
        designs=len(blocks),
    )


def _checked(x: Sequence[float] | F64, y: Sequence[float] | F64) -> tuple[F64, F64]:
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.ndim != 1 or not LEAST <= len(first) <= MOST:
        raise InvalidArgument("x", first.shape, f"{LEAST} to {MOST} numbers")
    if second.shape != first.shape:
        raise InvalidArgument("y", second.shape, f"as many numbers as x, {len(first)}")
    for name, values in (("x", first), ("y", second)):
        if not np.isfinite(values).all():
            raise InvalidArgument(name, "NaN or infinity", "finite values")
    return first, second


def _blocks(designs: Sequence[Hashable] | None, n: int) -> list[NDArray[np.int64]]:
    """Positions of the models of each design."""
    if designs is None:
        return [np.array([at]) for at in range(n)]
    if len(designs) != n:
        raise InvalidArgument("designs", len(designs), f"one a model, {n}")
    found: dict[Hashable, list[int]] = {}
    for at, design in enumerate(designs):
        found.setdefault(design, []).append(at)
    return [np.array(places) for places in found.values()]


def _draws(blocks: Sequence[NDArray[np.int64]], n: int, what: str, seed: int, resamples: int) -> F64:
    """How often each model is in each bootstrap sample of blocks: resamples x n."""
    if resamples < 1:
        raise InvalidArgument("resamples", resamples, "at least 1")
    drawn = to_integer(words(seed, f"correlation/{what}", range(resamples), len(blocks)), len(blocks))
    weights = np.zeros((resamples, n))
    for at, block in enumerate(blocks):
        weights[:, block] = (drawn == at).sum(axis=1, keepdims=True)
    return weights


def _weighted_rho(x: F64, y: F64, weights: F64) -> F64:
    """Spearman's rho of samples that hold model i `weights[r, i]` times: r values, NaN where a side is constant."""
    total = weights.sum(axis=1, keepdims=True)
    first, second = _weighted_ranks(x, weights), _weighted_ranks(y, weights)
    # The mean of ranks is (n + 1) / 2, with and without ties.
    first -= (total + 1) / 2
    second -= (total + 1) / 2
    product = (weights * first * second).sum(axis=1)
    spread = (weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1)
    defined = spread > _TIE
    rho: F64 = np.full(len(weights), np.nan)
    rho[defined] = np.clip(product[defined] / np.sqrt(spread[defined]), -1.0, 1.0)
    return rho


def _weighted_ranks(values: F64, weights: F64) -> F64:
    """Mean ranks from 1: copies below a value, and half of those that equal it (itself included), plus a half."""
    below = (values[:, None] < values[None, :]) + 0.5 * (values[:, None] == values[None, :])
    ranks: F64 = weights @ below + 0.5
    return ranks


def _interval(values: F64) -> tuple[float, float]:
    """95 % percentile interval of what is defined, to 12 decimals; all of [-1, 1] where nothing is (rho alone)."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        return -1.0, 1.0
    low, high = np.quantile(defined, [0.025, 0.975])
    return round(float(low), 12), round(float(high), 12)


def _permutation_test(
    x: F64, y: F64, blocks: Sequence[NDArray[np.int64]], *, seed: int, resamples: int
) -> PermutationTest | None:
    if len({len(block) for block in blocks}) > 1:
        return None
    exact = len(blocks) <= ENUMERATED
    if exact:
        orders = np.array(list(itertools.permutations(range(len(blocks)))))
    else:
        orders = np.argsort(
            words(seed, "correlation/permutation", range(resamples), len(blocks)), axis=1, kind="stable"
        )
    table = np.stack(list(blocks))
    centred = [ranks - ranks.mean() for ranks in (_plain_ranks(x), _plain_ranks(y))]
    scale = math.sqrt(float((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    observed = abs(float(centred[0] @ centred[1])) / scale
    fixed = centred[0][table].ravel()
    reached = 0
    step = max(1, _CHUNK // len(x))
    for start in range(0, len(orders), step):
        permuted = centred[1][table[orders[start : start + step]]].reshape(-1, len(x))
        reached += int((np.abs(permuted @ fixed) / scale >= observed - _TIE).sum())
    p_value = reached / len(orders) if exact else (1 + reached) / (1 + len(orders))
    return PermutationTest(p_value=p_value, exact=exact)


def _plain_ranks(values: F64) -> F64:
    ranks: F64 = _weighted_ranks(values, np.ones((1, len(values))))[0]
    return ranks
