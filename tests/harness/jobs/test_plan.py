"""The planner: pure, and never plans what is stored."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from harness.attacks.catalogue import attack_cost
from harness.benchmarks import Request
from harness.jobs.plan import make_plan, missing_pieces
from harness.spec import (
    PRECISIONS,
    AttackSpec,
    CleanSpec,
    CorruptionSpec,
    DataRef,
    EvaluationSpec,
    MeasureSpec,
    ModelRef,
    Perturbation,
    Scope,
    block_size,
)

DATA = DataRef(name="d", split="test", digest="d" * 64, images=5000, classes=10)


def spec(perturbation: Perturbation, model: str = "a") -> EvaluationSpec:
    """An evaluation of a made-up model."""
    return EvaluationSpec(model=ModelRef(name=model, digest=model * 64), data=DATA, perturbation=perturbation)


PGD = AttackSpec(attack="pgd", norm="Linf", eps=4 / 255, seed=0, version="1", options=(("restarts", 1), ("steps", 20)))
FOG = CorruptionSpec(suite="imagecorruptions", name="fog", severity=3, seed=0, version="1")


def request(perturbation: Perturbation, stop: int, model: str = "a") -> Request:
    """Images [0, stop) of an evaluation."""
    return Request(group="g", spec=spec(perturbation, model), stop=stop)


@given(
    perturbation=st.sampled_from([CleanSpec(), FOG, PGD]),
    stop=st.integers(1, 5000),
    have=st.dictionaries(st.integers(0, 39), st.integers(1, 1000), max_size=10),
)
def test_pieces_and_stored_parts_cover_the_range_exactly_once(
    perturbation: Perturbation, stop: int, have: dict[int, int]
) -> None:
    """Stored prefixes of blocks and planned pieces tile [0, stop) without overlap."""
    size = block_size(perturbation)
    have = {block: min(n, size) for block, n in have.items()}
    covered = [0] * stop
    for block, n in have.items():
        for image in range(block * size, min(block * size + n, stop)):
            covered[image] += 1
    for piece in missing_pieces(spec(perturbation), stop, have):
        assert piece.start // size == piece.block == (piece.stop - 1) // size
        for image in range(piece.start, piece.stop):
            covered[image] += 1
    assert covered == [1] * stop


def test_going_from_200_to_1000_images_computes_800() -> None:
    """The range is not in the identity: only what is missing is planned."""
    wanted = request(FOG, 1000)
    plan = make_plan([wanted], {wanted.spec.digest: {0: 200}})
    assert plan.missing == 800
    assert [(task.start, task.stop) for task in plan.tasks] == [(200, 1000)]


def test_a_complete_store_leaves_nothing_to_do() -> None:
    """What is in the store is never computed again."""
    wanted = [request(CleanSpec(), 500), request(FOG, 500), request(PGD, 200)]
    have = {
        wanted[0].spec.digest: {0: 500},
        wanted[1].spec.digest: {0: 1000},
        wanted[2].spec.digest: {0: 128, 1: 72},
    }
    assert make_plan(wanted, have).tasks == ()


def test_a_corrupted_block_is_made_once_for_all_models() -> None:
    """Single passes of all models on one perturbed block share a task, even when one model lacks less."""
    wanted = [request(FOG, 500, model) for model in "abc"]
    plan = make_plan(wanted, {wanted[1].spec.digest: {0: 100}})
    (task,) = plan.tasks
    assert [(piece.spec.model.name, piece.start, piece.stop) for piece in task.pieces] == [
        ("a", 0, 500),
        ("b", 100, 500),
        ("c", 0, 500),
    ]
    assert (task.start, task.stop) == (0, 500)
    assert plan.cost.corrupted == 500


def test_blocks_of_an_attack_are_pooled_and_go_first() -> None:
    """A task holds up to four blocks of one model's attack; attacks precede single passes, which fill the gaps."""
    plan = make_plan([request(CleanSpec(), 700), request(PGD, 700), request(PGD, 300, "b")], {})
    pools = [
        (task.pieces[0].spec.model.name, [(piece.start, piece.stop) for piece in task.pieces])
        for task in plan.tasks[:-1]
    ]
    four = [(0, 128), (128, 256), (256, 384), (384, 512)]
    assert sorted(pools) == [
        ("a", four),
        ("a", [(512, 640), (640, 700)]),
        ("b", [(0, 128), (128, 256), (256, 300)]),
    ]
    assert plan.tasks[-1].label == "clean"


def test_what_is_not_per_image_runs_in_whole_batches() -> None:
    """A limit below a reference backend's batch leaves it out and says so."""
    reference = AttackSpec(
        attack="autoattack:reference",
        norm="Linf",
        eps=4 / 255,
        seed=0,
        version="1",
        options=(("version", "standard"),),
        scope=Scope(start=0, stop=80, batch=32),
    )
    assert make_plan([request(reference, 20)], {}).skipped
    cut = make_plan([request(reference, 70)], {})
    assert sorted((task.start, task.stop) for task in cut.tasks) == [(0, 32), (32, 64)]
    full = make_plan([request(reference, 80)], {})
    assert sorted((task.start, task.stop) for task in full.tasks) == [(0, 32), (32, 64), (64, 80)]


def test_equal_requests_are_planned_once() -> None:
    """The same evaluation from two groups is one evaluation."""
    plan = make_plan([request(FOG, 500), request(FOG, 500)], {})
    assert plan.evaluations == 1
    assert plan.missing == 500


def test_a_measure_is_one_piece() -> None:
    """A measure covers its range at once."""
    measure = MeasureSpec(measure="selectivity", version="1", start=0, stop=500)
    plan = make_plan([request(measure, 500)], {})
    assert [(task.start, task.stop) for task in plan.tasks] == [(0, 500)]


def test_a_search_in_low_precision_is_planned_with_its_finish() -> None:
    """What it costs beyond float32 is what the catalogue says, image by image."""
    options = (("attacks", ""), ("version", "standard"))
    exact = AttackSpec(attack="autoattack", norm="Linf", eps=4 / 255, seed=0, version="1", options=options)
    costs = {}
    for precision in PRECISIONS:
        plan = make_plan([request(replace(exact, search_precision=precision), 100)], {})
        costs[precision] = (plan.cost.forwards, plan.cost.backwards)
        each = attack_cost("autoattack", dict(options), DATA.classes, precision)
        assert costs[precision] == (100 * each[0], 100 * each[1])
    assert costs["bfloat16"][1] > costs["float32"][1]
