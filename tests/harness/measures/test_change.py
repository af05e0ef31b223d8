"""Dimensionality of the change: row-matched, against NumPy; the perturbations themselves against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.corruptions import corrupt
from harness.data import open_dataset
from harness.errors import InvalidArgument
from harness.measures import MEASURES, change
from harness.measures.change import changes
from harness.measures.perturbed import ascended, corrupted
from harness.measures.stream import Part
from harness.spec import Scalar
from tests.harness.measures.conftest import Digits, Linear, Table, TwoMaps, floats


def fraction(table: Table, share: float) -> float:
    """Components over columns by singular values: no covariance, no eigenvalues."""
    centred = table - table.mean(axis=0)
    squares = np.square(np.linalg.svd(centred, compute_uv=False))
    return (int(np.argmax(np.cumsum(squares) / squares.sum() >= share)) + 1) / int(table.shape[1])


def test_corruptions_on_a_real_network(digits: Digits) -> None:
    """Two conditions on resnet20: change, perturbed, clean and difference by NumPy from corrupted images as stored."""
    images = open_dataset("digits").images(0, 80)
    places = np.arange(80)
    result = MEASURES.get("dimensionality_corruptions").run(
        digits.model,
        torch.split(digits.images[:80], 33),
        digits.labels[:80],
        options={"corruptions": "snow,gaussian_noise", "severities": "4", "seed": 2},
        indices=places,
    )
    clean = digits.responses(digits.images[:80])
    moved = [
        digits.responses(floats(corrupt(images, name, 4, suite="cifar-10-c", seed=2, indices=places)))
        for name in ("gaussian_noise", "snow")
    ]
    for layer in clean:
        for percent in (90, 95, 99):
            share = percent / 100
            before = fraction(clean[layer], share)
            change_of = [fraction(after[layer] - clean[layer], share) for after in moved]
            after_of = [fraction(after[layer], share) for after in moved]
            entry = result.entry(f"change_fraction_{percent}", layer)
            assert entry.units is not None
            assert entry.units.tolist() == pytest.approx(change_of), (layer, percent)
            assert entry.mean == pytest.approx(np.mean(change_of))
            assert result.value(f"clean_fraction_{percent}", layer) == pytest.approx(before)
            assert result.value(f"perturbed_fraction_{percent}", layer) == pytest.approx(np.mean(after_of))
            assert result.value(f"difference_{percent}", layer) == pytest.approx(np.mean(after_of) - before)
    assert (result.forwards, result.backwards) == (3 * 80, 0)


def test_a_constant_shift_has_no_dimension_and_one_direction_has_one() -> None:
    """Row-matched: the difference of dimensions is 0 in both cases, the dimension of the change is not."""
    model = Linear(classes=6)
    images = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0)) / 2
    away = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1)) / 4
    scale = torch.rand(40, 1, 1, 1, generator=torch.Generator().manual_seed(2))

    def constant(part: Part) -> torch.Tensor:
        return part[0] + away

    def along(part: Part) -> torch.Tensor:
        return part[0] + scale[part[2]] * away

    table, walks = changes(model, torch.split(images, 16), np.zeros(40, dtype=np.int64), [constant, along])
    assert table["last"]["change_fraction_99"].tolist() == pytest.approx([0.0, 1 / 6])
    assert table["last"]["difference_99"][0] == 0.0
    assert table["last"]["clean_fraction_99"][0] > 1 / 6
    assert walks == 1


def test_conditions_a_few_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory holds the sums of one condition only, the images are gone through again: equal numbers."""
    images = floats(open_dataset("digits").images(0, 30))
    run = MEASURES.get("dimensionality_corruptions").run
    options = {"corruptions": "brightness,contrast", "severities": "1,5"}
    labels = np.zeros(30, dtype=np.int64)
    whole = run(TwoMaps().eval(), torch.split(images, 13), labels, options=options)
    monkeypatch.setattr(change, "STATE_BYTES", 1)
    parts = run(TwoMaps().eval(), torch.split(images, 13), labels, options=options)
    assert [entry.mean for entry in parts.entries] == [entry.mean for entry in whole.entries]
    assert (whole.forwards, parts.forwards) == (30 * 5, 30 * 8)


