"""Where an attack runs: checked inputs, counted passes, and the judge of every proposal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.attacks import losses
from harness.attacks.base import CLEAN, Attack, AttackResult, Numerics
from harness.attacks.catalogue import check_precision
from harness.attacks.checked import check_images, check_indices, check_labels
from harness.attacks.memory import Memory
from harness.attacks.physical import DEFAULT_BATCH, Passes, check_batch
from harness.attacks.projections import enforce, size
from harness.attacks.speed import prepare
from harness.errors import InvalidArgument
from harness.rng import stream_key
from harness.spec import Scalar, parse_eps
from harness.types import Classifier, Norm

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class Verdicts:
    """What is known of each of n images so far; tensors of n rows on the model's device."""

    adversarial: torch.Tensor
    correct: torch.Tensor
    margin: torch.Tensor
    scale: torch.Tensor
    broken_by: list[str]
    steps: NDArray[np.int64]
    runs: NDArray[np.int64]
    forwards: NDArray[np.int64]
    backwards: NDArray[np.int64]
    open: torch.Tensor
    """N, bool: still under attack."""


@dataclass(slots=True)
class Arena:
    """One threat model on n images: an attack searches here and proposes, the arena judges.

    Attributes:
        model: the classifier as given.
        search: passes that the search uses (may be a faster form of the model).
        verify: passes in float32 of the model as given; only they decide.
        images: n x C x H x W, float32 in [0, 1].
        labels: n, int64.
        indices: n image indices that key the draws.
        norm: of the ball.
        eps: its radius.
        seed: of all draws.
        batch: the batch size as the caller asked for it, or None.
        verdicts: what is known so far.
        order: n x K, classes by their clean logits, largest first.
        numerics: how `search` computes.
        repeats: passes whose mean logits decide a proposal; more than one for randomised models.
        memory: how close each image came to falling, where a search in low precision has to be finished in float32.
        evidence: flag -> what was seen.
    """

    model: Classifier
    search: Passes
    verify: Passes
    images: torch.Tensor
    labels: torch.Tensor
    indices: NDArray[np.int64]
    norm: Norm
    eps: float
    seed: int
    batch: int | None
    verdicts: Verdicts
    order: torch.Tensor
    numerics: Numerics = field(default_factory=lambda: Numerics(fold=False, channels_last=False))
    repeats: int = 1
    memory: Memory | None = None
    evidence: dict[str, str] = field(default_factory=dict)

    def speed_up(self, numerics: Numerics) -> None:
        """Search with a faster form of the model; what it finds is judged by the model as given."""
        form = prepare(self.model, self.images, numerics)
        self.search = Passes(form, batch_size=self.verify.batch_size, fixed_batch=self.verify.fixed_batch)
        self.search.classes = self.verify.classes
        self.numerics = numerics
        if numerics.precision != "float32":
            self.memory = Memory(self)

    def standing(self) -> torch.Tensor:
        """Positions of the images that are still right, ascending."""
        return self.verdicts.correct.nonzero().squeeze(1)

    def target(self, rows: torch.Tensor, runs: torch.Tensor) -> torch.Tensor:
        """The class to aim at in a run: the first run takes the best wrong class of the clean logits, and so on."""
        return self.order[rows, runs + 1]

    def count(self, rows: torch.Tensor, *, forwards: int = 0, backwards: int = 0) -> None:
        """Charge passes to the images at positions `rows` (a position may occur more than once)."""
        where = rows.cpu().numpy()
        if forwards:
            np.add.at(self.verdicts.forwards, where, forwards)
        if backwards:
            np.add.at(self.verdicts.backwards, where, backwards)

    def propose(
        self, rows: torch.Tensor, candidates: torch.Tensor, attack: str, steps: torch.Tensor, runs: torch.Tensor
    ) -> torch.Tensor:
        """Judge candidates for the images at `rows` (each position once) and keep those that hold.

        A candidate is projected to the ball and to [0, 1] exactly and predicted again on exactly that tensor.

        Args:
            rows: m positions.
            candidates: m x C x H x W.
            attack: who proposes.
            steps: m, the step of the run.
            runs: m, the restart or target.

        Returns:
            m, bool: broken.
        """
        images, labels = self.images[rows], self.labels[rows]
        tensor = enforce(candidates.detach().float(), images, self.norm, self.eps)
        self.count(rows, forwards=self.repeats)
        logits = self.verify.logits(tensor)
        for _ in range(self.repeats - 1):
            logits = logits + self.verify.logits(tensor)
        logits = logits / self.repeats
        held = logits.argmax(dim=1) != labels
        if bool(held.any()):
            state, kept = self.verdicts, rows[held]
            state.adversarial[kept] = tensor[held]
            state.correct[kept] = False
            state.open[kept] = False
            state.margin[kept] = losses.margin(logits, labels)[held]
            state.scale[kept] = logits[held].abs().amax(dim=1)
            positions = kept.cpu().numpy()
            state.steps[positions] = steps[held].cpu().numpy()
            state.runs[positions] = runs[held].cpu().numpy()
            for position in positions:
                state.broken_by[position] = attack
        return held

    def settle(self, rows: torch.Tensor) -> None:
        """Nothing more will be tried on the images at `rows`."""
        self.verdicts.open[rows] = False

    def flag(self, name: str, evidence: str) -> None:
        """Doubt the verdict; the first evidence for a flag is kept."""
        self.evidence.setdefault(name, evidence)

    def result(self, rows: slice = slice(None)) -> AttackResult:
        """The verdicts on `rows` as they stand."""
        state = self.verdicts
        moved = size(state.adversarial[rows].double() - self.images[rows].double(), self.norm)
        return AttackResult(
            robust=state.correct[rows].cpu().numpy().copy(),
            adversarial=state.adversarial[rows].clone(),
            broken_by=tuple(state.broken_by[rows]),
            steps=state.steps[rows].copy(),
            runs=state.runs[rows].copy(),
            margin=state.margin[rows].cpu().numpy().astype(np.float32),
            scale=state.scale[rows].cpu().numpy().astype(np.float32),
            norm=moved.cpu().numpy(),
            forwards_per_image=state.forwards[rows].copy(),
            backwards_per_image=state.backwards[rows].copy(),
            flags=tuple(sorted(self.evidence)),
            evidence=MappingProxyType(dict(self.evidence)),
        )


