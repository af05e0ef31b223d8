"""What the store knows of benchmarks and models: summaries and details. No HTTP, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.adaptive import best_known
from harness.benchmarks import benchmark_names, load_benchmark
from harness.errors import UnknownName
from harness.storage.queries import Reader
from harness.storage.records import StoredEvaluation, StoredModel, StoredScore
from harness.types import Cell, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSummary:
    """A benchmark and, where the store has rows for it, how many models are on its board."""

    name: str
    version: int
    title: str
    description: str
    dataset: str
    datasets: tuple[str, ...]
    """Data sets that the store has boards for."""
    models: int
    """Models on the board of `dataset`."""
    ranked_by: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """A registered model in one line."""

    name: str
    family: str
    architecture: str
    dataset: str
    parameters: int
    digest: str
    status: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetail:
    """All that the store knows of one model."""

    summary: ModelSummary
    card: Json
    scores: tuple[Mapping[str, Cell], ...]
    """One a cell: board, column, value with interval, images, bound, ranks, stale; see `_score_cells`."""
    evaluations: tuple[Mapping[str, Cell], ...]
    """One an evaluation: what, accuracy, cost and status; see `_evaluation_cells`."""
    flags: Mapping[str, str] = field(default_factory=dict)
    best_known: tuple[Mapping[str, Json], ...] = ()
    """One a data set, norm and radius; see `harness.adaptive.BestKnown`."""


def list_benchmarks(store: Reader) -> tuple[BenchmarkSummary, ...]:
    """All benchmarks, newest versions first within a name."""
    scores = store.scores()
    found = []
    for name, version in sorted(benchmark_names(), key=lambda item: (item[0], -item[1])):
        benchmark = load_benchmark(f"{name}@{version}")
        own = [score for score in scores if (score.benchmark, score.version) == (name, version)]
        found.append(
            BenchmarkSummary(
                name=name,
                version=version,
                title=benchmark.title,
                description=benchmark.description,
                dataset=benchmark.dataset,
                datasets=tuple(sorted({score.data.name for score in own})),
                models=len({score.model for score in own if score.data.name == benchmark.dataset}),
                ranked_by=benchmark.ranked_by,
                columns=tuple(column.name for column in benchmark.columns),
            )
        )
    return tuple(found)


def list_models(store: Reader) -> tuple[ModelSummary, ...]:
    """All models that are registered in the store, by name."""
    return tuple(summarise(model) for model in store.models())


def model_detail(store: Reader, name: str) -> ModelDetail:
    """Card, scores and evaluations of one model.

    Raises:
        UnknownName: the store has no such model.
    """
    model = store.find_model(name)
    if model is None:
        raise UnknownName("model", name, [item.name for item in store.models()])
    return ModelDetail(
        summary=summarise(model),
        card=model.card,
        scores=tuple(_score_cells(score) for score in store.scores(model=name)),
        evaluations=tuple(_evaluation_cells(item) for item in store.evaluations(model=name)),
        flags=store.flags().get(model.digest, {}),
        best_known=tuple(figure.to_dict() for figure in best_known(store, name)),
    )


def summarise(model: StoredModel) -> ModelSummary:
    """A registered model in one line, from its card."""
    card = model.card
    return ModelSummary(
        name=model.name,
        family=card["family"],
        architecture=card["architecture"],
        dataset=card["dataset"],
        parameters=card["parameters"],
        digest=model.digest,
        status="verified",
        revision=model.revision,
    )


def _score_cells(score: StoredScore) -> dict[str, Cell]:
    return {
        "benchmark": score.benchmark,
        "version": score.version,
        "dataset": score.data.name,
        "column": score.column,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "n": score.n,
        "images": score.images,
        "bound": score.bound,
        "rank": score.rank,
        "rank_low": score.rank_low,
        "rank_high": score.rank_high,
        "stale": score.stale,
    }


def _evaluation_cells(item: StoredEvaluation) -> dict[str, Cell]:
    last = item.executions[0] if item.executions else {}
    return {
        "digest": item.digest,
        "label": item.label,
        "kind": item.kind,
        "dataset": item.data.name,
        "n": item.n,
        "n_planned": item.data.images,
        "accuracy": item.correct / item.n if item.n else None,
        "executed_at": last.get("finished_at"),
        "seconds": sum(run["seconds"] for run in item.executions),
        "forwards": sum(run["forwards"] for run in item.executions),
        "backwards": sum(run["backwards"] for run in item.executions),
        "status": last.get("status"),
        "error": last.get("error"),
    }
