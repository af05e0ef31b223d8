"""Made-up attack results for the pages: every kind of threat, union and curve."""

from __future__ import annotations

from harness.curves import GridValue
from harness.metrics.intervals import wilson
from harness.robustness import BoardRobustness, Bound, RobustnessCurve, Threat, Union
from harness.types import Norm


def share(right: int, n: int) -> GridValue:
    """A share of n images with its interval."""
    low, high = wilson(right, n)
    return GridValue(value=right / n, low=low, high=high, n=n)


def threat(group: str, attack: str, norm: Norm, eps: float, right: int, n: int = 500, images: int = 500) -> Threat:
    """A threat; what has "fast" in its name is an upper bound."""
    bound: Bound = "upper" if "fast" in attack else "exact"
    return Threat(
        group=group, attack=attack, norm=norm, eps=eps, bound=bound, images=images, robust=share(right, n),
        evaluation=group.encode().hex(),
    )  # fmt: skip


def curve(of: Threat, levels: int, clean: int = 485) -> RobustnessCurve:
    """A curve that falls evenly from clean to its threat's value."""
    right = round(of.robust.value * of.robust.n)
    return RobustnessCurve(
        group=of.group,
        attack=of.attack,
        norm=of.norm,
        bound=of.bound,
        images=of.images,
        points=tuple(
            (of.eps * (at / levels), share(clean + round((right - clean) * at / levels), of.robust.n))
            for at in range(levels + 1)
        ),
        evaluation=of.evaluation,
    )


def attacked(model: str, benchmark: str = "digits@1", dataset: str = "digits") -> BoardRobustness:
    """Three norms, two with curves, one attack half done, and a union."""
    linf = threat("curve_linf", "bisect (fast)", "Linf", 15 / 255, 130)
    l2 = threat("curve_l2", "fab-distance", "L2", 1.5, 75)
    threats = (
        threat("pgd_linf", "pgd", "Linf", 4 / 255, 310),
        threat("aa_linf", "autoattack:reference", "Linf", 4 / 255, 9, 16, 32),
        linf,
        threat("fast_l2", "fast", "L2", 0.5, 250),
        l2,
        threat("fast_l1", "fast", "L1", 12.0, 200),
    )
    union = Union(
        column="robust_accuracy_union",
        members=("pgd Linf 4/255", "fast L2 0.5", "fast L1 12"),
        bound="upper",
        images=500,
        robust=share(180, 500),
    )
    return BoardRobustness(
        model=model,
        benchmark=benchmark,
        dataset=dataset,
        dataset_digest="d" * 64,
        clean=share(485, 500),
        threats=threats,
        unions=(union,),
        curves=(curve(linf, 15), curve(l2, 40)),
    )


def plain(model: str, dataset: str = "digits") -> BoardRobustness:
    """One attack in one norm, no curve, no union, clean not evaluated."""
    return BoardRobustness(
        model=model,
        benchmark="tiny@2",
        dataset=dataset,
        dataset_digest="d" * 64,
        clean=None,
        threats=(threat("pgd", "pgd", "L1", 0.3, 4, 9, 9),),
        unions=(),
        curves=(),
    )