def test_corruptions_are_keyed_by_index() -> None:
    """A batch of later images gets the draws of their places, and not those of the first ones."""
    images = open_dataset("digits").images(0, 6)
    whole = corrupted(floats(images), "gaussian_noise", 3, suite="cifar-10-c", seed=0, indices=np.arange(6))
    late = corrupted(floats(images[4:]), "gaussian_noise", 3, suite="cifar-10-c", seed=0, indices=np.array([4, 5]))
    assert torch.equal(late, whole[4:])
    first = corrupted(floats(images[4:]), "gaussian_noise", 3, suite="cifar-10-c", seed=0, indices=np.array([0, 1]))
    assert not torch.equal(first, late)


def test_images_between_grey_levels_are_refused() -> None:
    """Corruptions are defined on whole grey levels."""
    with pytest.raises(InvalidArgument, match="between grey levels"):
        corrupted(torch.full((1, 3, 32, 32), 0.5), "fog", 1, suite="cifar-10-c", seed=0, indices=np.zeros(1, np.int64))


def ascend(model: Linear, images: torch.Tensor, norm: str, **changed: object) -> torch.Tensor:
    """Ascent with the test's defaults."""
    settings: dict[str, object] = {
        "eps": 0.05,
        "steps": 60,
        "step_size": 0.1,
        "random_start": True,
        "seed": 0,
        "indices": np.arange(len(images)),
        **changed,
    }
    labels = torch.zeros(len(images), dtype=torch.int64)
    return ascended(model, images, labels, norm=norm, **settings)  # type: ignore[arg-type]


def test_ascent_on_a_linear_model_ends_in_the_corner() -> None:
    """Two classes: the worst point is x - eps sign(w0 - w1) in the Linf ball, x - eps (w0 - w1) / |.| in the L2 one."""
    model = Linear(classes=2)
    images = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(3)) * 0.8 + 0.1
    weight = (model.last.weight[0] - model.last.weight[1]).detach().reshape(3, 4, 4)
    torch.testing.assert_close(ascend(model, images, "Linf"), images - 0.05 * weight.sign(), atol=1e-6, rtol=0)
    expected = images - 0.05 * weight / weight.norm()
    torch.testing.assert_close(ascend(model, images, "L2"), expected, atol=2e-4, rtol=0)


def test_ascent_goes_on_after_a_break() -> None:
    """Images that are broken already, even clean, are moved as far as the others: the measure asks for no verdict."""
    model = Linear(classes=2)
    images = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(4)) * 0.8 + 0.1
    wrong = model(images).argmax(1) != 0
    assert wrong.any()
    moved = (ascend(model, images, "Linf") - images).abs().flatten(1).amax(1)
    np.testing.assert_allclose(moved.detach().numpy(), 0.05, rtol=1e-5)


def test_ascent_is_keyed_by_index_and_stays_inside() -> None:
    """The start of an image depends on its place alone; without steps it is a point of the ball and the box."""
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    for norm in ("Linf", "L2"):
        whole = ascend(Linear(), images, norm, steps=0)
        late = ascend(Linear(), images[3:], norm, steps=0, indices=np.array([3, 4]))
        assert torch.equal(late, whole[3:])
        delta = (whole - images).double().flatten(1)
        size = delta.abs().amax(1) if norm == "Linf" else delta.norm(dim=1)
        assert float(size.max()) <= 0.05
        assert float(size.min()) > 0.02
        assert 0.0 <= float(whole.min()) <= float(whole.max()) <= 1.0
        assert torch.equal(ascend(Linear(), images, norm, steps=0, random_start=False), images)


def test_attack_measure_on_a_real_network(digits: Digits) -> None:
    """The measure's numbers are those of the responses to the end points, clean and perturbed row by row."""
    images, labels = digits.images[:70], digits.labels[:70]
    options: dict[str, Scalar] = {"steps": 2, "eps": "8/255", "seed": 1}
    result = MEASURES.get("dimensionality_attack").run(
        digits.model, torch.split(images, 32), labels, options=options, indices=np.arange(70)
    )
    moved = ascended(
        digits.model,
        images,
        torch.from_numpy(labels.copy()),
        norm="Linf",
        eps=8 / 255,
        steps=2,
        step_size=1.25,
        random_start=True,
        seed=1,
        indices=np.arange(70),
    )
    clean, after = digits.responses(images), digits.responses(moved)
    for layer in list(clean)[::3]:
        found = result.value("change_fraction_95", layer)
        # batches are cut otherwise here, which moves float32 gradients in the last bit: one component at most
        assert found == pytest.approx(fraction(after[layer] - clean[layer], 0.95), abs=1.01 / clean[layer].shape[1])
    assert (result.forwards, result.backwards) == (70 * 4, 70 * 2)
