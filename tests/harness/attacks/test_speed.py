"""Faster forms compute the same function, or are not taken."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from harness.attacks import Numerics
from harness.attacks.physical import Passes, probe
from harness.attacks.speed import Faster, fold, prepare
from harness.errors import InvalidArgument


def test_folding_removes_every_batch_norm(
    small_conv: Callable[..., nn.Module], images: Callable[..., torch.Tensor]
) -> None:
    """No batch norm is left, logits agree within rounding, the original is untouched and its search form frozen."""
    model, pictures = small_conv(), images(32)
    before = copy.deepcopy(model.state_dict())
    folded = fold(model)
    assert folded is not None
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(pictures), model(pictures), atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_forms_keep_promise_a(
    precision: str, small_conv: Callable[..., nn.Module], images: Callable[..., torch.Tensor]
) -> None:
    """The search's forms, too, give the same bits for 16 and 64 rows, forward and backward."""
    model, pictures = small_conv(width=16), images(64)
    form = prepare(model, pictures, Numerics(precision="bfloat16" if precision == "bfloat16" else "float32"))
    assert isinstance(form, Faster)
    assert probe(form, pictures).identical
    logits, exact = Passes(form).logits(pictures), Passes(model).logits(pictures)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, exact, atol=1e-3 if precision == "float32" else 0.3)


def test_what_cannot_be_folded_is_left_alone(images: Callable[..., torch.Tensor]) -> None:
    """Control flow on values, randomness and plain functions: the model as it is."""
    pictures = images(4, (3, 8, 8))

    class Branching(nn.Module):
        """Cannot be traced."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            """Logits."""
            out: torch.Tensor = self.conv(batch).mean((2, 3))
            return out if float(batch.sum()) > 0 else -out

    class Noisy(nn.Module):
        """Draws at every pass."""

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            """Logits."""
            return batch.flatten(1)[:, :4] + torch.randn(4)

    branching, noisy = Branching().eval(), Noisy().eval()
    assert fold(branching) is None
    assert isinstance(prepare(branching, pictures, Numerics()), Faster)
    assert prepare(noisy, pictures, Numerics()) is noisy

    def function(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :4]

    assert prepare(function, pictures, Numerics()) is function
    with pytest.raises(InvalidArgument, match="search_precision"):
        prepare(function, pictures, Numerics(precision="bfloat16"))
    with pytest.raises(InvalidArgument, match="no copy gives the same logits"):
        prepare(noisy, pictures, Numerics(precision="bfloat16"))
