"""Multi steepest descent (Maini, Wong and Kolter, ICML 2020, arXiv 1909.04068), one row an image.

From one gradient it takes the steepest step in each of the three norms, projects each to its own ball, and goes on from
the one with the largest loss. The path runs through the union of the balls; what is proposed is its candidate in the
ball of the threat model that is being judged.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from harness.attacks.arena import Arena
from harness.attacks.engine import Stage, State
from harness.attacks.losses import cross_entropy
from harness.attacks.pgd import ascent
from harness.attacks.projections import by_row, project
from harness.spec import Scalar
from harness.types import NORMS, Norm


class SteepestDescent(Stage):
    """MSD from the image.

    Args:
        arena: where it runs.
        steps: gradient steps.
        step_size: length of a step in each norm, relative to its eps.
        top: coordinates that an L1 step moves.
        radii: eps of each ball.
    """

    name = "msd"

    def __init__(self, arena: Arena, *, steps: int, step_size: float, top: int, radii: Mapping[Norm, float]) -> None:
        super().__init__(arena)
        self.steps, self.step_size, self.top = steps, step_size, top
        self.radii = {**radii, arena.norm: arena.eps}

    def start(self, rows: torch.Tensor, runs: torch.Tensor) -> State:
        """At the image."""
        del runs
        images = self.arena.images[rows]
        return {
            "image": images,
            "label": self.arena.labels[rows],
            "adv": images.clone(),
            "candidate": images.clone(),
            "hit": torch.zeros(len(rows), dtype=torch.bool, device=images.device),
            "done": torch.zeros(len(rows), dtype=torch.bool, device=images.device),
        }

    def step(self, state: State) -> None:
        """One gradient, three candidates, on with the worst of them."""
        labels = state["label"]
        _, _, gradient = self.gradient(state, state["adv"], cross_entropy, labels)
        worst = torch.full((len(labels),), -torch.inf, device=labels.device)
        chosen = state["adv"]
        for norm in NORMS:
            eps = self.radii[norm]
            there = state["adv"] + self.step_size * eps * ascent(gradient, norm, self.top)
            there = project(there, state["image"], norm, eps)
            logits = self.logits(state, there)
            loss = cross_entropy(logits, labels)
            if norm == self.arena.norm:
                state["candidate"], state["hit"] = there, logits.argmax(dim=1) != labels
            chosen = by_row(loss > worst, there, chosen)
            worst = torch.maximum(worst, loss)
        state["adv"] = chosen
        state["done"] = state["step"] >= self.steps - 1


def steepest_descent(arena: Arena, options: Mapping[str, Scalar]) -> SteepestDescent:
    """MSD with the catalogue's options."""
    return SteepestDescent(
        arena,
        steps=int(options["steps"]),
        step_size=float(options["step_size"]),
        top=int(options["top"]),
        radii={norm: float(options[f"eps_{norm.lower()}"]) for norm in NORMS},
    )
