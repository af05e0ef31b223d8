"""Who takes part in the study of a store, and which of its numbers count: those behind the board's full cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.benchmarks import Group, load_benchmark
from harness.errors import RequestError
from harness.outcome import BlockOutcome, Cost, MeasureValue
from harness.scoring import Scorer
from harness.spec import DataRef, EvaluationSpec, MeasureSpec, ModelRef, Scalar, freeze_options
from harness.storage import open_store
from harness.storage.store import Store
from harness.target import Target
from models_zoo.studies import selectivity
from models_zoo.studies.subjects import Subject, Subjects, read_subjects

N, LIMIT = 60, 20
DATA = DataRef(name="digits", split="test", digest="d" * 64, images=N, classes=10)
OLDER = DataRef(name="digits", split="test", digest="e" * 64, images=N, classes=10)
COST = Cost(seconds=0.0, forwards=0, backwards=0, device="cpu", batch_size=1)
BENCHMARK = load_benchmark("selectivity@1")
QUANTITIES = {
    "dimensionality": "fraction_95",
    "dimensionality_corruptions": "change_fraction_95",
    "dimensionality_attack": "change_fraction_95",
}


def card(recipe: str, architecture: str = "small_cnn", **settings: float) -> dict[str, object]:
    """A card of the study."""
    return {"recipe": recipe, "architecture": architecture, "hyper_parameters": {"epochs": 40, **settings}}


CARDS = {
    "a.low": card("selectivity", alpha=-1.0),
    "a.high": card("selectivity", alpha=2.0),
    "a.none": card("supervised"),
    "a.adversarial": card("adversarial"),
    "b.none": card("supervised", "resnet20"),
    "c.trades": card("trades"),
}


@dataclass
class Bench:
    """A store that made-up results are put into."""

    store: Store

    def register(self, cards: Mapping[str, Mapping[str, object]]) -> None:
        """Models by name."""
        for at, (name, known) in enumerate(cards.items()):
            whole = {"name": name, "family": "f", "dataset": "digits", "parameters": 1, **known}
            self.store.put_model(whole, f"{at:064x}", blob=None)

    def model(self, name: str) -> ModelRef:
        """A registered model."""
        return self.store.find_ref(name)

    def verdicts(self, name: str, wanted: Callable[[Group], bool], *, stop: int = N, data: DataRef = DATA) -> None:
        """Two of three images right wherever `wanted` says."""
        for request in BENCHMARK.requests(self.model(name), Target.plain(data)):
            if wanted(BENCHMARK.group(request.group)):
                self._put(request.spec, stop, np.arange(stop) % 3 != 0, ())

    def measured(self, name: str, value: float, *, stop: int = N, data: DataRef = DATA, **options: Scalar) -> None:
        """Two layers of dimensionality and its change, `value` in the first; options: of the change's corruptions."""
        for request in BENCHMARK.requests(self.model(name), Target.plain(data), limit=stop):
            spec = request.spec.perturbation
            if not isinstance(spec, MeasureSpec) or spec.measure not in QUANTITIES:
                continue
            made = request.spec
            if options:
                if spec.measure != "dimensionality_corruptions":
                    continue
                changed = {**dict(spec.options), **options}
                made = EvaluationSpec(
                    model=made.model,
                    data=data,
                    perturbation=MeasureSpec(
                        measure=spec.measure,
                        version=spec.version,
                        start=0,
                        stop=stop,
                        options=freeze_options(changed),
                    ),
                )
            values = [
                MeasureValue(layer=layer, quantity=quantity, mean=mean)
                for layer, mean in (("", value), ("one", value), ("two", 0.9))
                for quantity in (QUANTITIES[spec.measure], "difference_95")
            ]
            self._put(made, stop, np.zeros(0, dtype=np.bool_), tuple(values))

    def subjects(self, *boards: DataRef) -> Subjects:
        """What the study reads, of the data sets' boards as they were made one after the other."""
        for data in boards or (DATA,):
            Scorer(BENCHMARK, Target.plain(data)).refresh(self.store, [model.ref for model in self.store.models()])
        return read_subjects(self.store, BENCHMARK.label, "digits", selectivity.RECIPES)

    def _put(self, spec: EvaluationSpec, stop: int, bits: NDArray[np.bool_], values: tuple[MeasureValue, ...]) -> None:
        run = self.store.start_run("test", {})
        outcome = BlockOutcome(
            evaluation=spec.digest, block=0, start=0, stop=stop, correct=bits, cost=COST, measures=values
        )
        self.store.put_outcome(run, spec, outcome)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An empty store."""
    store = open_store(str(tmp_path / "results.db"))
    yield Bench(store)
    store.close()


def clean(group: Group) -> bool:
    """Evaluations without perturbation."""
    return group.kind == "clean"


def corrupted(group: Group) -> bool:
    """The corruptions."""
    return group.kind == "corruptions"


def named(subjects: Subjects) -> dict[str, Subject]:
    """The sweep by name."""
    return {item.name: item for item in subjects.sweep}


def test_who_takes_part(bench: Bench) -> None:
    """Models of the recipes and of the commonest architecture; cells on fewer images than the others' are dropped."""
    bench.register(CARDS)
    for name in CARDS:
        bench.verdicts(name, clean, stop=LIMIT if name == "a.low" else N)
    found = bench.subjects()
    assert [item.name for item in found.sweep] == ["a.low", "a.none", "a.high"]
    assert [item.name for item in found.others] == ["a.adversarial"]
    assert set(found.left_out) == {"b.none", "c.trades"}
    assert found.architecture == "small_cnn"
    low, none, _ = found.sweep
    assert "clean_accuracy" not in low.values
    assert none.values["clean_accuracy"] == pytest.approx(2 / 3)
    assert (low.images, none.images, none.epochs) == (LIMIT, N, 40)


