"""Scores from outcomes: mCE against AlexNet, baselines before compute, equal cells, partial cells, ranks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.benchmarks import load_benchmark, parse_benchmark
from harness.comparison import compare_models
from harness.corruptions.suites import ALEXNET, ALEXNET_CLEAN, BENCHMARK
from harness.errors import DataError, InvalidArgument, UnknownName
from harness.leaderboard import BoardQuery, load_board
from harness.maintenance import rescore_all
from harness.outcome import BlockOutcome, Cost
from harness.scoring import Scorer
from harness.spec import DataRef, EvaluationSpec, ModelRef
from harness.storage import open_store
from harness.storage.store import Store
from harness.target import PUBLISHED, CellRef, Target

N = 40
DATA = DataRef(name="imagenet", split="test", digest="d" * 64, images=N, classes=1000)
COST = Cost(seconds=0.0, forwards=0, backwards=0, device="cpu", batch_size=1)
IMAGENET = load_benchmark("imagenet@1")


def register(store: Store, letter: str) -> ModelRef:
    """A model that exists by name and digest only."""
    name = f"net.{letter}.imagenet"
    card = {"name": name, "family": "f", "architecture": "net", "dataset": "imagenet", "parameters": 1}
    store.put_model(card, letter * 64, blob=None)
    return ModelRef(name=name, digest=letter * 64)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    opened = open_store(str(tmp_path / "results.db"))
    yield opened
    opened.close()


def put(store: Store, spec: EvaluationSpec, bits: NDArray[np.bool_]) -> None:
    """Store made-up verdicts."""
    run = store.start_run("test", {})
    outcome = BlockOutcome(evaluation=spec.digest, block=0, start=0, stop=len(bits), correct=bits, cost=COST)
    store.put_outcome(run, spec, outcome)


def fill(store: Store, model: ModelRef, target: Target, seed: int) -> dict[tuple[str, int] | None, NDArray[np.bool_]]:
    """Random verdicts for every evaluation of imagenet@1; returns them by cell (None: clean)."""
    random = np.random.default_rng(seed)
    made: dict[tuple[str, int] | None, NDArray[np.bool_]] = {}
    for request in IMAGENET.requests(model, target):
        made[request.cell] = random.random(N) < (0.9 if request.cell is None else 0.5)
        put(store, request.spec, made[request.cell])
    return made


def test_mce_and_relative_mce_follow_the_definitions(store: Store) -> None:
    """Ratio of sums over severities, mean over the 15, times 100; relative: in excess of the clean errors."""
    model = register(store, "a")
    target = Target.plain(DATA)
    made = fill(store, model, target, 0)
    Scorer(IMAGENET, target).refresh(store, [model])
    cells = {score.column: score for score in store.scores()}
    error = {cell: 1 - bits.mean() for cell, bits in made.items()}
    summed = {name: sum(error[name, severity] for severity in range(1, 6)) for name in BENCHMARK}
    mce = 100 * np.mean([summed[name] / (5 * ALEXNET[name]) for name in BENCHMARK])
    relative = 100 * np.mean(
        [(summed[name] - 5 * error[None]) / (5 * (ALEXNET[name] - ALEXNET_CLEAN)) for name in BENCHMARK]
    )
    assert cells["mce"].value == pytest.approx(mce)
    assert cells["relative_mce"].value == pytest.approx(relative)
    assert cells["mce"].low is not None
    assert cells["mce"].high is not None
    assert cells["mce"].low < mce < cells["mce"].high
    noise = [made[name, severity].mean() for name in BENCHMARK[:3] for severity in range(1, 6)]
    assert cells["noise_accuracy"].value == pytest.approx(np.mean(noise))
    assert cells["mce"].rank == 1


def test_a_suite_without_baselines_is_refused_before_any_compute() -> None:
    """MCE on CIFAR-10-C is an error when the benchmark is read, not a crash after the run."""
    folder = Path(__file__).parents[2] / "harness" / "benchmarks"
    text = (folder / "imagenet-1.toml").read_text("utf-8").replace("imagenet-c", "cifar-10-c")
    with pytest.raises(InvalidArgument, match="baseline"):
        parse_benchmark(text)


def file_target(equal: bool) -> Target:
    """Files for all cells of imagenet@1; with `equal`, all severities of fog hold the same images."""
    cells = []
    for name in BENCHMARK:
        for severity in range(1, 6):
            key = f"{name}/{1 if equal and name == 'fog' else severity}"
            digest = f"{BENCHMARK.index(name):032d}{key.rsplit('/', 1)[1]:>032}"
            ref = DataRef(name=f"c/{name}/{severity}", split="test", digest=digest, images=N, classes=1000)
            cells.append(CellRef(corruption=name, severity=severity, data=ref))
    data = DataRef(name="imagenet-files", split="test", digest="f" * 64, images=N, classes=1000)
    return Target(data=data, clean=DATA, cells=tuple(cells), source=PUBLISHED, suite="imagenet-c")


@pytest.mark.parametrize("equal", [False, True])
def test_equal_cells_keep_their_weight(store: Store, equal: bool) -> None:
    """Files of two cells with the same images are one evaluation, and still count once for each cell."""
    model = register(store, "a")
    target = file_target(equal)
    verdicts = {}
    for request in IMAGENET.requests(model, target):
        share = (sum(map(ord, request.spec.data.digest)) % N + 1) / N
        verdicts[request.cell] = np.arange(N) < round(share * N)
        put(store, request.spec, verdicts[request.cell])
    Scorer(IMAGENET, target).refresh(store, [model])
    (score,) = [item for item in store.scores() if item.column == "corruption_accuracy"]
    expected = np.mean([bits.mean() for cell, bits in verdicts.items() if cell is not None])
    assert score.value == pytest.approx(expected)
    assert score.data.name == "imagenet-files"


def test_partial_cells_are_shown_and_unranked(store: Store) -> None:
    """The value rests on the leading images that all evaluations share; only full cells rank."""
    full, part = register(store, "a"), register(store, "b")
    target = Target.plain(DATA)
    fill(store, full, target, 1)
    requests = IMAGENET.requests(part, target)
    for number, request in enumerate(requests):
        put(store, request.spec, np.ones(10 if number == 3 else N, dtype=np.bool_))
    Scorer(IMAGENET, target).refresh(store, [full, part])
    board = load_board(store, BoardQuery(benchmark="imagenet"))
    by_name = {row["model"]: row for row in board.rows}
    assert by_name[part.name]["corruption_accuracy_n"] == 10
    assert by_name[part.name]["clean_accuracy_n"] == N
    assert by_name[part.name]["rank"] is None
    assert by_name[full.name]["rank"] == 1
    assert [column.source for column in board.columns if column.name == "mce"] == ["in memory"]


def test_ranks_of_equal_models_tie_and_the_better_wins(store: Store) -> None:
    """Lower mCE is better; identical verdicts share the best rank and each other's range."""
    models = [register(store, letter) for letter in "abc"]
    target = Target.plain(DATA)
    for model in models:
        for request in IMAGENET.requests(model, target):
            bad = model is models[2] and request.cell is not None
            put(store, request.spec, np.zeros(N, dtype=np.bool_) if bad else np.arange(N) % 2 == 0)
    Scorer(IMAGENET, target).refresh(store, models)
    ranks = {
        score.model_name: (score.rank, score.rank_low, score.rank_high)
        for score in store.scores()
        if score.column == "mce"
    }
    assert ranks == {models[0].name: (1, 1, 2), models[1].name: (1, 1, 2), models[2].name: (3, 3, 3)}


