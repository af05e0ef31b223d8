"""How close each image came to falling: what later searches of the same attack begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from harness.attacks.arena import Arena
    from harness.attacks.engine import State

CLOSE = 0.5
"""An image is close if its margin fell below this share of its clean margin."""


class Memory:
    """The lowest margin that each image reached, where, and at which target.

    Args:
        arena: gives the clean margins.
    """

    def __init__(self, arena: Arena) -> None:
        self.clean = arena.verdicts.margin.clone()
        self.margin = arena.verdicts.margin.clone()
        self.point = arena.images.clone()
        self.target = arena.order[:, 1].clone()

    def see(self, state: State) -> None:
        """Remember rows whose candidate is in the ball and lower than before."""
        inside = state["alive"] & state["counts"] & (state["margin"] < self.margin[state["position"]])
        rows = inside.nonzero().squeeze(1)
        places = state["position"][rows]
        self.margin[places] = state["margin"][rows]
        self.point[places] = state["candidate"][rows]
        self.target[places] = state["rival"][rows]

    def resume(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the images at `rows` came closest to falling, and the class they came closest to."""
        return self.point[rows].clone(), self.target[rows]

    def close(self, rows: torch.Tensor) -> torch.Tensor:
        """Those of `rows` that came close to falling."""
        return rows[self.margin[rows] < CLOSE * self.clean[rows]]
