"""Corruption errors: published figures, worked examples and what may go wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InvalidArgument
from harness.metrics.corruption_error import (
    corruption_errors,
    mean_corruption_error,
    relative_corruption_errors,
    relative_mean_corruption_error,
    unnormalised_error,
)

PUBLISHED: dict[str, Any] = json.loads(Path(__file__).with_name("robustbench_imagenet_c.json").read_text("utf-8"))

ERRORS = {"snow": (0.1, 0.2, 0.3, 0.4, 0.5), "fog": (0.0, 0.1, 0.1, 0.2, 0.1)}
BASELINE = {"snow": 0.6, "fog": 0.4, "unused": 0.9}


@pytest.mark.parametrize("model", PUBLISHED["models"])
def test_published_by_robustbench(model: str) -> None:
    """Per-cell accuracies on ImageNet-C give the published mean accuracy and mCE to their two decimals."""
    published = PUBLISHED["models"][model]
    errors = {name: tuple(1 - value for value in row) for name, row in published["accuracies"].items()}
    assert len(errors) == 15
    assert 100 * (1 - unnormalised_error(errors)) == pytest.approx(published["mean_accuracy"], abs=0.006)
    if published["mce"] is not None:
        # The baseline is rounded to four decimals, which moves mCE by up to 0.006.
        assert mean_corruption_error(errors, PUBLISHED["baseline"]) == pytest.approx(published["mce"], abs=0.012)


def test_worked_example() -> None:
    """By hand: means .3 and .1 against .6 and .4 are 50 % and 25 %; above clean errors .1 and .2, 40 % and 0 %."""
    assert corruption_errors(ERRORS, BASELINE) == pytest.approx({"snow": 50, "fog": 25})
    assert mean_corruption_error(ERRORS, BASELINE) == pytest.approx(37.5)
    assert relative_corruption_errors(ERRORS, 0.1, BASELINE, 0.1) == pytest.approx({"snow": 40, "fog": 0})
    assert relative_mean_corruption_error(ERRORS, 0.1, BASELINE, 0.1) == pytest.approx(20)
    assert unnormalised_error(ERRORS) == pytest.approx(0.2)


def test_ratio_of_sums_not_mean_of_ratios() -> None:
    """Errors .1 and 1 against .2 and 1 at two levels: 57 % as a ratio of sums; a mean of ratios would say 70 %."""
    errors = {"snow": (0.1, 0.1, 0.1, 0.1, 1.0)}
    assert corruption_errors(errors, {"snow": (0.2 * 4 + 1) / 5})["snow"] == pytest.approx(100 * 1.4 / 1.8)


def test_the_baseline_has_100() -> None:
    """The baseline measured against itself has 100 in both metrics, with RobustBench's AlexNet figures."""
    errors = {name: (value,) * 5 for name, value in PUBLISHED["baseline"].items()}
    assert mean_corruption_error(errors, PUBLISHED["baseline"]) == pytest.approx(100)
    assert relative_mean_corruption_error(errors, 0.4376, PUBLISHED["baseline"], 0.4376) == pytest.approx(100)


def test_missing_baseline_is_named() -> None:
    """A corruption without baseline is an error that names it, never a smaller mean."""
    with pytest.raises(InvalidArgument, match=r"baseline\['fog'\]: got None"):
        mean_corruption_error(ERRORS, {"snow": 0.6})
    with pytest.raises(InvalidArgument, match=r"baseline\['snow'\]: got 0"):
        mean_corruption_error(ERRORS, {"snow": 0, "fog": 0.1})
    with pytest.raises(InvalidArgument, match=r"baseline\['fog'\]: got 0.4, expected more than"):
        relative_mean_corruption_error(ERRORS, 0.1, BASELINE, 0.4)


@pytest.mark.parametrize("values", [(), (0.1,) * 4, (0.1,) * 6, (0.1, 0.1, 0.1, 0.1, 1.1), (float("nan"),) * 5])
def test_bad_errors_are_named(values: tuple[float, ...]) -> None:
    """Five fractions a corruption, or an error that names the corruption; percent are refused."""
    with pytest.raises(InvalidArgument, match=r"errors\['snow'\]"):
        mean_corruption_error({"snow": values}, BASELINE)


def test_no_corruptions_and_bad_clean_error() -> None:
    """The mean of nothing is an error; so is a clean error in percent."""
    with pytest.raises(InvalidArgument, match="errors"):
        unnormalised_error({})
    with pytest.raises(InvalidArgument, match="clean_error"):
        relative_mean_corruption_error(ERRORS, 24.0, BASELINE, 0.1)
    with pytest.raises(InvalidArgument, match="baseline_clean"):
        relative_mean_corruption_error(ERRORS, 0.24, BASELINE, -0.1)
