"""Smallest perturbations, image by image: the torch half of `harness.attacks.curves`, and the attacks behind curves.

A curve of robust accuracy over eps is what these leave behind: for each image the size of the smallest perturbation
found. `bisect` runs another attack at about log2 of the radii; `fab-distance` walks along the boundary. Both are
attacks like any other (they propose, the arena judges), so results are stored, resumed and compared like any other's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from harness.attacks.arena import Arena, Verdicts, enter, evaluation_mode
from harness.attacks.base import Attack, Numerics
from harness.attacks.catalogue import ATTACKS
from harness.attacks.checked import check_images, check_indices, check_labels
from harness.attacks.curves import Curve, check_grid, radii
from harness.attacks.engine import State, run_stage
from harness.attacks.ensemble import targets as available
from harness.attacks.fab import FastBoundary
from harness.attacks.memory import Memory
from harness.attacks.physical import check_batch
from harness.attacks.projections import by_row
from harness.rng import stream_key
from harness.spec import Scalar
from harness.types import Classifier, Norm

Options = Mapping[str, Scalar]


class ShortestBoundary(FastBoundary):
    """FAB-T that does not stop at eps: an image is taken to all targets; its smallest find is proposed at the end."""

    def __init__(self, arena: Arena, *, steps: int, targets: int) -> None:
        super().__init__(arena, name="fab-t", steps=steps, targets=targets, shortest=True)

    def step(self, state: State) -> None:
        """One step of FAB-T; the last one of the last run proposes what all runs found, if the ball holds it."""
        super().step(state)
        position = state["position"]
        last = state["done"] & (state["run"] + 1 >= self.runs)
        state["hit"] = last & (self.distances[position] <= self.arena.eps * (1.0 + 1e-6))
        best = self.shortest[position]
        state["candidate"] = by_row(state["hit"], best, state["candidate"])


def run_distances(arena: Arena, options: Options) -> Iterator[None]:
    """The attack `fab-distance`."""
    stage = ShortestBoundary(arena, steps=int(options["steps"]), targets=available(arena, int(options["targets"])))
    return run_stage(stage, arena.standing(), final=True)


def run_bisect(arena: Arena, options: Options) -> Iterator[None]:
    """The attack `bisect`: another attack, by name, at equally spaced radii up to the arena's."""
    attack = ATTACKS.get(str(options["inner"]))
    return bisection(arena, radii(arena.eps, int(options["levels"])), attack, attack.complete({}))


def bisection(arena: Arena, grid: Sequence[float], attack: Attack, options: Options) -> Generator[None, None, int]:
    """Find for each image the smallest of the radii at which an attack breaks it.

    An image is attacked at the middle of the radii that are still open for it. What breaks it, breaks it at every
    radius of at least its own size; where the attack fails, it counts as failing at all smaller radii too. Each attack
    is the one that `run_attack` would make at that radius: the same draws, the same judge. An image's way depends on
    nothing but itself.

    Args:
        arena: with a radius of at least the largest of `grid`; its record becomes that of the smallest break.
        grid: g radii, ascending.
        attack: run at each.
        options: complete.

    Yields:
        After every step, with images settled whose search is over.

    Returns:
        Attack runs that it took, one image at one radius each.
    """
    edges, state, n = np.asarray(grid), arena.verdicts, len(arena.images)
    clean = state.margin.clone(), state.scale.clone()
    low = np.zeros(n, dtype=np.int64)  # images stand below `low` and fall from `high` on
    high = np.where(state.correct.cpu().numpy(), len(grid), 0)
    smallest, runs = np.full(n, np.inf), 0
    while bool((undecided := low < high).any()):
        middle = (low + high) // 2
        for level in np.unique(middle[undecided]):
            rows = np.flatnonzero((middle == level) & undecided)
            ball = _ball(arena, torch.from_numpy(rows).to(arena.images.device), float(edges[level]), clean)
            yield from attack.load()(ball, options)
            runs += len(rows)
            robust, size = _merge(arena, ball, rows, smallest)
            fell = rows[~robust]
            smallest[fell] = np.minimum(smallest[fell], size[~robust])
            high[fell] = np.searchsorted(edges, smallest[fell], side="left")
            low[rows[robust]] = level + 1
            arena.settle(torch.from_numpy(rows[low[rows] >= high[rows]]).to(arena.images.device))
            yield
    return runs