def enter(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    norm: Norm,
    eps: float,
    seed: int,
    indices: NDArray[np.int64],
    batch: int | None,
    fixed_batch: int | None,
) -> Arena:
    """An arena whose clean mistakes are settled: one forward pass an image."""
    verify = Passes(model, batch_size=batch or DEFAULT_BATCH, fixed_batch=fixed_batch)
    logits = verify.logits(images)
    if int(labels.max()) >= logits.shape[1]:
        expected = f"integers below {logits.shape[1]}, the number of the model's classes"
        raise InvalidArgument("labels", int(labels.max()), expected)
    correct = logits.argmax(dim=1) == labels
    order = logits.argsort(dim=1, descending=True, stable=True)
    n = len(images)
    verdicts = Verdicts(
        adversarial=images.clone(),
        correct=correct,
        margin=losses.margin(logits, labels),
        scale=logits.abs().amax(dim=1),
        broken_by=["" if right else CLEAN for right in correct.tolist()],
        steps=np.full(n, -1, dtype=np.int64),
        runs=np.full(n, -1, dtype=np.int64),
        forwards=np.ones(n, dtype=np.int64),
        backwards=np.zeros(n, dtype=np.int64),
        open=correct.clone(),
    )
    return Arena(model, verify, verify, images, labels, indices, norm, eps, seed, batch, verdicts, order)


def ball_flag(images: torch.Tensor, norm: Norm, eps: float) -> dict[str, str]:
    """A flag if the ball is so large that it holds all of [0, 1]^d, and with it every image."""
    pixels = images[0].numel()
    reach = {"Linf": 1.0, "L2": pixels**0.5, "L1": float(pixels)}[norm]
    if eps < reach:
        return {}
    return {"ball_covers_images": f"eps {eps:g} is at least {reach:g}, the {norm} diameter of [0, 1]^{pixels}"}


