"""Square attack (Andriushchenko et al., ECCV 2020, arXiv 1912.00049), one row an image: black box, forward passes only.

Every query repaints one square window and keeps it if the margin falls. Windows, signs and orientations are drawn for
each image and query by themselves, so an image's search does not depend on who else is attacked.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

from harness import rng
from harness.attacks.arena import Arena
from harness.attacks.draws import by_run
from harness.attacks.engine import Stage, State
from harness.attacks.losses import margin
from harness.attacks.projections import column, linf_bounds, project_l1_box, size
from harness.errors import InvalidArgument
from harness.types import Norm

SHARE = 0.8
"""Share of the image that the first window covers; it is halved at the published queries."""

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_TILES = 5
"""The first perturbation in L2 and L1 is a grid of 5 x 5 tiles."""

_Record = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Rows of one window size, places in the batch, what was there, what is there now."""

_PER_QUERY = 6
"""Words a query: row and column of the window, of the emptied window, signs, orientation."""


def window_sides(queries: int, height: int, width: int, norm: str) -> list[int]:
    """Side of the square window at each query (schedule of the paper, not rescaled); odd and at least 3 off Linf."""
    sides = []
    for query in range(queries):
        share = SHARE / 2 ** sum(query > halving for halving in _HALVINGS)
        side = max(round(math.sqrt(share * height * width)), 1 if norm == "Linf" else 3)
        if norm != "Linf" and side % 2 == 0:
            side += 1
        sides.append(min(side, height, width))
    return sides


