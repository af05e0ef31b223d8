"""Reasons to doubt a robust accuracy, each with its evidence.

Most failed defences show themselves: gradients that vanish, steps that do not help, a black-box attack that does better
than white-box ones, images that stand at a radius where nothing can stand (Athalye et al., ICML 2018, arXiv 1802.00420;
Pintor et al., NeurIPS 2022, arXiv 2106.09947). `examine` looks for them on a few images; attacks add what they see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from harness.attacks import losses
from harness.attacks.arena import ball_flag, evaluation_mode
from harness.attacks.flags import FEW, FIRST, MANY, QUERIES, SAMPLE
from harness.attacks.pgd import ascent
from harness.attacks.physical import Loss, Passes
from harness.attacks.projections import project
from harness.errors import ModelError, NonFinite, NonFiniteGradients
from harness.types import Classifier, Norm

_SAME = 1e-4
"""Differences below this share of the largest logit count as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What the checks found, and the rows that they passed, padding left out.

    Attributes:
        flags: flag (see `harness.attacks.flags.FLAGS`) -> evidence, for the flags that are raised.
        forwards: rows passed forward.
        backwards: rows passed backward.
    """

    flags: dict[str, str]
    forwards: int
    backwards: int


class CountedPasses(Passes):
    """Passes that count their rows."""

    forwards = 0
    backwards = 0

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """See `Passes.logits`."""
        self.forwards += len(images)
        return super().logits(images)

    def gradient(
        self, images: torch.Tensor, loss: Loss, *per_row: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `Passes.gradient`."""
        self.forwards += len(images)
        self.backwards += len(images)
        return super().gradient(images, loss, *per_row)


def examine(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    norm: Norm = "Linf",
    eps: float = 8 / 255,
    seed: int = 0,
    fixed_batch: int | None = None,
    thorough: bool = True,
) -> Examined:
    """Look for reasons to doubt, on the first 16 images that the model gets right.

    Args:
        model: the classifier.
        images: n x C x H x W, float32.
        labels: n integers.
        norm: of the threat model.
        eps: its radius.
        seed: of the black-box search.
        fixed_batch: see `harness.attacks.run_attack`.
        thorough: also run short attacks (about 600 forward and 100 backward passes an image).

    Raises:
        ModelError: what the model returns is no matrix of logits.
    """
    if float(images.min()) < 0 or float(images.max()) > 1:
        evidence = f"values from {float(images.min()):g} to {float(images.max()):g}"
        return Examined(flags={"inputs_outside_range": evidence}, forwards=0, backwards=0)
    passes = CountedPasses(model, fixed_batch=fixed_batch)
    found: dict[str, str] = {}
    if isinstance(model, torch.nn.Module) and any(module.training for module in model.modules()):
        found["train_mode"] = f"{sum(module.training for module in model.modules())} modules are in training mode"
    found |= ball_flag(images, norm, eps)
    with evaluation_mode(model):
        try:
            for flags in _stages(passes, images, labels, norm, eps, seed, thorough=thorough):
                found |= flags
        except NonFiniteGradients as error:
            found["nan_gradients"] = str(error)
        except NonFinite as error:
            found["nan_logits"] = str(error)
    return Examined(flags=found, forwards=passes.forwards, backwards=passes.backwards)


def _stages(
    passes: CountedPasses,
    images: torch.Tensor,
    labels: torch.Tensor,
    norm: Norm,
    eps: float,
    seed: int,
    *,
    thorough: bool,
) -> Iterator[dict[str, str]]:
    """The flags of one look after the other: what was seen stays, should the next meet numbers that are not finite."""
    clean = passes.logits(images[:FIRST])
    yield outputs(clean)
    passes.forwards += 2 * len(images[:SAMPLE])
    yield behaviour(passes.model, images[:SAMPLE])
    right = (clean.argmax(dim=1) == labels[: len(clean)].to(clean.device)).nonzero().squeeze(1)[:SAMPLE]
    if not len(right):
        return
    found = _gradients(passes, images[right], labels[right])
    yield found
    if thorough and "no_gradient" not in found:
        yield _progress(passes, images[right], labels[right], norm)
        yield black_box(passes, images[right], labels[right], norm, eps, seed)


def outputs(logits: torch.Tensor) -> dict[str, str]:
    """Are they probabilities, or logarithms of probabilities?"""
    exact = logits.double()
    total = exact.sum(dim=1)
    if bool((exact >= 0).all()) and bool(((total - 1).abs() < 1e-4).all()):
        return {"probabilities": f"all {len(logits)} outputs are at least 0 and sum to 1"}
    if bool((exact <= 0).all()) and bool((exact.logsumexp(dim=1).abs() < 1e-4).all()):
        return {"probabilities": f"all {len(logits)} outputs are at most 0 and their exponentials sum to 1"}
    return {}


