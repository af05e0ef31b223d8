"""Golden digests: what the engine makes today is what it made yesterday, unless a version says otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.harness.corruptions import golden

GOLDEN = json.loads(golden.FILE.read_text(encoding="ascii"))


def test_every_set_and_corruption_is_covered() -> None:
    """The file holds the four sets with all corruptions."""
    assert tuple(GOLDEN["sets"]) == golden.SETS
    assert all(len(cells) == 19 for cells in GOLDEN["sets"].values())


@pytest.mark.parametrize("suite", golden.SETS)
def test_digests_change_only_with_versions(suite: str) -> None:
    """Same environment: same bytes. Elsewhere: the same mean grey level of each image to 0.05."""
    now = golden.cells(suite)
    same_place = GOLDEN["environment"] == golden.environment()
    for name, then in GOLDEN["sets"][suite].items():
        assert now[name]["version"] == then["version"], f"{name}: new version, write the digests anew"
        if same_place:
            assert now[name]["digests"] == then["digests"], f"{name} changed: raise ENGINE_VERSIONS[{name!r}]"
        gap = np.abs(np.array(now[name]["sums"]) - np.array(then["sums"])) / (32 * 32 * 3)
        assert gap.max() <= 0.05, f"{name} changed: raise ENGINE_VERSIONS[{name!r}]"