def _ball(arena: Arena, rows: torch.Tensor, eps: float, clean: tuple[torch.Tensor, torch.Tensor]) -> Arena:
    """The images at `rows` as they were before any attack, in a ball of radius `eps`; nothing is charged yet."""
    images, n = arena.images[rows], len(rows)
    unbroken = torch.ones(n, dtype=torch.bool, device=images.device)
    verdicts = Verdicts(
        adversarial=images.clone(),
        correct=unbroken,
        margin=clean[0][rows].clone(),
        scale=clean[1][rows].clone(),
        broken_by=[""] * n,
        steps=np.full(n, -1, dtype=np.int64),
        runs=np.full(n, -1, dtype=np.int64),
        forwards=np.zeros(n, dtype=np.int64),
        backwards=np.zeros(n, dtype=np.int64),
        open=unbroken.clone(),
    )
    ball = replace(
        arena,
        images=images,
        labels=arena.labels[rows],
        indices=arena.indices[rows.cpu().numpy()],
        eps=eps,
        verdicts=verdicts,
        order=arena.order[rows],
        evidence={},
    )
    ball.memory = Memory(ball) if arena.memory is not None else None
    return ball


def _merge(
    arena: Arena, ball: Arena, rows: NDArray[np.int64], smallest: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Charge what an inner attack spent, and keep its breaks where they are the smallest so far.

    Returns:
        Of each row: robust at that radius; size of the perturbation.
    """
    found, state, inner = ball.result(), arena.verdicts, ball.verdicts
    state.forwards[rows] += inner.forwards
    state.backwards[rows] += inner.backwards
    for name, evidence in ball.evidence.items():
        arena.flag(name, evidence)
    closer = np.flatnonzero(~found.robust & (found.norm < smallest[rows]))
    places, kept = (torch.from_numpy(part).to(arena.images.device) for part in (rows[closer], closer))
    state.adversarial[places] = inner.adversarial[kept]
    state.margin[places], state.scale[places] = inner.margin[kept], inner.scale[kept]
    state.correct[places] = False
    state.steps[rows[closer]], state.runs[rows[closer]] = inner.steps[closer], inner.runs[closer]
    for place, position in zip(rows[closer], closer, strict=True):
        state.broken_by[place] = inner.broken_by[position]
    return found.robust, found.norm


def with_fab(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    norm: Norm,
    steps: int,
    targets: int,
    seed: int,
    batch_size: int | None,
    fixed_batch: int | None,
) -> NDArray[np.float64]:
    """What `harness.attacks.curves.minimal_distances` documents."""
    pixels = check_images(images)
    truth = check_labels(labels, pixels)
    with evaluation_mode(model):
        arena = enter(
            model,
            pixels,
            truth,
            norm=norm,
            eps=float(pixels[0].numel()),  # holds all of [0, 1] in any norm
            seed=seed,
            indices=np.arange(len(pixels), dtype=np.int64),
            batch=check_batch("batch_size", batch_size, None),
            fixed_batch=check_batch("fixed_batch", fixed_batch, None),
        )
        arena.speed_up(Numerics())
        for _ in run_distances(arena, {"steps": steps, "targets": targets}):
            continue
        found = arena.result()
        return np.where(found.robust, np.inf, found.norm)


def with_attack(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    eps: Sequence[float | str],
    *,
    attack: str,
    norm: str,
    seed: int,
    indices: NDArray[np.int64] | None,
    batch_size: int | None,
    fixed_batch: int | None,
    numerics: Numerics | None,
    options: Options,
) -> Curve:
    """What `harness.attacks.curves.bisect` documents."""
    inner, grid = ATTACKS.get(attack), check_grid(eps)
    ball, complete = inner.check_norm(norm), inner.complete(options)
    stream_key(seed, "check")
    pixels = check_images(images)
    truth = check_labels(labels, pixels)
    with evaluation_mode(model):
        arena = enter(
            model,
            pixels,
            truth,
            norm=ball,
            eps=grid[-1],
            seed=seed,
            indices=check_indices(indices, len(pixels)),
            batch=check_batch("batch_size", batch_size, None),
            fixed_batch=check_batch("fixed_batch", fixed_batch, None),
        )
        arena.speed_up(numerics or Numerics())
        search, runs = bisection(arena, grid, inner, complete), 0
        while True:
            try:
                next(search)
            except StopIteration as end:
                runs = int(end.value)
                break
        found = arena.result()
    broken_at = np.where(found.robust, np.inf, found.norm)
    robust = broken_at[None, :] > np.asarray(grid)[:, None]
    return Curve(eps=grid, robust=robust, broken_at=broken_at, runs=runs)
