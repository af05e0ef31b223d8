"""Input-unit gradients against worked examples, closed forms, and image by image in float64 on a real network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from harness.errors import InvalidArgument, ModelError
from harness.measures import MEASURES, gradient_variation, unit_gradient_norms
from harness.measures.gradients import VariationAccumulator, chosen_units, coefficient_of_variation
from tests.harness.measures.conftest import Digits, Linear, Table, TwoMaps


def by_image(digits: Digits, layer: str, unit: int, count: int) -> Table:
    """g(u, n) in float64, image by image, from the gradient of the unit's spatial mean itself."""
    model = copy.deepcopy(digits.model).double()  # type: ignore[attr-defined]
    found = []
    for image in digits.images[:count].double():
        point = image[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.features(point)[layer][0, unit].mean(), point)
        found.append(float(np.sqrt(np.square(gradient.numpy()).sum())))
    return np.array(found)


def test_worked_example() -> None:
    """Units p = [0,2,2,4] and q = [1,1,1,1]: over samples .7071 and 0, layer .35355; over units .33333."""
    norms = np.array([[0.0, 1.0], [2.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    np.testing.assert_allclose(coefficient_of_variation(norms), [0.70711, 0.0], atol=1e-5)
    samples, units = gradient_variation(norms)
    assert samples == pytest.approx(0.35355, abs=1e-5)
    assert units == pytest.approx(0.33333, abs=1e-5)


def test_silent_units_enter_nothing() -> None:
    """A unit without a gradient changes neither number; a layer of such units has 0."""
    norms = np.array([[0.0, 1.0, 0.0], [2.0, 1.0, 0.0], [2.0, 1.0, 1e-13], [4.0, 1.0, 0.0]])
    assert gradient_variation(norms) == pytest.approx(gradient_variation(norms[:, :2]))
    assert gradient_variation(np.zeros((4, 3))) == (0.0, 0.0)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_batches_merge_to_the_whole(size: int) -> None:
    """Mean and spread over batches equal NumPy's over all rows, also far from zero."""
    norms = np.random.default_rng(0).exponential(1e-3, (40, 5)) + 10.0
    sums = VariationAccumulator(5)
    for at in range(0, 40, size):
        sums.update(norms[at : at + size])
    np.testing.assert_allclose(sums.over_samples(), norms.std(axis=0) / norms.mean(axis=0), rtol=1e-9)
    assert sums.over_units() == pytest.approx(norms.mean(axis=0).std() / norms.mean(axis=0).mean(), rel=1e-9)


def test_linear_units_have_the_norms_of_their_weights() -> None:
    """The gradient of W x is W, whatever the image: no variation over samples, that of the rows' norms over units."""
    model = Linear(classes=5)
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    rows = model.last.weight.detach().double().norm(dim=1).numpy()
    norms = unit_gradient_norms(model, images)["last"].numpy()
    np.testing.assert_allclose(norms, np.tile(rows, (6, 1)), rtol=1e-5)
    result = MEASURES.get("unit_gradients").run(model, torch.split(images, 4), np.zeros(6, dtype=np.int64))
    assert result.value("cv_samples") == pytest.approx(0.0, abs=1e-5)
    assert result.value("cv_units") == pytest.approx(rows.std() / rows.mean(), rel=1e-4)
    assert (result.images, result.backwards) == (6, 30)


def test_real_network_image_by_image(digits: Digits) -> None:
    """Units of five layers of resnet20: g equals the gradient of the spatial mean, one image at a time in float64."""
    layers = list(digits.responses(digits.images[:2]))[::4]
    norms = unit_gradient_norms(digits.model, digits.images[:5], units=2, seed=3)
    for layer in layers:
        count = digits.responses(digits.images[:2])[layer].shape[1]
        chosen = chosen_units(layer, count, 2, 3)
        expected = np.stack([by_image(digits, layer, int(unit), 5) for unit in chosen], axis=1)
        np.testing.assert_allclose(norms[layer].numpy(), expected, rtol=2e-3)


def test_measure_on_a_real_network_against_numpy(digits: Digits) -> None:
    """The streamed coefficients of variation of every layer equal NumPy's on all norms at once."""
    images, labels = digits.images[:8], digits.labels[:8]
    norms = unit_gradient_norms(digits.model, images, units=2)
    result = MEASURES.get("unit_gradients").run(digits.model, torch.split(images, 3), labels, options={"units": 2})
    assert list(norms) == [entry.layer for entry in result.entries if entry.quantity == "cv_units"][1:]
    for layer, values in norms.items():
        table = values.double().numpy()
        own = table.std(axis=0) / table.mean(axis=0)
        units = result.entry("cv_samples", layer).units
        assert units is not None
        np.testing.assert_allclose(units, own, rtol=1e-3, atol=1e-5)
        assert result.value("cv_samples", layer) == pytest.approx(own.mean(), rel=1e-3)
        means = table.mean(axis=0)
        assert result.value("cv_units", layer) == pytest.approx(means.std() / means.mean(), rel=1e-3)
    layers = [result.value("cv_samples", layer) for layer in norms]
    assert result.value("cv_samples") == pytest.approx(np.mean(layers))
    assert result.backwards == 8 * 2 * 19


def test_dead_maps_are_counted_and_keep_their_place() -> None:
    """The dead map is silent: NaN in the array, out of the mean."""
    images = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    result = MEASURES.get("unit_gradients").run(TwoMaps().eval(), [images], np.zeros(9, dtype=np.int64))
    units = result.entry("cv_samples", "maps").units
    assert units is not None
    assert np.isnan(units).tolist() == [False] * 5 + [True]
    assert result.value("silent_units") == 1.0
    assert result.value("cv_samples", "maps") == pytest.approx(np.nanmean(units), rel=1e-6)


def test_drawn_units() -> None:
    """Some units in order, the same for the same seed, others for another layer; all where enough are asked for."""
    drawn = chosen_units("layer", 64, 8, 0)
    assert len(set(drawn.tolist())) == 8
    assert (np.diff(drawn) > 0).all()
    assert (chosen_units("layer", 64, 8, 0) == drawn).all()
    assert (chosen_units("other", 64, 8, 0) != drawn).any()
    assert chosen_units("layer", 8, 8, 0).tolist() == chosen_units("layer", 8, 0, 0).tolist() == list(range(8))


def test_what_is_refused() -> None:
    """A model without layers, and one whose layers carry no gradient."""
    images = torch.rand(2, 3, 4, 4)
    run = MEASURES.get("unit_gradients").run
    with pytest.raises(InvalidArgument, match="model: got 'Identity'"):
        run(torch.nn.Identity(), [images], np.arange(2))  # type: ignore[arg-type]

    class Detached(Linear):
        def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"last": self(images).detach()}

    with pytest.raises(ModelError, match="carry no gradient"):
        run(Detached(), [images], np.arange(2))

    class Elsewhere(Linear):
        def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"last": self.last.weight[None].expand(len(images), -1, -1)}

    with pytest.raises(ModelError, match="no gradient with respect to the images"):
        run(Elsewhere(), [images], np.arange(2))
