"""Bad input and bad models: a typed error that names the argument, the value and what would be right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from harness.attacks import ATTACKS, Numerics, run_attack
from harness.errors import InvalidArgument, ModelError, NonFinite, UnknownName
from harness.types import Classifier

PICTURES = torch.full((4, 3, 4, 4), 0.5)
LABELS = torch.zeros(4, dtype=torch.int64)


def _model(images: torch.Tensor) -> torch.Tensor:
    """Ten logits; class 0 wins."""
    return torch.arange(10, 0, -1) + images.flatten(1)[:, :10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": PICTURES * 255}, "images: got 'values from"),
        ({"images": PICTURES - 1}, r"expected values in \[0, 1\]"),
        ({"images": PICTURES * torch.nan}, "NaN"),
        ({"images": PICTURES.to(torch.uint8)}, "divide 8-bit images by 255"),
        ({"images": PICTURES.double()}, "float32"),
        ({"images": PICTURES[0]}, "n x C x H x W"),
        ({"images": PICTURES[:0]}, "at least one image"),
        ({"images": [0.5]}, "float32 tensor"),
        ({"labels": LABELS.float()}, "labels: got 'torch.float32', expected integers"),
        ({"labels": LABELS[:3]}, r"expected shape \(4,\)"),
        ({"labels": LABELS - 1}, "at least 0"),
        ({"labels": LABELS + 10}, "integers below 10"),
        ({"labels": [0, 0, 0, 0]}, "tensor of integers"),
        ({"eps": 0}, "eps: got 0, expected a positive number"),
        ({"eps": -0.1}, "positive"),
        ({"eps": "8/0"}, "positive"),
        ({"eps": float("inf")}, "positive"),
        ({"norm": "L0"}, "norm: got 'L0', expected one of Linf, L2, L1"),
        ({"seed": -1}, "seed"),
        ({"indices": [0, 1]}, "indices"),
        ({"indices": [0, 1, 2, -3]}, "at least 0"),
        ({"indices": [0.5, 1, 2, 3]}, "integers"),
        ({"batch_size": 0}, "batch_size"),
        ({"fixed_batch": 2.5}, "fixed_batch"),
        ({"steps": 0}, "steps: got 0, expected an integer from 1"),
        ({"steps": 2.5}, "steps"),
        ({"random_start": 1}, "true or false"),
        ({"loss": "hinge"}, "one of ce, dlr"),
        ({"step_size": float("nan")}, "step_size"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    """Each is refused before anything runs, with a message that says what would be right."""
    arguments: dict[str, Any] = {"images": PICTURES, "labels": LABELS, "attack": "pgd", "eps": 0.1}
    arguments.update(change)
    with pytest.raises(InvalidArgument, match=message) as caught:
        run_attack(_model, **arguments)
    assert "\n" not in str(caught.value)


def test_unknown_names_offer_the_nearest() -> None:
    """Attack and option, each with a did-you-mean."""
    with pytest.raises(UnknownName, match="did you mean 'pgd'"):
        run_attack(_model, PICTURES, LABELS, "pdg")
    with pytest.raises(UnknownName, match="did you mean 'steps'"):
        run_attack(_model, PICTURES, LABELS, "pgd", step=3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda images: images.flatten(1)[:, :10] * torch.nan, "not finite"),
        (lambda images: images.flatten(1)[:, :10] / 0.0, "not finite"),
        (lambda images: images.flatten(1)[:, :1], "classes, at least 2"),
        (lambda images: images[:, :, 0, 0].reshape(-1), "shape"),
        (lambda images: (images.flatten(1)[:, :10] * 10).long(), "floating point"),
        (lambda images: [0.0], "expected a tensor of logits"),
        (lambda images: _model(images).detach(), "no gradient"),
        (lambda images: torch.arange(10.0, 0, -1).repeat(len(images), 1).requires_grad_(), "no gradient"),
    ],
)
def test_bad_models(model: Classifier, message: str) -> None:
    """Each is a ModelError: the work failed and there is no verdict."""
    with pytest.raises(ModelError, match=message):
        run_attack(model, PICTURES, LABELS, "pgd", eps=0.1)


@pytest.mark.parametrize(
    ("attack", "norm"),
    [("fgsm", "Linf"), ("pgd", "L2"), ("apgd-t", "L1"), ("fab-t", "Linf"), ("msd", "L2"), ("fast", "Linf")],
)
def test_gradients_that_are_not_finite_are_no_robustness(attack: str, norm: str) -> None:
    """The spread over colours has no slope on grey images: its logits are finite, its gradient is not."""

    def model(images: torch.Tensor) -> torch.Tensor:
        return _model(images) + images.var(dim=1).sqrt().sum(dim=(1, 2)).unsqueeze(1)

    grey = PICTURES.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    labels = model(grey).argmax(dim=1)
    options: dict[str, Any] = {"random_start": False} if attack == "pgd" else {}
    with pytest.raises(NonFinite, match="gradient with respect to the images is not finite"):
        run_attack(model, grey, labels, attack, norm=norm, eps=0.1, **options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda images: images.flatten(1)[:, :10] * torch.nan, "not finite"),
        (lambda images: _model(images).detach(), "no gradient"),
        (lambda images: torch.arange(10.0, 0, -1).repeat(len(images), 1).requires_grad_(), "no gradient"),
        (lambda images: _model(images)[:, :1], "classes, at least 2"),
    ],
)
def test_bad_models_by_the_package(model: Classifier, message: str) -> None:
    """The reference backend says what is wrong with the model, in our words and not in torch's."""
    pictures = torch.full((4, 3, 8, 8), 0.5)
    with pytest.raises(ModelError, match=message):
        run_attack(model, pictures, LABELS, "autoattack:reference", eps=0.1)


