"""Runs a search over many images in one batch that images leave as soon as they are broken.

Each slot of the batch holds one image at its own step of its own run; a slot that becomes free is refilled at once
with the next image, so the batch stays full until the queue is empty, then it shrinks. What happens to an image
depends on its own slot alone, so outcomes do not depend on who else is in the batch (promise A). The batch always has
a multiple of 16 rows: rows that are not in use repeat others and count for nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import torch

from harness.attacks.arena import Arena
from harness.attacks.physical import Loss, round_up

PATIENCE = 5
"""Steps between two proposals for the same image."""

State = dict[str, torch.Tensor]
"""One row a slot. The engine sets position, run, step, retry and alive; `Stage.step` hit, done and candidate."""


class Stage(ABC):
    """One attack as a row-wise step; subclasses keep everything that varies between images in the state.

    Attributes:
        name: what `broken_by` says.
        runs: restarts or targets an image gets at most.
    """

    name: str
    runs: int = 1

    def __init__(self, arena: Arena) -> None:
        self.arena = arena

    @abstractmethod
    def start(self, rows: torch.Tensor, runs: torch.Tensor) -> State:
        """State of new rows: images at positions `rows` (m), each at the beginning of run `runs` (m)."""

    @abstractmethod
    def step(self, state: State) -> None:
        """Advance every row by one step; set `candidate`, `hit` (misclassified) and `done` (the run is over)."""

    def logits(self, state: State, images: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of the search model for the rows of `state` (those at `where`), counted for rows in use."""
        position, alive = _select(state, where)
        return self.arena.logits(position[alive], images)

    def gradient(
        self, state: State, images: torch.Tensor, loss: Loss, *per_row: torch.Tensor, where: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits, losses and gradients for the rows of `state` (those at `where`), counted for rows in use."""
        position, alive = _select(state, where)
        return self.arena.gradient(position[alive], images, loss, *per_row)


def _select(state: State, where: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(position, alive) of the rows at `where`."""
    if where is None:
        return state["position"], state["alive"]
    return state["position"][where], state["alive"][where]


def run_stage(stage: Stage, rows: torch.Tensor, *, final: bool = False) -> Iterator[None]:
    """Run `stage` on the images at positions `rows` (distinct, in the order in which they enter).

    Broken images are recorded by the arena as they fall. Yields after every step.

    Args:
        stage: what to run.
        rows: positions of images.
        final: nothing comes after it: images that it does not break are settled when their last run ends.
    """
    queue = rows.tolist()
    if not queue:
        return
    slots = min(stage.arena.search.fixed_batch or stage.arena.search.batch_size, round_up(len(queue)))
    first, queue = queue[:slots], queue[slots:]
    queue.reverse()
    state = _open(stage, first, slots)
    while bool(state["alive"].any()):
        stage.step(state)
        state["step"] += 1
        broken = _judge(stage, state)
        over = state["done"] & state["alive"] & ~broken
        again = over & (state["run"] + 1 < stage.runs)
        leaving = over & ~again
        if final and bool(leaving.any()):
            stage.arena.settle(state["position"][leaving])
        _refill(stage, state, again, broken | leaving, queue)
        if not queue:
            state = _shrink(state)
        yield


def _open(stage: Stage, first: Iterable[int], slots: int) -> State:
    """The state of a new batch; missing rows repeat the first image and are not in use."""
    device = stage.arena.images.device
    positions = list(first)
    used = len(positions)
    position = torch.tensor(positions + positions[:1] * (slots - used), device=device)
    run = torch.zeros(slots, dtype=torch.int64, device=device)
    state = stage.start(position, run)
    state["position"], state["run"] = position, run
    state["step"], state["retry"] = torch.zeros_like(run), torch.zeros_like(run)
    state["alive"] = torch.arange(slots, device=device) < used
    return state


def _judge(stage: Stage, state: State) -> torch.Tensor:
    """Propose what the step found; bool a row: broken."""
    broken = torch.zeros_like(state["alive"])
    # what the search thinks is broken and the judge refused is looked at again a few steps later, or at the run's end
    due = (state["step"] >= state["retry"]) | state["done"]
    found = (state["hit"] & state["alive"] & due).nonzero().squeeze(1)
    if len(found):
        state["retry"][found] = state["step"][found] + PATIENCE
        broken[found] = stage.arena.propose(
            state["position"][found],
            state["candidate"][found],
            stage.name,
            state["step"][found] - 1,
            state["run"][found],
        )
    return broken


def _refill(stage: Stage, state: State, again: torch.Tensor, vacant: torch.Tensor, queue: list[int]) -> None:
    """Start the next run where `again`, the next image of the queue where `vacant`; retire what stays empty."""
    slots, positions, runs = again.nonzero().squeeze(1).tolist(), [], []
    for slot in slots:
        positions.append(int(state["position"][slot]))
        runs.append(int(state["run"][slot]) + 1)
    for slot in vacant.nonzero().squeeze(1).tolist():
        if queue:
            slots.append(slot)
            positions.append(queue.pop())
            runs.append(0)
        else:
            state["alive"][slot] = False
    if not slots:
        return
    device = state["position"].device
    where, position, run = (torch.tensor(items, device=device) for items in (slots, positions, runs))
    fresh = stage.start(position, run)
    fresh["position"], fresh["run"] = position, run
    fresh["step"], fresh["retry"] = torch.zeros_like(run), torch.zeros_like(run)
    for name, values in fresh.items():
        state[name][where] = values


def _shrink(state: State) -> State:
    """Drop rows that are not in use, down to a multiple of 16."""
    alive = state["alive"]
    target = round_up(int(alive.sum()))
    if target == len(alive) or target == 0:
        return state
    order = torch.argsort(alive.logical_not().to(torch.int8), stable=True)[:target]
    keep = order.sort().values
    return {name: values[keep] for name, values in state.items()}
