"""Each flag has a model that raises it; a sound model raises none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from harness.attacks import run_attack
from harness.attacks.checks import examine
from harness.attacks.flags import BACKWARDS, FIRST, FLAGS, FORWARDS, MANY, QUERIES, SAMPLE
from harness.types import Norm

Make = Callable[..., nn.Module]


class Wrapped(nn.Module):
    """Changes a model's input or output.

    Args:
        body: the model.
        before: applied to images.
        after: applied to logits.
    """

    def __init__(self, body: nn.Module, before: Any = None, after: Any = None) -> None:
        super().__init__()
        self.body, self.before, self.after = body, before, after
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits."""
        out: torch.Tensor = self.body(self.before(batch) if self.before else batch)
        return self.after(out) if self.after else out


def _counts(model: Wrapped) -> Any:
    """An output hook that changes a buffer."""

    def after(logits: torch.Tensor) -> torch.Tensor:
        model.get_buffer("seen").add_(1)
        return logits

    return after


def _optimises(logits: torch.Tensor) -> torch.Tensor:
    """Computes a gradient inside the forward pass."""
    with torch.enable_grad():
        inner = torch.ones(1, requires_grad=True)
        torch.autograd.grad((inner * 2).sum(), inner)
    return logits


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_sound_model_raises_nothing(
    norm: Norm, small_conv: Make, images: Callable[..., torch.Tensor], own_labels: Callable[..., torch.Tensor]
) -> None:
    """All checks, all norms."""
    model, pictures = small_conv(), images(24)
    assert examine(model, pictures, own_labels(model, pictures), norm=norm, eps=0.004).flags == {}


def _train(model: nn.Module) -> nn.Module:
    """In training mode, with nothing that training mode changes."""
    return Wrapped(model.eval()).train()


@pytest.mark.parametrize(
    ("flag", "build"),
    [
        ("train_mode", lambda body: _train(body)),
        ("nan_logits", lambda body: Wrapped(body, after=lambda out: out / 0.0).eval()),
        ("probabilities", lambda body: Wrapped(body, after=lambda out: out.softmax(1)).eval()),
        ("probabilities", lambda body: Wrapped(body, after=lambda out: out.log_softmax(1)).eval()),
        ("randomized", lambda body: Wrapped(body, before=lambda x: x + 0.05 * torch.randn_like(x)).eval()),
        ("dynamic", lambda body: Wrapped(body, after=_optimises).eval()),
        ("nan_gradients", lambda body: Wrapped(body, after=lambda out: out + (0 * out).abs().sqrt()).eval()),
        ("no_gradient", lambda body: Wrapped(body, after=lambda out: out.detach()).eval()),
        ("zero_gradients", lambda body: Wrapped(body, before=lambda x: (x * 8).round() / 8).eval()),
        ("vanishing_gradients", lambda body: Wrapped(body, after=lambda out: out * 1000.0).eval()),
        ("more_steps_do_not_help", lambda body: Wrapped(body, before=lambda x: 2 * x.detach() - x).eval()),
        ("large_eps_survivors", lambda body: Wrapped(body, before=lambda x: (x * 8).round() / 8).eval()),
    ],
)
def test_each_flag_has_its_model(
    flag: str, build: Callable[[nn.Module], nn.Module], small_conv: Make, images: Callable[..., torch.Tensor]
) -> None:
    """The flag is raised, with evidence; every flag is documented."""
    body = small_conv()
    model, pictures = build(body), images(24)
    with torch.no_grad():
        labels = body(pictures).argmax(1)
        if flag in ("zero_gradients", "more_steps_do_not_help", "large_eps_survivors", "no_gradient"):
            labels = model(pictures).argmax(1)
    found = examine(model, pictures, labels, eps=0.01).flags
    assert flag in found
    assert found[flag]
    assert set(found) <= set(FLAGS)


def test_state_that_changes_is_dynamic(small_conv: Make, images: Callable[..., torch.Tensor]) -> None:
    """A forward pass that writes a buffer."""
    model, pictures = Wrapped(small_conv()), images(8)
    model.after = _counts(model)
    found = examine(model.eval(), pictures, model(pictures).argmax(1), thorough=False).flags
    assert "seen" in found["dynamic"]


def test_black_box_beats_white_box(small_conv: Make, images: Callable[..., torch.Tensor]) -> None:
    """Rounding the input to 16 levels stops gradients but not Square; the ensemble says so as well."""
    model = Wrapped(small_conv(), before=lambda x: (x * 15).round() / 15).eval()
    pictures = images(24)
    labels = model(pictures).argmax(1)
    assert "square_beats_white_box" in examine(model, pictures, labels, eps=0.08).flags
    found = run_attack(
        model, pictures, labels, "autoattack", version="custom", attacks="fgsm,square", eps=0.08, batch_size=32
    )
    assert "square_beats_white_box" in found.flags
    assert "of 24 images" in found.evidence["square_beats_white_box"]


def test_inputs_and_ball(small_conv: Make, images: Callable[..., torch.Tensor]) -> None:
    """Images out of range end the examination; a ball that holds everything is named."""
    model, pictures = small_conv(), images(8)
    labels = model(pictures).argmax(1)
    assert set(examine(model, pictures * 2, labels).flags) == {"inputs_outside_range"}
    found = examine(model, pictures, labels, norm="L1", eps=3 * 16 * 16, thorough=False).flags
    assert "ball_covers_images" in found
    assert examine(model, pictures, labels, norm="L1", eps=12, thorough=False).flags == {}


def test_every_pass_is_counted(small_conv: Make, images: Callable[..., torch.Tensor]) -> None:
    """All images stand, so that Square takes all its queries of full batches: what is told is what the model saw."""
    body, pictures = small_conv(), images(16)
    rows = {True: 0, False: 0}

    def model(batch: torch.Tensor) -> torch.Tensor:
        rows[batch.requires_grad] += len(batch)
        logits: torch.Tensor = body(batch)
        return logits + 100 * torch.nn.functional.one_hot(truth[:1], 10)  # right whatever it is shown

    truth = torch.zeros(16, dtype=torch.int64)
    found = examine(model, pictures, truth, eps=0.004)
    assert set(found.flags) >= {"large_eps_survivors"}
    assert found.forwards == sum(rows.values())
    assert found.backwards == rows[True] == SAMPLE * (2 + 2 * (MANY + 1)) == BACKWARDS
    assert found.forwards > SAMPLE * QUERIES
    assert found.forwards <= FORWARDS - (FIRST - SAMPLE)
    quick = examine(model, pictures, truth, eps=0.004, thorough=False)
    assert (quick.forwards, quick.backwards) == (SAMPLE * (1 + 2 + 2), SAMPLE * 2)


def test_numbers_that_are_not_finite_away_from_the_images_are_flagged(
    small_conv: Make, images: Callable[..., torch.Tensor]
) -> None:
    """A model that fails at white pixels alone; what was seen before stays."""
    model = Wrapped(
        small_conv(),
        before=lambda x: x / (x.amax(dim=(1, 2, 3), keepdim=True) < 1),
        after=lambda out: out.softmax(1),
    ).eval()
    pictures = images(24)
    found = examine(model, pictures, model(pictures).argmax(1), eps=0.01).flags
    assert set(found) == {"probabilities", "nan_logits"}
    assert "logits" in found["nan_logits"]
