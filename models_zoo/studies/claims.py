"""What Leavitt and Morcos found, as statements that a sweep over alpha can agree or disagree with.

Signs are those of the abstracts (arXiv 2010.07693, 2003.01262, 2007.04440); controls that the abstracts do not name
follow the same sign. Where no sign was published, none is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from harness.metrics.correlation import Estimate, PermutationTest, mean_over_models, rank_correlation
from models_zoo.studies.subjects import EPS, Subject, Subjects

Verdict: TypeAlias = Literal["agrees", "disagrees", "undecided", "not judged"]
Sign: TypeAlias = Literal[-1, 0, 1]

MODELS: Final = 4
"""Models below which nothing is tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A published statement about two quantities, or about the mean of one."""

    text: str
    source: str
    y: str
    sign: Sign
    """Of the correlation or of the mean; 0 where none was published."""
    x: str | None = "selectivity"
    """None: the statement is about the mean of `y` over models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A claim with what the sweep says about it."""

    claim: Claim
    estimate: Estimate | None
    """None where too few models have both quantities, or one of them is constant."""
    test: PermutationTest | None
    """None also where settings have unequal numbers of models, and for means."""
    peak: float | None
    """The alpha with the highest mean of `y`."""
    verdict: Verdict


_ABSTRACT, _PARENT, _EARLIER, _CONTROL, _CARD = (
    "2010.07693, abstract",
    "2003.01262, abstract",
    "2007.04440, abstract",
    "control of the abstract's claim",
    "no sign published",
)


def claims() -> tuple[Claim, ...]:
    """All claims, in the order of the report."""
    return (
        Claim(text="alpha moves selectivity", source="design of the sweep", x="alpha", y="selectivity", sign=1),
        Claim(text="more selective, less accurate", source=_PARENT, y="clean_accuracy", sign=-1),
        Claim(text="more selective, worse under corruptions", source=_ABSTRACT, y="corruption_accuracy", sign=-1),
        Claim(text="the same after division by clean accuracy", source=_CONTROL, y="retention", sign=-1),
        *(
            Claim(text=f"the same under {family} alone", source=_CONTROL, y=f"{family}_accuracy", sign=-1)
            for family in ("noise", "blur", "weather", "digital")
        ),
        *_attacks("more selective, better under FGSM", "fgsm_accuracy_linf_{}_255", _ABSTRACT),
        *_attacks("more selective, better under PGD-40", "pgd_accuracy_linf_{}_255", _ABSTRACT),
        *_attacks("the same among images right clean, PGD-40", "on_correct_{}", _CONTROL),
        Claim(text="more selective, fewer dimensions in early layers", source=_ABSTRACT, y="early_dimension", sign=-1),
        Claim(text="the same over all layers", source=_CONTROL, y="dimension", sign=-1),
        Claim(
            text="more selective, fewer dimensions of the change, corruptions", source=_EARLIER,
            y="change_corruptions", sign=-1,
        ),
        Claim(text="more selective, fewer dimensions of the change, PGD", source=_EARLIER, y="change_pgd", sign=-1),
        Claim(
            text="change in early layers has more dimensions under PGD than under corruptions", source=_ABSTRACT,
            x=None, y="early_change_gap", sign=1,
        ),
        Claim(
            text="the other reading: PGD raises the dimension of early layers more than corruptions do",
            source=_ABSTRACT, x=None, y="early_difference_gap", sign=1,
        ),
        Claim(
            text="more selective, unit gradients vary more over samples", source=_ABSTRACT,
            y="gradient_cv_samples", sign=1,
        ),
        Claim(
            text="more selective, unit gradients vary more over units", source=_ABSTRACT, y="gradient_cv_units", sign=1
        ),
        Claim(text="selectivity and the norm of the logits' Jacobian", source=_CARD, y="jacobian_norm", sign=0),
        Claim(text="selectivity and the norm of the input gradient", source=_CARD, y="input_gradient_l2", sign=0),
    )  # fmt: skip


def examine(claim: Claim, subjects: Subjects) -> Tested:
    """A claim against the sweep: designs are settings of alpha, models are seeds of them."""
    x = claim.x
    have = [item for item in subjects.sweep if claim.y in item.values and (x in {None, "alpha"} or x in item.values)]
    peak = _peak(claim.y, subjects)
    nothing: Verdict = "not judged" if claim.sign == 0 else "undecided"
    if len(have) < MODELS:
        return Tested(claim=claim, estimate=None, test=None, peak=peak, verdict=nothing)
    designs = [item.alpha for item in have]
    up = [item.values[claim.y] for item in have]
    if x is None:
        mean = mean_over_models(up, designs)
        return Tested(claim=claim, estimate=mean, test=None, peak=peak, verdict=judge(mean, claim.sign))
    across = [float(item.alpha or 0.0) if x == "alpha" else item.values[x] for item in have]
    found = rank_correlation(across, up, designs)
    if found is None:
        return Tested(claim=claim, estimate=None, test=None, peak=peak, verdict=nothing)
    verdict = judge(found.rho, claim.sign)
    return Tested(claim=claim, estimate=found.rho, test=found.test, peak=peak, verdict=verdict)


def judge(estimate: Estimate, sign: Sign) -> Verdict:
    """The word for an estimate: its interval over designs is on the claimed side of 0, on the other, or holds 0."""
    if sign == 0:
        return "not judged"
    if estimate.low <= 0 <= estimate.high:
        return "undecided"
    return "agrees" if (estimate.low > 0) == (sign > 0) else "disagrees"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverse:
    """The other direction of the claimed link: what training for robustness does to selectivity."""

    text: str
    subject: Subject
    value: float
    low: float
    high: float
    """Range over the seeds of the sweep at alpha 0."""
    verdict: Verdict


def reverse_claims(subjects: Subjects) -> tuple[Reverse, ...]:
    """Adversarial training raises selectivity, AugMix lowers it (the first author's announcement), against the seeds.

    A model inside the range of the seeds decides nothing.
    """
    base = [item.values["selectivity"] for item in subjects.at(0.0) if "selectivity" in item.values]
    expected: dict[str, tuple[Sign, str]] = {
        "adversarial": (1, "adversarial training raises selectivity"),
        "augmix": (-1, "AugMix lowers selectivity"),
    }
    found = []
    for item in subjects.others:
        value = item.values.get("selectivity")
        if value is None or item.recipe not in expected or len(base) < 2:
            continue
        sign, text = expected[item.recipe]
        side = (value > max(base)) - (value < min(base))
        verdict: Verdict = "undecided" if side == 0 else "agrees" if side == sign else "disagrees"
        found.append(Reverse(text=text, subject=item, value=value, low=min(base), high=max(base), verdict=verdict))
    return tuple(found)


def _attacks(text: str, column: str, source: str) -> Sequence[Claim]:
    return [Claim(text=f"{text}, {eps}/255", source=source, y=column.format(eps), sign=1) for eps in EPS]


def _peak(name: str, subjects: Subjects) -> float | None:
    means = {}
    for alpha in subjects.alphas:
        values = [item.values[name] for item in subjects.at(alpha) if name in item.values]
        if values:
            means[alpha] = sum(values) / len(values)
    return max(means, key=lambda alpha: means[alpha]) if means else None