@contextmanager
def evaluation_mode(model: Classifier) -> Iterator[bool]:
    """Run a module in eval mode with frozen parameters, then put both back; yields whether it was in train mode."""
    if not isinstance(model, torch.nn.Module):
        yield False
        return
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield bool(training)
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


def attack_blocks(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    blocks: Sequence[int],
    attack: Attack,
    norm: str,
    eps: float | str,
    seed: int,
    indices: NDArray[np.int64] | torch.Tensor | list[int] | None,
    batch_size: int | None,
    fixed_batch: int | None,
    numerics: Numerics,
    options: Mapping[str, Scalar],
) -> Iterator[tuple[int, AttackResult]]:
    """Attack several blocks of images in one pool and yield each block when its last image is done.

    Slots that become free in one block are refilled from the next, and every block's outcome is what it would be by
    itself. What `run_attack` takes is documented there.

    Args:
        model: the classifier.
        images: of all blocks, one after the other.
        labels: of the images.
        blocks: how many images each block has.
        attack: what to run; one that is not per image gets each block by itself.
        norm: see `run_attack`, as for all that follow.
        eps: radius.
        seed: of all draws.
        indices: that key the draws.
        batch_size: rows of a physical batch.
        fixed_batch: exact rows of every batch.
        numerics: how the search computes.
        options: of the attack.

    Yields:
        (number of the block, its result), in the order in which blocks are done.

    Raises:
        InvalidArgument: a value outside its domain, or a precision that the attack does not search in.
        ModelError: non-finite logits or gradients, wrong shape, no gradient.
    """
    ball, radius = attack.check_norm(norm), parse_eps(eps)
    stream_key(seed, "check")
    complete = attack.complete(options)
    check_precision(attack.name, complete, numerics.precision)
    batch = check_batch("batch_size", batch_size, None)
    fixed = check_batch("fixed_batch", fixed_batch, None)
    pixels = check_images(images)
    truth = check_labels(labels, pixels)
    keys = check_indices(indices, len(pixels))
    if sum(blocks) != len(pixels) or min(blocks) < 1:
        raise InvalidArgument("blocks", tuple(blocks), f"positive lengths that add up to {len(pixels)}")
    edges = np.cumsum([0, *blocks]).tolist()
    spans = [slice(start, stop) for start, stop in pairwise(edges)]
    pools = [list(enumerate(spans))] if attack.per_image else [[(number, span)] for number, span in enumerate(spans)]
    with evaluation_mode(model) as was_training:
        for pool in pools:
            whole = slice(pool[0][1].start, pool[-1][1].stop)
            arena = enter(
                model,
                pixels[whole],
                truth[whole],
                norm=ball,
                eps=radius,
                seed=seed,
                indices=keys[whole],
                batch=batch,
                fixed_batch=fixed,
            )
            for name, evidence in ball_flag(pixels, ball, radius).items():
                arena.flag(name, evidence)
            if was_training:
                arena.flag("train_mode", "the model came in training mode and was evaluated in eval mode")
            if attack.per_image and len(arena.standing()):
                arena.speed_up(numerics)
            inside = {number: slice(span.start - whole.start, span.stop - whole.start) for number, span in pool}
            yield from _blocks_as_they_end(arena, attack, complete, inside)


def _blocks_as_they_end(
    arena: Arena, attack: Attack, options: Mapping[str, Scalar], waiting: dict[int, slice]
) -> Iterator[tuple[int, AttackResult]]:
    """Run the attack; after every step yield the blocks in which no image is under attack any more."""
    if len(arena.standing()):
        left = -1
        for _ in attack.load()(arena, options):
            still = int(arena.verdicts.open.sum()) if len(waiting) > 1 else left
            if still == left:
                continue
            left = still
            for number in [key for key, span in waiting.items() if not bool(arena.verdicts.open[span].any())]:
                yield number, arena.result(waiting.pop(number))
    for number, span in waiting.items():
        yield number, arena.result(span)
