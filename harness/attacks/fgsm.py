"""Fast gradient sign method (Goodfellow et al., ICLR 2015) and its L2 and L1 forms: one step of length eps."""

from __future__ import annotations

from collections.abc import Mapping

from harness.attacks.arena import Arena
from harness.attacks.engine import run_stage
from harness.attacks.pgd import ProjectedGradient
from harness.spec import Scalar


def run(arena: Arena, options: Mapping[str, Scalar]) -> None:
    """FGSM with the catalogue's options on the images that still stand."""
    stage = ProjectedGradient(
        arena,
        name="fgsm",
        steps=1,
        step_size=1.0,
        restarts=1,
        random_start=False,
        loss=str(options["loss"]),
        top=int(options["top"]),
    )
    run_stage(stage, arena.standing())
