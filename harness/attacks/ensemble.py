"""Attacks by name, and ensembles of them: AutoAttack (Croce and Hein, ICML 2020) and the worst of a list.

An ensemble runs its members one after the other, cheap ones first, each on the images that still stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from harness.attacks.apgd import auto_pgd
from harness.attacks.arena import Arena
from harness.attacks.engine import Stage, run_stage
from harness.attacks.fab import FastBoundary, UntargetedBoundary
from harness.attacks.fgsm import fast_gradient
from harness.attacks.members import (
    BUDGETS,
    EOT,
    FINISH_CLOSE_STEPS,
    FINISH_STEPS,
    FINISH_TARGETS,
    VERSIONS,
    Options,
    budget,
    members,
)
from harness.attacks.memory import Memory
from harness.attacks.msd import steepest_descent
from harness.attacks.pgd import projected_gradient
from harness.attacks.square import square


def targets(arena: Arena, wanted: int) -> int:
    """How many classes a targeted attack aims at: all wrong ones at most."""
    return min(wanted, (arena.verify.classes or 2) - 1)


def _apgd(name: str, loss: str) -> Callable[[Arena, Options], Stage]:
    """Makes untargeted APGD from the options steps, restarts, eot."""

    def make(arena: Arena, options: Options) -> Stage:
        steps, restarts, eot = (int(options[key]) for key in ("steps", "restarts", "eot"))
        return auto_pgd(arena, name=name, steps=steps, loss=loss, runs=restarts, eot=eot)

    return make


def _apgd_targeted(arena: Arena, options: Options) -> Stage:
    """Targeted APGD from the options steps, targets, eot."""
    runs = targets(arena, int(options["targets"]))
    steps, eot = int(options["steps"]), int(options["eot"])
    return auto_pgd(arena, name="apgd-t", steps=steps, loss="targeted", runs=runs, eot=eot)


def _fab_targeted(arena: Arena, options: Options) -> Stage:
    """Targeted FAB from the options steps, targets."""
    runs = targets(arena, int(options["targets"]))
    return FastBoundary(arena, name="fab-t", steps=int(options["steps"]), targets=runs)


def _fab(arena: Arena, options: Options) -> Stage:
    """Untargeted FAB from the options steps, restarts."""
    return UntargetedBoundary(arena, name="fab", steps=int(options["steps"]), restarts=int(options["restarts"]))


def _square(arena: Arena, options: Options) -> Stage:
    """Square from the options queries, restarts."""
    return square(arena, name="square", queries=int(options["queries"]), runs=int(options["restarts"]))


MEMBERS: Mapping[str, Callable[[Arena, Options], Stage]] = {
    "fgsm": fast_gradient,
    "pgd": projected_gradient,
    "apgd-ce": _apgd("apgd-ce", "ce"),
    "apgd-dlr": _apgd("apgd-dlr", "dlr"),
    "apgd-t": _apgd_targeted,
    "fab": _fab,
    "fab-t": _fab_targeted,
    "square": _square,
    "msd": steepest_descent,
}
"""Attacks that are one stage, by name: (arena, complete options) -> stage."""


def run_members(arena: Arena, plan: Mapping[str, Options]) -> Iterator[None]:
    """Run members in order on what still stands."""
    low = arena.numerics.precision != "float32"
    for name, options in plan.items():
        rows = arena.standing()
        if not len(rows):
            break
        final = name == list(plan)[-1] and not low
        yield from run_stage(MEMBERS[name](arena, options), rows, final=final)
    if low:
        yield from finish(arena)


def finish(arena: Arena) -> Iterator[None]:
    """Search once more in float32 where a search in low precision left images standing.

    Images that came close go on from where they were closest: low precision sees no margin below some 1e-2 of the
    logits. Then all begin at other random points.
    """
    arena.speed_up(replace(arena.numerics, precision="float32"))
    memory, arena.memory = arena.memory or Memory(arena), None
    close = memory.close(arena.standing())
    last = auto_pgd(arena, name="apgd-t-finish", steps=FINISH_CLOSE_STEPS, loss="targeted", runs=1, begin=memory.resume)
    yield from run_stage(last, close)
    runs = targets(arena, FINISH_TARGETS)
    stage = auto_pgd(arena, name="apgd-t-finish", steps=FINISH_STEPS, loss="targeted", runs=runs)
    yield from run_stage(stage, arena.standing(), final=True)


def run_one(name: str) -> Callable[[Arena, Options], Iterator[None]]:
    """The runner of a single attack."""

    def run(arena: Arena, options: Options) -> Iterator[None]:
        return run_members(arena, {name: options})

    return run


run_fgsm, run_pgd, run_fab, run_fab_t = (run_one(name) for name in ("fgsm", "pgd", "fab", "fab-t"))
run_apgd_ce, run_apgd_dlr, run_apgd_t = (run_one(name) for name in ("apgd-ce", "apgd-dlr", "apgd-t"))
run_square, run_msd = run_one("square"), run_one("msd")


def run_autoattack(arena: Arena, options: Options) -> Iterator[None]:
    """AutoAttack: a version's members with its budgets, or with `custom` the members that `attacks` names."""
    version = str(options["version"])
    names = members(str(options["attacks"])) if version == "custom" else VERSIONS[version]
    if version == "rand":
        arena.repeats = EOT
    return run_members(arena, {name: budget(version, name, arena.norm) for name in names})


def run_worst_of(arena: Arena, options: Options) -> Iterator[None]:
    """The worst of the named attacks, image by image."""
    return run_members(arena, {name: BUDGETS[name] for name in members(str(options["attacks"]))})
