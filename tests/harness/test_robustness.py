"""Threat models, unions and curves out of the store, against verdicts that are known and attacks run by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness import robustness as module
from harness.attacks import curves
from harness.benchmarks import Benchmark, parse_benchmark
from harness.data import open_dataset
from harness.errors import UnknownName
from harness.jobs.context import find_models
from harness.jobs.executors.local import SerialExecutor
from harness.jobs.kernel import to_float
from harness.jobs.runner import Job, run_job
from harness.metrics.intervals import wilson
from harness.outcome import DETAIL_DTYPE, BlockOutcome, Cost, Detail
from harness.robustness import board_robustness, choose_boards, robustness, standing
from harness.spec import AttackSpec, DataRef, ModelRef
from harness.storage import open_store
from harness.storage.store import Store
from harness.target import Target
from models_zoo.registry import load_model

HEAD = """
name = "{name}"
version = 1
title = "T"
description = "A benchmark for tests."
dataset = "digits"
classes = 10
image_size = [32, 32]
seed = 7
ranked_by = "clean_accuracy"

[[evaluations]]
id = "clean"
kind = "clean"
images = 40

[[columns]]
name = "clean_accuracy"
title = "Clean"
help = "clean"
score = "accuracy"
evaluations = ["clean"]
"""
GROUP = """
[[evaluations]]
id = "{id}"
kind = "attack"
attack = "{attack}"
norm = "{norm}"
eps = "{eps}"
images = {images}
options = {{ {options} }}
"""
UNION = """
[[columns]]
name = "union"
title = "Union"
help = "union"
score = "union_accuracy"
evaluations = ["a", "b"]
"""
DATA = DataRef(name="digits", split="test", digest="d" * 64, images=500, classes=10)
MODEL = ModelRef(name="small.x.d", digest="a" * 64)


def group(name: str, attack: str, norm: str, eps: str, images: int = 20, options: str = "") -> str:
    """One attack of a benchmark."""
    return GROUP.format(id=name, attack=attack, norm=norm, eps=eps, images=images, options=options)


def made(*parts: str, name: str = "made") -> Benchmark:
    """A benchmark of these attacks."""
    return parse_benchmark(HEAD.format(name=name) + "".join(parts))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that knows one model."""
    store = open_store(str(tmp_path / "results.db"))
    card = {"name": MODEL.name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
    store.put_model(card, MODEL.digest, blob=None)
    return store


def put(store: Store, benchmark: Benchmark, name: str, bits: list[bool], norms: list[float] | None = None) -> str:
    """Store verdicts, and sizes of perturbations, for one group; returns the evaluation's digest."""
    request = next(item for item in benchmark.requests(MODEL, Target.plain(DATA)) if item.group == name)
    detail = None
    if norms is not None:
        records = np.zeros(len(bits), dtype=DETAIL_DTYPE)
        records["norm"] = norms
        detail = Detail(names=("",), records=records)
    cost = Cost(seconds=1.0, forwards=1, backwards=0, device="cpu", batch_size=9)
    outcome = BlockOutcome(
        evaluation=request.spec.digest, block=0, start=0, stop=len(bits), correct=np.array(bits), cost=cost,
        detail=detail,
    )  # fmt: skip
    store.put_outcome(store.start_run("test", {}), request.spec, outcome)
    return request.spec.digest


def test_verdicts_at_smaller_radii_follow_from_sizes() -> None:
    """Broken by 0.1: stands below 0.1 and falls from 0.1 on, also where float32 rounds 0.1 up; mistakes fall at 0."""
    correct = np.array([True, False, False, False])
    sizes: NDArray[np.float32] = np.array([0.0, 0.1, 0.3, 0.0], dtype=np.float32)
    assert float(sizes[1]) > 0.1
    assert standing(correct, sizes, 0.0).tolist() == [True, True, True, False]
    assert standing(correct, sizes, 0.0999).tolist() == [True, True, True, False]
    assert standing(correct, sizes, 0.1).tolist() == [True, False, True, False]
    assert standing(correct, sizes, 0.3).tolist() == [True, False, False, False]


def test_a_curve_is_read_from_what_is_stored(store: Store) -> None:
    """Worked example with five images on a grid of four radii, and Wilson's interval at each."""
    benchmark = made(group("curve", "bisect", "L2", "0.4", options="levels = 4"))
    digest = put(store, benchmark, "curve", [True, False, False, False, False], [0, 0.1, 0.15, 0.4, 0.0])
    board = board_robustness(store, benchmark, Target.plain(DATA), MODEL)
    (curve,) = board.curves
    assert [eps for eps, _ in curve.points] == [0.0, 0.1, 0.2, 0.4 * 0.75, 0.4]
    assert [value.value for _, value in curve.points] == [0.8, 0.6, 0.4, 0.4, 0.2]
    assert [(value.low, value.high, value.n) for _, value in curve.points][1] == (*wilson(3, 5), 5)
    assert (curve.attack, curve.norm, curve.bound, curve.evaluation) == ("bisect (fast)", "L2", "upper", digest)
    (threat,) = board.threats
    assert (threat.eps, threat.robust, threat.bound, threat.images) == (0.4, curve.points[-1][1], "upper", 20)
    assert board.clean is None
    assert board.norms == ("L2",)


def test_attacks_that_stop_at_the_first_break_have_no_curve(store: Store) -> None:
    """The sizes that PGD leaves behind are those of its first break."""
    benchmark = made(group("pgd", "pgd", "Linf", "4/255"))
    put(store, benchmark, "pgd", [True, False], [0.0, 0.01])
    put(store, benchmark, "clean", [True, True])
    board = board_robustness(store, benchmark, Target.plain(DATA), MODEL)
    assert board.curves == ()
    assert [(threat.label, threat.bound) for threat in board.threats] == [("pgd Linf 4/255", "exact")]
    assert board.clean is not None
    assert board.clean.value == 1.0


def test_unions_are_image_by_image_on_shared_images(store: Store) -> None:
    """Half right in each norm, a quarter in both; the third image is done in one norm only. One bound bounds all."""
    attacks = (group("a", "fast", "Linf", "4/255"), group("b", "pgd", "L2", "0.5", images=30), UNION)
    benchmark = made(*attacks)
    put(store, benchmark, "a", [True, True, False, False])
    put(store, benchmark, "b", [False, True, True, False, True, True])
    (item,) = board_robustness(store, benchmark, Target.plain(DATA), MODEL).unions
    assert item.column == "union"
    assert item.members == ("fast Linf 4/255", "pgd L2 0.5")
    assert (item.robust.value, item.robust.n, item.images, item.bound) == (0.25, 4, 20, "upper")
    assert (item.robust.low, item.robust.high) == wilson(1, 4)


def test_an_attack_in_several_norms_has_a_union_of_its_own(store: Store) -> None:
    """Of several radii in a norm the largest counts; other options are another attack; a declared one comes once."""
    parts = [
        group("small", "pgd", "Linf", "2/255"),
        group("a", "pgd", "Linf", "8/255"),
        group("b", "pgd", "L1", "12"),
        group("other", "pgd", "L2", "0.5", options="steps = 3"),
    ]
    verdicts = {"small": [True, True], "a": [True, False], "b": [True, True], "other": [False, False]}
    for benchmark, column in ((made(*parts), None), (made(*parts, UNION, name="declared"), "union")):
        for name, bits in verdicts.items():
            put(store, benchmark, name, bits)
        board = board_robustness(store, benchmark, Target.plain(DATA), MODEL)
        (item,) = board.unions
        assert (item.column, item.members) == (column, ("pgd Linf 8/255", "pgd L1 12"))
        assert (item.robust.value, item.bound) == (0.5, "exact")
        assert [threat.group for threat in board.threats] == ["small", "a", "other", "b"]
        assert board.norms == ("Linf", "L2", "L1")


def test_a_union_waits_for_all_of_its_members(store: Store) -> None:
    """Nothing is said of a union while one of its threat models was not run."""
    benchmark = made(group("a", "pgd", "Linf", "8/255"), group("b", "pgd", "L2", "0.5"), UNION)
    put(store, benchmark, "a", [True, False])
    assert board_robustness(store, benchmark, Target.plain(DATA), MODEL).unions == ()


def by_hand(norm: str, levels: int, eps: float, n: int) -> curves.Curve:
    """PGD bisected on the first n digits through the library, without plan, kernel or store."""
    data = open_dataset("digits")
    model = load_model("small_cnn.adversarial-linf8.digits.s0")
    pixels = to_float(data.images(0, n), torch.device("cpu"))
    labels = torch.from_numpy(np.array(data.labels[:n]))
    return curves.bisect(model, pixels, labels, curves.radii(eps, levels), attack="pgd", norm=norm, seed=7)


def test_a_run_gives_the_curve_made_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through plan, kernel, store and view, in two goes: the curve is that of the library on the same images."""
    benchmark = made(
        group("linf", "bisect", "Linf", "24/255", options='inner = "pgd", levels = 3'),
        group("l2", "bisect", "L2", "1.5", options='inner = "pgd", levels = 3'),
    )
    store = open_store(str(tmp_path / "run.db"))
    models = find_models(store, ["small_cnn.adversarial-linf8.digits.s0"])
    for limit in (5, None):
        job = Job(benchmark=benchmark, models=models, data=open_dataset("digits"), limit=limit)
        assert not run_job(store, job, SerialExecutor(), command="test").failures
    monkeypatch.setattr(module, "benchmark_names", lambda: (("made", 1),))
    monkeypatch.setattr(module, "load_benchmark", lambda _: benchmark)
    (board,) = robustness(store, models[0].name)
    assert (board.benchmark, board.dataset, board.model) == ("made@1", "digits", models[0].name)
    assert board.clean is not None
    assert board.clean.n == 40
    for curve, norm, eps in zip(board.curves, ("Linf", "L2"), (24 / 255, 1.5), strict=True):
        hand = by_hand(norm, 3, eps, 20)
        assert (curve.norm, curve.bound, curve.points[0][1].n) == (norm, "exact", 20)
        assert [value.value for _, value in curve.points[1:]] == hand.accuracy.tolist()
        assert curve.points[0][1].value == (hand.broken_at > 0).mean()
        assert 0 < curve.points[-1][1].value < curve.points[1][1].value
        spec = next(item for item in store.evaluations(model=models[0].name) if item.digest == curve.evaluation)
        assert spec.label.startswith("bisect")
    (item,) = board.unions
    assert item.members == ("bisect (pgd) Linf 24/255", "bisect (pgd) L2 1.5")
    assert item.robust.n == 20
    assert item.robust.value <= min(threat.robust.value for threat in board.threats)
    names = {request.spec.digest for request in job.requests() if isinstance(request.spec.perturbation, AttackSpec)}
    assert {threat.evaluation for threat in board.threats} == names


def test_boards_are_chosen_by_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By benchmark with or without version, and by data set; what is not there is named. Unknown models, too."""
    benchmark = made(group("a", "pgd", "Linf", "8/255"))
    put(store, benchmark, "a", [True])
    board = board_robustness(store, benchmark, Target.plain(DATA), MODEL)
    for name in ("made", "made@1", None):
        assert choose_boards([board], MODEL.name, benchmark=name, dataset="digits") == (board,)
    with pytest.raises(UnknownName, match="mad@1"):
        choose_boards([board], MODEL.name, benchmark="mad@1")
    with pytest.raises(UnknownName, match="digit"):
        choose_boards([board], MODEL.name, dataset="digit")
    with pytest.raises(UnknownName, match=MODEL.name):
        choose_boards([], MODEL.name)
    assert robustness(store, MODEL.name) == ()  # no cell of any board rests on it
    with pytest.raises(UnknownName, match="nobody"):
        robustness(store, "nobody")
