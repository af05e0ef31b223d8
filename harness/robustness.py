"""How a model stands against attacks: threat models, their unions, and robust accuracy over eps, out of the store.

A view of verdicts and attack details that are stored already, board by board; every number is a share of images with
Wilson's interval. No torch, no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.attacks import ATTACKS
from harness.attacks.catalogue import attack_bound
from harness.attacks.curves import radii, union
from harness.benchmarks import Benchmark, Group, Request, benchmark_names, load_benchmark
from harness.curves import GridValue
from harness.errors import UnknownName
from harness.metrics.intervals import wilson
from harness.spec import AttackSpec, CleanSpec, DataRef, ModelRef, eps_text
from harness.storage.queries import Reader
from harness.target import Target
from harness.types import NORMS, Json, Norm

Bound: TypeAlias = Literal["exact", "upper"]
DISTANCE_POINTS = 40
"""Radii at which a curve without a grid of its own is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threat:
    """Robust accuracy in one threat model under one attack."""

    group: str
    """Name of the evaluation in its benchmark."""
    attack: str
    """The attack's name; with the one that it runs inside, if any: "bisect (fast)"."""
    norm: Norm
    eps: float
    bound: Bound
    """"upper" where the attack gives no more than an upper bound: then it is to be shown with "<="."""
    images: int
    """Images of the full range; `robust.n` are done."""
    robust: GridValue
    evaluation: str
    """Digest of the evaluation."""

    @property
    def label(self) -> str:
        """Short name for people."""
        return f"{self.attack} {self.norm} {eps_text(self.eps)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Union:
    """Images that are right under several threat models at once, image by image."""

    column: str | None
    """The board's column that shows it; None where the board has none."""
    members: tuple[str, ...]
    """Labels of its threats."""
    bound: Bound
    """"upper" if that of any member is."""
    images: int
    """Images of the range that all members share; `robust.n` are done by all of them."""
    robust: GridValue


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessCurve:
    """Robust accuracy at many radii from the sizes of the smallest perturbations that one evaluation found."""

    group: str
    attack: str
    norm: Norm
    bound: Bound
    images: int
    points: tuple[tuple[float, GridValue], ...]
    """(eps, robust accuracy), from 0 (clean) up to the evaluation's own radius, falling."""
    evaluation: str

    @property
    def eps(self) -> float:
        """The largest radius."""
        return self.points[-1][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRobustness:
    """What one board's evaluations say of one model."""

    model: str
    benchmark: str
    """`name@version`."""
    dataset: str
    dataset_digest: str
    clean: GridValue | None
    """Without perturbation, where that was evaluated."""
    threats: tuple[Threat, ...]
    """By norm and radius."""
    unions: tuple[Union, ...]
    curves: tuple[RobustnessCurve, ...]

    @property
    def norms(self) -> tuple[Norm, ...]:
        """Norms in which the model was attacked."""
        present = {threat.norm for threat in self.threats}
        return tuple(norm for norm in NORMS if norm in present)

    def to_dict(self) -> Json:
        """Plain data, the same on the command line and over HTTP."""
        return {
            "benchmark": self.benchmark,
            "dataset": self.dataset,
            "dataset_digest": self.dataset_digest,
            "clean": asdict(self.clean) if self.clean else None,
            "threats": [{**asdict(threat), "eps_text": eps_text(threat.eps)} for threat in self.threats],
            "unions": [{**asdict(item), "members": list(item.members)} for item in self.unions],
            "curves": [
                {**asdict(curve), "points": [{"eps": eps, **asdict(value)} for eps, value in curve.points]}
                for curve in self.curves
            ],
        }


@dataclass(frozen=True, slots=True)
class _Attacked:
    """An attack evaluation of a board with what is stored of it: a threat and its verdicts."""

    threat: Threat
    spec: AttackSpec
    bits: NDArray[np.bool_]


def robustness(store: Reader, model_name: str) -> tuple[BoardRobustness, ...]:
    """One entry for each board on which a model was attacked with the components of this version.

    Args:
        store: where verdicts are.
        model_name: a registered model; its current revision counts.

    Returns:
        By benchmark, newest versions first; of a data set whose content changed, the newest content.

    Raises:
        UnknownName: the store has no such model.
    """
    model = store.find_ref(model_name)
    boards: dict[tuple[str, int, str], DataRef] = {}
    for score in store.scores(model=model_name):
        boards[score.benchmark, score.version, score.data.name] = score.data
    known = set(benchmark_names())
    found = []
    for (name, version, _), data in sorted(boards.items(), key=lambda item: (item[0][0], -item[0][1], item[0][2])):
        if (name, version) in known:
            board = board_robustness(store, load_benchmark(f"{name}@{version}"), store.target(data), model)
            found += [board] if board.threats else []
    return tuple(found)


def board_robustness(store: Reader, benchmark: Benchmark, target: Target, model: ModelRef) -> BoardRobustness:
    """What the attacks of one benchmark say of a model on one target; empty where none was run."""
    requests = benchmark.requests(model, target)
    verdicts = store.verdicts({request.spec.digest for request in requests if request.cell is None})
    attacked = [
        _Attacked(_threat(benchmark.group(request.group), request, spec, bits), spec, bits)
        for request in requests
        if isinstance(spec := request.spec.perturbation, AttackSpec)
        and (bits := verdicts.get(request.spec.digest, np.zeros(0, dtype=np.bool_))[: request.stop]).size
    ]
    attacked.sort(key=lambda item: (NORMS.index(item.threat.norm), item.threat.eps))
    clean = [
        verdicts.get(request.spec.digest)
        for request in requests
        if isinstance(request.spec.perturbation, CleanSpec) and request.cell is None
    ]
    return BoardRobustness(
        model=model.name,
        benchmark=benchmark.label,
        dataset=target.data.name,
        dataset_digest=target.data.digest,
        clean=_share(clean[0]) if clean and clean[0] is not None and clean[0].size else None,
        threats=tuple(item.threat for item in attacked),
        unions=_unions(benchmark, attacked),
        curves=tuple(curve for item in attacked if (curve := _curve(store, item)) is not None),
    )


def choose_boards(
    boards: Sequence[BoardRobustness], model_name: str, *, benchmark: str | None = None, dataset: str | None = None
) -> tuple[BoardRobustness, ...]:
    """The boards of a benchmark (`name` or `name@version`) and a data set; at least one.

    Raises:
        UnknownName: there is none, with the nearest name that there is.
    """
    if not boards:
        raise UnknownName("attack results of model", model_name, ())
    names = {board.benchmark for board in boards}
    bare = {name.partition("@")[0] for name in names}
    if benchmark is not None and benchmark not in names | bare:
        raise UnknownName("benchmark of this model's attack results", benchmark, names | bare)
    kept = [board for board in boards if benchmark in (None, board.benchmark, board.benchmark.partition("@")[0])]
    if dataset is not None and dataset not in {board.dataset for board in kept}:
        raise UnknownName("data set of this model's attack results", dataset, {board.dataset for board in kept})
    return tuple(board for board in kept if dataset in (None, board.dataset))


def boards_to_dict(model_name: str, boards: Iterable[BoardRobustness]) -> Json:
    """What a machine gets of one model."""
    return {"model": model_name, "boards": [board.to_dict() for board in boards]}


def standing(correct: NDArray[np.bool_], norms: NDArray[Any], eps: float) -> NDArray[np.bool_]:
    """Which images stand at a radius, from the smallest perturbations that were found at a larger one.

    Args:
        correct: n verdicts at the radius at which the attack ran.
        norms: n sizes of what broke the images, 0 for clean mistakes; of no meaning where `correct`.
        eps: at most the attack's radius; 0 asks for clean verdicts.

    Returns:
        n, bool: not broken, or only by something larger than `eps`.
    """
    # sizes are stored in float32: the radius is rounded the same way, so that a size of at most eps stays at most eps
    found: NDArray[np.bool_] = correct | (norms.astype(np.float32) > np.float32(eps))
    return found


def _threat(group: Group, request: Request, spec: AttackSpec, bits: NDArray[np.bool_]) -> Threat:
    options = dict(spec.options)
    inner = ATTACKS.get(spec.attack).inner
    return Threat(
        group=group.id,
        attack=f"{spec.attack} ({options[inner]})" if inner else spec.attack,
        norm=spec.norm,
        eps=spec.eps,
        bound=attack_bound(spec.attack, options),
        images=request.stop,
        robust=_share(bits),
        evaluation=request.spec.digest,
    )


def _share(bits: NDArray[np.bool_]) -> GridValue:
    """The share of right verdicts with Wilson's interval."""
    right = int(np.count_nonzero(bits))
    low, high = wilson(right, bits.size)
    return GridValue(value=right / bits.size, low=low, high=high, n=bits.size)


def _unions(benchmark: Benchmark, attacked: Sequence[_Attacked]) -> tuple[Union, ...]:
    """The board's own unions, and one for each attack that ran in several norms and is in none of them.

    In the latter the largest radius of each norm counts.
    """
    by_group = {item.threat.group: item for item in attacked}
    wanted: list[tuple[str | None, tuple[str, ...]]] = [
        (column.name, column.evaluations) for column in benchmark.columns if column.score == "union_accuracy"
    ]
    families: dict[tuple[object, ...], dict[Norm, str]] = {}
    for item in attacked:  # by radius: the largest stays
        spec = item.spec
        family = families.setdefault((spec.attack, spec.options, spec.search_precision), {})
        family[spec.norm] = item.threat.group
    declared = {frozenset(groups) for _, groups in wanted}
    wanted += [
        (None, tuple(family[norm] for norm in NORMS if norm in family))
        for family in families.values()
        if len(family) > 1 and frozenset(family.values()) not in declared
    ]
    return tuple(
        _union(column, [by_group[group] for group in groups])
        for column, groups in wanted
        if all(group in by_group for group in groups)
    )


def _union(column: str | None, members: Sequence[_Attacked]) -> Union:
    shared = min(item.bits.size for item in members)
    bits = union({item.threat.group: item.bits[:shared] for item in members})
    return Union(
        column=column,
        members=tuple(item.threat.label for item in members),
        bound="upper" if any(item.threat.bound == "upper" for item in members) else "exact",
        images=min(item.threat.images for item in members),
        robust=_share(bits),
    )


def _curve(store: Reader, item: _Attacked) -> RobustnessCurve | None:
    """The curve that an evaluation left behind; None for attacks that stop at the first break."""
    threat = item.threat
    grid = _grid(item.spec.attack, dict(item.spec.options), threat.eps)
    detail = store.details(threat.evaluation) if grid else None
    if detail is None or len(detail.records) < item.bits.size:
        return None
    norms = detail.records["norm"][: item.bits.size]
    return RobustnessCurve(
        group=threat.group,
        attack=threat.attack,
        norm=threat.norm,
        bound=threat.bound,
        images=threat.images,
        points=tuple((eps, _share(standing(item.bits, norms, eps))) for eps in (0.0, *grid)),
        evaluation=threat.evaluation,
    )


def _grid(attack: str, options: Mapping[str, Any], eps: float) -> tuple[float, ...]:
    """Radii at which an attack's stored sizes are told; none for attacks that do not look for the smallest."""
    if attack == "bisect":
        return radii(eps, int(options["levels"]))
    return radii(eps, DISTANCE_POINTS) if attack == "fab-distance" else ()
