"""Fast gradient sign method (Goodfellow et al., ICLR 2015) and its L2 and L1 forms: one step of length eps."""

from __future__ import annotations

from collections.abc import Mapping

from harness.attacks.arena import Arena
from harness.attacks.pgd import ProjectedGradient
from harness.spec import Scalar


def fast_gradient(arena: Arena, options: Mapping[str, Scalar]) -> ProjectedGradient:
    """FGSM with the catalogue's options."""
    return ProjectedGradient(
        arena,
        name="fgsm",
        steps=1,
        step_size=1.0,
        restarts=1,
        random_start=False,
        loss=str(options["loss"]),
        top=int(options["top"]),
    )
