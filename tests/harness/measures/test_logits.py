"""Jacobian norm, margin and input gradient against closed forms of linear models and float64 on a real network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.errors import InvalidArgument, ModelError
from harness.measures import MEASURES, jacobian_norms, loss_gradient_norms
from tests.harness.measures.conftest import Digits, Linear


@pytest.fixture
def images() -> torch.Tensor:
    """Seven random images of 4x4."""
    return torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_jacobian_of_a_linear_model(images: torch.Tensor) -> None:
    """It is W for every image, so the norm is that of W."""
    model = Linear()
    norm = float(model.last.weight.detach().double().norm())
    np.testing.assert_allclose(jacobian_norms(model, images).numpy(), norm, rtol=1e-5)
    result = MEASURES.get("jacobian").run(model, torch.split(images, 3), np.zeros(7, dtype=np.int64))
    assert result.value("jacobian_norm") == pytest.approx(norm, rel=1e-5)
    assert result.value("jacobian_norm_p05") == pytest.approx(norm, rel=1e-5)
    assert result.backwards == 7 * 4


def test_loss_gradient_of_a_linear_model(images: torch.Tensor) -> None:
    """The gradient of the cross-entropy of W x + b is W^T (softmax - onehot)."""
    model, labels = Linear(), torch.arange(7) % 4
    weight = model.last.weight.detach().double().numpy()
    logits = model(images).detach().double().numpy()
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    expected = (shares - np.eye(4)[labels.numpy()]) @ weight
    length, total = loss_gradient_norms(model, images, labels)
    np.testing.assert_allclose(length.numpy(), np.sqrt(np.square(expected).sum(axis=1)), rtol=1e-4)
    np.testing.assert_allclose(total.numpy(), np.abs(expected).sum(axis=1), rtol=1e-4)
    result = MEASURES.get("input_gradient").run(model, torch.split(images, 3), labels.numpy())
    assert result.value("gradient_l1") == pytest.approx(np.abs(expected).sum(axis=1).mean(), rel=1e-4)
    assert result.value("gradient_l2_p50") == pytest.approx(np.median(length.numpy()))


def test_margin_by_sorting(images: torch.Tensor) -> None:
    """The label's logit minus the best other, by sorting in NumPy; the share above zero is the accuracy."""
    model, labels = Linear(), np.arange(7) % 4
    logits = model(images).detach().numpy().astype(np.float64)
    expected = [row[label] - np.delete(row, label).max() for row, label in zip(logits, labels, strict=True)]
    result = MEASURES.get("margin").run(model, torch.split(images, 3), labels)
    values = result.entry("margin").units
    assert values is not None
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert result.value("margin") == pytest.approx(np.mean(expected), rel=1e-5)
    assert result.value("margin_p25") == pytest.approx(np.percentile(expected, 25), rel=1e-5)
    assert result.value("margin_positive") == (logits.argmax(axis=1) == labels).mean()


def test_real_network_in_float64(digits: Digits) -> None:
    """Jacobian and loss gradient of resnet20 against torch's own Jacobian, image by image in float64."""
    model = copy.deepcopy(digits.model).double()  # type: ignore[attr-defined]
    few = digits.images[:3]
    length, total = loss_gradient_norms(digits.model, few, torch.from_numpy(digits.labels[:3].copy()))
    norms = jacobian_norms(digits.model, few)
    for place, image in enumerate(few.double()):
        matrix = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], image).flatten(1)  # type: ignore[no-untyped-call]
        assert float(norms[place]) == pytest.approx(float(matrix.norm()), rel=1e-3)
        wrong = F.softmax(model(image[None])[0].detach(), dim=0)
        wrong[int(digits.labels[place])] -= 1.0
        gradient = wrong @ matrix
        assert float(length[place]) == pytest.approx(float(gradient.norm()), rel=1e-2)
        assert float(total[place]) == pytest.approx(float(gradient.abs().sum()), rel=1e-2)


@pytest.mark.parametrize("measure", ["jacobian", "input_gradient", "margin"])
def test_what_is_refused(measure: str, images: torch.Tensor) -> None:
    """Logits that are not finite or carry no gradient, and batches that differ from the labels."""
    run = MEASURES.get(measure).run
    labels = np.zeros(7, dtype=np.int64)
    with pytest.raises(InvalidArgument, match="batches: got '7 images'"):
        run(Linear(), [images], labels[:6])
    broken = Linear()
    with torch.no_grad():
        broken.last.weight[0, 0] = float("inf")
    with pytest.raises(ModelError, match="not finite"):
        run(broken, [images], labels)

    class Detached(Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).detach()

    if measure != "margin":
        with pytest.raises(ModelError, match="carry no gradient"):
            run(Detached(), [images], labels)
