"""All measures by name. Descriptions only: nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness.attacks.catalogue import ATTACKS
from harness.attacks.options import Option
from harness.errors import InvalidArgument, UnknownName
from harness.measures import base
from harness.measures.base import Measure, Options, Passes
from harness.registry import Registry
from harness.spec import Scalar, eps_text, parse_eps

MEASURES: Registry[Measure] = Registry("measure")

UNITS_EXPECTED = 688
"""Units of a network as far as a plan knows, which sees no layers: those of resnet20."""

_HERE = "harness.measures"
_SEED = Option(default=0, low=0, high=2**63 - 1, help="of all draws; by default the benchmark's")
_ROBUSTNESS = "Leavitt and Morcos, arXiv 2010.07693"
_PERCENTS = (90, 95, 99)
_CHANGE = tuple(
    f"{name}_{percent}"
    for percent in _PERCENTS
    for name in ("change_fraction", "clean_fraction", "perturbed_fraction", "difference")
)


def _percentiles(*names: str) -> tuple[str, ...]:
    """Quantities of a distribution over images: the mean, and percentiles."""
    return tuple(name + end for name in names for end in ("", "_p05", "_p25", "_p50", "_p75", "_p95"))


def _listed(value: Scalar) -> list[str]:
    return [item.strip() for item in str(value).split(",")]


def _resolve_corruptions(options: dict[str, Scalar]) -> dict[str, Scalar]:
    """Sets and families of corruptions written out in the suite's order, severities ascending.

    Raises:
        UnknownName: a suite, set or corruption that is not there.
        InvalidArgument: a severity that is none.
    """
    from harness.corruptions.suites import SUITES

    suite = SUITES.get(str(options["suite"]))
    sets: dict[str, tuple[str, ...]] = {"benchmark": suite.benchmark, "extra": suite.extra, "all": suite.names}
    sets.update(suite.families.items())
    wanted: set[str] = set()
    for name in _listed(options["corruptions"]):
        if name not in sets and name not in suite.names:
            raise UnknownName("corruption or set of corruptions", name, (*sets, *suite.names))
        wanted.update(sets.get(name, (name,)))
    severities = sorted(set(_listed(options["severities"])))
    if not set(severities) <= set("12345"):
        raise InvalidArgument("severities", options["severities"], "numbers from 1 to 5, separated by commas")
    names = ",".join(name for name in suite.names if name in wanted)
    return {**options, "corruptions": names, "severities": ",".join(severities)}


def conditions(options: Options) -> tuple[str, ...]:
    """What the values of an array of the measure "dimensionality_corruptions" stand for: "fog/3" and so on."""
    names, severities = _listed(options["corruptions"]), _listed(options["severities"])
    return tuple(f"{name}/{severity}" for name in names for severity in severities)


def _suite_versions(options: Options) -> tuple[str, ...]:
    from harness.corruptions.suites import SUITES

    suite = SUITES.get(str(options["suite"]))
    return tuple(f"{name}:{suite.version(name)}" for name in _listed(options["corruptions"]))


def _corruption_passes(options: Options, _classes: int) -> Passes:
    count = len(conditions(options))
    return Passes(forwards=1 + count, corrupted=count)


def _resolve_attack(options: dict[str, Scalar]) -> dict[str, Scalar]:
    """The radius in its plainest writing, and the length of a step.

    Raises:
        InvalidArgument: no radius.
    """
    step = options["step_size"] or 2.5 / int(options["steps"])
    return {**options, "eps": eps_text(parse_eps(str(options["eps"]))), "step_size": step}


def _attack_passes(options: Options, _classes: int) -> Passes:
    steps = int(options["steps"])
    return Passes(forwards=2 + steps, backwards=steps)


def _attack_versions(_options: Options) -> tuple[str, ...]:
    """PGD's: `perturbed.ascended` is its steps, projections and loss without its stop at the first break."""
    return (f"pgd:{ATTACKS.get('pgd').version}",)


def _unit_passes(options: Options, _classes: int) -> Passes:
    return Passes(backwards=int(options["units"]) * 20 or UNITS_EXPECTED)


def _table(**options: Option) -> Mapping[str, Option]:
    return MappingProxyType(options)


