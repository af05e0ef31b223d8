"""Projected gradient ascent (Madry et al., ICLR 2018), in the three norms."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from harness.attacks.arena import Arena
from harness.attacks.draws import random_start
from harness.attacks.engine import Stage, State
from harness.attacks.losses import LOSSES
from harness.attacks.projections import by_row, column, linf_bounds, project, size
from harness.spec import Scalar


def ascent(gradient: torch.Tensor, norm: str, top: int) -> torch.Tensor:
    """The steepest direction of unit length: sign (Linf), normalised (L2), signs of the `top` largest entries (L1).

    Zero gradients give zero directions.

    Args:
        gradient: n x ...
        norm: of the ball.
        top: coordinates that an L1 step moves.
    """
    if norm == "Linf":
        return gradient.sign()
    if norm == "L2":
        return gradient / column(size(gradient, "L2").clamp_min(1e-12), gradient)
    flat = gradient.reshape(len(gradient), -1)
    count = min(top, flat.shape[1])
    where = flat.abs().topk(count, dim=1).indices
    direction = torch.zeros_like(flat).scatter_(1, where, flat.gather(1, where).sign() / count)
    return direction.reshape(gradient.shape)


class ProjectedGradient(Stage):
    """PGD as a row-wise step; also FGSM, which is one step from the image.

    Args:
        arena: where it runs.
        name: what `broken_by` says; it also names the draws.
        steps: gradient steps of a run.
        step_size: length of a step, relative to eps.
        restarts: runs an image gets.
        random_start: begin at a random point of the ball.
        loss: "ce" or "dlr".
        top: coordinates an L1 step moves.
    """

    def __init__(
        self,
        arena: Arena,
        *,
        name: str,
        steps: int,
        step_size: float,
        restarts: int,
        random_start: bool,
        loss: str,
        top: int,
    ) -> None:
        super().__init__(arena)
        self.name = name
        self.runs, self.apart = restarts, True
        self.steps = steps
        self.length = step_size * arena.eps
        self.random_start = random_start
        self.loss = LOSSES[loss]
        self.top = top

    def start(self, rows: torch.Tensor, runs: torch.Tensor) -> State:
        """At a random point of the ball, or at the image."""
        images = self.arena.images[rows]
        point = random_start(self.arena, f"attack/{self.name}", rows, runs) if self.random_start else images.clone()
        state = {
            "image": images,
            "label": self.arena.labels[rows],
            "candidate": point,
            "gradient": torch.zeros_like(images),
            "hit": torch.zeros(len(rows), dtype=torch.bool, device=images.device),
            "done": torch.zeros(len(rows), dtype=torch.bool, device=images.device),
        }
        if self.arena.norm == "Linf":
            state["low"], state["high"] = linf_bounds(images, self.arena.eps)
        return state

    def step(self, state: State) -> None:
        """Move along the last gradient (there is none at the start), then look; the last point needs no gradient."""
        state["candidate"] = by_row(state["step"] == 0, state["candidate"], self._moved(state))
        last = state["step"] == self.steps
        for where in ((~last).nonzero().squeeze(1), last.nonzero().squeeze(1)):
            if not len(where):
                continue
            points, labels = state["candidate"][where], state["label"][where]
            if bool(last[where[0]]):
                logits = self.logits(state, points, where)
            else:
                logits, _, state["gradient"][where] = self.gradient(state, points, self.loss, labels, where=where)
            state["hit"][where] = logits.argmax(dim=1) != labels
        state["done"] = last

    def _moved(self, state: State) -> torch.Tensor:
        """One projected step from the candidates."""
        there = state["candidate"] + self.length * ascent(state["gradient"], self.arena.norm, self.top)
        if self.arena.norm == "Linf":
            return torch.minimum(torch.maximum(there, state["low"]), state["high"])
        return project(there, state["image"], self.arena.norm, self.arena.eps)


def projected_gradient(arena: Arena, options: Mapping[str, Scalar]) -> ProjectedGradient:
    """PGD with the catalogue's options."""
    return ProjectedGradient(
        arena,
        name="pgd",
        steps=int(options["steps"]),
        step_size=float(options["step_size"]),
        restarts=int(options["restarts"]),
        random_start=bool(options["random_start"]),
        loss=str(options["loss"]),
        top=int(options["top"]),
    )
