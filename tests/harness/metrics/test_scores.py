"""Scores by name: values against the plain formulas, intervals, versions and errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from harness.errors import InvalidArgument, UnknownName
from harness.metrics.accuracy import SEVERITIES, per_image_means
from harness.metrics.corruption_error import mean_corruption_error, relative_mean_corruption_error
from harness.metrics.intervals import bootstrap_means, percentile_interval, wilson
from harness.metrics.scores import SCORES, Outcomes, per_image

BASELINE = {"snow": 0.8, "fog": 0.6, "frost": 0.7}
CELLS = tuple((name, severity) for name in BASELINE for severity in SEVERITIES)


def outcomes(seed: int, n: int = 40) -> Outcomes:
    """Random verdicts of one model, clean ones better, with all that any score needs."""
    generator = np.random.default_rng(seed)
    skill = generator.random(n)
    return Outcomes(
        verdicts=generator.random((15, n)) < skill,
        cells=CELLS,
        clean=generator.random(n) < np.sqrt(skill),
        baseline=BASELINE,
        baseline_clean=0.4,
    )


def test_the_scores_there_are() -> None:
    """Names, versions, kinds and directions are part of the contract with benchmark files and the store."""
    table = {name: (s.version, s.kind, s.higher_is_better) for name in SCORES for s in [SCORES.get(name)]}
    assert table == {
        "accuracy": (1, "fraction", True),
        "union_accuracy": (1, "fraction", True),
        "mean_accuracy": (1, "fraction", True),
        "mean_error": (1, "fraction", False),
        "mce": (1, "number", False),
        "relative_mce": (1, "number", False),
    }
    assert all(SCORES.get(name).name == name for name in SCORES)


def test_golden_values() -> None:
    """A fixed example: a change of any value or interval needs a new version of that score."""
    verdicts = (np.arange(15 * 40).reshape(15, 40) * 7919 % 1009 < 600).astype(np.bool_)
    full = Outcomes(
        verdicts=verdicts, cells=CELLS, clean=np.asarray(verdicts.any(axis=0)), baseline=BASELINE, baseline_clean=0.4
    )
    single = Outcomes(verdicts=verdicts[:1])
    golden = {name: SCORES.get(name).compute(single if name == "accuracy" else full) for name in SCORES}
    rounded = {name: tuple(round(v, 9) for v in (s.value, s.low, s.high)) for name, s in golden.items()}
    assert rounded == GOLDEN
    assert {s.n for s in golden.values()} == {40}


GOLDEN: dict[str, tuple[float, ...]] = {
    "accuracy": (0.6, 0.445958937, 0.736516743),
    "mce": (59.146825397, 57.271577381, 61.081597222),
    "mean_accuracy": (0.591666667, 0.583333333, 0.6),
    "mean_error": (0.408333333, 0.4, 0.416666667),
    "relative_mce": (147.5, 138.472222222, 156.666666667),
    "union_accuracy": (0.0, 0.0, 0.087621601),
}


def test_single_verdicts_get_wilson() -> None:
    """`accuracy` and `union_accuracy`: SciPy's interval of the right count."""
    verdicts = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 0, 1]], dtype=np.bool_)
    union = SCORES.get("union_accuracy").compute(Outcomes(verdicts=verdicts))
    expected = binomtest(3, 5).proportion_ci(method="wilson")
    assert (union.value, union.n) == (3 / 5, 5)
    assert (union.low, union.high) == pytest.approx((expected.low, expected.high))
    single = SCORES.get("accuracy").compute(Outcomes(verdicts=verdicts[:1]))
    assert (single.value, single.low, single.high) == (4 / 5, *wilson(4, 5))


def test_means_get_the_bootstrap_over_images() -> None:
    """`mean_accuracy`: the percentile interval of resampled images; `mean_error` is its mirror."""
    given_ = outcomes(0)
    score = SCORES.get("mean_accuracy").compute(given_)
    means = bootstrap_means(per_image_means(given_.verdicts)[None])[:, 0]
    assert (score.low, score.high) == percentile_interval(means)
    assert score.value == given_.verdicts.mean()
    error = SCORES.get("mean_error").compute(given_)
    assert (error.value, error.low, error.high) == pytest.approx((1 - score.value, 1 - score.high, 1 - score.low))


def test_mce_equals_the_plain_formulas() -> None:
    """By name, from accuracies per cell, independent of the order of rows."""
    given_ = outcomes(1)
    assert given_.clean is not None
    errors = {name: tuple(1 - given_.verdicts[CELLS.index((name, s))].mean() for s in SEVERITIES) for name in BASELINE}
    mce = SCORES.get("mce").compute(given_)
    assert mce.value == pytest.approx(mean_corruption_error(errors, BASELINE))
    relative = SCORES.get("relative_mce").compute(given_)
    clean_error = float(1 - given_.clean.mean())
    assert relative.value == pytest.approx(relative_mean_corruption_error(errors, clean_error, BASELINE, 0.4))
    order = np.random.default_rng(2).permutation(15)
    shuffled = Outcomes(
        verdicts=given_.verdicts[order],
        cells=tuple(CELLS[row] for row in order),
        clean=given_.clean,
        baseline=BASELINE,
        baseline_clean=0.4,
    )
    for name, value in (("mce", mce), ("relative_mce", relative)):
        again = SCORES.get(name).compute(shuffled)
        assert (again.value, again.low, again.high) == pytest.approx((value.value, value.low, value.high))


