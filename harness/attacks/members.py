"""What the members of ensembles spend, and what that costs; no torch, since plans are made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.errors import UnknownName
from harness.spec import Scalar

Options = Mapping[str, Scalar]
Passes = tuple[int, int]
"""Forward and backward passes."""

TARGETS = 9
"""Targets of AutoAttack's targeted members, at most."""

EOT = 20
"""Gradients averaged, and predictions averaged to judge, by the version for randomised models."""

BUDGETS: Mapping[str, Options] = {
    "fgsm": {"loss": "ce", "top": 20},
    "pgd": {"steps": 40, "step_size": 0.1, "restarts": 1, "random_start": True, "loss": "ce", "top": 20},
    "apgd-ce": {"steps": 100, "restarts": 1, "eot": 1},
    "apgd-dlr": {"steps": 100, "restarts": 1, "eot": 1},
    "apgd-t": {"steps": 100, "targets": TARGETS, "eot": 1},
    "fab": {"steps": 100, "restarts": 5},
    "fab-t": {"steps": 100, "targets": TARGETS},
    "square": {"queries": 5000, "restarts": 1},
    "msd": {"steps": 50, "step_size": 0.1, "top": 20, "eps_linf": 8 / 255, "eps_l2": 0.5, "eps_l1": 12.0},
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
        if name not in BUDGETS:
            raise UnknownName("attack", name, BUDGETS)
    return names


def member_cost(name: str, options: Options, classes: int) -> Passes:
    """At most: passes of the search of one member on one image, and one to judge it."""
    eot = int(options.get("eot", 1))
    if name == "fgsm":
        return 3, 1
    if name == "square":
        queries = (int(options["queries"]) + 1) * int(options["restarts"])
        return queries + 1, 0
    steps = int(options["steps"])
    if name == "msd":
        return 4 * steps + 1, steps
    runs = min(int(options["targets"]), classes - 1) if "targets" in options else int(options["restarts"])
    if name == "fab-t":
        return 2 * steps * runs + 1, steps * runs
    if name == "fab":
        return classes * steps * runs + 1, (classes - 1) * steps * runs
    # the L1 form of APGD looks twice more at first points of smaller balls
    return (steps + 3) * runs * eot + 1, (steps + 2) * runs * eot


FINISH_STEPS, FINISH_TARGETS = 20, 3
"""Of the float32 search that follows one in low precision: APGD, target by target."""

FINISH_CLOSE_STEPS = 60
"""Of the run before it, for images that came close to falling, from where they were closest."""


def finish_cost(classes: int) -> Passes:
    """Cost of that search for an image that gets all of it."""
    close = member_cost("apgd-t", {"steps": FINISH_CLOSE_STEPS, "targets": 1}, classes)
    all_round = member_cost("apgd-t", {"steps": FINISH_STEPS, "targets": FINISH_TARGETS}, classes)
    return close[0] + all_round[0], close[1] + all_round[1]


def alone(name: str) -> Callable[[Options, int], Passes]:
    """Cost of an attack that is one member, the clean pass included."""

    def cost(options: Options, classes: int) -> Passes:
        forwards, backwards = member_cost(name, options, classes)
        return forwards + 1, backwards

    return cost


def autoattack_cost(options: Options, classes: int) -> Passes:
    """Cost of AutoAttack, in the norm where it is largest."""
    version = str(options["version"])
    names = members(str(options["attacks"])) if version == "custom" else VERSIONS[version]
    both = [[member_cost(name, budget(version, name, norm), classes) for name in names] for norm in ("Linf", "L1")]
    sums = [(1 + sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)) for costs in both]
    return max(sums)


def worst_of_cost(options: Options, classes: int) -> Passes:
    """Cost of the worst of a list."""
    costs = [member_cost(name, BUDGETS[name], classes) for name in members(str(options["attacks"]))]
    return 1 + sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)


def ends_with_square(attack: str, options: Options) -> bool:
    """Whether an attack ends with Square on what its white-box members left standing."""
    version = str(options.get("version", "standard"))
    if attack == "worst_of" or (attack == "autoattack" and version == "custom"):
        names = members(str(options["attacks"]))
    else:
        names = VERSIONS[version] if attack in ("autoattack", "fast+standard") else ()
    return len(names) > 1 and names[-1] == "square"


def reference_cost(options: Options, classes: int) -> Passes:
    """Cost of the reference package: as AutoAttack's, with its checks and repeated predictions."""
    forwards, backwards = autoattack_cost(options, classes)
    return forwards + 64, backwards


FIRST_STEPS = 20
"""Steps of the first run of `fast`, on the cross-entropy."""

TARGET_STEPS, FAST_TARGETS = 30, 4
"""Of its targeted runs."""

CLOSE_STEPS = 60
"""Of its last run, for images that came close to falling."""


def fast_cost(_options: Options, classes: int) -> Passes:
    """Cost of `fast` for an image that gets all of it."""
    runs = min(FAST_TARGETS, classes - 1)
    backwards = (FIRST_STEPS + 2) + runs * (TARGET_STEPS + 2) + CLOSE_STEPS
    return backwards + runs + 4, backwards


def fast_standard_cost(options: Options, classes: int) -> Passes:
    """Cost of `fast` and then `standard`."""
    fast, standard = fast_cost(options, classes), autoattack_cost({"version": "standard"}, classes)
    return fast[0] + standard[0], fast[1] + standard[1]
