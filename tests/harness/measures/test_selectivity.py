"""The class selectivity index against worked examples, closed forms and an independent NumPy computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.errors import InvalidArgument, ModelError
from harness.measures import MEASURES, network_selectivity, selectivity_index
from harness.measures.selectivity import selectivity_from_means

# Class means of five units in two layers, worked by hand: one row a unit, four classes.
LAYER_1 = [[4.0, 2.0, 1.0, 1.0], [0.0, 0.0, 3.0, 0.0]]
LAYER_2 = [[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [6.0, 2.0, 2.0, 2.0]]


def one_image_a_class(units: list[list[float]]) -> torch.Tensor:
    """Activations, 4 images x units, whose class means are `units`."""
    return torch.tensor(units).T


def by_loops(activations: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The index by the words of the paper, unit by unit, in NumPy."""
    result = []
    for unit in range(activations.shape[1]):
        responses = activations[:, unit].reshape(len(labels), -1).mean(axis=1)
        means = sorted(responses[labels == label].mean() for label in set(labels.tolist()))
        rest = sum(means[:-1]) / (len(means) - 1)
        result.append((means[-1] - rest) / (means[-1] + rest + 1e-6))
    return np.array(result)


class SmallNet(torch.nn.Module):
    """Two convolutions with named features: a model to measure."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 6, 3)
        self.second = torch.nn.Conv2d(6, 4, 3)

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Two layers; the last unit of the first is dead by design, another by its weights."""
        first = F.relu(self.first(images)) * torch.tensor([1.0] * 5 + [0.0]).view(1, 6, 1, 1)
        return {"first": first, "second": F.relu(self.second(first))}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x 4."""
        return self.features(images)["second"].mean((2, 3))


@pytest.fixture
def photos() -> tuple[torch.Tensor, NDArray[np.int64]]:
    """60 random images and labels of 5 classes, class 2 absent."""
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, 3, 4], 60).astype(np.int64)
    return torch.from_numpy(generator.random((60, 3, 8, 8), dtype=np.float32)), labels


def test_units_of_the_worked_example() -> None:
    """[4,2,1,1] has 0.5, [0,0,3,0] has 0.9999997, [6,2,2,2] has 0.5, equal means have 0."""
    labels = torch.arange(4)
    first = selectivity_index(one_image_a_class(LAYER_1).double(), labels)
    torch.testing.assert_close(first, torch.tensor([0.5, 0.9999997], dtype=torch.float64), atol=1e-7, rtol=0)
    second = selectivity_index(one_image_a_class(LAYER_2), labels)
    torch.testing.assert_close(second, torch.tensor([0.0, 0.0, 0.5]), atol=1e-6, rtol=0)


def test_network_averages_units_then_layers() -> None:
    """The worked network has 0.458333; pooling its five units would give 0.400."""
    features = {"a": one_image_a_class(LAYER_1), "b": one_image_a_class(LAYER_2)}
    assert float(network_selectivity(features, torch.arange(4))) == pytest.approx(0.458333, abs=1e-6)


def test_gradient_of_the_worked_example() -> None:
    """dSI/dmu of [4,2,1,1] is [+0.09375, -0.09375 x 3], and its product with mu is 0: the index has no scale."""
    activations = one_image_a_class(LAYER_1[:1]).double().requires_grad_(True)
    torch.autograd.backward(selectivity_index(activations, torch.arange(4)).sum())
    gradient = activations.grad
    assert gradient is not None
    expected = torch.tensor([[0.09375], [-0.09375], [-0.09375], [-0.09375]], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)
    assert float((gradient * activations.detach()).sum()) == pytest.approx(0.0, abs=1e-6)


def test_gradient_against_finite_differences() -> None:
    """Autograd agrees with central differences on maps with unequal class counts."""
    generator = torch.Generator().manual_seed(1)
    activations = torch.rand(7, 3, 2, 2, generator=generator, dtype=torch.float64).requires_grad_(True)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    assert torch.autograd.gradcheck(lambda a: selectivity_index(a, labels), (activations,))


def test_means_not_sums() -> None:
    """Responses {3,5} to class 0 and {2} to class 1 give 0.3333; sums in place of means would give 0.6."""
    index = selectivity_index(torch.tensor([[3.0], [5.0], [2.0]]), torch.tensor([0, 0, 1]))
    assert float(index) == pytest.approx(1 / 3, abs=1e-5)


def test_dead_unit_is_exactly_zero_with_a_finite_gradient() -> None:
    """A unit that never responds has index 0 and gradient 0, not 1 / eps."""
    activations = torch.zeros(4, 1, requires_grad=True)
    index = selectivity_index(activations, torch.arange(4))
    torch.autograd.backward(index.sum())
    assert float(index.detach()) == 0.0
    assert activations.grad is not None
    assert float(activations.grad.abs().max()) == 0.0


def test_absent_classes_are_masked() -> None:
    """Classes without images change nothing: zeros as their means would raise the index."""
    activations = torch.tensor([[4.0], [2.0]])
    labels = torch.tensor([0, 7])
    alone = selectivity_index(activations, torch.tensor([0, 1]))
    assert torch.equal(selectivity_index(activations, labels, classes=200), alone)
    assert float(alone) == pytest.approx(1 / 3, abs=1e-5)


def test_half_precision_is_computed_in_float32() -> None:
    """Inside autocast the index is float32 and right: 1e-6 would vanish in bfloat16."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        index = selectivity_index(one_image_a_class(LAYER_1).bfloat16(), torch.arange(4))
    assert index.dtype == torch.float32
    torch.testing.assert_close(index, torch.tensor([0.5, 1.0]), atol=1e-6, rtol=0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100.0))
