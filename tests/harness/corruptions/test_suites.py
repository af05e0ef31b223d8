"""The registry of suites against the published list of corruptions."""

from __future__ import annotations

import pytest

from harness.corruptions import SUITES, parameters, reference
from harness.corruptions.suites import ENGINE_VERSIONS
from harness.errors import InvalidArgument, UnknownName


def test_names_are_those_of_the_package_in_its_order() -> None:
    """The 15 and the 4 are the package's `common` and `validation` subsets, in order, and its families."""
    reference.load()
    import imagecorruptions

    suite = SUITES.get("imagecorruptions")
    assert list(suite.benchmark) == imagecorruptions.get_corruption_names("common")
    assert list(suite.extra) == imagecorruptions.get_corruption_names("validation")
    for family, names in suite.families.items():
        assert list(names) == imagecorruptions.get_corruption_names(family)


def test_versions_are_per_corruption_and_refuse_strangers() -> None:
    """A version for each name; an unknown one is an error."""
    suite = SUITES.get("imagecorruptions-reference")
    assert {suite.version(name) for name in suite.names} == {"imagecorruptions-1.1.2/1"}
    for name in suite.names:
        assert SUITES.get("cifar-10-c").version(name) == f"engine-{ENGINE_VERSIONS[name]}"
    with pytest.raises(UnknownName, match="corruption"):
        suite.version("rain")


def test_tables_are_complete_and_of_the_declared_width() -> None:
    """Each published table has five rows for each of the 19, with one number for each declared field."""
    for table in (parameters.CIFAR_10_C, parameters.TINY_IMAGENET_C, parameters.IMAGENET_C):
        assert set(table) == set(parameters.FIELDS)
        for name, rows in table.items():
            assert [len(row) for row in rows] == [len(parameters.FIELDS[name])] * 5


def test_any_size_is_a_suite_of_its_own_name() -> None:
    """`NAME@any` keeps the parameters, drops the size and the baseline; other suffixes are unknown."""
    plain, free = SUITES.get("imagenet-c"), SUITES.get("imagenet-c@any")
    assert (free.name, free.image_size, free.parameters) == ("imagenet-c@any", None, plain.parameters)
    assert "imagenet-c@any" in SUITES
    assert "imagenet-c@96" not in SUITES
    with pytest.raises(UnknownName, match="suite"):
        SUITES.get("imagenet-c@96")


ROBUSTBENCH_ALEXNET = (
    0.8816, 0.8883, 0.9172, 0.8220, 0.8308, 0.7872, 0.7957, 0.8680, 0.8315, 0.8236, 0.5585, 0.8543, 0.6480, 0.7186,
    0.6068,
)  # fmt: skip
"""RobustBench's own AlexNet on its 5,000 images (unaggregated_results.csv), in published order of the corruptions."""


def test_baselines_agree_with_another_evaluation_of_alexnet() -> None:
    """Each official error lies within 0.011 (some 1.6 standard errors of 5,000 images) of RobustBench's."""
    errors, clean = SUITES.get("imagenet-c").require_baselines()
    assert tuple(errors) == SUITES.get("imagenet-c").benchmark
    assert list(errors.values()) == pytest.approx(ROBUSTBENCH_ALEXNET, abs=0.011)
    assert clean == pytest.approx(0.4376, abs=0.011)


def test_a_missing_baseline_is_an_error_before_any_work() -> None:
    """Suites without baseline errors refuse mCE by name."""
    for name in ("cifar-10-c", "imagecorruptions", "imagenet-c@any"):
        with pytest.raises(InvalidArgument, match="baseline"):
            SUITES.get(name).require_baselines()
