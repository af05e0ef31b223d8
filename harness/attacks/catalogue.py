"""All attacks by name. Descriptions only: nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

from harness.attacks.base import Attack
from harness.attacks.options import Option
from harness.registry import Registry
from harness.spec import Scalar
from harness.types import NORMS

ATTACKS: Registry[Attack] = Registry("attack")
"""Name -> `Attack`."""

_TOP = Option(default=20, low=1, help="coordinates moved in a step (L1 only)")
_LOSS = Option(default="ce", choices=("ce", "dlr"), help="what is maximised")


def _installed(package: str) -> str:
    """Version of an installed package, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _fgsm_budget(_options: Mapping[str, Scalar], _classes: int) -> tuple[int, int]:
    """The clean pass, the gradient, and the check of the proposal."""
    return 3, 1


def _pgd_budget(options: Mapping[str, Scalar], _classes: int) -> tuple[int, int]:
    """A gradient a step, and a pass to judge each point."""
    runs = int(options["steps"]) * int(options["restarts"])
    return 1 + 2 * runs + int(options["restarts"]), runs


def _reference_budget(options: Mapping[str, Scalar], classes: int) -> tuple[int, int]:
    """Of `standard`: APGD-CE 100 steps; APGD and FAB targeted, 100 steps a target; 5,000 queries of Square.

    `plus` and `rand` repeat gradient attacks (5 restarts; 20 samples a gradient).
    """
    targets = min(9, classes - 1)
    apgd, fab, queries = 101 * (1 + targets), 100 * targets, 5001
    if options["version"] == "plus":
        return 2 + 5 * 2 * 101 + 101 * targets + 2 * (fab + 500) + queries, 5 * 2 * 101 + 101 * targets + fab + 500
    if options["version"] == "rand":
        return 2 + 2 * 20 * 101, 2 * 20 * 101
    return 2 + apgd + 2 * fab + queries, apgd + fab


def _add(attack: Attack) -> None:
    """Register under the attack's own name."""
    ATTACKS.add(attack.name, attack)


_add(
    Attack(
        name="fgsm",
        version="1",
        norms=NORMS,
        options=MappingProxyType({"loss": _LOSS, "top": _TOP}),
        target="harness.attacks.fgsm:run",
        budget=_fgsm_budget,
        summary="one step of length eps along the gradient",
        source="Goodfellow et al., ICLR 2015, arXiv 1412.6572",
    )
)
_add(
    Attack(
        name="pgd",
        version="1",
        norms=NORMS,
        options=MappingProxyType(
            {
                "steps": Option(default=20, low=1, high=100_000, help="gradient steps of a run"),
                "step_size": Option(default=0.25, low=1e-6, high=100.0, help="length of a step, relative to eps"),
                "restarts": Option(default=1, low=1, high=10_000, help="runs, each from its own random point"),
                "random_start": Option(default=True, help="start inside the ball at random; else at the image"),
                "loss": _LOSS,
                "top": _TOP,
            }
        ),
        target="harness.attacks.pgd:run",
        budget=_pgd_budget,
        summary="projected gradient ascent",
        source="Madry et al., ICLR 2018, arXiv 1706.06083",
    )
)
_add(
    Attack(
        name="autoattack:reference",
        version=f"1+pyautoattack-{_installed('pyautoattack')}",
        norms=NORMS,
        options=MappingProxyType(
            {
                "version": Option(
                    default="standard", choices=("standard", "plus", "rand"), help="which ensemble of the package"
                )
            }
        ),
        per_image=False,
        target="harness.attacks.reference:run",
        budget=_reference_budget,
        summary="AutoAttack as the pyautoattack package runs it; outcomes depend on the batch cut",
        source="Croce and Hein, ICML 2020, arXiv 2003.01690",
    )
)
