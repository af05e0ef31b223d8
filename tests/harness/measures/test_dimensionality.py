"""Dimensionality against worked examples, its invariances, and scikit-learn on a real network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from harness.errors import InvalidArgument, ModelError
from harness.measures import MEASURES
from harness.measures.dimensionality import (
    CovarianceAccumulator,
    components,
    fractions,
    participation_ratio,
    spectrum_of,
)
from tests.harness.measures.conftest import Digits, TwoMaps

VARIANCES = (70.0, 22.0, 5.0, 3.0)


def worked() -> torch.Tensor:
    """Eight rows +-sqrt(v_i) e_i: four orthogonal directions that hold 70, 22, 5 and 3 % of the variance."""
    axes = torch.diag(torch.tensor(VARIANCES, dtype=torch.float64).sqrt())
    return torch.cat([axes, -axes])


def spectrum(rows: torch.Tensor, *, parts: int = 1, power: float | None = None) -> NDArray[np.float64]:
    """Spectrum of rows that come in some batches."""
    sums = CovarianceAccumulator(rows.shape[1])
    for part in torch.chunk(rows, parts):
        sums.update(part)
    return spectrum_of(sums, power)


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_worked_example(parts: int) -> None:
    """2, 3 and 4 of 4 components for 90, 95 and 99 %; participation ratio 1.8457; however the rows are cut."""
    found = spectrum(worked(), parts=parts)
    np.testing.assert_allclose(found / found.sum(), np.array(VARIANCES) / 100, atol=1e-12)
    assert [components(found, share) for share in (0.90, 0.95, 0.99)] == [2, 3, 4]
    assert fractions(found) == {90: 0.5, 95: 0.75, 99: 1.0}
    assert participation_ratio(found) == pytest.approx(1.8457, abs=5e-5)


def test_centred_and_not_scaled() -> None:
    """Adding 100 everywhere or turning the axes changes nothing; scaling the columns to equal variance would."""
    plain = fractions(spectrum(worked()))
    assert fractions(spectrum(worked() + 100.0)) == plain
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    assert fractions(spectrum(worked() @ torch.from_numpy(turn))) == plain
    assert fractions(spectrum(worked() / worked().std(0))) == {90: 1.0, 95: 1.0, 99: 1.0} != plain


def test_exactly_reached_thresholds_count() -> None:
    """Shares .9 and .1: one component reaches 90 %, whatever the rounding of the sum."""
    assert components(np.array([9.0, 1.0]), 0.9) == 1
    assert components(np.array([0.7, 0.2, 0.1]), 0.9) == 2


def test_no_variance_has_no_dimension() -> None:
    """Constant columns have exactly none; a difference that is a constant has none up to float32 rounding."""
    assert spectrum(torch.full((9, 3), 0.1, dtype=torch.float64)).tolist() == [0.0, 0.0, 0.0]
    assert fractions(np.zeros(3)) == {90: 0.0, 95: 0.0, 99: 0.0}
    assert participation_ratio(np.zeros(3)) == 0.0
    clean = torch.rand(50, 8, generator=torch.Generator().manual_seed(0))
    moved = (clean + 0.3).double() - clean.double()
    assert float(moved.std(0).max()) > 0.0, "float32 rounding, or the test shows nothing"
    assert not spectrum(moved, power=float(clean.double().square().mean(0).sum())).any()


def test_one_direction_is_one_component() -> None:
    """A change z w^T, one scalar an image, needs one component."""
    draws = torch.Generator().manual_seed(1)
    z, w = (torch.randn(n, generator=draws, dtype=torch.float64) for n in (30, 5))
    assert fractions(spectrum(torch.outer(z, w)))[99] == 1 / 5


def test_power_is_the_mean_square() -> None:
    """The reference that rounding is compared with: mean square over rows, summed over columns."""
    rows = torch.randn(21, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 3
    sums = CovarianceAccumulator(4)
    for part in torch.split(rows, 5):
        sums.update(part)
    assert sums.power() == pytest.approx(float(rows.square().mean(0).sum()), rel=1e-12)


def test_real_network_against_scikit_learn(digits: Digits) -> None:
    """Every layer of resnet20: the same components as scikit-learn's PCA, and variances as NumPy has them."""
    result = MEASURES.get("dimensionality").run(digits.model, torch.split(digits.images, 40), digits.labels)
    responses = digits.responses()
    assert len(responses) == 19
    assert sum(table.shape[1] for table in responses.values()) == 688
    for layer, table in responses.items():
        shares = PCA().fit(table).explained_variance_ratio_
        for percent in (90, 95, 99):
            expected = (np.searchsorted(np.cumsum(shares), percent / 100) + 1) / table.shape[1]
            assert result.value(f"fraction_{percent}", layer) == expected, (layer, percent)
        own = result.entry("variance", layer).units
        assert own is not None
        np.testing.assert_allclose(own, table.var(axis=0), rtol=1e-4, atol=1e-12)
    layers = [result.value("fraction_95", layer) for layer in responses]
    assert result.value("fraction_95") == pytest.approx(np.mean(layers))
    assert result.value("few_images") == 0.0


def test_dead_columns_and_few_images_are_told() -> None:
    """The dead map is one dead column; with four images for six units the images bound the fraction."""
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    result = MEASURES.get("dimensionality").run(TwoMaps().eval(), [images], np.arange(4))
    assert result.value("dead_columns", "maps") == 1.0
    assert result.value("few_images") == 1.0
    assert result.value("fraction_99", "maps") <= 3 / 6


def test_what_is_refused() -> None:
    """A model without layers, activations that are not finite, and batches that differ from the labels."""
    images = torch.rand(4, 3, 8, 8)
    run = MEASURES.get("dimensionality").run
    with pytest.raises(InvalidArgument, match="model: got 'Identity'"):
        run(torch.nn.Identity(), [images], np.arange(4))  # type: ignore[arg-type]
    broken = TwoMaps().eval()
    with torch.no_grad():
        broken.conv.weight[0] = float("nan")
    with pytest.raises(ModelError, match=r"layer 'maps': .*not finite"):
        run(broken, [images], np.arange(4))
    with pytest.raises(InvalidArgument, match="batches: got '4 images'"):
        run(TwoMaps().eval(), [images], np.arange(5))