def test_properties_of_the_index(seed: int, scale: float) -> None:
    """In [0, 1], equal to the loops in NumPy, and unmoved by scale, order of images and names of classes."""
    generator = np.random.default_rng(seed)
    activations = generator.exponential(1.0, (12, 3, 2, 2)) * generator.choice([0.0, 1.0], (12, 3, 1, 1))
    labels = np.concatenate([[0, 1, 2], generator.integers(0, 3, 9)]).astype(np.int64)
    index = selectivity_index(torch.from_numpy(activations), torch.from_numpy(labels)).numpy()
    assert ((index >= 0) & (index <= 1)).all()
    np.testing.assert_allclose(index, by_loops(activations, labels), atol=1e-12)
    order = generator.permutation(12)
    moved = selectivity_index(torch.from_numpy(activations[order] * scale), torch.from_numpy(2 - labels[order])).numpy()
    np.testing.assert_allclose(moved, index, atol=2e-4)


def test_measure_on_a_network(photos: tuple[torch.Tensor, NDArray[np.int64]]) -> None:
    """The registered measure over batches equals the loops in NumPy on all activations, dead unit included."""
    images, labels = photos
    torch.manual_seed(3)
    model = SmallNet().eval()
    result = MEASURES.get("selectivity").run(model, torch.split(images, 17), labels)
    with torch.no_grad():
        features = {name: maps.double().numpy() for name, maps in model.features(images).items()}
    expected = {name: by_loops(maps, labels) for name, maps in features.items()}
    units = {entry.layer: entry.units for entry in result.entries if entry.units is not None}
    assert list(units) == ["first", "second"]
    for name, values in expected.items():
        found = units[name]
        assert found is not None
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values, atol=1e-5)
    means = [values.mean() for values in expected.values()]
    assert result.value("selectivity_index") == pytest.approx(np.mean(means), abs=1e-5)
    assert result.value("dead_units", "first") == (expected["first"] == 0).sum() == 2.0
    assert result.value("selectivity_index_alive", "first") == pytest.approx(expected["first"].sum() / 4, abs=1e-5)
    assert result.images == 60


def test_measure_is_equal_for_any_batches(photos: tuple[torch.Tensor, NDArray[np.int64]]) -> None:
    """Batches of 17 and of 60 give the same numbers to float32 precision."""
    images, labels = photos
    torch.manual_seed(3)
    model = SmallNet().eval()
    parts = [MEASURES.get("selectivity").run(model, torch.split(images, size), labels) for size in (17, 60)]
    values = [part.value("selectivity_index") for part in parts]
    assert values[0] == pytest.approx(values[1], abs=1e-6)


@pytest.mark.parametrize("images", [50, 61])
def test_measure_refuses_batches_that_do_not_cover_the_labels(
    photos: tuple[torch.Tensor, NDArray[np.int64]], images: int
) -> None:
    """Fewer or more images than labels: an error that tells both numbers."""
    batches = torch.split(torch.cat([photos[0], photos[0]])[:images], 20)
    with pytest.raises(InvalidArgument, match=r"batches: .*as many as labels, 60"):
        MEASURES.get("selectivity").run(SmallNet().eval(), batches, photos[1])


def test_measure_refuses_a_model_without_features(photos: tuple[torch.Tensor, NDArray[np.int64]]) -> None:
    """A bare module has no named layers to measure."""
    with pytest.raises(InvalidArgument, match="model: got 'Identity'"):
        MEASURES.get("selectivity").run(torch.nn.Identity(), [photos[0]], photos[1])  # type: ignore[arg-type]


def test_measure_refuses_signed_activations(photos: tuple[torch.Tensor, NDArray[np.int64]]) -> None:
    """The index means nothing before the non-linearity, so negative class means are an error, not a number."""

    class Signed(SmallNet):
        def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"signed": -torch.ones(len(images), 2)}

    with pytest.raises(ModelError, match="signed"):
        MEASURES.get("selectivity").run(Signed(), [photos[0]], photos[1])


@pytest.mark.parametrize(
    ("activations", "labels", "message"),
    [
        (torch.ones(3), torch.zeros(3, dtype=torch.int64), "activations"),
        (torch.ones(3, 2), torch.zeros(3, dtype=torch.int64), "two classes"),
        (torch.ones(3, 2), torch.tensor([0, 1]), "labels"),
        (torch.ones(2, 2), torch.tensor([0.0, 1.0]), "labels"),
        (torch.ones(2, 2), torch.tensor([-1, 1]), "classes from 0"),
        (torch.ones(0, 2), torch.zeros(0, dtype=torch.int64), "no image"),
    ],
)
def test_bad_input_is_named(activations: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    """Each wrong shape, type or label is refused by name."""
    with pytest.raises(InvalidArgument, match=message):
        selectivity_index(activations, labels)


def test_from_means_needs_two_classes() -> None:
    """One present class leaves nothing to compare with."""
    with pytest.raises(InvalidArgument, match="1 class present"):
        selectivity_from_means(torch.ones(3, 2), torch.tensor([True, False, False]))
