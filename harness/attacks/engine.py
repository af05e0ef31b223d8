"""Runs a search over many images in one batch that images leave as soon as they are broken.

Each slot of the batch holds one image at its own step of its own run; a slot that becomes free is refilled at once
with the next image, so the batch stays full until the queue is empty, then it shrinks. What happens to an image
depends on its own slot alone, so outcomes do not depend on who else is in the batch (promise A). The batch always has
a multiple of 16 rows.

Rows that are left over work ahead: they make later runs (restarts, targets) of the images under attack. What they find
and what they cost counts only once the runs before them have failed, so outcomes are those of one run after the other.
Rows that are not in use at all repeat others, or go on for images that have left, and count for nothing.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch

from harness.attacks.arena import Arena
from harness.attacks.physical import Loss, round_up
from harness.errors import NonFinite

PATIENCE = 5
"""Steps between two proposals for the same image."""

State = dict[str, torch.Tensor]
"""One row a slot. `Stage.step` sets hit, done and candidate; the engine sets

position and run of what is searched, step, and retry (the step from which the judge may be asked again),
alive (in use), ahead (its turn has not come), owed (forward and backward passes to be charged when it comes),
and spoilt (what it did while nobody waited for it was not finite).
"""


class Stage(ABC):
    """One attack as a row-wise step; subclasses keep everything that varies between images in the state.

    Attributes:
        name: what `broken_by` says.
        runs: restarts or targets an image gets at most.
        apart: runs of an image learn nothing from each other, so they may be made at the same time.
    """

    name: str
    runs: int = 1
    apart: bool = False

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
        (logits,) = self._pass(state, where, 0, lambda batch: (self.arena.search.logits(batch),), images)
        return logits

    def gradient(
        self, state: State, images: torch.Tensor, loss: Loss, *per_row: torch.Tensor, where: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits, losses and gradients for the rows of `state` (those at `where`), counted for rows in use."""

        def differentiate(batch: torch.Tensor, *more: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.arena.search.gradient(batch, loss, *more)

        logits, losses, gradients = self._pass(state, where, 1, differentiate, images, *per_row)
        return logits, losses, gradients

    def _pass(
        self,
        state: State,
        where: torch.Tensor | None,
        backwards: int,
        call: Callable[..., tuple[torch.Tensor, ...]],
        *per_row: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Count a pass and make it.

        Rows whose turn it is are charged, rows that work ahead owe. Values that are not finite are an error only in the
        former: without the others nobody would have seen them.
        """
        position, alive, ahead = (
            state[name] if where is None else state[name][where] for name in ("position", "alive", "ahead")
        )
        turn = alive & ~ahead
        self.arena.count(position[turn], forwards=1, backwards=backwards)
        rows = torch.arange(len(turn), device=turn.device) if where is None else where
        if self.apart:
            state["owed"][rows[ahead]] += torch.tensor([1, backwards], device=rows.device)
        try:
            return call(*per_row)
        except NonFinite:
            if bool(turn.all()):
                raise
        state["spoilt"][rows[~turn]] = True
        waited_for = turn.nonzero().squeeze(1)
        if len(waited_for):
            source = torch.where(turn, torch.arange(len(turn), device=turn.device), waited_for[0])
            return call(*(item[source] for item in per_row))
        images = per_row[0]
        logits = images.new_zeros(len(images), self.arena.verify.classes or 2)
        return (logits, images.new_zeros(len(images)), torch.zeros_like(images))[: 1 + 2 * backwards]


def run_stage(stage: Stage, rows: torch.Tensor, *, final: bool = False) -> Iterator[None]:
    """Run `stage` on the images at positions `rows` (distinct, in the order in which they enter).

    Broken images are recorded by the arena as they fall. Yields after every step.

    Args:
        stage: what to run.
        rows: positions of images.
        final: nothing comes after it: images that it does not break are settled when their last run ends.
    """
    if not len(rows):
        return
    batch = _Batch(stage, rows.tolist(), final=final)
    while batch.busy():
        batch.advance()
        yield


class _Batch:
    """The slots of a stage and the images that wait for one.

    Args:
        stage: what runs.
        positions: of the images, in the order in which they enter.
        final: see `run_stage`.
    """

    def __init__(self, stage: Stage, positions: list[int], *, final: bool) -> None:
        self.stage, self.final = stage, final
        search = stage.arena.search
        slots = min(search.fixed_batch or search.batch_size, round_up(len(positions)))
        self.queue = positions[slots:][::-1]
        self.parked: dict[tuple[int, int], State] = {}
        self.only_in_turn: set[tuple[int, int]] = set()
        self.state = self._open(positions[:slots], slots)
        self.works_ahead = stage.apart and stage.runs > 1
        self._fill()

    def busy(self) -> bool:
        """Whether an image is still under attack."""
        return bool(self.state["alive"].any())

    def advance(self) -> None:
        """One step of every row, and what follows from it."""
        state = self.state
        self.stage.step(state)
        state["step"] += 1
        turn = state["alive"] & ~state["ahead"]
        broken = self._judge(turn)
        over = state["done"] & turn & ~broken
        ready = state["ahead"] & (state["hit"] | state["done"] | state["spoilt"])
        if not bool((broken | over | ready).any()):
            return
        for slot in _slots(ready):
            self._set_aside(slot)
        for slot in _slots(broken):
            self._leave(slot)
        self._start([slot for slot in _slots(over) if self._next_run(slot)])
        self._enter()
        if not self.queue:
            self._shrink()
            self._fill()

    def _open(self, positions: list[int], slots: int) -> State:
        """The state of a new batch; missing rows repeat the first image and are not in use."""
        device = self.stage.arena.images.device
        used = len(positions)
        position = torch.tensor(positions + positions[:1] * (slots - used), device=device)
        run = torch.zeros_like(position)
        return {
            **self.stage.start(position, run),
            "position": position,
            "run": run,
            "step": torch.zeros_like(run),
            "retry": torch.zeros_like(run),
            "alive": torch.arange(slots, device=device) < used,
            "ahead": torch.zeros(slots, dtype=torch.bool, device=device),
            "spoilt": torch.zeros(slots, dtype=torch.bool, device=device),
            "owed": torch.zeros(slots, 2, dtype=torch.int64, device=device),
        }

    def _judge(self, rows: torch.Tensor) -> torch.Tensor:
        """Propose what the last step found in `rows` (bool a slot); bool a slot: broken."""
        state = self.state
        broken = torch.zeros_like(state["alive"])
        # what the search thinks is broken and the judge refused is looked at again some steps later or at the end
        due = (state["step"] >= state["retry"]) | state["done"]
        found = (state["hit"] & rows & due).nonzero().squeeze(1)
        if len(found):
            state["retry"][found] = state["step"][found] + PATIENCE
            broken[found] = self.stage.arena.propose(
                state["position"][found],
                state["candidate"][found],
                self.stage.name,
                state["step"][found] - 1,
                state["run"][found],
            )
        return broken

    def _start(self, slots: list[int], *, ahead: bool = False) -> None:
        """Begin at `slots` the runs that their `position` and `run` say."""
        if not slots:
            return
        state = self.state
        where = torch.tensor(slots, device=state["position"].device)
        for name, values in self.stage.start(state["position"][where], state["run"][where]).items():
            state[name][where] = values
        for name in ("step", "retry", "owed"):
            state[name][where] = 0
        state["alive"][where], state["spoilt"][where] = True, False
        state["ahead"][where] = ahead

    def _enter(self) -> None:
        """Images of the queue take the free slots."""
        slots = _slots(~self.state["alive"])[: len(self.queue)]
        for slot in slots:
            self.state["position"][slot], self.state["run"][slot] = self.queue.pop(), 0
        self._start(slots)

    def _leave(self, slot: int) -> None:
        """The image in a slot is done with, and so is all work ahead on it."""
        state = self.state
        position = state["position"][slot]
        state["alive"] &= state["position"] != position
        state["ahead"] &= state["alive"]
        for key in [key for key in self.parked if key[0] == int(position)]:
            del self.parked[key]

    def _next_run(self, slot: int) -> bool:
        """The run in a slot failed: go on with the image's next one; whether it has to be begun in that slot."""
        state = self.state
        position = int(state["position"][slot])
        for run in range(int(state["run"][slot]) + 1, self.stage.runs):
            here = state["ahead"] & (state["position"] == position) & (state["run"] == run)
            if bool(here.any()):
                state["alive"][slot] = False
                self._take_turn(_slots(here)[0])
                return False
            row = self.parked.pop((position, run), None)
            if row is None:
                state["run"][slot] = run
                return True
            self._put(slot, row)
            self._take_turn(slot)
            alone = torch.arange(len(here), device=here.device) == slot
            if bool(self._judge(alone).any()):
                self._leave(slot)
                return False
            if not bool(state["done"][slot]):
                return False
        if self.final:
            self.stage.arena.settle(state["position"][slot : slot + 1])
        self._leave(slot)
        return False

    def _take_turn(self, slot: int) -> None:
        """A row that worked ahead is its image's current run, and its passes count."""
        state = self.state
        state["ahead"][slot] = False
        forwards, backwards = state["owed"][slot].tolist()
        self.stage.arena.count(state["position"][slot : slot + 1], forwards=forwards, backwards=backwards)
        state["owed"][slot] = 0

    def _set_aside(self, slot: int) -> None:
        """Keep what a row did ahead until its turn; a run that was not finite is made then, and fails then."""
        state = self.state
        key = int(state["position"][slot]), int(state["run"][slot])
        if bool(state["spoilt"][slot]):
            self.only_in_turn.add(key)
        else:
            self.parked[key] = {name: values[slot].clone() for name, values in state.items()}
        state["alive"][slot] = state["ahead"][slot] = False

    def _put(self, slot: int, row: State) -> None:
        """Take a row back."""
        for name, values in row.items():
            # two names of a state may be one tensor
            self.state[name] = self.state[name].clone()
            self.state[name][slot] = values

    def _fill(self) -> None:
        """Let free slots work ahead, on the runs that come first, unless many rows wait already."""
        state = self.state
        free = _slots(~state["alive"])[: max(len(state["alive"]) - len(self.parked), 0)]
        if self.queue or not self.works_ahead or not free:
            return
        turn = state["alive"] & ~state["ahead"]
        current = dict(zip(state["position"][turn].tolist(), state["run"][turn].tolist(), strict=True))
        taken = set(zip(state["position"][state["ahead"]].tolist(), state["run"][state["ahead"]].tolist(), strict=True))
        taken |= {key for key, row in self.parked.items() if bool(row["hit"] | row["done"])} | self.only_in_turn
        wanted = (
            (run - now, position, run)
            for position, now in current.items()
            for run in range(now + 1, self.stage.runs)
            if (position, run) not in taken
        )
        fresh = []
        for slot, (_, position, run) in zip(free, heapq.nsmallest(len(free), wanted), strict=False):
            row = self.parked.pop((position, run), None)
            if row is None:
                state["position"][slot], state["run"][slot] = position, run
                fresh.append(slot)
            else:
                self._put(slot, row)
        self._start(fresh, ahead=True)

    def _shrink(self) -> None:
        """Drop rows that are not in use, and work ahead that does not fit, down to a multiple of 16."""
        state = self.state
        turn = state["alive"] & ~state["ahead"]
        target = round_up(int(turn.sum()))
        if target in (0, len(turn)):
            return
        spare = sorted(_slots(state["ahead"]), key=lambda slot: int(state["run"][slot]))
        for slot in spare[target - int(turn.sum()) :]:
            self._set_aside(slot)
        order = torch.argsort(state["alive"].logical_not().to(torch.int8), stable=True)[:target]
        keep = order.sort().values
        self.state = {name: values[keep] for name, values in state.items()}


def _slots(rows: torch.Tensor) -> list[int]:
    """Numbers of the rows where it is true."""
    slots: list[int] = rows.nonzero().squeeze(1).tolist()
    return slots
