"""All attacks by name. Descriptions only: nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Literal

from harness.attacks import members
from harness.attacks.base import Attack
from harness.attacks.options import Option
from harness.digest import digest
from harness.errors import InvalidArgument
from harness.registry import Registry
from harness.spec import Precision, Scalar
from harness.types import NORMS

ATTACKS: Registry[Attack] = Registry("attack")
"""Name -> `Attack`."""

_TOP = Option(default=20, low=1, help="coordinates moved in a step (L1 only)")
_LOSS = Option(default="ce", choices=("ce", "dlr"), help="what is maximised")
_STEPS = Option(default=100, low=1, high=100_000, help="gradient steps of a run")
_RESTARTS = Option(default=1, low=1, high=10_000, help="runs, each from its own random point")
_TARGETS = Option(default=9, low=1, high=100_000, help="classes aimed at, at most all wrong ones")
_EOT = Option(default=1, low=1, high=10_000, help="gradients averaged at every point, for randomised models")

_APGD_SOURCE = "Croce and Hein, ICML 2020, arXiv 2003.01690; L1: ICML 2021, arXiv 2103.01208"
_FAB_SOURCE = "Croce and Hein, ICML 2020, arXiv 1907.02044"
_HERE = "harness.attacks.ensemble"


def _installed(package: str) -> str:
    """Version of an installed package, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def attack_version(name: str, options: Mapping[str, Scalar]) -> str:
    """What an attack's outcomes depend on beside its options: its version and that of the attack that it runs inside.

    Args:
        name: of the attack.
        options: complete.
    """
    attack = ATTACKS.get(name)
    if not attack.inner:
        return attack.version
    inner = ATTACKS.get(str(options[attack.inner]))
    complete = inner.complete({})
    return f"{attack.version}+{inner.name}-{inner.version}" + (f"-{digest(complete)[:8]}" if complete else "")


def is_current(name: str, options: Mapping[str, Scalar], version: str) -> bool:
    """Whether verdicts were made by today's components.

    Args:
        name: of the attack; one that is not known any more is not current.
        options: complete.
        version: `attack_version` when they were made.
    """
    if name not in ATTACKS:
        return False
    inner = ATTACKS.get(name).inner
    return (not inner or str(options.get(inner)) in ATTACKS) and attack_version(name, options) == version


def innermost(name: str, options: Mapping[str, Scalar]) -> tuple[Attack, Mapping[str, Scalar]]:
    """The attack that searches, with its complete options: the one inside, where there is one."""
    attack = ATTACKS.get(name)
    if not attack.inner:
        return attack, options
    inner = ATTACKS.get(str(options[attack.inner]))
    return inner, inner.complete({})


def attack_bound(name: str, options: Mapping[str, Scalar]) -> Literal["exact", "upper"]:
    """Whether robust accuracy under an attack is meant as an upper bound; that of an attack inside it is handed on."""
    return innermost(name, options)[0].bound


