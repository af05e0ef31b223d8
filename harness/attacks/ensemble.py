"""Attacks by name, and ensembles of them: AutoAttack (Croce and Hein, ICML 2020) and the worst of a list.

An ensemble runs its members one after the other, cheap ones first, each on the images that still stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from harness.attacks.apgd import auto_pgd
from harness.attacks.arena import Arena
from harness.attacks.engine import Stage, run_stage
from harness.attacks.fab import FastBoundary, UntargetedBoundary
from harness.attacks.fgsm import fast_gradient
from harness.attacks.pgd import projected_gradient
from harness.attacks.square import square
from harness.errors import UnknownName
from harness.spec import Scalar

Options = Mapping[str, Scalar]

TARGETS = 9
"""Targets of AutoAttack's targeted members, at most."""

FINISH_STEPS, FINISH_TARGETS = 20, 3
"""Of the float32 search that follows one in low precision."""

EOT = 20
"""Gradients averaged, and predictions averaged to judge, by the version for randomised models."""

SQUARE_SHARE = 0.002
"""AutoAttack's threshold: Square taking more of the images than this after the white-box attacks is suspect."""


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
}
"""Attacks that are one stage, by name: (arena, complete options) -> stage."""

BUDGETS: Mapping[str, Options] = {
    "apgd-ce": {"steps": 100, "restarts": 1, "eot": 1},
    "apgd-dlr": {"steps": 100, "restarts": 1, "eot": 1},
    "apgd-t": {"steps": 100, "targets": TARGETS, "eot": 1},
    "fab": {"steps": 100, "restarts": 5},
    "fab-t": {"steps": 100, "targets": TARGETS},
    "square": {"queries": 5000, "restarts": 1},
    "pgd": {"steps": 40, "step_size": 0.1, "restarts": 1, "random_start": True, "loss": "ce", "top": 20},
    "fgsm": {"loss": "ce", "top": 20},
}
"""What a member spends in an ensemble, unless the ensemble says otherwise."""

VERSIONS: Mapping[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "fab", "square"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
"""AutoAttack's ensembles; `plus` in order of cost, which does not change what falls to any of them."""


def budget(version: str, member: str, norm: str) -> dict[str, Scalar]:
    """What AutoAttack gives a member in a version and norm (pyautoattack 0.2, `_set_version`)."""
    options = dict(BUDGETS[member])
    if version == "standard" and norm == "L1":
        options |= {"apgd-ce": {"restarts": 5}, "apgd-t": {"targets": 5}}.get(member, {})
    if version == "plus" and member in ("apgd-ce", "apgd-dlr"):
        options["restarts"] = 5
    if version == "rand":
        options["eot"] = EOT
    return options


def members(text: str) -> tuple[str, ...]:
    """Names from a list with commas.

    Raises:
        UnknownName: one that is not an attack of one stage.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names or ("",):
        if name not in MEMBERS:
            raise UnknownName("attack", name, MEMBERS)
    return names


def run_members(arena: Arena, plan: Mapping[str, Options]) -> None:
    """Run members in order on what still stands; flag it if a black-box one does better than the white-box ones."""
    fallen: dict[str, int] = {}
    for name, options in plan.items():
        rows = arena.standing()
        if not len(rows):
            break
        run_stage(MEMBERS[name](arena, options), rows)
        fallen[name] = len(rows) - len(arena.standing())
    if arena.numerics.precision != "float32":
        finish(arena)
    taken, n = fallen.get("square", 0), len(arena.images)
    if len(fallen) > 1 and taken > SQUARE_SHARE * n:
        words = f"Square broke {taken} of {n} images that stood against {', '.join(list(fallen)[:-1])}"
        arena.flag("square_beats_white_box", words)


def finish(arena: Arena) -> None:
    """Search once more in float32 where a search in low precision left images standing, from other random points."""
    arena.speed_up(replace(arena.numerics, precision="float32"))
    runs = targets(arena, FINISH_TARGETS)
    stage = auto_pgd(arena, name="apgd-t-finish", steps=FINISH_STEPS, loss="targeted", runs=runs)
    run_stage(stage, arena.standing())


def run_one(name: str) -> Callable[[Arena, Options], None]:
    """The runner of a single attack."""

    def run(arena: Arena, options: Options) -> None:
        run_members(arena, {name: options})

    return run


run_fgsm, run_pgd, run_fab, run_fab_t = (run_one(name) for name in ("fgsm", "pgd", "fab", "fab-t"))
run_apgd_ce, run_apgd_dlr, run_apgd_t = (run_one(name) for name in ("apgd-ce", "apgd-dlr", "apgd-t"))
run_square = run_one("square")


def run_autoattack(arena: Arena, options: Options) -> None:
    """AutoAttack: a version's members with its budgets, or with `custom` the members that `attacks` names."""
    version = str(options["version"])
    names = members(str(options["attacks"])) if version == "custom" else VERSIONS[version]
    if version == "rand":
        arena.repeats = EOT
    run_members(arena, {name: budget(version, name, arena.norm) for name in names})


def run_worst_of(arena: Arena, options: Options) -> None:
    """The worst of the named attacks, image by image."""
    run_members(arena, {name: BUDGETS[name] for name in members(str(options["attacks"]))})
