"""Auto-PGD (Croce and Hein, ICML 2020, section 3; for L1 ICML 2021, arXiv 2103.01208), one row an image.

Momentum ascent whose step is halved, and whose point is put back to the best one, at checkpoints where the loss stopped
improving. The L1 form adapts the number of coordinates it moves and runs through balls of 3, 2 and 1 times eps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.attacks.arena import Arena
from harness.attacks.draws import random_start
from harness.attacks.engine import Stage, State
from harness.attacks.losses import LOSSES, targeted_difference
from harness.attacks.projections import by_row, column, linf_bounds, project, project_l1_box, size
from harness.errors import InvalidArgument

MOMENTUM = 0.75
RHO = 0.75
"""Share of improving steps since the last checkpoint below which the step is halved."""

L1_SHRINK, L1_SMALLEST = 1.5, 10.0
L1_START = 0.2
"""Share of the coordinates that the first L1 step moves."""


NEAR = 0.25
"""First step, relative to eps, of a run that begins at a good point."""

Observe = Callable[[State], None]
"""Told of every step, after it."""

Begin = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Rows -> (points to begin at, targets): for runs that go on from a good point."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Checkpoints of a run: the first after `first` steps, each interval `less` shorter, none below `shortest`."""

    steps: int
    first: int
    less: int
    shortest: int

    @classmethod
    def of(cls, steps: int) -> Schedule:
        """The published fractions: .22, .03 and .06 of the steps."""
        return cls(steps, max(int(0.22 * steps), 1), max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))