def attack_cost(
    name: str, options: Mapping[str, Scalar], classes: int, precision: Precision = "float32"
) -> tuple[int, int]:
    """At most: (forward, backward) passes of an attack on one image, its float32 finish included.

    Args:
        name: of the attack.
        options: complete.
        classes: of the model.
        precision: of its search.
    """
    attack = ATTACKS.get(name)
    forwards, backwards = attack.budget(options, classes)
    if precision != "float32":
        forwards += -(-forwards // 4)  # judgements of what only the search sees as broken: one in 5 steps, one a run
        times = _looks(options) if attack.inner else 1
        more = members.finish_cost(classes)
        forwards, backwards = forwards + times * more[0], backwards + times * more[1]
    return forwards, backwards


def check_precision(name: str, options: Mapping[str, Scalar], precision: Precision) -> None:
    """Low precision is for ensembles.

    Args:
        name: of the attack.
        options: complete.
        precision: of its search.

    Raises:
        InvalidArgument: the attack does not search in that precision.
    """
    searches = innermost(name, options)[0]
    if precision != "float32" and not searches.finishes:
        able = ", ".join(item for item in ATTACKS.names() if ATTACKS.get(item).finishes)
        raise InvalidArgument("search_precision", precision, f"float32 for {searches.name}; the others are for {able}")


def ends_with_square(name: str, options: Mapping[str, Scalar]) -> bool:
    """Whether what Square breaks had stood against white-box attacks."""
    searches, complete = innermost(name, options)
    return members.ends_with_square(searches.name, complete)


def _looks(options: Mapping[str, Scalar]) -> int:
    """At how many radii `bisect` looks."""
    return int(options["levels"]).bit_length()


def _bisect_cost(options: Mapping[str, Scalar], classes: int) -> tuple[int, int]:
    """Cost of `bisect`: its attack at as many radii as a search among them looks at."""
    inner, looks = ATTACKS.get(str(options["inner"])), _looks(options)
    forwards, backwards = inner.budget(inner.complete({}), classes)
    return 1 + looks * forwards, looks * backwards


def _add(attack: Attack) -> None:
    """Register under the attack's own name."""
    ATTACKS.add(attack.name, attack)


_add(
    Attack(
        name="fgsm",
        version="1",
        norms=NORMS,
        options=MappingProxyType({"loss": _LOSS, "top": _TOP}),
        target=f"{_HERE}:run_fgsm",
        budget=members.alone("fgsm"),
        summary="one step of length eps along the gradient",
        source="Goodfellow et al., ICLR 2015, arXiv 1412.6572",
    )
)
_add(
    Attack(
        name="pgd",
        version="2",
        norms=NORMS,
        options=MappingProxyType(
            {
                "steps": replace(_STEPS, default=20),
                "step_size": Option(default=0.25, low=1e-6, high=100.0, help="length of a step, relative to eps"),
                "restarts": _RESTARTS,
                "random_start": Option(default=True, help="start inside the ball at random; else at the image"),
                "loss": _LOSS,
                "top": _TOP,
            }
        ),
        target=f"{_HERE}:run_pgd",
        budget=members.alone("pgd"),
        summary="projected gradient ascent",
        source="Madry et al., ICLR 2018, arXiv 1706.06083",
    )
)
for _loss, _words in (("ce", "cross-entropy"), ("dlr", "difference of logits ratio")):
    _add(
        Attack(
            name=f"apgd-{_loss}",
            version="1",
            norms=NORMS,
            options=MappingProxyType({"steps": _STEPS, "restarts": _RESTARTS, "eot": _EOT}),
            target=f"{_HERE}:run_apgd_{_loss}",
            budget=members.alone(f"apgd-{_loss}"),
            summary=f"Auto-PGD on the {_words}",
            source=_APGD_SOURCE,
        )
    )
_add(
    Attack(
        name="apgd-t",
        version="1",
        norms=NORMS,
        options=MappingProxyType({"steps": _STEPS, "targets": _TARGETS, "eot": _EOT}),
        target=f"{_HERE}:run_apgd_t",
        budget=members.alone("apgd-t"),
        summary="Auto-PGD on the targeted difference of logits ratio, target by target",
        source=_APGD_SOURCE,
    )
)
_add(
    Attack(
        name="fab-t",
        version="1",
        norms=NORMS,
        options=MappingProxyType({"steps": _STEPS, "targets": _TARGETS}),
        target=f"{_HERE}:run_fab_t",
        budget=members.alone("fab-t"),
        summary="fast adaptive boundary attack, target by target",
        source=_FAB_SOURCE,
    )
)
_add(
    Attack(
        name="fab",
        version="1",
        norms=NORMS,
        options=MappingProxyType({"steps": _STEPS, "restarts": replace(_RESTARTS, default=5)}),
        target=f"{_HERE}:run_fab",
        budget=members.alone("fab"),
        summary="fast adaptive boundary attack to the nearest class; a backward pass for every class",
        source=_FAB_SOURCE,
    )
)
_add(
    Attack(
        name="square",
        version="1",
        norms=NORMS,
        options=MappingProxyType(
            {"queries": Option(default=5000, low=1, high=30_000, help="windows tried in a run"), "restarts": _RESTARTS}
        ),
        target=f"{_HERE}:run_square",
        budget=members.alone("square"),
        summary="random search with square windows; black box",
        source="Andriushchenko et al., ECCV 2020, arXiv 1912.00049",
    )
)
_add(
    Attack(
        name="msd",
        version="1",
        norms=NORMS,
        options=MappingProxyType(
            {
                "steps": replace(_STEPS, default=50),
                "step_size": Option(default=0.1, low=1e-6, high=100.0, help="length of a step, relative to each eps"),
                "top": _TOP,
                "eps_linf": Option(default=8 / 255, low=1e-9, help="Linf ball of the path, unless that is the norm"),
                "eps_l2": Option(default=0.5, low=1e-9, help="L2 ball of the path, unless that is the norm"),
                "eps_l1": Option(default=12.0, low=1e-9, help="L1 ball of the path, unless that is the norm"),
            }
        ),
        target=f"{_HERE}:run_msd",
        budget=members.alone("msd"),
        summary="steepest descent over the three norms at once; judged in one of them",
        source="Maini et al., ICML 2020, arXiv 1909.04068",
    )
)
_add(
    Attack(
        name="autoattack",
        version="1",
        norms=NORMS,
        options=MappingProxyType(
            {
                "version": Option(
                    default="standard", choices=("standard", "plus", "rand", "custom"), help="which ensemble"
                ),
                "attacks": Option(
                    default="apgd-ce,apgd-t,fab-t,square", help="members, with commas (version custom only)"
                ),
            }
        ),
        finishes=True,
        target=f"{_HERE}:run_autoattack",
        budget=members.autoattack_cost,
        summary="the field's standard ensemble: APGD-CE, APGD-T, FAB-T, Square",
        source=_APGD_SOURCE,
    )
)
_add(
    Attack(
        name="worst_of",
        version="1",
        norms=NORMS,
        options=MappingProxyType({"attacks": Option(default="pgd,apgd-t", help="members, with commas")}),
        finishes=True,
        target=f"{_HERE}:run_worst_of",
        budget=members.worst_of_cost,
        summary="broken if any of the named attacks breaks it",
        source="this package",
    )
)
_add(
    Attack(
        name="fast",
        version="1",
        norms=NORMS,
        bound="upper",
        finishes=True,
        target="harness.attacks.fast:run_fast",
        budget=members.fast_cost,
        summary="an upper bound on robust accuracy from an eighth of AutoAttack's passes",
        source="this package; adaptive schedules after Liu et al., CVPR 2022, arXiv 2203.05154",
    )
)
_add(
    Attack(
        name="fast+standard",
        version="1",
        norms=NORMS,
        finishes=True,
        target="harness.attacks.fast:run_fast_standard",
        budget=members.fast_standard_cost,
        summary="AutoAttack standard on what `fast` left standing",
        source="this package",
    )
)
_add(
    Attack(
        name="bisect",
        version="1",
        norms=NORMS,
        options=MappingProxyType(
            {
                "inner": Option(
                    default="fast",
                    choices=("fast", "fgsm", "pgd", "apgd-ce", "apgd-dlr", "apgd-t", "autoattack", "fast+standard"),
                    help="run at each radius, with its defaults",
                ),
                "levels": Option(default=15, low=1, high=1000, help="radii, in equal steps up to eps"),
            }
        ),
        target="harness.attacks.distances:run_bisect",
        budget=_bisect_cost,
        inner="inner",
        summary="the smallest of several radii at which another attack breaks an image: robust accuracy at many eps",
        source="this package",
    )
)
_add(
    Attack(
        name="fab-distance",
        version="2",
        norms=NORMS,
        options=MappingProxyType({"steps": _STEPS, "targets": _TARGETS}),
        target="harness.attacks.distances:run_distances",
        budget=members.alone("fab-t"),
        summary="the smallest perturbation that FAB-T finds: robust accuracy at every eps up to the one given",
        source=_FAB_SOURCE,
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
        budget=members.reference_cost,
        summary="AutoAttack as the pyautoattack package runs it; outcomes depend on the batch cut",
        source="Croce and Hein, ICML 2020, arXiv 2003.01690",
    )
)
