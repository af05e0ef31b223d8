"""The registry of suites against the published list of corruptions."""

from __future__ import annotations

import pytest

from harness.corruptions import SUITES, reference
from harness.errors import UnknownName


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
    suite = SUITES.get("imagecorruptions")
    assert {suite.version(name) for name in suite.names} == {"imagecorruptions-1.1.2/1"}
    with pytest.raises(UnknownName, match="corruption"):
        suite.version("rain")
