"""Promise A: outcomes are bit-identical for any requested batch size, order and subset."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from harness.attacks import AttackResult, run_attack
from harness.attacks.physical import Passes, predict, probe
from harness.types import Norm
from tests.harness.attacks.support import same

EPS: dict[Norm, float] = {"Linf": 0.004, "L2": 0.1, "L1": 1.0}


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_pgd_does_not_depend_on_batches_order_or_company(
    norm: Norm,
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """Batch sizes 1, 17 and 256, a permutation and a subset give the same bits and costs."""
    model, pictures = small_conv(), images(70)
    labels = own_labels(model, pictures)
    labels[::9] = (labels[::9] + 1) % 10

    def attack(rows: torch.Tensor, batch: int | None) -> AttackResult:
        return run_attack(
            model, pictures[rows], labels[rows], "pgd", norm=norm, eps=EPS[norm], seed=5, indices=rows,
            batch_size=batch, steps=6, restarts=3,
        )  # fmt: skip

    everything = torch.arange(70)
    base = attack(everything, 64)
    assert 0.1 < base.robust.mean() < 0.85
    assert base.backwards_per_image.max() == 18  # survivors go through all restarts
    for batch in (1, 17, 256):
        same(base, attack(everything, batch))
    order = torch.randperm(70, generator=torch.Generator().manual_seed(3))
    same(base, attack(order, 32), order)
    same(base, attack(everything[23:40], None), slice(23, 40))


def test_passes_are_bit_identical(small_conv: Callable[..., nn.Module], images: Callable[..., torch.Tensor]) -> None:
    """Logits and input gradients for batch sizes 1 to 256 are the same bits."""
    model, pictures = small_conv(width=16), images(256, (3, 32, 32))
    logits = predict(model, pictures, batch_size=64)
    slope = Passes(model, batch_size=64).gradient(pictures, lambda out: out.square().sum(1))[2]
    for batch in (1, 7, 17, 100, 256):
        assert torch.equal(predict(model, pictures, batch_size=batch), logits)
        assert torch.equal(
            Passes(model, batch_size=batch).gradient(pictures, lambda out: out.square().sum(1))[2], slope
        )


def test_probe_tells_models_apart(small_conv: Callable[..., nn.Module], images: Callable[..., torch.Tensor]) -> None:
    """A convolutional network passes; a model whose output depends on its batch does not and asks for a fixed one."""
    model, pictures = small_conv(), images(20)
    good = probe(model, pictures)
    assert good.identical
    assert good.fixed_batch is None

    class Leaky(nn.Module):
        """Subtracts the batch mean: images see each other."""

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            """Logits."""
            logits: torch.Tensor = model(batch)
            return logits - logits.mean(dim=0)

    bad = probe(Leaky().eval(), pictures)
    assert not bad.identical
    assert bad.logits_difference > 0
    assert bad.fixed_batch == 64


def test_fixed_batch_runs_every_batch_at_that_size() -> None:
    """The model never sees another number of rows."""
    seen: list[int] = []

    def model(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return images.flatten(1)[:, :4]

    pictures = torch.rand(150, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    labels = predict(model, pictures, fixed_batch=64).argmax(1)
    run_attack(model, pictures, labels, "pgd", eps=0.3, steps=3, fixed_batch=64)
    assert set(seen) == {64}