class AutoPGD(Stage):
    """APGD in the Linf and L2 balls.

    Args:
        arena: where it runs.
        name: what `broken_by` says; it also names the draws.
        steps: gradient steps of a run.
        loss: "ce", "dlr", or "targeted" (the targeted difference of logits ratio).
        runs: restarts, or targets in the order of their clean logits.
        eot: gradients averaged at every point, for randomised models.
        observe: told of every step; default the arena's memory, if it has one.
        begin: gives points and targets to begin at; else runs begin at random, at the next target.
    """

    def __init__(
        self,
        arena: Arena,
        *,
        name: str,
        steps: int,
        loss: str,
        runs: int,
        eot: int = 1,
        observe: Observe | None = None,
        begin: Begin | None = None,
    ) -> None:
        super().__init__(arena)
        self.name, self.runs, self.steps, self.eot = name, runs, steps, eot
        self.targeted = loss == "targeted"
        self.loss = targeted_difference if self.targeted else LOSSES[loss]
        self.schedule = Schedule.of(steps)
        self.purpose = f"attack/{name}"
        self.observe = observe or (arena.memory.see if arena.memory else None)
        self.apart = self.observe is None
        self.begin = begin

    def start(self, rows: torch.Tensor, runs: torch.Tensor) -> State:
        """At a random point of the ball, or where `begin` says."""
        images = self.arena.images[rows]
        m, device = len(rows), images.device
        point, target = self.begin(rows) if self.begin else (self._first_point(rows, runs), None)
        state: State = {
            "image": images,
            "label": self.arena.labels[rows],
            "adv": point,
            "candidate": point.clone(),
            "old": point.clone(),
            "best": point.clone(),
            "gradient": torch.zeros_like(images),
            "best_gradient": torch.zeros_like(images),
            "length": torch.full((m,), (NEAR if self.begin else 2.0) * self.arena.eps, device=device),
            "interval": torch.full((m,), self.schedule.first, dtype=torch.int64, device=device),
            "since": torch.zeros(m, dtype=torch.int64, device=device),
            "rises": torch.zeros(m, dtype=torch.int64, device=device),
            "halved": torch.ones(m, dtype=torch.bool, device=device),
            "hit": torch.zeros(m, dtype=torch.bool, device=device),
            "done": torch.zeros(m, dtype=torch.bool, device=device),
            "margin": torch.full((m,), torch.inf, device=device),
            "rival": torch.zeros(m, dtype=torch.int64, device=device),
            "counts": torch.ones(m, dtype=torch.bool, device=device),
        }
        for name in ("last_loss", "best_loss", "checked_loss"):
            state[name] = torch.full((m,), -torch.inf, device=device)
        if self.targeted:
            state["target"] = self.arena.target(rows, runs) if target is None else target
        if self.arena.norm == "Linf":
            state["low"], state["high"] = linf_bounds(images, self.arena.eps)
        return state

    def step(self, state: State) -> None:
        """Move (not at the start), look, remember the best point, adapt at a checkpoint."""
        moved = state["step"] > 0
        if bool(moved.any()):
            there = self._moved(state)
            if bool(moved.all()):
                state["old"], state["adv"] = state["adv"], there
            else:
                state["old"] = by_row(moved, state["adv"], state["old"])
                state["adv"] = by_row(moved, there, state["adv"])
        state["candidate"] = state["adv"]
        losses = self._look(state)
        self._remember(state, losses)
        self._adapt(state)
        if self.observe:
            self.observe(state)

    def _first_point(self, rows: torch.Tensor, runs: torch.Tensor) -> torch.Tensor:
        """Where a run begins."""
        return random_start(self.arena, self.purpose, rows, runs)

    def _ends(self, state: State) -> torch.Tensor:
        """Rows at the last point of their run."""
        return state["step"] >= self.steps

    def _look(self, state: State) -> torch.Tensor:
        """Evaluate the candidates; the last point of a run needs no gradient. Sets `hit` and `done`; returns losses."""
        last = self._ends(state)
        losses = torch.empty_like(state["length"])
        for where, ending in (((~last).nonzero().squeeze(1), False), (last.nonzero().squeeze(1), True)):
            if not len(where):
                continue
            whole = len(where) == len(last)
            names = ["label", "target"] if self.targeted else ["label"]
            given = [state[name] if whole else state[name][where] for name in names]
            points = state["candidate"] if whole else state["candidate"][where]
            chosen = None if whole else where
            if ending:
                logits = self.logits(state, points, chosen)
                values = self.loss(logits, *given)
            else:
                logits, values, gradient = self._gradient(state, points, given, chosen)
                if whole:
                    state["gradient"] = gradient
                else:
                    state["gradient"][where] = gradient
            losses[where] = values
            state["hit"][where] = logits.argmax(dim=1) != given[0]
            others = logits.scatter(1, given[0].unsqueeze(1), -torch.inf)
            best, state["rival"][where] = others.max(dim=1)
            state["margin"][where] = logits.gather(1, given[0].unsqueeze(1)).squeeze(1) - best
        state["done"] = last
        return losses

    def _gradient(
        self, state: State, points: torch.Tensor, given: list[torch.Tensor], where: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits, losses and gradients, averaged over `eot` passes."""
        logits, values, gradient = self.gradient(state, points, self.loss, *given, where=where)
        for _ in range(self.eot - 1):
            more = self.gradient(state, points, self.loss, *given, where=where)
            logits, values, gradient = logits + more[0], values + more[1], gradient + more[2]
        if self.eot > 1:
            return logits / self.eot, values / self.eot, gradient / self.eot
        return logits, values, gradient

    def _remember(self, state: State, losses: torch.Tensor) -> None:
        """Keep the point of the largest loss."""
        first = state["step"] == 0
        better = losses > state["best_loss"]
        rows = better.nonzero().squeeze(1)
        state["best"][rows] = state["candidate"][rows]
        state["best_gradient"][rows] = state["gradient"][rows]
        state["rises"] += (losses > state["last_loss"]) & ~first
        state["last_loss"] = losses
        state["best_loss"] = torch.where(better, losses, state["best_loss"])
        state["checked_loss"] = torch.where(first, losses, state["checked_loss"])
        state["since"] += ~first

    def _adapt(self, state: State) -> None:
        """Conditions 1 and 2 of the paper at rows that reached their checkpoint."""
        due = state["since"] >= state["interval"]
        if not bool(due.any()):
            return
        few = state["rises"] <= RHO * state["interval"]
        stuck = ~state["halved"] & (state["checked_loss"] >= state["best_loss"])
        halve = few | stuck
        self._back_to_best(state, due & halve)
        state["length"] = torch.where(due & halve, state["length"] / 2.0, state["length"])
        state["halved"] = torch.where(due, halve, state["halved"])
        state["checked_loss"] = torch.where(due, state["best_loss"], state["checked_loss"])
        shorter = (state["interval"] - self.schedule.less).clamp_min(self.schedule.shortest)
        state["interval"] = torch.where(due, shorter, state["interval"])
        state["since"] = torch.where(due, torch.zeros_like(state["since"]), state["since"])
        state["rises"] = torch.where(due, torch.zeros_like(state["rises"]), state["rises"])

    def _back_to_best(self, state: State, which: torch.Tensor) -> None:
        """Put rows back to their best point; `candidate` keeps what was just looked at."""
        rows = which.nonzero().squeeze(1)
        if len(rows):
            state["adv"] = state["adv"].clone()
            state["adv"][rows] = state["best"][rows]
            state["gradient"][rows] = state["best_gradient"][rows]

    def _moved(self, state: State) -> torch.Tensor:
        """One step with momentum (equation 2 of the paper); the first step has none."""
        image, adv = state["image"], state["adv"]
        length = column(state["length"], adv)
        share = column(torch.where(state["step"] > 1, MOMENTUM, 1.0), adv)
        if self.arena.norm == "Linf":
            low, high = state["low"], state["high"]
            there = torch.addcmul(adv, state["gradient"].sign(), length).clamp_(low, high)
            there = adv + (there - adv) * share + (adv - state["old"]) * (1.0 - share)
            return there.clamp_(low, high)
        unit = state["gradient"] / column(size(state["gradient"], "L2") + 1e-12, adv)
        there = project(adv + length * unit, image, "L2", self.arena.eps)
        there = adv + (there - adv) * share + (adv - state["old"]) * (1.0 - share)
        return project(there, image, "L2", self.arena.eps)


class SparseAutoPGD(AutoPGD):
    """APGD in the L1 ball: steepest descent on adaptively few coordinates, in balls of 3, 2 and 1 times eps.

    Args:
        arena: where it runs.
        name: what `broken_by` says; it also names the draws.
        steps: gradient steps of a run, all balls together.
        loss: "ce", "dlr" or "targeted".
        runs: restarts or targets.
        eot: gradients averaged at every point.
        observe: told of every step.
        begin: gives points and targets; then all steps are in the ball itself.
    """

    def __init__(
        self,
        arena: Arena,
        *,
        name: str,
        steps: int,
        loss: str,
        runs: int,
        eot: int = 1,
        observe: Observe | None = None,
        begin: Begin | None = None,
    ) -> None:
        super().__init__(arena, name=name, steps=steps, loss=loss, runs=runs, eot=eot, observe=observe, begin=begin)
        first = math.ceil(0.3 * steps)
        parts = [first, first, steps - 2 * first] if not begin and steps >= 4 else [steps]
        # every ball begins with a look at its first point, which is no step
        self.begins = [sum(parts[:i]) + i for i in range(len(parts))]
        self.factors = [3.0, 2.0, 1.0][-len(parts) :]
        self.checks = [max(int(0.04 * part), 1) for part in parts]
        self.steps = steps + len(parts) - 1

    def start(self, rows: torch.Tensor, runs: torch.Tensor) -> State:
        """At a random point of the largest ball, or where `begin` says."""
        state = super().start(rows, runs)
        pixels = float(math.prod(self.arena.images.shape[1:]))
        state["moving"] = torch.full_like(state["length"], pixels)
        state["share"] = torch.full_like(state["length"], L1_START)
        if self.begin or len(self.factors) > 1:
            state["moving"] = (state["adv"] != state["image"]).flatten(1).sum(dim=1).to(torch.float32)
            state["share"] = state["moving"] / pixels / 1.5
        state["radius"] = torch.full_like(state["length"], self.factors[0] * self.arena.eps)
        state["length"] = state["radius"].clone()
        state["interval"] = torch.full_like(state["interval"], self.checks[0])
        return state

    def step(self, state: State) -> None:
        """As before; a row that enters a smaller ball first looks at its best point projected there."""
        for begin, factor, check in list(zip(self.begins, self.factors, self.checks, strict=True))[1:]:
            rows = (state["step"] == begin).nonzero().squeeze(1)
            if len(rows):
                self._enter(state, rows, factor * self.arena.eps, check)
        super().step(state)

    def _look(self, state: State) -> torch.Tensor:
        """As before; a point of a larger ball is no adversarial example yet."""
        losses = super()._look(state)
        state["counts"] = state["radius"] <= self.arena.eps
        state["hit"] &= state["counts"]
        return losses

    def _enter(self, state: State, rows: torch.Tensor, radius: float, check: int) -> None:
        """Begin anew in the ball of `radius`."""
        image = state["image"][rows]
        delta = project_l1_box(state["best"][rows] - image, image, radius)
        point = (image + delta).clamp(0.0, 1.0)
        moving = (point != image).flatten(1).sum(dim=1).to(torch.float32)
        for name in ("adv", "old", "best"):
            state[name] = state[name].clone()
            state[name][rows] = point
        state["radius"][rows], state["length"][rows] = radius, radius
        state["moving"][rows] = moving
        state["share"][rows] = moving / image[0].numel() / 1.5
        state["interval"][rows] = check
        state["best_loss"][rows] = -torch.inf
        for name in ("since", "rises"):
            state[name][rows] = 0

    def _first_point(self, rows: torch.Tensor, runs: torch.Tensor) -> torch.Tensor:
        """A normal draw around the image, projected to the largest ball."""
        return random_start(self.arena, self.purpose, rows, runs, radius=self.factors[0] * self.arena.eps)

    def _moved(self, state: State) -> torch.Tensor:
        """A step spread over the largest `share` of the gradient's entries; none where a ball begins."""
        image, adv = state["image"], state["adv"]
        flat = state["gradient"].flatten(1)
        n = flat.shape[1]
        magnitude = flat.abs()
        rank = ((1.0 - state["share"]) * n).to(torch.int64).clamp(0, n - 1)
        least = magnitude.sort(dim=1).values.gather(1, rank.unsqueeze(1))
        signs = torch.ge(magnitude, least, out=torch.empty_like(flat)).mul_(flat.sign())
        unit = signs / (signs.abs().sum(dim=1, keepdim=True) + 1e-10)
        delta = adv + column(state["length"], adv) * unit.reshape(adv.shape) - image
        there = (image + project_l1_box(delta, image, state["radius"])).clamp_(0.0, 1.0)
        begins = torch.isin(state["step"], torch.tensor(self.begins, device=adv.device))
        return by_row(begins, adv, there)

    def _remember(self, state: State, losses: torch.Tensor) -> None:
        """As before; the first look in a ball is no step."""
        super()._remember(state, losses)
        begins = torch.isin(state["step"], torch.tensor(self.begins, device=losses.device))
        state["since"] = torch.where(begins, torch.zeros_like(state["since"]), state["since"])

    def _adapt(self, state: State) -> None:
        """Sparser steps where the best point became sparser, shorter ones elsewhere."""
        due = state["since"] >= state["interval"]
        if not bool(due.any()):
            return
        pixels = float(math.prod(self.arena.images.shape[1:]))
        moving = (state["best"] != state["image"]).flatten(1).sum(dim=1).to(torch.float32)
        sparser = moving / state["moving"] < 0.95
        self._back_to_best(state, due & sparser)
        length = torch.where(sparser, state["radius"], state["length"] / L1_SHRINK)
        length = torch.minimum(torch.maximum(length, state["radius"] / L1_SMALLEST), state["radius"])
        state["length"] = torch.where(due, length, state["length"])
        state["share"] = torch.where(due, moving / pixels / 1.5, state["share"])
        state["moving"] = torch.where(due, moving, state["moving"])
        state["since"] = torch.where(due, torch.zeros_like(state["since"]), state["since"])


def auto_pgd(
    arena: Arena,
    *,
    name: str,
    steps: int,
    loss: str,
    runs: int,
    eot: int = 1,
    observe: Observe | None = None,
    begin: Begin | None = None,
) -> AutoPGD:
    """APGD for the arena's norm; arguments as for `AutoPGD`.

    Raises:
        InvalidArgument: no steps or runs.
    """
    if steps < 1 or runs < 1:
        raise InvalidArgument("steps", (steps, runs), "at least one step and one run")
    kind = SparseAutoPGD if arena.norm == "L1" else AutoPGD
    return kind(arena, name=name, steps=steps, loss=loss, runs=runs, eot=eot, observe=observe, begin=begin)