def behaviour(model: Classifier, images: torch.Tensor) -> dict[str, str]:
    """Does a forward pass draw, change the model, or compute gradients?"""
    found: dict[str, str] = {}
    before = _state(model)
    with torch.no_grad(), _gradient_calls() as calls:
        first = model(images)
        second = model(images)
    after = _state(model)
    apart = float((first - second).abs().max())
    if apart > _SAME * float(first.abs().max()):
        found["randomized"] = f"two passes over the same {len(images)} images differ by {apart:.3g}"
    if calls:
        found["dynamic"] = f"{len(calls)} gradient computations inside two forward passes"
    changed = [name for name in after if name not in before or not torch.equal(before[name], after[name])]
    if changed:
        found["dynamic"] = f"a forward pass changed {', '.join(sorted(changed)[:3])}"
    return found


def _state(model: Classifier) -> dict[str, torch.Tensor]:
    """Copies of a module's parameters and buffers."""
    if not isinstance(model, torch.nn.Module):
        return {}
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().clone() for name, value in tensors}


@contextmanager
def _gradient_calls() -> Iterator[list[str]]:
    """Record calls to autograd while it lasts."""
    calls: list[str] = []

    def recorded(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return real(*args, **kwargs)

        return call

    grad, backward = torch.autograd.grad, torch.autograd.backward
    with (
        mock.patch.object(torch.autograd, "grad", recorded("grad", grad)),
        mock.patch.object(torch.autograd, "backward", recorded("backward", backward)),
    ):
        yield calls


def _gradients(passes: Passes, images: torch.Tensor, labels: torch.Tensor) -> dict[str, str]:
    """Are there gradients, and are they zero or vanishing?"""
    found: dict[str, str] = {}
    try:
        _, _, slope = passes.gradient(images, _lost, labels)
        _, _, entropy = passes.gradient(images, losses.cross_entropy, labels)
    except NonFinite:
        raise
    except ModelError as error:
        return {"no_gradient": str(error)}
    n = len(images)
    zero = slope.flatten(1).abs().amax(dim=1) == 0
    if bool(zero.any()):
        found["zero_gradients"] = f"{int(zero.sum())} of {n} images"
    small = entropy.flatten(1).abs().amax(dim=1) <= 1e-7 * slope.flatten(1).abs().amax(dim=1)
    small &= ~zero
    if int(small.sum()) > 0.1 * n:
        found["vanishing_gradients"] = f"{int(small.sum())} of {n} images"
    return found


def _progress(passes: Passes, images: torch.Tensor, labels: torch.Tensor, norm: Norm) -> dict[str, str]:
    """Do steps and large balls do what they must?"""
    found: dict[str, str] = {}
    n, pixels = len(images), images[0].numel()
    wide = {"Linf": 0.75, "L2": 0.5 * pixels**0.5, "L1": 0.5 * pixels}[norm]
    # in a ball where nothing can stand: in a small one, a smooth model's margin has converged after three steps
    lowest = descend(passes, images, labels, norm, wide, MANY)
    clean, few, many = lowest[0], lowest[FEW], lowest[MANY]
    left = few > 0
    if int(left.sum()) >= 3 and float((few - many)[left].mean()) <= 0.01 * float(clean[left].mean()):
        found["more_steps_do_not_help"] = (
            f"at {norm} eps {wide:g} mean margin {float(few[left].mean()):.4g} after {FEW} steps, "
            f"{float(many[left].mean()):.4g} after {MANY}"
        )
    standing = int((many > 0).sum())
    if standing > 0.1 * n:
        found["large_eps_survivors"] = f"{standing} of {n} images stand at {norm} eps {wide:g}"
    return found


def _lost(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Minus the margin."""
    return -losses.margin(logits, labels)


def descend(
    passes: Passes, images: torch.Tensor, labels: torch.Tensor, norm: Norm, eps: float, steps: int
) -> torch.Tensor:
    """Lowest margin so far after 0, 1, ... steps of PGD on the margin, its step shrinking: (steps + 1) x n."""
    point = images
    lowest: list[torch.Tensor] = []
    for step in range(steps + 1):
        _, value, slope = passes.gradient(point, _lost, labels)
        lowest.append(-value if not lowest else torch.minimum(lowest[-1], -value))
        length = eps * max(2.0 * (1.0 - step / steps), 2.0 / steps) * 0.5
        point = project(point + length * ascent(slope, norm, max(20, images[0].numel() // 20)), images, norm, eps)
    return torch.stack(lowest)


def black_box(
    passes: CountedPasses, images: torch.Tensor, labels: torch.Tensor, norm: Norm, eps: float, seed: int
) -> dict[str, str]:
    """Does a short Square attack break images that thirty gradient steps left?"""
    from harness.attacks import run_attack

    left = descend(passes, images, labels, norm, eps, MANY)[-1] > 0
    rows = left.nonzero().squeeze(1)
    if not len(rows):
        return {}
    if norm != "Linf" and min(images.shape[-2:]) < 5:
        return {}  # Square has no tiles for images this small
    result = run_attack(
        passes.model,
        images[rows].contiguous(),
        labels[rows],
        "square",
        norm=norm,
        eps=eps,
        seed=seed,
        fixed_batch=passes.fixed_batch,
        queries=QUERIES,
    )
    passes.forwards += result.forwards
    passes.backwards += result.backwards
    taken = int((~result.robust).sum())
    if taken < 2:
        return {}
    return {"square_beats_white_box": f"{QUERIES} queries broke {taken} of {len(rows)} that {MANY} gradient steps left"}
