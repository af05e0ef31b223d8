"""Ranks with ranges: which places on the board a model could hold, given that the images are a sample."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics.intervals import RESAMPLES, bootstrap_means, contributions

LEVEL = 0.05
"""Two-sided: a difference counts if it is significant at 95 %."""

LEAST_DIFFERING = 6
"""Images on which two models must differ before any difference counts: a sign-flip test on k images cannot give a
p-value below 2 / 2**k, which is above 0.05 up to k = 5. The bootstrap alone would call 4 against 0 significant."""


class RankRanges(NamedTuple):
    """M ranks each, int64, 1 is best; `low` <= `rank` <= `high`."""

    rank: NDArray[np.int64]
    """By value; models with equal values share the best rank."""
    low: NDArray[np.int64]
    """1 + models that are significantly better."""
    high: NDArray[np.int64]
    """M - models that are significantly worse."""


def rank_ranges(
    per_image: NDArray[Any], higher_is_better: bool = True, *, seed: int = 0, resamples: int = RESAMPLES
) -> RankRanges:
    """Rank models by the mean of their per-image values, with the range that sampling of the images leaves open.

    Model j is significantly better than i if its mean is better, the paired bootstrap over the shared images says so
    (p = 2 (1 + resamples in which it is not better) / (1 + resamples) <= 0.05; Davison & Hinkley, "Bootstrap Methods
    and their Application", 1997, section 4.2), and they differ on at least 6 images. Pairs are compared one by one,
    without a correction for their number.

    Args:
        per_image: models x images, finite: contributions of the same images, in the same order, to each model's score.
        higher_is_better: the direction of the score.
        seed: of the resamples.
        resamples: how many.

    Raises:
        InvalidArgument: not a matrix with at least one model and image, or a value that is not finite.
    """
    values = contributions(per_image)
    if not higher_is_better:
        values = -values
    models, n = values.shape
    # Sums of equal verdicts in another order differ in the last bits; real differences are above 1e-8 of the scale.
    tolerance = 1e-10 * max(1.0, float(np.abs(values).max()))
    means = values.mean(axis=1)
    resampled = np.ascontiguousarray(bootstrap_means(values, seed=seed, resamples=resamples).T)
    reach = float(np.ptp(values))
    rank = np.ones(models, dtype=np.int64)
    low = np.ones(models, dtype=np.int64)
    high = np.full(models, models, dtype=np.int64)
    for model in range(models):
        ahead = means - means[model]
        better = np.flatnonzero(ahead > tolerance)
        rank[model] += len(better)
        not_better = np.count_nonzero(resampled[better] - resampled[model] <= tolerance, axis=1)
        better = better[2 * (1 + not_better) <= LEVEL * (1 + resamples)]
        # A lead of x needs at least x n / reach images that differ: only small leads have to be counted.
        small = ahead[better] * n < LEAST_DIFFERING * reach
        differing = np.count_nonzero(np.abs(values[better[small]] - values[model]) > tolerance, axis=1)
        better = np.delete(better, np.flatnonzero(small)[differing < LEAST_DIFFERING])
        low[model] += len(better)
        high[better] -= 1
    return RankRanges(rank, low, high)
