"""Corruption error, mCE and relative mCE.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
2019, section 3. E(s, c) is the model's top-1 error on corruption c at severity s, A(s, c) the baseline's (in the paper
AlexNet's); E0 and A0 are clean errors. Errors are fractions. Corruption errors are percentages of the baseline's: lower
is better, the baseline itself has 100. Each is a ratio of sums over severities, not a mean of ratios. Everything is
keyed by name: a list in another order cannot slip in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.errors import InvalidArgument

Errors = Mapping[str, Sequence[float]]
"""Corruption -> errors at the severities 1 to 5, fractions."""


def unnormalised_error(errors: Errors) -> float:
    """Mean of E(s, c) over corruptions and severities, a fraction: what is usual for CIFAR-10-C, which has no baseline.

    Raises:
        InvalidArgument: no corruptions, not five severities, or an error outside [0, 1].
    """
    return _mean([_over_severities(name, values) for name, values in _checked(errors).items()])


def corruption_errors(errors: Errors, baseline: Mapping[str, float]) -> dict[str, float]:
    """CE_c = 100 x sum_s E(s, c) / sum_s A(s, c).

    Args:
        errors: see `Errors`.
        baseline: corruption -> the baseline's error, mean over the five severities; may hold more corruptions.

    Returns:
        Corruption -> corruption error in percent of the baseline's.

    Raises:
        InvalidArgument: see `unnormalised_error`; also a corruption without a baseline, or one that is not in (0, 1].
    """
    return {
        name: 100 * _over_severities(name, values) / baseline_error(name, baseline)
        for name, values in _checked(errors).items()
    }


def mean_corruption_error(errors: Errors, baseline: Mapping[str, float]) -> float:
    """MCE: the mean of `corruption_errors` over the corruptions given, in percent.

    Raises:
        InvalidArgument: see `corruption_errors`.
    """
    return _mean(list(corruption_errors(errors, baseline).values()))


def relative_corruption_errors(
    errors: Errors, clean_error: float, baseline: Mapping[str, float], baseline_clean: float
) -> dict[str, float]:
    """Relative CE_c = 100 x sum_s (E(s, c) - E0) / sum_s (A(s, c) - A0): the loss against clean images, not the level.

    Args:
        errors: see `Errors`.
        clean_error: E0, a fraction.
        baseline: see `corruption_errors`.
        baseline_clean: A0, a fraction.

    Returns:
        Corruption -> relative corruption error in percent; may exceed 100 for accurate models, and be negative.

    Raises:
        InvalidArgument: see `corruption_errors`; also a baseline that does not lose on a corruption.
    """
    _check_fraction("clean_error", clean_error)
    return {
        name: 100 * (_over_severities(name, values) - clean_error) / baseline_loss(name, baseline, baseline_clean)
        for name, values in _checked(errors).items()
    }


def relative_mean_corruption_error(
    errors: Errors, clean_error: float, baseline: Mapping[str, float], baseline_clean: float
) -> float:
    """Relative mCE: the mean of `relative_corruption_errors` over the corruptions given, in percent.

    Raises:
        InvalidArgument: see `relative_corruption_errors`.
    """
    return _mean(list(relative_corruption_errors(errors, clean_error, baseline, baseline_clean).values()))


def baseline_error(name: str, baseline: Mapping[str, float]) -> float:
    """The baseline's error on corruption `name`.

    Raises:
        InvalidArgument: it is missing, or outside (0, 1].
    """
    value = baseline.get(name)
    if value is None or not 0 < value <= 1:
        raise InvalidArgument(f"baseline[{name!r}]", value, "the baseline model's mean error, in (0, 1]")
    return value


def baseline_loss(name: str, baseline: Mapping[str, float], baseline_clean: float) -> float:
    """The baseline's error on corruption `name` minus its clean error.

    Raises:
        InvalidArgument: an error is missing or out of range, or the difference is not above zero.
    """
    _check_fraction("baseline_clean", baseline_clean)
    loss = baseline_error(name, baseline) - baseline_clean
    if loss <= 0:
        raise InvalidArgument(
            f"baseline[{name!r}]", baseline[name], f"more than the baseline's clean error {baseline_clean}"
        )
    return loss


def _checked(errors: Errors) -> Errors:
    if not errors:
        raise InvalidArgument("errors", dict(errors), "at least one corruption")
    return errors


def _over_severities(name: str, values: Sequence[float]) -> float:
    if len(values) != 5:
        raise InvalidArgument(f"errors[{name!r}]", tuple(values), "five errors, one a severity")
    for value in values:
        _check_fraction(f"errors[{name!r}]", value)
    return _mean(values)


def _check_fraction(argument: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InvalidArgument(argument, value, "a fraction from 0 to 1")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
