"""How the kernel runs the checks of `harness.attacks.checks` on a model, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from harness.attacks.checks import examine
from harness.spec import ChecksSpec
from harness.types import Classifier


@dataclass(slots=True)
class Rows:
    """Rows that went through a model, padding counted."""

    forward: int = 0
    backward: int = 0


def run_checks(
    model: Classifier, spec: ChecksSpec, images: torch.Tensor, labels: torch.Tensor, fixed_batch: int | None
) -> tuple[dict[str, str], Rows]:
    """Flags with their evidence, none for a sound model, and the rows that it took.

    Args:
        model: on the device of the images; it may well return numbers that are not finite.
        spec: norm, radius and seed.
        images: n x C x H x W, float32 in [0, 1].
        labels: n integers.
        fixed_batch: exact rows of every batch; None where outcomes do not depend on the batch.

    Raises:
        ModelError: what is returned is no matrix of logits.
    """
    with _counted(model) as rows:
        found = examine(
            model, images, labels, norm=spec.norm, eps=spec.eps, seed=spec.seed, fixed_batch=fixed_batch, thorough=True
        )
    return found, rows


@contextmanager
def _counted(model: Classifier) -> Iterator[Rows]:
    """Count a module's rows while it lasts; a pass whose input wants a gradient counts backward, too."""
    rows = Rows()

    def before(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        rows.forward += len(inputs[0])
        rows.backward += len(inputs[0]) if inputs[0].requires_grad and torch.is_grad_enabled() else 0

    if not isinstance(model, nn.Module):
        yield rows
        return
    handle = model.register_forward_pre_hook(before)
    try:
        yield rows
    finally:
        handle.remove()
