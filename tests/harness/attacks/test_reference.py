"""The reference backend gives what the package gives, and leaves no traces."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from harness.attacks import run_attack
from harness.errors import InvalidArgument


@pytest.mark.parametrize(("norm", "eps", "cut"), [("Linf", 0.007, 5), ("L2", 0.1, 12)])
def test_equals_the_package_called_directly(
    norm: str,
    eps: float,
    cut: int,
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Same verdicts and, within rounding, the same examples as a direct call with the same cut and seed."""
    # 5,000 queries of Square are the package's default; the comparison needs both sides alike, not long
    original = AutoAttack._set_version

    def shorter(self: AutoAttack, version: str = "standard") -> None:
        original(self, version)
        self.square.n_queries = 60
        for part in (self.apgd, self.apgd_targeted, self.fab):
            part.n_iter = 12

    monkeypatch.setattr(AutoAttack, "_set_version", shorter)
    model, pictures = small_conv(), images(12, (3, 8, 8))
    labels = own_labels(model, pictures)
    labels[3] = (labels[3] + 1) % 10
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    direct = AutoAttack(model, norm=norm, eps=eps, version="standard", seed=7)
    examples, _ = direct.run_standard_evaluation(pictures, labels, batch_size=cut)
    with torch.no_grad():
        robust = (model(examples).argmax(1) == labels).numpy()
    found = run_attack(model, pictures, labels, "autoattack:reference", norm=norm, eps=eps, seed=7, batch_size=cut)
    assert 0 < robust.sum() < 11
    assert np.array_equal(found.robust, robust)
    assert torch.allclose(found.adversarial[~robust], examples[~robust], rtol=0, atol=2e-6)
    assert found.broken_by[3] == "clean"
    assert set(found.broken_by) == {"", "clean", "autoattack:reference"}
    assert found.forwards > found.backwards > 100


def test_leaves_global_state_alone(
    small_conv: Callable[..., nn.Module], images: Callable[..., torch.Tensor], capfd: pytest.CaptureFixture[str]
) -> None:
    """Generator, trace function, logger, parameters and streams are as before; probabilities become a flag."""
    body = small_conv()

    class Transposed(nn.Module):
        """Its input gradient comes out not contiguous, and its output is a probability."""

        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            """Probabilities."""
            turned = batch.permute(0, 1, 3, 2)
            out: torch.Tensor = self.body(turned).softmax(1)
            return out

    model, pictures = Transposed().eval(), images(3, (3, 8, 8))
    labels = model(pictures).argmax(1)
    logger = logging.getLogger("auto-attack")
    handlers, trace, state = logger.handlers[:], sys.gettrace(), torch.random.get_rng_state()
    found = run_attack(model, pictures, labels, "autoattack:reference", eps=0.9, batch_size=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sys.gettrace() is trace
    assert logger.handlers == handlers
    assert logger.propagate
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert "probabilities" in found.flags
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_refuses_three_classes(linear: Callable[..., nn.Module], images: Callable[..., torch.Tensor]) -> None:
    """The package's targeted loss needs four."""
    model, pictures = linear(3, (3, 4, 4)), images(4, (3, 4, 4))
    with pytest.raises(InvalidArgument, match="at least 4 classes"):
        run_attack(model, pictures, model(pictures).argmax(1), "autoattack:reference", eps=0.01)