@pytest.mark.parametrize("change", [{"labels": LABELS + 10}, {"images": PICTURES + 1}, {"eps": 0}, {"eps": -1}])
@pytest.mark.parametrize("attack", ["autoattack", "fast", "square", "autoattack:reference"])
def test_every_attack_checks_what_it_is_given(attack: str, change: dict[str, Any]) -> None:
    """Labels and images out of range and empty balls are refused whatever runs."""
    arguments: dict[str, Any] = {"images": PICTURES, "labels": LABELS, "eps": 0.1} | change
    with pytest.raises(InvalidArgument, match=next(iter(change))):
        run_attack(_model, attack=attack, **arguments)


class _Turn(torch.autograd.Function):
    """Identity whose gradient lies in memory with the channels last."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor) -> torch.Tensor:
        """The same images."""
        return images.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """The same gradient, in another memory order."""
        return gradients[0].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


class _Turned(nn.Module):
    """A model behind `_Turn`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The body's logits."""
        logits: torch.Tensor = self.body(_Turn.apply(images))
        return logits


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "apgd-ce", "apgd-t", "fab-t"])
@pytest.mark.parametrize("norm", ["Linf", "L1"])
def test_gradients_may_lie_in_any_order(attack: str, norm: str, small_conv: Callable[..., nn.Module]) -> None:
    """A model whose input gradients are not contiguous gets the verdicts of the same model in plain order."""
    plain = small_conv()
    turned = _Turned(plain)
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    labels = plain(images).argmax(1)
    probe = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(turned(probe).sum(), probe)
    assert not gradient.is_contiguous()
    options: dict[str, Any] = {"eps": 0.01 if norm == "Linf" else 1.0, "norm": norm}
    if attack != "fgsm":
        options["steps"] = 3
    numerics = Numerics(fold=False, channels_last=False)
    expected = run_attack(plain, images, labels, attack, numerics=numerics, **options)
    found = run_attack(turned, images, labels, attack, numerics=numerics, **options)
    assert found.broken_by == expected.broken_by
    assert torch.equal(found.adversarial, expected.adversarial)


@pytest.mark.parametrize(("norm", "eps"), [("L1", 48.0), ("L1", 1e6), ("L2", 7.0), ("Linf", 1.0)])
@pytest.mark.parametrize("attack", ["pgd", "apgd-ce", "fab-t", "fast"])
def test_a_ball_larger_than_the_image_is_flagged(norm: str, eps: float, attack: str) -> None:
    """It holds every image; the attack still runs, stays in [0, 1], and the result says so."""
    labels = torch.arange(4)
    pixels = torch.full((4, 3, 4, 4), 0.2)
    pixels[torch.arange(4), 0, 0, torch.arange(4)] = 0.8

    def model(images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, :]

    found = run_attack(model, pixels, labels, attack, norm=norm, eps=eps)
    assert "ball_covers_images" in found.flags
    assert "diameter of [0, 1]^48" in found.evidence["ball_covers_images"]
    assert not found.robust.any()
    assert float(found.adversarial.min()) >= 0
    assert float(found.adversarial.max()) <= 1
    calm = run_attack(model, pixels, labels, attack, norm=norm, eps=0.01)
    assert "ball_covers_images" not in calm.flags


def test_class_count_must_not_change() -> None:
    """A model that answers with another number of classes later is refused."""
    calls: list[int] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return _model(images)[:, : 10 if len(calls) == 1 else 8]

    with pytest.raises(ModelError, match="shape"):
        run_attack(model, PICTURES, LABELS, "pgd", eps=0.1)


def test_train_mode_is_flagged_and_put_back(small_conv: Callable[..., nn.Module]) -> None:
    """The verdict is that of eval mode; the model is returned as it came, statistics included."""
    model = small_conv()
    labels = model(PICTURES).argmax(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calm = run_attack(model, PICTURES, labels, "pgd", eps=0.01)
    assert "train_mode" not in calm.flags
    model.train()
    found = run_attack(model, PICTURES, labels, "pgd", eps=0.01)
    assert "train_mode" in found.flags
    assert all(module.training for module in model.modules())
    assert torch.equal(found.adversarial, calm.adversarial)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_every_attack_is_described_completely() -> None:
    """Defaults pass their own check; versions, sources and summaries are there; targets can be imported."""
    for name in ATTACKS:
        attack = ATTACKS.get(name)
        assert attack.name == name
        assert attack.complete({}) == {key: option.default for key, option in attack.options.items()}
        assert attack.version
        assert attack.source
        assert attack.summary
        assert callable(attack.load())


def test_import_is_light() -> None:
    """Listing attacks does not import torch."""
    code = "import sys, harness.attacks as a; a.ATTACKS.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
