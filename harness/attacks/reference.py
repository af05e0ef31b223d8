"""AutoAttack as the `pyautoattack` package runs it, made safe to call: the yardstick.

What had to be worked around, none of which changes its verdict: it demands contiguous input gradients; it re-seeds the
global generator for every batch (the state is put back); it uses `sys.settrace` (likewise); its warnings go to a log
(they become flags); it takes nine targets whatever the number of classes; and its FAB computes parameter gradients.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from harness.attacks.arena import Arena
from harness.attacks.physical import Passes
from harness.errors import InvalidArgument, MissingDependency, ModelError
from harness.spec import Scalar
from harness.types import Classifier

DEFAULT_CUT = 32
"""Batch cut where the caller names none."""

_FLAGS = {
    "randomized defense": "randomized",
    "probability distribution": "probabilities",
    "dynamic defense": "dynamic",
    "zero gradient": "zero_gradients",
    "Square Attack has decreased": "square_beats_white_box",
}
"""Words in the package's warnings -> our flags."""


class _Contiguous(torch.autograd.Function):
    """Identity whose gradient comes out contiguous; reports how many rows pass."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, counter: Counted) -> torch.Tensor:
        ctx.counter = counter
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        ctx.counter.backwards += len(gradients[0])
        return gradients[0].contiguous(), None


class Counted(torch.nn.Module):
    """The model as the package gets it: counts rows, refuses non-finite logits.

    Args:
        model: the classifier.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.call = model
        self.forwards = 0
        self.backwards = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of n x C x H x W images.

        Raises:
            ModelError: not finite.
        """
        self.forwards += len(images)
        logits = self.call(_Contiguous.apply(images, self) if torch.is_grad_enabled() else images)
        if not bool(torch.isfinite(logits).all()):
            raise ModelError("model: returned logits that are not finite (NaN or infinite)")
        return logits


class _Messages(logging.Handler):
    """Keeps the package's warnings and lets nothing through."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text."""
        self.texts.append(record.getMessage())


@contextmanager
def _isolated(device: torch.device) -> Iterator[list[str]]:
    """Keep the package from touching global state; yields its warnings as they come."""
    logger = logging.getLogger("auto-attack")
    before = (logger.handlers[:], logger.propagate, logger.level)
    messages = _Messages()
    logger.handlers, logger.propagate = [messages], False
    logger.setLevel(logging.WARNING)
    trace = sys.gettrace()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield messages.texts
    finally:
        sys.settrace(trace)
        logger.handlers, logger.propagate = before[0], before[1]
        logger.setLevel(before[2])


def run(arena: Arena, options: Mapping[str, Scalar]) -> Iterator[None]:
    """Call the package once on all images of the arena, cut into batches of the caller's size, and judge its examples.

    Yields once, at the end: the package cannot be interrupted.

    Raises:
        MissingDependency: the package is not installed.
        InvalidArgument: a model with fewer than four classes, which its targeted loss cannot take.
        ModelError: logits without a gradient.
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError:
        raise MissingDependency("pyautoattack is not installed: pip install pyautoattack") from None
    classes = arena.verify.classes or 0
    if classes < 4:
        raise InvalidArgument("attack", "autoattack:reference", f"a model with at least 4 classes, not {classes}")
    cut = arena.batch or DEFAULT_CUT
    device = arena.images.device
    model = Counted(arena.model).eval()
    with _isolated(device) as warnings:
        # without a gradient the package would fail somewhere inside, in torch's words; this names the model
        Passes(arena.model).gradient(arena.images[:1], lambda logits: torch.logsumexp(logits, dim=1))
        package = AutoAttack(
            model, norm=arena.norm, eps=arena.eps, version=str(options["version"]), seed=arena.seed, device=device
        )
        package.apgd_targeted.n_target_classes = min(package.apgd_targeted.n_target_classes, classes - 1)
        package.fab.n_target_classes = min(package.fab.n_target_classes, classes - 1)
        found, _ = package.run_standard_evaluation(arena.images, arena.labels, batch_size=cut)
    _charge(arena, model)
    for text in warnings:
        for words, flag in _FLAGS.items():
            if words in text:
                arena.flag(flag, text.split(" See flags_doc.md", maxsplit=1)[0])
    rows = arena.standing()
    unknown = torch.full_like(rows, -1)
    arena.propose(rows, found[rows], "autoattack:reference", unknown, unknown)
    yield


def _charge(arena: Arena, model: Counted) -> None:
    """Spread the package's passes evenly over the images that it attacked: it does not say whose they were."""
    rows = arena.standing()
    for name, total in (("forwards", model.forwards), ("backwards", model.backwards)):
        share, rest = divmod(total, len(rows))
        arena.count(rows, **{name: share})
        arena.count(rows[:rest], **{name: 1})
