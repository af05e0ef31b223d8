"""Confidence intervals: Wilson for one verdict an image, a bootstrap over images for means over perturbations.

The 75 corrupted versions of one image are not 75 independent images: pooling cells as independent makes intervals
several times too narrow. The unit that is resampled is therefore the image.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from harness.errors import InvalidArgument
from harness.rng import to_integer, words

RESAMPLES = 2000
CHUNK_BYTES = 1 << 21
"""Resample weights are made and kept in pieces of about this size (one byte an image and resample)."""


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a share (E. B. Wilson, JASA 22, 1927), without continuity correction.

    Args:
        successes: right verdicts, in [0, n]; may be fractional, which makes the interval conservative (see
            `mean_interval`).
        n: images.
        confidence: in (0, 1).

    Returns:
        (low, high), fractions with 0 <= low <= successes / n <= high <= 1.

    Raises:
        InvalidArgument: an argument out of range.
    """
    if n < 1:
        raise InvalidArgument("n", n, "at least one image")
    if not 0 <= successes <= n:
        raise InvalidArgument("successes", successes, f"0 to {n}")
    _check_confidence(confidence)
    z2 = float(ndtri((1 + confidence) / 2)) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * n)) / n) / (1 + z2 / n)
    # The formula gives these bounds exactly; rounding does not.
    low = 0.0 if successes == 0 else min(max(0.0, centre - half), share)
    high = 1.0 if successes == n else max(min(1.0, centre + half), share)
    return low, high


def bootstrap_means(per_image: NDArray[Any], *, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Means of resampled images (B. Efron, Annals of Statistics 7, 1979): n images drawn with replacement, each time.

    The draws depend on (seed, n, number of the resample) alone. All models see the same resamples, so that differences
    between columns are paired; and a model's column does not depend on which others are present, but for rounding.

    Args:
        per_image: models x images, finite: each image's contribution to the model's mean.
        seed: of the draws.
        resamples: how many.

    Returns:
        resamples x models, float64. Working memory does not grow with `resamples`.

    Raises:
        InvalidArgument: not a matrix with at least one model and image, a value that is not finite, or no resamples.
    """
    values = contributions(per_image)
    if resamples < 1:
        raise InvalidArgument("resamples", resamples, "at least 1")
    n = values.shape[1]
    step = max(1, min(RESAMPLES, CHUNK_BYTES // n))
    means = np.empty((resamples, values.shape[0]))
    for start in range(0, resamples, step):
        part = means[start : start + step]
        weights = _weights(seed, n, start, step)[: len(part)].astype(np.float64)
        np.matmul(weights, values.T, out=part)
    means /= n
    return means


def percentile_interval(means: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrapped means.

    Args:
        means: resamples, float64.
        confidence: in (0, 1).

    Returns:
        (low, high), rounded to 12 decimals: beyond, they depend on the order in which the machine adds.

    Raises:
        InvalidArgument: no resamples, or the confidence is out of range.
    """
    if means.ndim != 1 or not means.size:
        raise InvalidArgument("means", means.shape, "at least one resample, one dimension")
    _check_confidence(confidence)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return round(float(low), 12), round(float(high), 12)


def mean_interval(
    values: NDArray[np.float64], bounds: tuple[float, float], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Interval for the mean of per-image values: the percentile bootstrap over images.

    If all values are equal, resampling them says nothing (1.0 on each of 20 images is no proof of 1.0 on all). Then it
    is Wilson's interval on the scale of `bounds`: among variables with these bounds and this mean, one that takes only
    the two bounds has the largest variance.

    Args:
        values: n, each image's contribution to the mean.
        bounds: smallest and largest value that an image can have.
        confidence: in (0, 1).
        seed: of the resamples.

    Returns:
        (low, high).

    Raises:
        InvalidArgument: no values, a value outside the bounds, or the confidence is out of range.
    """
    row = contributions(values[None])
    smallest, largest = bounds
    slack = 1e-9 * max(1.0, abs(smallest), abs(largest))
    if row.min() < smallest - slack or row.max() > largest + slack:
        raise InvalidArgument("values", (float(row.min()), float(row.max())), f"within {bounds}")
    if np.ptp(row) > slack:
        return percentile_interval(bootstrap_means(row, seed=seed)[:, 0], confidence)
    n = row.shape[1]
    share = min(max((float(row[0, 0]) - smallest) / (largest - smallest), 0.0), 1.0)
    low, high = wilson(share * n, n, confidence)
    return smallest + low * (largest - smallest), smallest + high * (largest - smallest)


def contributions(per_image: NDArray[Any]) -> NDArray[np.float64]:
    """`per_image` as float64 if it is a finite matrix models x images with at least one of each.

    Raises:
        InvalidArgument: otherwise.
    """
    if per_image.ndim != 2 or not per_image.size:
        raise InvalidArgument("per_image", per_image.shape, "models x images, at least 1 x 1")
    values = per_image.astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidArgument("per_image", "NaN or infinity", "finite values")
    return values


@functools.lru_cache(maxsize=32)
def _weights(seed: int, n: int, start: int, count: int) -> NDArray[np.uint8]:
    """How often each image is drawn in the resamples [start, start + count): count x n.

    A count above 255 has a probability below 1e-500 for any n.
    """
    drawn = to_integer(words(seed, "bootstrap", range(start, start + count), n), n)
    weights = np.empty((count, n), dtype=np.uint8)
    for row, images in enumerate(drawn):
        weights[row] = np.bincount(images, minlength=n)
    return weights


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InvalidArgument("confidence", confidence, "between 0 and 1")
