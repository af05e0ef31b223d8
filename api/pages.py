"""Queries to page objects: what is shown is decided here once, whatever form it then takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from api.schemas import MAX_LIMIT, BoardChoice, BoardParams, PageParams, PlotParams
from api.source import BoardSource
from harness.catalogue import BenchmarkSummary, ModelDetail
from harness.curves import CorruptionGrid
from harness.errors import UnknownName
from harness.formats import best_values
from harness.leaderboard import Board, BoardQuery, Column
from harness.measure_view import MeasureTable
from harness.robustness import BoardRobustness
from harness.scatter import Scatter, usual_scatter
from harness.types import Cell

PAGE_ROWS: Final = 200
DOWNLOADS: Final = {"": "JSON", ".csv": "CSV", ".md": "Markdown", ".tex": "LaTeX"}
MEDIA: Final = {
    "": "application/json",
    ".csv": "text/csv; charset=utf-8; header=present",
    ".md": "text/markdown; charset=utf-8",
    ".tex": "application/x-tex; charset=utf-8",
}
_SEARCHED: Final = ("model", "family", "architecture", "flags")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One entry of a select box."""

    value: str
    label: str
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardPage:
    """The page of one board."""

    board: Board
    """The rows on this page; `total` counts all that match."""
    whole: int
    """Models on the board before any filter."""
    benchmarks: tuple[BenchmarkSummary, ...]
    params: PageParams
    best: Mapping[str, float]
    """Best values of the whole board, so that a filter does not crown another model."""
    limit: int
    question: Scatter | None
    """Average case against worst case of all models that match; None where the board has not both."""

    @property
    def complete(self) -> bool:
        """True where every row of the board is on the page: then it can be sorted and filtered in the browser."""
        return len(self.board.rows) == self.whole

    def query(self, **changes: str | int | None) -> str:
        """The page's query string with some parameters changed; None takes one out."""
        fields = {**self.params.model_dump(exclude_none=True), "benchmark": self.params.benchmark, **changes}
        return urlencode(_without_defaults(fields))

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The benchmarks to choose from; the newest version of each goes by its bare name."""
        seen: set[str] = set()
        choices = []
        for summary in self.benchmarks:
            full = f"{summary.name}@{summary.version}"
            value = full if summary.name in seen else summary.name
            seen.add(summary.name)
            chosen = self.params.benchmark in {value, full}
            choices.append(Choice(value=value, label=f"{summary.title} ({full})", chosen=chosen))
        return tuple(choices)

    @property
    def datasets(self) -> tuple[Choice, ...]:
        """The data sets that this benchmark has boards for; the benchmark's own is the default."""
        current = (self.board.benchmark, self.board.version)
        for summary in self.benchmarks:
            if (summary.name, summary.version) == current:
                names = dict.fromkeys((summary.dataset, *summary.datasets, self.board.dataset))
                return tuple(
                    Choice(value="" if name == summary.dataset else name, label=name, chosen=name == self.board.dataset)
                    for name in names
                )
        return (Choice(value=self.params.dataset or "", label=self.board.dataset, chosen=True),)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyPage:
    """No benchmark is known yet: the page says how to fill the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPage:
    """The page of one model."""

    detail: ModelDetail
    columns: Mapping[tuple[str, str], tuple[Column, ...]]
    """The columns of each board that the model is on, by benchmark with version and data set."""
    grids: tuple[CorruptionGrid, ...]
    """Its accuracies by corruption and severity, for each suite and data set."""
    robustness: tuple[BoardRobustness, ...]
    """How it stands against attacks, for each board on which it was attacked."""
    measures: tuple[MeasureTable, ...]
    """What was measured of its representation."""


def board(source: BoardSource, params: BoardParams, *, default_limit: int) -> Board:
    """The board that a machine asked for, exactly as the store gives it."""
    return source.load_board(_query(params, params.benchmark, params.limit or default_limit))


def picture_board(source: BoardSource, params: PlotParams) -> Board:
    """The board behind a picture: what a machine gets, of that the models whose names hold every searched word."""
    chosen = board(source, params, default_limit=MAX_LIMIT)
    return replace(chosen, rows=tuple(row for row in chosen.rows if _holds(row, params.q)))


def board_page(source: BoardSource, params: PageParams) -> BoardPage | EmptyPage:
    """The board that a person asked for; without a benchmark, the first one that has any.

    Raises:
        UnknownName: no such benchmark, data set, family or column.
    """
    benchmarks = source.list_benchmarks()
    benchmark = params.benchmark
    if benchmark is None:
        if not benchmarks:
            return EmptyPage()
        chosen = max(benchmarks, key=lambda summary: (summary.models > 0, bool(summary.datasets)))
        elsewhere = chosen.datasets[0] if chosen.datasets and not chosen.models else None
        benchmark = chosen.name
        params = params.model_copy(update={"benchmark": benchmark, "dataset": params.dataset or elsewhere})
    everything = _query(params, benchmark, None)
    full = source.load_board(replace(everything, family=None, offset=0))
    if params.family is not None and params.family not in full.families:
        raise UnknownName("family", params.family, full.families)
    rows = [row for row in full.rows if _shown(row, params)]
    limit = params.limit or PAGE_ROWS
    return BoardPage(
        board=replace(full, rows=tuple(rows[params.offset : params.offset + limit]), total=len(rows)),
        whole=full.total,
        benchmarks=benchmarks,
        params=params,
        best=best_values(full),
        limit=limit,
        question=usual_scatter(replace(full, rows=tuple(rows))),
    )


def model_page(source: BoardSource, name: str) -> ModelPage:
    """One model.

    Raises:
        UnknownName: no such model.
    """
    detail = source.model_detail(name)
    boards = {(f"{score['benchmark']}@{score['version']}", str(score["dataset"])) for score in detail.scores}
    columns = {
        (benchmark, dataset): source.load_board(BoardQuery(benchmark=benchmark, dataset=dataset, limit=1)).columns
        for benchmark, dataset in sorted(boards)
    }
    return ModelPage(
        detail=detail,
        columns=columns,
        grids=source.corruption_curves(name),
        robustness=source.robustness(name),
        measures=source.measures(name),
    )


def board_links(root: str, params: BoardChoice, benchmark: str) -> dict[str, str]:
    """Suffix -> address of a board in each of its downloadable forms."""
    fields = params.model_dump(include=set(BoardChoice.model_fields))  # a page or a picture takes more than a board
    query = urlencode({"benchmark": benchmark, **_without_defaults(fields)})
    return {suffix: f"{root}/api/v1/leaderboard{suffix}?{query}" for suffix in DOWNLOADS}


def question_href(root: str, params: PageParams, benchmark: str) -> str:
    """The address of a board's picture of one score against another, of the models that the page shows."""
    fields = params.model_dump(include={"dataset", "family", "stale", "q"})
    query = urlencode({"benchmark": benchmark, **_without_defaults(fields)})
    return f"{root}/api/v1/leaderboard.svg?{query}"


