"""Corruption grids: worked by hand on made-up verdicts, and held against the board on a real run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.corruptions.suites import BENCHMARK, EXTRA, FAMILIES
from harness.curves import choose_grids, corruption_curves, fingerprint, grids_to_dict
from harness.errors import UnknownName
from harness.outcome import BlockOutcome, Cost
from harness.spec import CleanSpec, CorruptionSpec, DataRef, EvaluationSpec, ModelRef, Perturbation
from harness.storage import open_store
from harness.storage.store import Store

MODEL = ModelRef(name="small.x.d", digest="a" * 64)
DATA = DataRef(name="d", split="test", digest="d" * 64, images=8, classes=10)
OTHER = DataRef(name="e", split="test", digest="e" * 64, images=8, classes=10)
VERSION = "imagecorruptions-1.1.2/1"
COST = Cost(seconds=1.0, forwards=1, backwards=0, device="cpu", batch_size=8)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store with one model."""
    opened = open_store(str(tmp_path / "results.db"))
    card = {"name": MODEL.name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
    opened.put_model(card, MODEL.digest, blob=None)
    yield opened
    opened.close()


def put(store: Store, run: int, perturbation: Perturbation, verdicts: str, data: DataRef = DATA) -> None:
    """Store verdicts that are written as text: 1 right, 0 wrong."""
    spec = EvaluationSpec(model=MODEL, data=data, perturbation=perturbation)
    bits = np.array([sign == "1" for sign in verdicts])
    outcome = BlockOutcome(
        evaluation=spec.digest, block=0, start=0, stop=bits.size, correct=bits, cost=COST, detail=None
    )
    store.put_outcome(run, spec, outcome)


def corruption(name: str, severity: int, *, suite: str = "imagecorruptions", version: str = VERSION) -> CorruptionSpec:
    """A cell's spec."""
    return CorruptionSpec(suite=suite, name=name, severity=severity, seed=0, version=version)


def put_all(store: Store, run: int, rows: Mapping[str, Sequence[str]], default: str) -> None:
    """All 75 cells: those of `rows`, and `default` elsewhere."""
    for name in BENCHMARK:
        for severity in (1, 2, 3, 4, 5):
            put(store, run, corruption(name, severity), rows[name][severity - 1] if name in rows else default)


def test_a_worked_example(store: Store) -> None:
    """Four images, three noises by hand and all else right on one image of four: every mean is a known fraction."""
    run = store.start_run("test", {})
    rows = {
        "gaussian_noise": ("1111", "1110", "1100", "1000", "0000"),  # 1, 3/4, 1/2, 1/4, 0: mean 1/2
        "shot_noise": ("1111",) * 5,  # mean 1
        "impulse_noise": ("0000",) * 5,  # mean 0
    }
    put_all(store, run, rows, "0001")  # mean 1/4
    put(store, run, CleanSpec(), "1101")
    put(store, run, corruption("saturate", 3), "1111")
    (grid,) = corruption_curves(store, MODEL.name)
    assert (grid.suite, grid.dataset, grid.images, grid.complete, grid.current) == (
        "imagecorruptions",
        "d",
        4,
        True,
        True,
    )
    assert [cell and cell.value for cell in grid.cells["gaussian_noise"]] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert (grid.means["gaussian_noise"], grid.means["shot_noise"], grid.means["fog"]) == (0.5, 1.0, 0.25)
    families = {family: value and value.value for family, value in grid.family_values.items()}
    assert families == {"noise": 0.5, "blur": 0.25, "weather": 0.25, "digital": 0.25}
    # Severity 1: (1 + 1 + 0 + 12/4) / 15; severity 5: (0 + 1 + 0 + 12/4) / 15.
    assert grid.severity_means == pytest.approx([5 / 15, 4.75 / 15, 4.5 / 15, 4.25 / 15, 4 / 15])
    assert grid.overall is not None
    assert grid.overall.value == pytest.approx((3 * 0.5 + 12 * 0.25) / 15)
    assert grid.clean is not None
    assert grid.clean.value == 0.75
    # Wilson for 2 of 4 (published formula by hand): centre 0.5, half width sqrt(z^2 / (4 (n + z^2))), z^2 = 3.8415.
    half = (3.841459 / (4 * (4 + 3.841459))) ** 0.5
    cell = grid.cells["gaussian_noise"][2]
    assert cell is not None
    assert [cell.low, cell.high] == pytest.approx([0.5 - half, 0.5 + half], abs=1e-6)
    assert cell.n == 4
    # Extras are listed, half empty here, and enter no mean.
    assert [value and value.value for value in grid.cells["saturate"]] == [None, None, 1.0, None, None]
    assert grid.means["saturate"] is None
    assert grid.extras_shown == ("saturate",)
    assert tuple(grid.cells) == BENCHMARK + EXTRA
    assert grid.families == FAMILIES


def test_intervals_of_means_resample_images_not_verdicts(store: Store) -> None:
    """Where an image's 75 verdicts agree, the interval is as wide as that of one verdict an image."""
    run = store.start_run("test", {})
    put_all(store, run, {}, "11110000")
    (grid,) = corruption_curves(store, MODEL.name)
    overall, noise = grid.overall, grid.family_values["noise"]
    assert overall is not None
    assert noise is not None
    # A binomial with n = 8: the percentile interval of k / 8 is [1/8, 7/8]; 600 independent verdicts would give
    # about [0.46, 0.54].
    assert (overall.low, overall.high) == (0.125, 0.875)
    assert (noise.low, noise.high) == (0.125, 0.875)


def test_means_with_a_part_missing_are_none(store: Store) -> None:
    """Without one cell its corruption, family and severity have no mean, nor has the whole; the others have theirs."""
    run = store.start_run("test", {})
    for name in BENCHMARK:
        for severity in (1, 2, 3, 4, 5):
            if (name, severity) != ("fog", 2):
                put(store, run, corruption(name, severity), "1100")
    (grid,) = corruption_curves(store, MODEL.name)
    assert grid.cells["fog"][1] is None
    assert (grid.means["fog"], grid.family_values["weather"], grid.overall) == (None, None, None)
    assert grid.severity_means == (0.5, None, 0.5, 0.5, 0.5)
    assert grid.means["snow"] == 0.5
    assert grid.family_values["blur"] is not None
    assert not grid.complete


def test_all_cells_rest_on_the_images_that_they_share(store: Store) -> None:
    """One cell with two images cuts the others to two; an extra corruption with one image cuts nothing."""
    run = store.start_run("test", {})
    put_all(store, run, {"frost": ("10", "1011", "1011", "1011", "1011")}, "1110")
    put(store, run, corruption("spatter", 1), "1")
    put(store, run, CleanSpec(), "01111111")
    (grid,) = corruption_curves(store, MODEL.name)
    assert (grid.images, grid.dataset_images) == (2, 8)
    assert grid.means["fog"] == 1.0
    assert grid.means["frost"] == 0.5
    assert {cell.n for name in BENCHMARK for cell in grid.cells[name] if cell} == {2}
    assert grid.clean is not None
    assert (grid.clean.value, grid.clean.n) == (0.5, 2)
    spatter = grid.cells["spatter"][0]
    assert spatter is not None
    assert spatter.n == 1


def test_suites_components_and_data_sets_never_mix(store: Store) -> None:
    """The package and the engine, two data sets and two suites give grids of their own, each with its own verdicts."""
    run = store.start_run("test", {})
    put(store, run, corruption("fog", 1), "1000")
    put(store, run, corruption("fog", 1, version="engine-1"), "1100")
    put(store, run, corruption("fog", 1, suite="cifar-10-c@any", version="engine-1"), "1110")
    put(store, run, corruption("fog", 1), "1111", data=OTHER)
    found = {
        (grid.suite, grid.component, grid.dataset): cell.value
        for grid in corruption_curves(store, MODEL.name)
        if (cell := grid.cells["fog"][0]) is not None
    }
    assert found == {
        ("cifar-10-c@any", "engine", "d"): 0.75,
        ("imagecorruptions", "engine", "d"): 0.5,
        ("imagecorruptions", "imagecorruptions-1.1.2", "d"): 0.25,
        ("imagecorruptions", "imagecorruptions-1.1.2", "e"): 1.0,
    }


def test_the_newest_version_of_each_corruption_counts(store: Store) -> None:
    """Adapter 2 made fog again, adapter 1 snow: fog is adapter 2's alone, and versions that are not ours are named."""
    run = store.start_run("test", {})
    put(store, run, corruption("fog", 1, version="imagecorruptions-1.1.2/10"), "1111")
    put(store, run, corruption("fog", 1, version="imagecorruptions-1.1.2/9"), "0000")
    put(store, run, corruption("fog", 2, version="imagecorruptions-1.1.2/9"), "0000")
    put(store, run, corruption("snow", 1), "1100")
    (grid,) = corruption_curves(store, MODEL.name)
    assert grid.versions == ("imagecorruptions-1.1.2/1", "imagecorruptions-1.1.2/10")
    assert [cell and cell.value for cell in grid.cells["fog"]] == [1.0, None, None, None, None]
    assert not grid.current


def test_what_is_no_longer_registered_is_left_out(store: Store) -> None:
    """A suite or a corruption that this version does not know neither shows nor fails."""
    run = store.start_run("test", {})
    put(store, run, corruption("fog", 1, suite="gone"), "1000")
    put(store, run, corruption("rain", 1), "1000")
    assert corruption_curves(store, MODEL.name) == ()
    with pytest.raises(UnknownName, match=r"unknown corruption results of model 'small\.x\.d'"):
        choose_grids((), MODEL.name)
    with pytest.raises(UnknownName, match="unknown model 'nobody'"):
        corruption_curves(store, "nobody")


def test_grids_are_chosen_by_suite_and_data_set(store: Store) -> None:
    """Both, one or none given; a name that is not there is refused with the nearest."""
    run = store.start_run("test", {})
    put(store, run, corruption("fog", 1), "1000")
    put(store, run, corruption("fog", 1), "1000", data=OTHER)
    grids = corruption_curves(store, MODEL.name)
    assert choose_grids(grids, MODEL.name) == grids
    assert [grid.dataset for grid in choose_grids(grids, MODEL.name, dataset="e")] == ["e"]
    with pytest.raises(UnknownName, match="did you mean 'imagecorruptions'"):
        choose_grids(grids, MODEL.name, suite="imagecorruption")
    with pytest.raises(UnknownName, match="data set"):
        choose_grids(grids, MODEL.name, suite="imagecorruptions", dataset="f")


def test_the_fingerprint_follows_every_image(store: Store) -> None:
    """Another image of any clean or corrupted evaluation changes it; reading again does not."""
    run = store.start_run("test", {})
    put(store, run, corruption("fog", 1), "10")
    before = fingerprint(store, MODEL.name)
    assert fingerprint(store, MODEL.name) == before
    spec = EvaluationSpec(model=MODEL, data=DATA, perturbation=corruption("fog", 1))
    more = BlockOutcome(
        evaluation=spec.digest, block=0, start=2, stop=3, correct=np.array([True]), cost=COST, detail=None
    )
    store.put_outcome(run, spec, more)
    assert fingerprint(store, MODEL.name) != before


def test_the_grid_agrees_with_the_board(tmp_path: Path) -> None:
    """On a real run of all 75 cells, value and interval of the whole are those of the board's corruption column."""
    from harness.benchmarks import parse_benchmark
    from harness.data import open_dataset
    from harness.jobs.context import find_models
    from harness.jobs.executors.local import SerialExecutor
    from harness.jobs.runner import Job, run_job
    from tests.harness.jobs.conftest import MODELS, TINY

    names = ", ".join(f'"{name}"' for name in BENCHMARK)
    text = TINY.replace('["gaussian_noise", "brightness"]', f"[{names}]").replace("[1, 5]", "[1, 2, 3, 4, 5]")
    opened = open_store(str(tmp_path / "results.db"))
    try:
        model = find_models(opened, MODELS[:1])
        job = Job(benchmark=parse_benchmark(text), models=model, data=open_dataset("digits"), limit=6)
        assert not run_job(opened, job, SerialExecutor()).failures
        cells = {score.column: score for score in opened.scores(model=MODELS[0])}
        (grid,) = corruption_curves(opened, MODELS[0])
    finally:
        opened.close()
    board, overall = cells["corruption_accuracy"], grid.overall
    assert overall is not None
    assert (overall.value, overall.low, overall.high, overall.n) == (board.value, board.low, board.high, 6)
    assert 0 < overall.value < 1
    assert grid.clean is not None
    clean = cells["clean_accuracy"]
    assert (grid.clean.value, grid.clean.low, grid.clean.high) == (clean.value, clean.low, clean.high)
    plain = grids_to_dict(MODELS[0], [grid])["grids"][0]
    assert plain["overall"]["value"] == board.value
    assert [row["name"] for row in plain["corruptions"][:15]] == list(BENCHMARK)
