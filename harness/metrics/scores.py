"""Scores by name, of which a board's columns are made: means of per-image contributions, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidArgument
from harness.metrics.accuracy import (
    accuracy,
    mean_accuracy,
    per_image_means,
    severity_curves,
    union_verdicts,
    verdict_matrix,
    verdict_row,
)
from harness.metrics.corruption_error import (
    baseline_error,
    baseline_loss,
    mean_corruption_error,
    relative_mean_corruption_error,
)
from harness.metrics.intervals import mean_interval, wilson
from harness.registry import Registry

if TYPE_CHECKING:
    from harness.types import Bits

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """What a score is computed from: verdicts of one model on one shared range of images.

    Raises:
        InvalidArgument: an empty or misshapen matrix, or parts that do not fit together.
    """

    verdicts: NDArray[np.bool_]
    """Evaluations x images, bool: the same images in the same order in every row."""
    cells: tuple[tuple[str, int], ...] = ()
    """(corruption, severity) of each row; for mce and relative_mce."""
    clean: Bits | None = None
    """Verdicts on the same images without perturbation; for relative_mce."""
    baseline: Mapping[str, float] | None = None
    """Corruption -> the baseline's error, mean over severities, a fraction; for mce and relative_mce."""
    baseline_clean: float | None = None
    """The baseline's clean error, a fraction; for relative_mce."""

    def __post_init__(self) -> None:
        rows, images = verdict_matrix(self.verdicts).shape
        if self.cells and (len(self.cells) != rows or len(set(self.cells)) != rows):
            raise InvalidArgument("cells", self.cells, f"a different corruption and severity for each of {rows} rows")
        if self.clean is not None and len(verdict_row(self.clean)) != images:
            raise InvalidArgument("clean", f"{len(self.clean)} images", f"{images}, as in verdicts")

    def errors(self) -> dict[str, tuple[float, ...]]:
        """Corruption -> errors at the severities 1 to 5.

        Raises:
            InvalidArgument: the cells are not named, or one is missing.
        """
        if not self.cells:
            raise InvalidArgument("cells", self.cells, "the corruption and severity of each row")
        return severity_curves({cell: accuracy(~row) for cell, row in zip(self.cells, self.verdicts, strict=True)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreValue:
    """A score with its 95 % interval and the number of images that it rests on."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One way to make a number of outcomes.

    Attributes:
        name: as columns declare it.
        version: changes whenever a value or interval can change; stored beside each score.
        kind: "fraction" in [0, 1], or "number".
        higher_is_better: the usual direction; a column may not say otherwise without a reason.
        value: outcomes -> the score.
        per_image: outcomes -> n contributions whose mean is the score; ranks compare models by them.
        bounds: outcomes -> smallest and largest contribution that an image can make.
        verdict: True if contributions are single verdicts (0 or 1): Wilson's interval; else a bootstrap over images.
    """

    name: str
    version: int
    kind: Literal["fraction", "number"]
    higher_is_better: bool
    value: Callable[[Outcomes], float]
    per_image: Callable[[Outcomes], Values]
    bounds: Callable[[Outcomes], tuple[float, float]]
    verdict: bool = False

    def compute(self, outcomes: Outcomes) -> ScoreValue:
        """Value and 95 % interval. Deterministic: the same outcomes give the same numbers.

        Raises:
            InvalidArgument: the outcomes do not fit this score.
        """
        value = self.value(outcomes)
        n = outcomes.verdicts.shape[1]
        low, high = wilson(round(value * n), n) if self.verdict else self._resampled(outcomes)
        return ScoreValue(value=value, low=low, high=high, n=n)

    def _resampled(self, outcomes: Outcomes) -> tuple[float, float]:
        return mean_interval(self.per_image(outcomes), self.bounds(outcomes))


def per_image(name: str, verdicts: NDArray[np.bool_]) -> Values:
    """Contributions of each image to score `name`, for scores that need nothing but verdicts.

    Args:
        name: of a score.
        verdicts: evaluations x images, bool.

    Returns:
        n, float64.

    Raises:
        UnknownName: no such score.
        InvalidArgument: the verdicts do not fit the score, or it needs more than verdicts.
    """
    return SCORES.get(name).per_image(Outcomes(verdicts=verdicts))


def _single_row(outcomes: Outcomes) -> Bits:
    if len(outcomes.verdicts) != 1:
        raise InvalidArgument("verdicts", f"{len(outcomes.verdicts)} evaluations", "one, for the score accuracy")
    row: Bits = outcomes.verdicts[0]
    return row


def _unit(_: Outcomes) -> tuple[float, float]:
    return 0.0, 1.0


def _baseline(outcomes: Outcomes) -> Mapping[str, float]:
    if outcomes.baseline is None:
        raise InvalidArgument("baseline", None, "the baseline model's error on each corruption")
    return outcomes.baseline


def _clean_parts(outcomes: Outcomes) -> tuple[Bits, float]:
    if outcomes.clean is None:
        raise InvalidArgument("clean", None, "verdicts on clean images, for the score relative_mce")
    if outcomes.baseline_clean is None:
        raise InvalidArgument("baseline_clean", None, "the baseline model's clean error, for the score relative_mce")
    return outcomes.clean, outcomes.baseline_clean


def _mce(outcomes: Outcomes) -> float:
    return mean_corruption_error(outcomes.errors(), _baseline(outcomes))


def _mce_weights(outcomes: Outcomes) -> Values:
    """Rows' weights: mCE = sum over rows of weight x error, since mCE is linear in the model's errors."""
    baseline = _baseline(outcomes)
    rows = len(outcomes.errors()) * 5
    return np.array([100 / (rows * baseline_error(name, baseline)) for name, _ in outcomes.cells])


def _mce_per_image(outcomes: Outcomes) -> Values:
    contribution: Values = _mce_weights(outcomes) @ ~outcomes.verdicts
    return contribution


def _mce_bounds(outcomes: Outcomes) -> tuple[float, float]:
    return 0.0, float(_mce_weights(outcomes).sum())


def _relative_mce(outcomes: Outcomes) -> float:
    clean, baseline_clean = _clean_parts(outcomes)
    return relative_mean_corruption_error(outcomes.errors(), accuracy(~clean), _baseline(outcomes), baseline_clean)


def _relative_weights(outcomes: Outcomes) -> Values:
    """As `_mce_weights`, for relative mCE = sum over rows of weight x (error - clean error)."""
    baseline = _baseline(outcomes)
    _, baseline_clean = _clean_parts(outcomes)
    rows = len(outcomes.errors()) * 5
    return np.array([100 / (rows * baseline_loss(name, baseline, baseline_clean)) for name, _ in outcomes.cells])


def _relative_per_image(outcomes: Outcomes) -> Values:
    clean, _ = _clean_parts(outcomes)
    weights = _relative_weights(outcomes)
    contribution: Values = weights @ ~outcomes.verdicts - weights.sum() * ~clean
    return contribution


def _relative_bounds(outcomes: Outcomes) -> tuple[float, float]:
    total = float(_relative_weights(outcomes).sum())
    return -total, total


SCORES: Registry[Score] = Registry("score")
for _score in (
    Score(
        name="accuracy",
        version=1,
        kind="fraction",
        higher_is_better=True,
        value=lambda outcomes: accuracy(_single_row(outcomes)),
        per_image=lambda outcomes: _single_row(outcomes).astype(np.float64),
        bounds=_unit,
        verdict=True,
    ),
    Score(
        name="union_accuracy",
        version=1,
        kind="fraction",
        higher_is_better=True,
        value=lambda outcomes: accuracy(union_verdicts(outcomes.verdicts)),
        per_image=lambda outcomes: union_verdicts(outcomes.verdicts).astype(np.float64),
        bounds=_unit,
        verdict=True,
    ),
    Score(
        name="mean_accuracy",
        version=1,
        kind="fraction",
        higher_is_better=True,
        value=lambda outcomes: mean_accuracy(outcomes.verdicts),
        per_image=lambda outcomes: per_image_means(outcomes.verdicts),
        bounds=_unit,
    ),
    Score(
        name="mean_error",
        version=1,
        kind="fraction",
        higher_is_better=False,
        value=lambda outcomes: mean_accuracy(~outcomes.verdicts),
        per_image=lambda outcomes: per_image_means(~outcomes.verdicts),
        bounds=_unit,
    ),
    Score(
        name="mce",
        version=1,
        kind="number",
        higher_is_better=False,
        value=_mce,
        per_image=_mce_per_image,
        bounds=_mce_bounds,
    ),
    Score(
        name="relative_mce",
        version=1,
        kind="number",
        higher_is_better=False,
        value=_relative_mce,
        per_image=_relative_per_image,
        bounds=_relative_bounds,
    ),
):
    SCORES.add(_score.name, _score)
