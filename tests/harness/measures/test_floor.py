"""The label-shuffled floor against its closed form, a plain computation, and networks where the truth is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.errors import InvalidArgument, ModelError
from harness.measures import MEASURES, floor
from harness.measures.floor import permutations
from tests.harness.measures.conftest import Digits, TwoMaps
from tests.harness.measures.test_selectivity import by_loops


class Reads(torch.nn.Module):
    """A layer whose units are given pixels of the image."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """One layer of `units` features."""
        return {"pixels": images.flatten(1)[:, : self.units]}


def images_of(responses: NDArray[np.float64]) -> torch.Tensor:
    """Images whose first pixels are `responses`, n x units."""
    side = 4
    flat = np.zeros((len(responses), 3 * side * side), dtype=np.float32)
    flat[:, : responses.shape[1]] = responses
    return torch.from_numpy(flat.reshape(-1, 3, side, side))


@pytest.mark.parametrize(("spread", "count"), [(1.0, 320), (0.5, 1280), (1.0, 10_240)])
def test_floor_of_units_that_know_nothing(spread: float, count: int) -> None:
    """Responses of coefficient of variation s, n images a class: SI0 = (M + M / 9) / (2 + M - M / 9).

    M = E_10 s / sqrt(n); E_10 = 1.5388 is the expected maximum of ten standard normal numbers, the others' mean -M / 9.
    Each response is 1 - s or 1 + s: never negative, and symmetric, so that class means are soon normal.
    """
    draws = 1.0 + spread * np.random.default_rng(0).choice([-1.0, 1.0], (count, 40))
    labels = np.arange(count) % 10
    result = MEASURES.get("selectivity_floor").run(
        Reads(40),
        [images_of(draws)],
        labels,
        options={"shuffles": 10},
    )
    top = 1.5388 * spread / np.sqrt(count / 10)
    expected = (top + top / 9) / (2 + top - top / 9)
    assert result.value("floor") == pytest.approx(expected, rel=0.04)
    assert result.value("above_floor") == pytest.approx(0.0, abs=0.15 * expected)


def test_selective_units_stand_above_their_floor() -> None:
    """Units that respond to one class only: index 1, floor far below."""
    labels = np.arange(400) % 4
    responses = np.eye(4)[labels]
    result = MEASURES.get("selectivity_floor").run(Reads(4), [images_of(responses)], labels)
    assert result.value("floor") + result.value("above_floor") == pytest.approx(1.0, abs=1e-5)
    assert result.value("above_floor") > 0.8


def test_real_network_against_the_loops(digits: Digits) -> None:
    """The floor of resnet20 and what it has above equal the paper's words in NumPy under the same permutations."""
    result = MEASURES.get("selectivity_floor").run(
        digits.model, torch.split(digits.images, 40), digits.labels, options={"shuffles": 3, "seed": 5}
    )
    orders = permutations(5, range(3), len(digits.labels))
    for layer, table in list(digits.responses().items())[::6]:
        shuffled = np.mean([by_loops(table, digits.labels[order]) for order in orders], axis=0)
        units = result.entry("floor", layer).units
        above = result.entry("above_floor", layer).units
        assert units is not None
        assert above is not None
        np.testing.assert_allclose(units, shuffled, atol=2e-5)
        np.testing.assert_allclose(above, by_loops(table, digits.labels) - shuffled, atol=2e-5)
    whole = result.entry("floor")
    assert whole.units is None  # the measure's arrays hold units, and units of different layers do not mix
    plain = MEASURES.get("selectivity").run(digits.model, [digits.images], digits.labels)
    assert plain.value("selectivity_index") == pytest.approx(whole.mean + result.value("above_floor"), abs=1e-5)


def test_sums_of_a_few_shuffles_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory holds the sums of one shuffle only, the images are gone through again: equal numbers."""
    images = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = np.arange(60) % 5
    run = MEASURES.get("selectivity_floor").run
    whole = run(TwoMaps().eval(), torch.split(images, 25), labels, options={"shuffles": 4})
    monkeypatch.setattr(floor, "STATE_BYTES", 1)
    parts = run(TwoMaps().eval(), torch.split(images, 25), labels, options={"shuffles": 4})
    assert [entry.mean for entry in parts.entries] == [entry.mean for entry in whole.entries]
    assert (whole.forwards, parts.forwards) == (120, 300)
    assert whole.value("dead_units", "maps") == 1.0
    assert whole.value("dead_fraction") == pytest.approx(1 / 6)


def test_permutations_are_permutations() -> None:
    """Each a reordering, all different, the same for the same seed, and one by itself as among others."""
    drawn = permutations(3, range(50), 30)
    assert (np.sort(drawn, axis=1) == np.arange(30)).all()
    assert len({row.tobytes() for row in drawn}) == 50
    assert (permutations(3, [7], 30)[0] == drawn[7]).all()
    assert (permutations(4, [7], 30)[0] != drawn[7]).any()
    # each place gets each number about equally often: 50 rows and 30 places, mean 14.5
    assert abs(drawn.mean(axis=0) - 14.5).max() < 5 * 8.66 / np.sqrt(50)


def test_memory_is_bounded_whatever_the_shuffles_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels of all shuffles would take 6.4 MB; those held at a time and the draws behind them stay near 1 MiB."""
    monkeypatch.setattr(floor, "STATE_BYTES", 1 << 20)
    images, labels = images_of(np.ones((2000, 2))), np.arange(2000) % 10
    run = MEASURES.get("selectivity_floor").run
    run(Reads(2), [images], labels, options={"shuffles": 1})  # imports and caches
    tracemalloc.start()
    try:
        run(Reads(2), [images], labels, options={"shuffles": 400})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20


@pytest.mark.parametrize("name", ["selectivity", "selectivity_floor"])
def test_signed_activations_are_refused(name: str) -> None:
    """Both measures of the index, by the layer's name: on negative class means it is none."""
    responses = np.random.default_rng(0).random((40, 4)) - 0.5
    with pytest.raises(ModelError, match="layer 'pixels': activations are negative"):
        MEASURES.get(name).run(Reads(4), [images_of(responses)], np.arange(40) % 4)


def test_one_class_is_refused() -> None:
    """Nothing to permute."""
    with pytest.raises(InvalidArgument, match="1 class present"):
        MEASURES.get("selectivity_floor").run(Reads(2), [torch.ones(3, 3, 4, 4)], np.zeros(3, dtype=np.int64))
