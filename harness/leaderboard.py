"""Boards: queries on stored scores to frozen rows. No HTTP, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.benchmarks import Benchmark, ColumnSpec, load_benchmark
from harness.catalogue import summarise
from harness.errors import InvalidArgument, UnknownName
from harness.spec import DataRef
from harness.storage.queries import Reader
from harness.storage.records import StoredModel, StoredScore
from harness.target import IN_MEMORY
from harness.types import Cell

ColumnKind: TypeAlias = Literal["text", "integer", "fraction", "number", "list"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a board.

    A score column X has four companions in every row: X_low and X_high (95 % interval, null where undefined), X_n
    (images that the value rests on; fewer than `images` makes the cell partial) and X_bound ("exact" or "upper").
    """

    name: str
    title: str
    help: str
    kind: ColumnKind
    score: bool = False
    """True for declared score columns, False for fixed ones (rank, model, family, ...)."""
    higher_is_better: bool | None = None
    norm: str | None = None
    eps: str | None = None
    attack: str | None = None
    images: int | None = None
    source: str | None = None
    """Where corrupted images come from: in memory, published files or regenerated files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board ready to be shown: the same object becomes HTML, JSON, CSV, Markdown and LaTeX.

    Every row is a flat mapping with the same keys in the same order: the names of `columns`, each score column followed
    by its companions (see `Column`). `total` counts the rows before limit and offset.
    """

    benchmark: str
    version: int
    dataset: str
    title: str
    description: str
    ranked_by: str
    columns: tuple[Column, ...]
    total: int
    rows: tuple[Mapping[str, Cell], ...]
    sort: str
    order: Literal["asc", "desc"]
    families: tuple[str, ...]
    """All families on the board before filtering, for the filter's choices."""
    stale: bool = False
    """True when the board also shows cells whose component versions are outdated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardQuery:
    """What to show of which board."""

    benchmark: str
    """`name` (newest version) or `name@version`."""
    dataset: str | None = None
    """Another data set than the benchmark's own: a board of its own."""
    family: str | None = None
    sort: str | None = None
    """A column; by default the one that the benchmark ranks by."""
    order: Literal["asc", "desc"] | None = None
    """By default the better values first."""
    limit: int | None = None
    offset: int = 0
    stale: bool = False
    """Also show cells that rest on outdated component versions; they never rank."""


FIXED_COLUMNS: tuple[Column, ...] = (
    Column(name="rank", title="Rank", help="place by the ranking column; ties share it", kind="integer"),
    Column(name="rank_low", title="Best rank", help="1 + models that are significantly better", kind="integer"),
    Column(name="rank_high", title="Worst rank", help="models - those significantly worse", kind="integer"),
    Column(name="model", title="Model", help="architecture.recipe[-variant].dataset[.sN]", kind="text"),
    Column(name="family", title="Family", help="how it was trained", kind="text"),
    Column(name="architecture", title="Architecture", help="the network", kind="text"),
    Column(name="parameters", title="Parameters", help="trainable weights", kind="integer"),
    Column(name="status", title="Status", help="verified: computed here; reported: published elsewhere", kind="text"),
    Column(
        name="flags", title="Flags", help="doubts about the numbers, with evidence on the model's page", kind="text"
    ),
)


def load_board(store: Reader, query: BoardQuery) -> Board:
    """The board that a query asks for.

    Raises:
        UnknownName: unknown benchmark, data set, family or column, with the nearest known one.
        InvalidArgument: a limit or offset outside its domain.
    """
    benchmark = load_benchmark(query.benchmark)
    _check_page(query)
    every = store.scores(benchmark=benchmark.name, version=benchmark.version)
    dataset = _board_dataset(benchmark, query.dataset, every)
    scores = _current_data(store, [score for score in every if score.data.name == dataset])
    source = store.target(scores[0].data).source if scores else IN_MEMORY
    columns = FIXED_COLUMNS + score_columns(benchmark, scores, source)
    models = {model.name: model for model in store.models()}
    rows = _rows(benchmark, columns, scores, models, store.flags(), stale=query.stale)
    families = tuple(sorted({str(row["family"]) for row in rows}))
    if query.family is not None:
        if query.family not in families:
            raise UnknownName("family", query.family, families)
        rows = [row for row in rows if row["family"] == query.family]
    sort, order = _sorting(benchmark, columns, query)
    rows = sort_rows(rows, sort, order)
    stop = None if query.limit is None else query.offset + query.limit
    return Board(
        benchmark=benchmark.name,
        version=benchmark.version,
        dataset=dataset,
        title=benchmark.title,
        description=benchmark.description,
        ranked_by=benchmark.ranked_by,
        columns=columns,
        total=len(rows),
        rows=tuple(rows[query.offset : stop]),
        sort=sort,
        order=order,
        families=families,
        stale=query.stale,
    )


def board_data(store: Reader, benchmark: Benchmark, dataset: str) -> DataRef | None:
    """The content that a data set's name stands for on a benchmark's board; None where there is no such board."""
    every = store.scores(benchmark=benchmark.name, version=benchmark.version, dataset=dataset)
    scores = _current_data(store, every)
    return scores[0].data if scores else None


