"""Minimal perturbations by FAB: the torch half of `harness.attacks.curves`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from harness.attacks.arena import enter, evaluation_mode
from harness.attacks.base import Numerics
from harness.attacks.checked import check_images, check_labels
from harness.attacks.engine import run_stage
from harness.attacks.ensemble import targets as available
from harness.attacks.fab import FastBoundary
from harness.attacks.physical import check_batch
from harness.types import Classifier, Norm


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
            eps=1.0,
            seed=seed,
            indices=np.arange(len(pixels), dtype=np.int64),
            batch=check_batch("batch_size", batch_size, None),
            fixed_batch=check_batch("fixed_batch", fixed_batch, None),
        )
        arena.speed_up(Numerics())
        stage = FastBoundary(arena, name="fab-t", steps=steps, targets=available(arena, targets), shortest=True)
        for _ in run_stage(stage, arena.standing(), final=True):
            continue
        found = np.where(arena.verdicts.correct.cpu().numpy(), np.inf, 0.0)
        rows = (arena.verdicts.correct & torch.isfinite(stage.distances)).nonzero().squeeze(1)
        if len(rows):
            # the ball is as large as the largest find: judging changes no candidate, and only what holds counts
            arena.eps = float(stage.distances[rows].max()) * (1.0 + 1e-6)
            none = torch.full_like(rows, -1)
            held = arena.propose(rows, stage.shortest[rows], "fab-t", none, none)
            kept = rows[held].cpu().numpy()
            found[kept] = arena.result().norm[kept]
        return found
