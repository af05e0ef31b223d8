"""The `fast` ensemble: an upper bound on robust accuracy from less than an eighth of AutoAttack's passes.

Short runs of APGD first on the cross-entropy, then on the few targets that fall most often, and then one long run for
images that came close to falling, from the closest point they reached, at their closest target (the ideas of adaptive
schedules, Liu et al., CVPR 2022, arXiv 2203.05154: good starts, and budget where it can still change something).
Whether an image is close is decided by that image alone, so outcomes do not depend on who else is attacked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from harness.attacks.apgd import auto_pgd
from harness.attacks.arena import Arena
from harness.attacks.engine import run_stage
from harness.attacks.ensemble import finish, run_autoattack, targets
from harness.attacks.members import CLOSE_STEPS, FAST_TARGETS, FIRST_STEPS, TARGET_STEPS
from harness.attacks.memory import Memory
from harness.spec import Scalar


def run_fast(arena: Arena, _options: Mapping[str, Scalar], *, final: bool = True) -> Iterator[None]:
    """The whole schedule on the images that still stand; `final` where nothing comes after it."""
    memory = arena.memory or Memory(arena)
    first = auto_pgd(arena, name="apgd-ce", steps=FIRST_STEPS, loss="ce", runs=1, observe=memory.see)
    yield from run_stage(first, arena.standing())
    runs = targets(arena, FAST_TARGETS)
    aimed = auto_pgd(arena, name="apgd-t", steps=TARGET_STEPS, loss="targeted", runs=runs, observe=memory.see)
    yield from run_stage(aimed, arena.standing())
    last = auto_pgd(arena, name="apgd-close", steps=CLOSE_STEPS, loss="targeted", runs=1, begin=memory.resume)
    close = memory.close(arena.standing())
    low = arena.numerics.precision != "float32"
    if final and not low:
        settled = torch.ones_like(arena.verdicts.correct)
        settled[close] = False
        arena.settle(settled.nonzero().squeeze(1))
    yield from run_stage(last, close, final=final and not low)
    if low and final:
        yield from finish(arena)


def run_fast_standard(arena: Arena, options: Mapping[str, Scalar]) -> Iterator[None]:
    """First `fast`, then AutoAttack standard on what it left."""
    yield from run_fast(arena, options, final=False)
    yield from run_autoattack(arena, {"version": "standard"})
