"""Random numbers of attacks, drawn image by image: a subset of images gets the same draws as the whole set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from harness import rng
from harness.attacks.arena import Arena
from harness.attacks.projections import column, project, size

_Draw = Callable[[NDArray[np.int64], int], NDArray[np.float32]]


def by_run(arena: Arena, rows: torch.Tensor, runs: torch.Tensor, draw: _Draw) -> torch.Tensor:
    """Draw for the images at positions `rows`, each for its own run.

    Args:
        arena: gives indices and device.
        rows: m positions.
        runs: m run numbers.
        draw: (image indices, run) -> array with one row an image.

    Returns:
        m x ..., float32, on the device of the images.
    """
    keys = arena.indices[rows.cpu().numpy()]
    numbers = runs.cpu().numpy()
    parts: NDArray[np.float32] | None = None
    for run in np.unique(numbers):
        where = np.flatnonzero(numbers == run)
        drawn = draw(keys[where], int(run))
        if parts is None:
            parts = np.empty((len(keys), *drawn.shape[1:]), dtype=np.float32)
        parts[where] = drawn
    if parts is None:
        raise ValueError("no rows to draw for")
    return torch.from_numpy(parts).to(arena.images.device)


def random_start(
    arena: Arena, purpose: str, rows: torch.Tensor, runs: torch.Tensor, *, radius: float | None = None
) -> torch.Tensor:
    """A random point of the ball for each row: uniform in the cube (Linf), a uniform direction (L2), sparse (L1).

    The result is projected to the ball and [0, 1]. `radius` stands for eps where it is given.
    """
    shape = tuple(arena.images.shape[1:])
    eps = radius or arena.eps
    images = arena.images[rows]
    if arena.norm == "Linf":
        unit = by_run(arena, rows, runs, lambda keys, run: rng.uniform(arena.seed, purpose, keys, shape, restart=run))
        delta = eps * (2.0 * unit - 1.0)
    else:
        unit = by_run(arena, rows, runs, lambda keys, run: rng.normal(arena.seed, purpose, keys, shape, restart=run))
        # in L1 the projection of a long normal vector is a sparse point, as good starts are
        long = arena.norm == "L1"
        delta = unit if long else unit * column(eps / size(unit, arena.norm).clamp_min(1e-12), unit)
    return project(images + delta, images, arena.norm, eps)