@functools.lru_cache(maxsize=64)
def _bump(side: int, norm: str) -> torch.Tensor:
    """Side x side perturbation of unit norm: a peaked rectangle of each sign (section 3.4 of the paper)."""
    upper, lower = _peak(side // 2, side, norm), _peak(side - side // 2, side, norm)
    bump = torch.cat([upper, -lower])
    return bump / size(bump[None], "L2" if norm == "L2" else "L1")[0].clamp_min(1e-12)


def _peak(height: int, width: int, norm: str) -> torch.Tensor:
    """Height x width: a sum of nested rectangles, each lower than the one inside it."""
    power = 2 if norm == "L2" else 4
    result = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for ring in range(max(height // 2, width // 2) + 1):
        rows = slice(max(top - ring, 0), min(top + ring + 1, height))
        columns = slice(max(left - ring, 0), min(left + ring + 1, width))
        result[rows, columns] += 1.0 / (ring + 1) ** power
    return result


class Square(Stage):
    """Square attack in the Linf ball.

    Args:
        arena: where it runs.
        name: what `broken_by` says; it also names the draws.
        queries: windows tried for an image.
        runs: restarts.
    """

    def __init__(self, arena: Arena, *, name: str, queries: int, runs: int = 1) -> None:
        super().__init__(arena)
        if queries < 1:
            raise InvalidArgument("queries", queries, "at least 1")
        self.name, self.queries, self.runs, self.apart = name, queries, runs, True
        self.channels, self.height, self.width = (int(extent) for extent in arena.images.shape[1:])
        self.sides = window_sides(queries, self.height, self.width, arena.norm)
        self._side = torch.tensor(self.sides, device=arena.images.device)

    def start(self, rows: torch.Tensor, runs: torch.Tensor) -> State:
        """Vertical stripes of +-eps, which the first look judges."""
        images = self.arena.images[rows]
        m, device = len(rows), images.device
        state: State = {
            "image": images,
            "label": self.arena.labels[rows],
            "plan": self._plan(rows, runs),
            "margin": torch.full((m,), torch.inf, device=device),
            "hit": torch.zeros(m, dtype=torch.bool, device=device),
            "done": torch.zeros(m, dtype=torch.bool, device=device),
        }
        return state | self._first(rows, runs, images)

    def step(self, state: State) -> None:
        """Show the first point, then one repainted window a step; keep what lowers the margin."""
        # rows that are not in use any more step on: their query stays the last one
        query = (state["step"] - 1).clamp_max(self.queries - 1)
        asking = query >= 0
        side = torch.where(asking, self._side[query.clamp_min(0)], 0)
        records = []
        for extent in sorted(set(side.tolist())):
            if extent:
                where = (side == extent).nonzero().squeeze(1)
                records.append((where, *self._repaint(state, where, query[where], int(extent))))
        logits = self.logits(state, state["candidate"])
        value = margin(logits, state["label"])
        wrong = logits.argmax(dim=1) != state["label"]
        better = (value < state["margin"]) | wrong
        state["margin"] = torch.where(better, value, state["margin"])
        self._settle(state, better, records)
        state["hit"] = wrong
        state["done"] = state["step"] >= self.queries

    def _settle(self, state: State, better: torch.Tensor, records: list[_Record]) -> None:
        """Keep the new windows of the rows that got better, undo the others."""
        for where, places, before, after in records:
            state["candidate"].put_(places, torch.where(better[where].unsqueeze(1), after, before))

    def _plan(self, rows: torch.Tensor, runs: torch.Tensor) -> torch.Tensor:
        """M x queries x 6, int16: everything random about each query of each image."""
        keys, numbers = self.arena.indices[rows.cpu().numpy()], runs.cpu().numpy()
        plan = np.empty((len(keys), self.queries, _PER_QUERY), dtype=np.int16)
        sides = np.asarray(self.sides)
        bounds = np.stack([self.height - sides + 1, self.width - sides + 1] * 2, axis=1).astype(np.uint64)
        for run in np.unique(numbers):
            where = np.flatnonzero(numbers == run)
            raw = rng.words(
                self.arena.seed, f"attack/{self.name}", keys[where], self.queries * _PER_QUERY, restart=int(run)
            ).reshape(len(where), self.queries, _PER_QUERY)
            plan[where, :, :4] = (raw[:, :, :4].astype(np.uint64) * bounds) >> np.uint64(32)
            plan[where, :, 4] = raw[:, :, 4] >> np.uint32(32 - self.channels)
            plan[where, :, 5] = raw[:, :, 5] >> np.uint32(31)
        return torch.from_numpy(plan).to(self.arena.images.device)

    def _signs(self, drawn: torch.Tensor) -> torch.Tensor:
        """M x channels of +-1 from the bits of `drawn`."""
        bits = (drawn.unsqueeze(1).long() >> torch.arange(self.channels, device=drawn.device)) & 1
        return bits.to(torch.float32) * 2.0 - 1.0

    def _places(self, corner_row: torch.Tensor, corner_column: torch.Tensor, side: int) -> torch.Tensor:
        """M x (channels * side * side): flat positions of a window in a C x H x W image."""
        device = corner_row.device
        line = torch.arange(side, device=device)
        inside = (line[:, None] * self.width + line[None, :]).reshape(-1)
        planes = torch.arange(self.channels, device=device) * self.height * self.width
        window = (planes[:, None] + inside[None, :]).reshape(-1)
        return (corner_row.long() * self.width + corner_column.long()).unsqueeze(1) + window

    def _first(self, rows: torch.Tensor, runs: torch.Tensor, images: torch.Tensor) -> State:
        """The first point, stripes one pixel wide, and the two faces of the ball: m x 2 x pixels, lower and upper."""
        shape = (self.channels, 1, self.width)
        drawn = by_run(
            self.arena,
            rows,
            runs,
            lambda keys, run: rng.uniform(self.arena.seed, f"attack/{self.name}/first", keys, shape, restart=run),
        )
        low, high = linf_bounds(images, self.arena.eps)
        return {
            "candidate": torch.where(drawn >= 0.5, high, low),
            "faces": torch.stack([low.flatten(1), high.flatten(1)], dim=1),
        }

    def _repaint(
        self, state: State, where: torch.Tensor, query: torch.Tensor, side: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Show new windows at the rows `where`; returns their places, what was there and what is there now.

        The best point lies on corners of the ball, so a step of 2 eps ends on its other face: one of two values.
        """
        drawn = state["plan"][where, query]
        point = state["candidate"]
        pixels = point[0].numel()
        places = self._places(drawn[:, 0], drawn[:, 1], side)
        rows = (where * pixels).unsqueeze(1)
        up = (self._signs(drawn[:, 4]) > 0).repeat_interleave(side * side, dim=1)
        after = state["faces"].take(places + 2 * rows + up * pixels)
        places += rows
        before = point.take(places)
        point.put_(places, after)
        return places, before, after


class NormSquare(Square):
    """Square attack in the L2 and L1 balls: mass is moved from one window to another, peaked, at full norm."""

    def _first(self, rows: torch.Tensor, runs: torch.Tensor, images: torch.Tensor) -> State:
        """A grid of peaked tiles with random signs and orientations; the best point is kept beside the one shown."""
        tile = min(self.height, self.width) // _TILES
        if tile == 0:
            raise InvalidArgument("images", (self.height, self.width), f"at least {_TILES} pixels on each side")
        top, left = (self.height - tile * _TILES) // 2, (self.width - tile * _TILES) // 2
        down, across = (self.height - top) // tile, (self.width - left) // tile
        drawn = by_run(
            self.arena,
            rows,
            runs,
            lambda keys, run: rng.uniform(
                self.arena.seed, f"attack/{self.name}/first", keys, (self.channels + 1, down, across), restart=run
            ),
        )
        bump = _bump(tile, self.arena.norm).to(drawn.device)
        turned = torch.where(drawn[:, :1, :, :, None, None] >= 0.5, bump, bump.T)
        signed = torch.where(drawn[:, 1:, :, :, None, None] >= 0.5, turned, -turned)
        grid = signed.permute(0, 1, 2, 4, 3, 5).reshape(len(rows), self.channels, down * tile, across * tile)
        delta = torch.zeros_like(images)
        delta[:, :, top : top + down * tile, left : left + across * tile] = grid
        point = self._fitted(images, delta)
        return {"candidate": point, "best": point.clone()}

    def _fitted(self, image: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """The perturbation at full norm, in [0, 1]."""
        if self.arena.norm == "L2":
            unit = delta / column(size(delta, "L2") + 1e-12, delta)
            return (image + self.arena.eps * unit).clamp(0.0, 1.0)
        return (image + project_l1_box(delta, image, self.arena.eps * (1.0 - 1e-6))).clamp(0.0, 1.0)

    def _repaint(
        self, state: State, where: torch.Tensor, query: torch.Tensor, side: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Move the mass of a second window into the first, as a bump of random sign on top of what is there."""
        drawn = state["plan"][where, query]
        image, best = state["image"][where], state["best"][where]
        delta = (best - image).flatten(1)
        into = self._places(drawn[:, 0], drawn[:, 1], side)
        out = self._places(drawn[:, 2], drawn[:, 3], side)
        m, c = len(where), self.channels
        norm: Norm = "L2" if self.arena.norm == "L2" else "L1"
        total = size(delta, norm).unsqueeze(1)
        there = delta.gather(1, into).view(m, c, -1)
        held = _by_channel(there, norm)
        both = torch.zeros_like(delta).scatter_(1, into, 1.0).scatter_(1, out, 1.0) * delta
        union = _by_channel(both.view(m, c, -1), norm)
        bump = _bump(side, self.arena.norm).to(delta.device)
        turned = torch.where((drawn[:, 5] > 0).view(-1, 1, 1, 1), bump, bump.T).reshape(m, 1, -1)
        new = turned * self._signs(drawn[:, 4]).unsqueeze(2) + there / (1e-12 + held)
        new = new / (1e-12 + _by_channel(new, norm))
        if norm == "L2":
            spare = (self.arena.eps**2 - total.square()).clamp_min(0.0).unsqueeze(2) / c
            new = new * (spare + union.square()).sqrt()
        else:
            spare = (self.arena.eps - total).clamp_min(0.0).unsqueeze(2) / c
            new = new * (spare + union) * c
        delta = delta.scatter(1, out, 0.0).scatter(1, into, new.reshape(m, -1))
        after = self._fitted(image, delta.view_as(image))
        state["candidate"][where] = after
        return into, best, after

    def _settle(self, state: State, better: torch.Tensor, records: list[_Record]) -> None:
        """The whole image is kept or not: scaling to full norm changes all of it, so the records say too little."""
        del records
        rows = better.nonzero().squeeze(1)
        state["best"][rows] = state["candidate"][rows]


def _by_channel(values: torch.Tensor, norm: str) -> torch.Tensor:
    """Norm of each channel: m x c x k to m x c x 1."""
    if norm == "L2":
        return values.square().sum(dim=2, keepdim=True).sqrt()
    return values.abs().sum(dim=2, keepdim=True)


def square(arena: Arena, *, name: str, queries: int, runs: int = 1) -> Square:
    """The square attack for the arena's norm."""
    kind = Square if arena.norm == "Linf" else NormSquare
    return kind(arena, name=name, queries=queries, runs=runs)