def test_a_limited_run_enters_no_table(bench: Bench) -> None:
    """Measures by layer and accuracies by corruption of fewer images are left out, as the cells are."""
    bench.register(CARDS)
    for name in ("a.low", "a.none", "a.high"):
        stop = LIMIT if name == "a.low" else N
        bench.verdicts(name, lambda group: clean(group) or corrupted(group), stop=stop)
        bench.measured(name, 0.4, stop=stop)
    models = named(bench.subjects())
    full = models["a.none"].values
    assert (full["early_dimension"], full["early_change_pgd"], full["dimension"]) == pytest.approx((0.4, 0.4, 0.65))
    assert full["corruption:fog"] == pytest.approx(2 / 3)
    assert len([name for name in full if name.startswith("corruption:")]) == 15
    assert models["a.low"].values == {}
    report = selectivity.write(bench.store, "digits", None).markdown
    assert "of 3 models not everything is evaluated yet: a.low, a.none, a.high" in report.replace("\n", " ")
    assert "| -1 | - |" in report


def test_other_options_and_other_images_enter_no_table(bench: Bench) -> None:
    """Of each measure the benchmark's own evaluation counts, on the board's content, whatever was stored last."""
    bench.register(CARDS)
    bench.verdicts("a.high", lambda group: clean(group) or corrupted(group), data=OLDER)
    bench.measured("a.high", 0.3, data=OLDER)
    for name in ("a.low", "a.none", "a.high"):
        bench.verdicts(name, clean)
    bench.measured("a.none", 0.4)
    bench.measured("a.none", 0.1, severities="1")
    bench.measured("a.none", 0.2, stop=LIMIT)
    models = named(bench.subjects(OLDER, DATA))
    none, high = models["a.none"].values, models["a.high"].values
    assert (none["early_change_corruptions"], none["early_dimension"]) == pytest.approx((0.4, 0.4))
    assert set(high) == {"clean_accuracy"}


def test_too_few_settings(bench: Bench) -> None:
    """Two settings of alpha make no report; the message names the command."""
    bench.register({name: CARDS[name] for name in ("a.low", "a.none")})
    for name in ("a.low", "a.none"):
        bench.verdicts(name, clean)
    with pytest.raises(RequestError, match=r"holds 2 settings of alpha, a report needs 3: robustboard study run"):
        bench.subjects()
