"""The planner: which pieces of which blocks are missing, bundled into tasks. Pure: no store, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.attacks.flags import BACKWARDS, FORWARDS
from harness.benchmarks import Request
from harness.spec import (
    AttackSpec,
    ChecksSpec,
    CleanSpec,
    CorruptionSpec,
    DataRef,
    EvaluationSpec,
    MeasureSpec,
    block_size,
)

FEW_PASSES = 10
"""Weight per image above which a measure is scheduled as early as an attack."""

BLOCKS_POOLED = 4
"""Blocks of an attack that a task holds at the most: enough to keep batches full, few enough to share among workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Images [start, stop) of one evaluation, inside one block."""

    spec: EvaluationSpec
    block: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What an executor takes at a time: pieces that share a data set and a perturbation.

    The kernel makes images [start, stop) once for all pieces: a corrupted block is shared by all models, and the blocks
    of a model's attack share one pool.
    """

    id: int
    start: int
    stop: int
    pieces: tuple[Piece, ...]

    @property
    def data(self) -> DataRef:
        """The data set."""
        return self.pieces[0].spec.data

    @property
    def label(self) -> str:
        """Short name for people."""
        return self.pieces[0].spec.perturbation.label


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Predicted work: images perturbed by a suite, and rows through a model forward and backward."""

    corrupted: int = 0
    forwards: int = 0
    backwards: int = 0

    def __add__(self, other: Cost) -> Cost:
        """The sum, field by field."""
        return Cost(
            corrupted=self.corrupted + other.corrupted,
            forwards=self.forwards + other.forwards,
            backwards=self.backwards + other.backwards,
        )

    @property
    def weight(self) -> int:
        """One number to order tasks and to advance a progress bar by; a backward counts as two forwards."""
        return self.forwards + 2 * self.backwards + 8 * self.corrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done and what is there already."""

    tasks: tuple[Task, ...]
    costs: tuple[Cost, ...]
    """Predicted cost by task; for attacks an upper bound, since broken images stop early."""
    evaluations: int
    """Evaluations asked for."""
    wanted: int
    """Image verdicts asked for."""
    missing: int
    """Image verdicts to compute; the others are in the store."""
    skipped: tuple[str, ...]
    """What a limit leaves out, in words."""

    @property
    def cost(self) -> Cost:
        """Predicted cost of all tasks."""
        return sum(self.costs, Cost())


def make_plan(requests: Iterable[Request], coverage: Mapping[str, Mapping[int, int]]) -> Plan:
    """Bundle what is missing into tasks, the dearest first so that no worker is left with it at the end.

    Args:
        requests: the evaluations wanted, each on images [0, stop).
        coverage: evaluation digest -> block -> number of its leading images in the store.
    """
    bundles: dict[tuple[object, ...], list[Piece]] = {}
    seen: set[str] = set()
    wanted, missing, skipped = 0, 0, []
    for request in requests:
        spec = request.spec
        digest = spec.digest
        if digest in seen:
            continue
        seen.add(digest)
        stop = _whole(spec, request.stop)
        if stop == 0:
            skipped.append(f"{spec.model.name}: {request.group} needs more images (whole batches; 2 for a measure)")
            continue
        wanted += stop
        for piece in missing_pieces(spec, stop, coverage.get(digest, {})):
            missing += piece.stop - piece.start
            bundles.setdefault(_bundle_key(piece), []).append(piece)
    pairs = [(_bundle_cost(pieces), tuple(pieces)) for pieces in bundles.values()]
    pairs.sort(key=lambda pair: (-_class_of(pair[1][0]), -pair[0].weight))
    tasks = tuple(
        Task(
            id=number,
            start=min(piece.start for piece in pieces),
            stop=max(piece.stop for piece in pieces),
            pieces=pieces,
        )
        for number, (_, pieces) in enumerate(pairs)
    )
    return Plan(
        tasks=tasks,
        costs=tuple(cost for cost, _ in pairs),
        evaluations=len(seen),
        wanted=wanted,
        missing=missing,
        skipped=tuple(skipped),
    )


def missing_pieces(spec: EvaluationSpec, stop: int, blocks: Mapping[int, int]) -> Sequence[Piece]:
    """The parts of images [0, stop) that the store lacks, cut at block borders.

    Args:
        spec: the evaluation.
        stop: end of the range.
        blocks: block -> number of its leading images in the store.
    """
    size = block_size(spec.perturbation)
    pieces = []
    for block in range((stop + size - 1) // size):
        begin, end = block * size, min((block + 1) * size, stop)
        start = begin + blocks.get(block, 0)
        if start < end:
            pieces.append(Piece(spec=spec, block=block, start=start, stop=end))
    return pieces


def _whole(spec: EvaluationSpec, stop: int) -> int:
    """The end of the range that can be run: what is not per-image runs in the batches that its identity names."""
    match spec.perturbation:
        case AttackSpec(scope=scope) if scope is not None:
            return scope.stop if stop >= scope.stop else stop - stop % scope.batch
        case MeasureSpec() if stop < 2:  # two classes are the least that selectivity can tell apart
            return 0
        case _:
            return stop


def _bundle_key(piece: Piece) -> tuple[object, ...]:
    """Pieces with equal keys share a task: one perturbed block for all models; a few blocks of one model's attack."""
    spec = piece.spec
    match spec.perturbation:
        case CleanSpec() | CorruptionSpec():
            return (spec.data.digest, spec.perturbation, piece.block)
        case AttackSpec(scope=None):  # slots that become free in one block are refilled from the next
            return (spec.data.digest, spec.perturbation, piece.block // BLOCKS_POOLED, spec.model.digest)
        case _:
            return (spec.data.digest, spec.perturbation, piece.block, spec.model.digest)


def _class_of(piece: Piece) -> int:
    """Coarse order: attacks and dear measures first (long and few), then corruptions, then single passes."""
    match piece.spec.perturbation:
        case AttackSpec() | ChecksSpec():
            return 2
        case MeasureSpec() as measure if _measure_cost(measure, piece.spec.data.classes, 1).weight > FEW_PASSES:
            return 2
        case CorruptionSpec():
            return 1
        case _:
            return 0


def _bundle_cost(pieces: Sequence[Piece]) -> Cost:
    total = Cost()
    span = max(piece.stop for piece in pieces) - min(piece.start for piece in pieces)
    for piece in pieces:
        images = piece.stop - piece.start
        match piece.spec.perturbation:
            case AttackSpec() as attack:
                forwards, backwards = attack_budget(attack, piece.spec.data.classes)
                total += Cost(forwards=images * forwards, backwards=images * backwards)
            case ChecksSpec():
                total += Cost(forwards=FORWARDS, backwards=BACKWARDS)
            case MeasureSpec() as measure:
                total += _measure_cost(measure, piece.spec.data.classes, images)
            case CleanSpec() | CorruptionSpec():
                total += Cost(forwards=images)
    if isinstance(pieces[0].spec.perturbation, CorruptionSpec):
        total += Cost(corrupted=span)
    return total


def _measure_cost(spec: MeasureSpec, classes: int, images: int) -> Cost:
    from harness.measures import MEASURES

    passes = MEASURES.get(spec.measure).passes(dict(spec.options), classes)
    return Cost(
        corrupted=images * passes.corrupted, forwards=images * passes.forwards, backwards=images * passes.backwards
    )


def attack_budget(spec: AttackSpec, classes: int) -> tuple[int, int]:
    """Upper bound on (forward, backward) passes an image that survives the attack costs."""
    from harness.attacks.catalogue import attack_cost

    return attack_cost(spec.attack, dict(spec.options), classes, spec.search_precision)
