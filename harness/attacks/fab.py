"""Fast adaptive boundary attack (Croce and Hein, ICML 2020, arXiv 1907.02044), one row an image.

It walks to the boundary that the linearised model shows, staying near the image, steps back once it is across, and so
finds short adversarial perturbations. Targeted: the boundary to one class; untargeted: the nearest of all.
"""

from __future__ import annotations

import torch

from harness.attacks.arena import Arena
from harness.attacks.draws import random_start
from harness.attacks.engine import Stage, State
from harness.attacks.hyperplanes import to_hyperplane
from harness.attacks.losses import margin
from harness.attacks.projections import by_row, size
from harness.types import Norm

ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9
"""Largest pull towards the image, overshoot across the boundary, share of the way kept on the step back."""


SURE = 1e-5
"""Margin, relative to the largest logit, at which a point counts as across whatever the kernels."""

DUAL: dict[Norm, Norm] = {"Linf": "L1", "L2": "L2", "L1": "Linf"}
"""The norm of a slope that belongs to the norm of a way."""


def lead(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Logit of the target minus that of the label, n."""
    return (logits.gather(1, targets.unsqueeze(1)) - logits.gather(1, labels.unsqueeze(1))).squeeze(1)


class FastBoundary(Stage):
    """FAB-T: one run a target, in the order of the clean logits.

    Args:
        arena: where it runs.
        name: what `broken_by` says.
        steps: iterations of a run.
        targets: runs an image gets.
        shortest: do not stop at eps but go on looking for shorter perturbations, kept in `distances` (n)
            and `shortest` (n x C x H x W).
    """

    def __init__(self, arena: Arena, *, name: str, steps: int, targets: int, shortest: bool = False) -> None:
        super().__init__(arena)
        self.name, self.steps, self.runs = name, steps, targets
        self.keep, self.apart = shortest, not shortest
        self.distances = torch.full((len(arena.images),), torch.inf, device=arena.images.device)
        self.shortest = arena.images.clone() if shortest else arena.images

    def start(self, rows: torch.Tensor, runs: torch.Tensor) -> State:
        """At the image itself."""
        images = self.arena.images[rows]
        return {
            "image": images,
            "label": self.arena.labels[rows],
            "target": self.arena.target(rows, runs),
            "adv": images.clone(),
            "candidate": images.clone(),
            "hit": torch.zeros(len(rows), dtype=torch.bool, device=images.device),
            "done": torch.zeros(len(rows), dtype=torch.bool, device=images.device),
        }

    def step(self, state: State) -> None:
        """Linearise, move, look, step back where the boundary was crossed."""
        there = self._moved(state, *self._linearise(state))
        logits = self.logits(state, there)
        across = logits.argmax(dim=1) != state["label"]
        way = there - state["image"]
        distance = size(way, self.arena.norm)
        state["candidate"] = there
        state["adv"] = by_row(across, state["image"] + BETA * way, there)
        state["done"] = state["step"] >= self.steps - 1
        if not self.keep:
            state["hit"] = across & (distance <= self.arena.eps * (1.0 + 1e-6))
            return
        # only one point of an image is judged at the end: it must not be one that kernels see on either side
        sure = margin(logits, state["label"]) < -SURE * logits.abs().amax(dim=1)
        rows = (sure & state["alive"] & (distance < self.distances[state["position"]])).nonzero().squeeze(1)
        places = state["position"][rows]
        self.distances[places], self.shortest[places] = distance[rows], there[rows]

    def _linearise(self, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Lead of the target over the label at each point, and its gradient."""
        return self.gradient(state, state["adv"], lead, state["label"], state["target"])[1:]

    def _moved(self, state: State, gap_here: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Algorithm 1: between the projections of the current point and of the image, overshooting a little.

        The hyperplane is where the linearised lead, `gap_here` at the current point, is zero.
        """
        image, adv, slope = state["image"].flatten(1), state["adv"].flatten(1), gradient.flatten(1)
        gap_image = gap_here + (slope * (image - adv)).sum(dim=1)
        moves = to_hyperplane(
            torch.cat([adv, image]), torch.cat([slope, slope]), torch.cat([gap_here, gap_image]), self.arena.norm
        )
        here, home = moves.chunk(2)
        far = size(moves, self.arena.norm).clamp_min(1e-8).unsqueeze(1)
        far_here, far_home = far.chunk(2)
        pull = (far_here / (far_here + far_home)).clamp(0.0, ALPHA_MAX)
        there = (adv + ETA * here) * (1.0 - pull) + (image + ETA * home) * pull
        return there.clamp_(0.0, 1.0).reshape(state["image"].shape)


class UntargetedBoundary(FastBoundary):
    """FAB: at every iteration the nearest of all linearised boundaries; restarts begin at random points of half eps.

    Args:
        arena: where it runs.
        name: what `broken_by` says; it also names the draws.
        steps: iterations of a run.
        restarts: runs an image gets.
    """

    def __init__(self, arena: Arena, *, name: str, steps: int, restarts: int) -> None:
        super().__init__(arena, name=name, steps=steps, targets=restarts)

    def start(self, rows: torch.Tensor, runs: torch.Tensor) -> State:
        """The first run at the image, the others at random."""
        return super().start(rows, torch.zeros_like(runs)) | {"adv": self._first_point(rows, runs)}

    def _first_point(self, rows: torch.Tensor, runs: torch.Tensor) -> torch.Tensor:
        """Half of a random point of the ball."""
        images = self.arena.images[rows]
        point = random_start(self.arena, f"attack/{self.name}", rows, runs)
        return by_row(runs > 0, images + 0.5 * (point - images), images)

    def _linearise(self, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """As before, at the boundary that is nearest in the arena's norm: one pass for every other class."""
        labels, classes = state["label"], self.arena.verify.classes or 2
        near = torch.full((len(labels),), torch.inf, device=labels.device)
        best_lead, best_slope = torch.zeros_like(near), torch.zeros_like(state["adv"])
        for shift in range(1, classes):
            targets = (labels + shift) % classes
            _, ahead, slope = self.gradient(state, state["adv"], lead, labels, targets)
            distance = ahead.abs() / (size(slope, DUAL[self.arena.norm]) + 1e-12)
            closer = distance < near
            near = torch.where(closer, distance, near)
            best_lead = torch.where(closer, ahead, best_lead)
            best_slope = by_row(closer, slope, best_slope)
        return best_lead, best_slope