def model_href(root: str, name: str) -> str:
    """The address of a model's page; a name may hold any character."""
    return f"{root}/models/{quote(name, safe=':')}"


def grid_href(root: str, grid: CorruptionGrid) -> str:
    """The address of a grid's picture."""
    query = urlencode({"suite": grid.suite, "dataset": grid.dataset})
    return f"{model_href(f'{root}/api/v1', grid.model)}/corruptions.svg?{query}"


def robustness_href(root: str, item: BoardRobustness) -> str:
    """The address of a board's picture of a model under attack."""
    query = urlencode({"benchmark": item.benchmark, "dataset": item.dataset})
    return f"{model_href(f'{root}/api/v1', item.model)}/robustness.svg?{query}"


def filename(board: Board, suffix: str) -> str:
    """A safe file name for a download."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{board.benchmark}-{board.version}-{board.dataset}").strip("-")
    return f"{stem[:80] or 'board'}{suffix}"


def _without_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that say something: short addresses are easier to share."""
    return {
        name: "true" if value is True else value for name, value in fields.items() if value not in (None, False, 0, "")
    }


def _query(params: BoardChoice, benchmark: str, limit: int | None) -> BoardQuery:
    return BoardQuery(
        benchmark=benchmark,
        dataset=params.dataset,
        family=params.family,
        sort=params.sort,
        order=params.order,
        limit=limit,
        offset=params.offset,
        stale=params.stale,
    )


def _shown(row: Mapping[str, Cell], params: PageParams) -> bool:
    """Whether a row passes the page's filters: its family, and every searched word somewhere in its names."""
    if params.family is not None and row.get("family") != params.family:
        return False
    return _holds(row, params.q)


def _holds(row: Mapping[str, Cell], words: str | None) -> bool:
    text = searched_text(row)
    return all(word in text for word in (words or "").lower().split())


def searched_text(row: Mapping[str, Cell], fields: Sequence[str] = _SEARCHED) -> str:
    """What the text filter looks at, in lower case; the browser's filter gets the same text."""
    return " ".join(str(row.get(field) or "") for field in fields).lower()