def test_names_on_boards_are_checked(store: Store) -> None:
    """Unknown data sets, columns and families are refused with what there is."""
    model = register(store, "a")
    fill(store, model, Target.plain(DATA), 0)
    Scorer(IMAGENET, Target.plain(DATA)).refresh(store, [model])
    with pytest.raises(UnknownName, match="did you mean 'mce'"):
        load_board(store, BoardQuery(benchmark="imagenet", sort="mcee"))
    with pytest.raises(UnknownName, match="data set"):
        load_board(store, BoardQuery(benchmark="imagenet", dataset="imagenette-files"))


def test_files_without_a_needed_cell_are_refused() -> None:
    """The missing corruption and severity are named."""
    whole = file_target(equal=False)
    target = Target(data=whole.data, clean=whole.clean, cells=whole.cells[:-1], source=whole.source, suite=whole.suite)
    with pytest.raises(DataError, match="jpeg_compression at severity 5"):
        IMAGENET.requests(ModelRef(name="m", digest="a" * 64), target)


def test_cells_of_an_older_component_lose_their_rank_and_stop_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel's new version: refreshing one model ranks it alone; the other's cell is stale, nothing fails."""
    old, new = register(store, "a"), register(store, "b")
    target = Target.plain(DATA)
    fill(store, old, target, 0)
    Scorer(IMAGENET, target).refresh(store, [old])
    from harness.corruptions import suites
    from harness.scoring import _column_requests

    monkeypatch.setattr(suites, "ENGINE_VERSIONS", {**suites.ENGINE_VERSIONS, "fog": 99})
    _column_requests.cache_clear()
    fill(store, new, target, 1)
    Scorer(IMAGENET, target).refresh(store, [new])
    cells = {score.model_name: score for score in store.scores() if score.column == "mce"}
    _column_requests.cache_clear()
    assert (cells[old.name].rank, cells[old.name].stale) == (None, True)
    assert (cells[new.name].rank, cells[new.name].stale) == (1, False)


def test_rescore_rebuilds_the_boards_there_are_and_no_others(store: Store) -> None:
    """Equal cells after a rebuild; no board appears that nobody ran, though its clean evaluation is stored."""
    digits = DataRef(name="digits", split="test", digest="e" * 64, images=N, classes=10)
    model = register(store, "a")
    benchmark = load_benchmark("digits@2")
    for request in benchmark.requests(model, Target.plain(digits)):
        if request.group != "selectivity":
            put(store, request.spec, np.arange(request.stop) % 3 == 0)
    Scorer(benchmark, Target.plain(digits)).refresh(store, [model])
    before = store.scores()
    assert rescore_all(store) == (1, 1)
    assert store.scores() == before
    assert {(score.benchmark, score.version) for score in before} == {("digits", 2)}


def test_comparison_knows_all_scores_and_asks_for_enough_images(store: Store) -> None:
    """Relative mCE has its clean verdicts; four images of difference are no difference, as for ranks."""
    models = [register(store, letter) for letter in "ab"]
    target = Target.plain(DATA)
    for model in models:
        for request in IMAGENET.requests(model, target):
            bits = np.ones(N, dtype=np.bool_)
            if request.cell is not None:
                bits[: 4 if model is models[1] else 0] = False
                bits[30:] = False
            else:
                bits[35:] = False
            put(store, request.spec, bits)
    Scorer(IMAGENET, target).refresh(store, models)
    found = {
        item.column: item for item in compare_models(store, models[0].name, models[1].name, benchmark="imagenet@1")
    }
    assert set(found) == {column.name for column in IMAGENET.columns}
    corrupted = found["corruption_accuracy"]
    assert corrupted.difference == pytest.approx(-0.1)
    assert corrupted.high < 0
    assert corrupted.differing == 4
    assert not corrupted.significant
    values = {score.model_name: score.value for score in store.scores() if score.column == "relative_mce"}
    assert found["relative_mce"].difference == pytest.approx(values[models[1].name] - values[models[0].name])