def score_columns(
    benchmark: Benchmark, scores: Iterable[StoredScore] = (), source: str = IN_MEMORY
) -> tuple[Column, ...]:
    """The declared columns; `images` is that of the stored cells where there are any (small data sets have fewer)."""
    images = {score.column: score.images for score in scores}
    found = []
    for column in benchmark.columns:
        groups = [benchmark.group(name) for name in column.evaluations]
        attack = groups[0] if groups[0].kind == "attack" else None
        found.append(
            Column(
                name=column.name,
                title=column.title,
                help=column.help,
                kind="number" if column.score == "measure" else _kind(column),
                score=True,
                higher_is_better=column.higher_is_better,
                norm=attack.norm if attack else None,
                eps=attack.eps if attack else None,
                attack=attack.attack if attack else None,
                images=images.get(column.name, min(group.images for group in groups)),
                source=source if any(group.kind == "corruptions" for group in groups) else None,
            )
        )
    return tuple(found)


def sort_rows(rows: Sequence[Mapping[str, Cell]], column: str, order: str) -> list[Mapping[str, Cell]]:
    """Rows by one column, nulls last either way, ties by model name."""
    named = sorted(rows, key=lambda row: str(row["model"]))
    present = [row for row in named if row[column] is not None]
    absent = [row for row in named if row[column] is None]
    values: dict[int, float | str] = {}
    for row in present:
        value = row[column]
        values[id(row)] = value if isinstance(value, str) else float(value or 0)
    return sorted(present, key=lambda row: values[id(row)], reverse=order == "desc") + absent


def _check_page(query: BoardQuery) -> None:
    if query.limit is not None and query.limit < 1:
        raise InvalidArgument("limit", query.limit, "at least 1")
    if query.offset < 0:
        raise InvalidArgument("offset", query.offset, "at least 0")


def _board_dataset(benchmark: Benchmark, wanted: str | None, scores: Iterable[StoredScore]) -> str:
    """The board's data set; another than the benchmark's own must have been run."""
    if wanted is None or wanted == benchmark.dataset:
        return benchmark.dataset
    known = {score.data.name for score in scores} | {benchmark.dataset}
    if wanted not in known:
        raise UnknownName(f"data set of a {benchmark.name} board:", wanted, known)
    return wanted


def _current_data(store: Reader, scores: Sequence[StoredScore]) -> list[StoredScore]:
    """Cells on the content that the name has now: as last declared, else as last registered."""
    if not scores:
        return []
    declared = {item.ref.digest for item in store.datasets() if item.path is not None}
    found = [score.data.digest for score in scores if score.data.digest in declared]
    current = found[-1] if found else scores[-1].data.digest
    return [score for score in scores if score.data.digest == current]


def _rows(
    benchmark: Benchmark,
    columns: Sequence[Column],
    scores: Iterable[StoredScore],
    models: Mapping[str, StoredModel],
    flags: Mapping[str, Mapping[str, str]],
    *,
    stale: bool,
) -> list[Mapping[str, Cell]]:
    by_model: dict[str, dict[str, StoredScore]] = {}
    for score in scores:
        if stale or not score.stale:
            by_model.setdefault(score.model_name, {})[score.column] = score
    rows: list[Mapping[str, Cell]] = []
    for name, cells in by_model.items():
        model = models[name]
        ranking = cells.get(benchmark.ranked_by)
        summary = summarise(model)
        row: dict[str, Cell] = {
            "rank": ranking.rank if ranking else None,
            "rank_low": ranking.rank_low if ranking else None,
            "rank_high": ranking.rank_high if ranking else None,
            "model": summary.name,
            "family": summary.family,
            "architecture": summary.architecture,
            "parameters": summary.parameters,
            "status": summary.status,
            "flags": " ".join(sorted(flags.get(model.digest, {}))),
        }
        for column in columns:
            if column.score:
                row |= _cell(column.name, cells.get(column.name))
        rows.append(row)
    return rows


def _cell(name: str, score: StoredScore | None) -> dict[str, Cell]:
    return {
        name: score.value if score else None,
        f"{name}_low": score.low if score else None,
        f"{name}_high": score.high if score else None,
        f"{name}_n": score.n if score else None,
        f"{name}_bound": score.bound if score else None,
    }


def _sorting(benchmark: Benchmark, columns: Sequence[Column], query: BoardQuery) -> tuple[str, Literal["asc", "desc"]]:
    names = {column.name: column for column in columns}
    sort = query.sort or benchmark.ranked_by
    if sort not in names:
        raise UnknownName("column", sort, names)
    if query.order is not None:
        if query.order not in ("asc", "desc"):
            raise InvalidArgument("order", query.order, "asc or desc")
        return sort, query.order
    column = names[sort]
    return sort, "desc" if column.score and column.higher_is_better is not False else "asc"


def _kind(column: ColumnSpec) -> ColumnKind:
    from harness.metrics.scores import SCORES

    return SCORES.get(column.score).kind