@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.sampled_from(sorted(set(SCORES) - {"accuracy"})))
def test_every_score_is_the_mean_of_its_contributions(seed: int, n: int, name: str) -> None:
    """Ranks and intervals rest on contributions: their mean is the score, and they keep to the bounds."""
    score = SCORES.get(name)
    given_ = outcomes(seed, n)
    contributions = score.per_image(given_)
    low, high = score.bounds(given_)
    value = score.compute(given_)
    assert contributions.shape == (n,)
    assert contributions.mean() == pytest.approx(value.value, abs=1e-9)
    assert contributions.min() >= low - 1e-9
    assert contributions.max() <= high + 1e-9
    assert low - 1e-9 <= value.low <= value.high <= high + 1e-9
    assert value.n == n


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"accuracy"}))
def test_bounds_are_reached(name: str) -> None:
    """The best and the worst possible image give the two bounds, and no image is beyond."""
    ends = []
    for right in (True, False):
        extreme = Outcomes(
            verdicts=np.full((15, 1), right),
            cells=CELLS,
            clean=np.array([not right]),
            baseline=BASELINE,
            baseline_clean=0.4,
        )
        ends.append(float(SCORES.get(name).per_image(extreme)[0]))
    assert sorted(ends) == pytest.approx(SCORES.get(name).bounds(extreme))


def test_all_right_is_no_certainty() -> None:
    """A perfect mean over 30 images leaves room below, and a perfect mCE room above."""
    perfect = Outcomes(verdicts=np.ones((15, 30), dtype=np.bool_), cells=CELLS, baseline=BASELINE)
    assert SCORES.get("mean_accuracy").compute(perfect).low == wilson(30, 30)[0]
    mce = SCORES.get("mce").compute(perfect)
    assert mce.value == mce.low == 0
    assert mce.high == pytest.approx(wilson(0, 30)[1] * SCORES.get("mce").bounds(perfect)[1])


def test_per_image_by_name() -> None:
    """The short form for scores of verdicts alone; unknown names get a did-you-mean."""
    verdicts = outcomes(3).verdicts
    assert np.array_equal(per_image("mean_accuracy", verdicts), per_image_means(verdicts))
    with pytest.raises(UnknownName, match="did you mean 'mean_accuracy'"):
        per_image("mean_acuracy", verdicts)
    with pytest.raises(InvalidArgument, match="baseline"):
        per_image("mce", verdicts)


def test_parts_that_do_not_fit() -> None:
    """Missing and mismatched parts are named."""
    ones = np.ones((15, 4), dtype=np.bool_)
    with pytest.raises(InvalidArgument, match="15 evaluations"):
        SCORES.get("accuracy").compute(Outcomes(verdicts=ones))
    with pytest.raises(InvalidArgument, match="cells"):
        Outcomes(verdicts=ones, cells=CELLS[:-1])
    with pytest.raises(InvalidArgument, match="cells"):
        Outcomes(verdicts=ones, cells=(*CELLS[:-1], CELLS[0]))
    with pytest.raises(InvalidArgument, match="clean: got '5 images'"):
        Outcomes(verdicts=ones, clean=np.ones(5, dtype=np.bool_))
    with pytest.raises(InvalidArgument, match="verdicts"):
        Outcomes(verdicts=ones[:, :0])
    with pytest.raises(InvalidArgument, match="cells"):
        SCORES.get("mce").compute(Outcomes(verdicts=ones, baseline=BASELINE))
    with pytest.raises(InvalidArgument, match="'frost', 5"):
        SCORES.get("mce").compute(Outcomes(verdicts=ones[:14], cells=CELLS[:14], baseline=BASELINE))
    with pytest.raises(InvalidArgument, match=r"baseline\['frost'\]"):
        SCORES.get("mce").compute(Outcomes(verdicts=ones, cells=CELLS, baseline={"snow": 0.5, "fog": 0.5}))
    with pytest.raises(InvalidArgument, match="clean"):
        SCORES.get("relative_mce").compute(Outcomes(verdicts=ones, cells=CELLS, baseline=BASELINE))
    clean = np.ones(4, dtype=np.bool_)
    with pytest.raises(InvalidArgument, match="baseline_clean"):
        SCORES.get("relative_mce").compute(Outcomes(verdicts=ones, cells=CELLS, baseline=BASELINE, clean=clean))
