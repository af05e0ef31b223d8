"""Verdict parity with pyautoattack, attack by attack, with the same reduced budgets on both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from harness.attacks import run_attack

STEPS, TARGETS, QUERIES = 20, 4, 150

OURS: dict[str, dict[str, Any]] = {
    "apgd-ce": {"steps": STEPS},
    "apgd-dlr": {"steps": STEPS},
    "apgd-t": {"steps": STEPS, "targets": TARGETS},
    "fab-t": {"steps": STEPS, "targets": TARGETS},
    "square": {"queries": QUERIES},
}


def _reference(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, norm: str, eps: float, attack: str, seed: int
) -> int:
    """Robust count of the package with the reduced budget."""
    package = AutoAttack(model, norm=norm, eps=eps, version="custom", attacks=[attack], seed=seed)
    for part in (package.apgd, package.apgd_targeted):
        part.n_iter = part.n_iter_orig = STEPS
        part.n_iter_2, part.n_iter_min, part.size_decr = max(int(0.22 * STEPS), 1), max(int(0.06 * STEPS), 1), 1
        part.n_restarts, part.use_largereps = 1, norm == "L1"
    package.apgd_targeted.n_target_classes = package.fab.n_target_classes = TARGETS
    package.fab.n_iter, package.fab.n_restarts = STEPS, 1
    package.square.n_queries = QUERIES
    found, _ = package.run_standard_evaluation(images, labels, batch_size=len(images))
    with torch.no_grad():
        return int((model(found).argmax(dim=1) == labels).sum())


@pytest.mark.parametrize("attack", list(OURS))
@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.006), ("L2", 0.12), ("L1", 0.7)])
def test_robust_count_is_at_most_the_references(
    norm: str,
    eps: float,
    attack: str,
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """At most the reference's plus max(1, its own spread over three seeds), where some stand and some fall."""
    model, pictures = small_conv(), images(32, (3, 10, 10))
    labels = own_labels(model, pictures)
    counts = [_reference(model, pictures, labels, norm, eps, attack, seed) for seed in range(3)]
    found = run_attack(model, pictures, labels, attack, norm=norm, eps=eps, **OURS[attack])
    with torch.no_grad():
        assert bool(((model(found.adversarial).argmax(dim=1) == labels).numpy() == found.robust).all())
    assert int(found.robust.sum()) <= min(counts) + max(1, max(counts) - min(counts))
    assert 0 < min(counts) < 32