for _measure in (
    Measure(
        name="selectivity",
        version=base.SELECTIVITY_VERSION,
        target=f"{_HERE}.floor:measure_selectivity",
        description="mean class selectivity index of the units, units then layers (Leavitt & Morcos, 2020)",
        source="Leavitt and Morcos, arXiv 2003.01262",
        quantities=("selectivity_index", "dead_units", "selectivity_index_alive"),
    ),
    Measure(
        name="selectivity_floor",
        version=base.FLOOR_VERSION,
        target=f"{_HERE}.floor:measure_floor",
        description="selectivity index under permuted labels, what the index has above it, and dead units",
        source="own control for the index of Leavitt and Morcos, arXiv 2003.01262",
        quantities=("floor", "above_floor", "dead_units", "dead_fraction"),
        options=_table(
            shuffles=Option(default=20, low=1, high=10_000, help="permutations of the labels"),
            seed=_SEED,
        ),
        passes=lambda _options, _classes: Passes(forwards=2),
    ),
    Measure(
        name="dimensionality",
        version=base.DIMENSIONALITY_VERSION,
        target=f"{_HERE}.dimensionality:measure_dimensionality",
        description="share of principal components that 90, 95 and 99 % of a layer's variance need, clean",
        source=_ROBUSTNESS,
        quantities=(
            *(f"fraction_{percent}" for percent in _PERCENTS),
            *("participation_ratio", "variance", "dead_columns", "few_images"),
        ),
    ),
    Measure(
        name="dimensionality_corruptions",
        version=base.DIMENSIONALITY_CORRUPTIONS_VERSION,
        target=f"{_HERE}.change:measure_corruptions",
        description="the same for the row-matched change of responses under corruptions, mean over all of them",
        source=_ROBUSTNESS,
        quantities=_CHANGE,
        options=_table(
            suite=Option(default="cifar-10-c", help="parameters of the corruptions"),
            corruptions=Option(default="benchmark", help="corruptions, families or sets, separated by commas"),
            severities=Option(default="1,2,3,4,5", help="severities, separated by commas"),
            seed=_SEED,
        ),
        parts="conditions",
        keyed=True,
        passes=_corruption_passes,
        resolve=_resolve_corruptions,
        components=_suite_versions,
    ),
    Measure(
        name="dimensionality_attack",
        version=base.DIMENSIONALITY_ATTACK_VERSION,
        target=f"{_HERE}.change:measure_attack",
        description="the same for the change under projected gradient ascent that goes all the way on every image",
        source=_ROBUSTNESS,
        quantities=_CHANGE,
        options=_table(
            norm=Option(default="Linf", choices=("Linf", "L2"), help="of the ball"),
            eps=Option(default="4/255", help="radius of the ball"),
            steps=Option(default=40, low=1, high=100_000, help="gradient steps"),
            step_size=Option(default=0.0, low=0.0, help="length of a step over eps; 0 stands for 2.5 / steps"),
            random_start=Option(default=True, help="begin at a random point of the ball"),
            seed=_SEED,
        ),
        parts="conditions",
        keyed=True,
        passes=_attack_passes,
        resolve=_resolve_attack,
        components=_attack_versions,
    ),
    Measure(
        name="unit_gradients",
        version=base.UNIT_GRADIENTS_VERSION,
        target=f"{_HERE}.gradients:measure_unit_gradients",
        description="variation of the units' input gradients over samples and over units",
        source=_ROBUSTNESS,
        quantities=("cv_samples", "cv_units", "gradient_norm", "silent_units"),
        options=_table(
            units=Option(default=0, low=0, high=1_000_000, help="units of a layer at most, drawn; 0 for all"),
            seed=_SEED,
        ),
        passes=_unit_passes,
    ),
    Measure(
        name="jacobian",
        version=base.JACOBIAN_VERSION,
        target=f"{_HERE}.logits:measure_jacobian",
        description="Frobenius norm of the logits' Jacobian with respect to the image",
        source=_ROBUSTNESS,
        quantities=_percentiles("jacobian_norm"),
        parts="images",
        passes=lambda _options, classes: Passes(backwards=classes),
    ),
    Measure(
        name="input_gradient",
        version=base.INPUT_GRADIENT_VERSION,
        target=f"{_HERE}.logits:measure_input_gradient",
        description="L2 and L1 norm of the cross-entropy's gradient with respect to the image",
        source="Simon-Gabriel et al., arXiv 1802.01421: the L1 norm bounds the rise of the loss in an Linf ball",
        quantities=_percentiles("gradient_l2", "gradient_l1"),
        parts="images",
        passes=lambda _options, _classes: Passes(backwards=1),
    ),
    Measure(
        name="margin",
        version=base.MARGIN_VERSION,
        target=f"{_HERE}.logits:measure_margin",
        description="logit of the label minus the best other, and its distribution over images",
        quantities=(*_percentiles("margin"), "margin_positive"),
        parts="images",
    ),
):
    MEASURES.add(_measure.name, _measure)
MEASURES.freeze()
