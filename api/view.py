"""What the templates show: strings, links and bar lengths, so that templates hold no arithmetic."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from api.pages import BoardPage, ModelPage, grid_href, model_href, searched_text
from harness.curves import CorruptionGrid, GridValue
from harness.formats import ScoreCell, rank_text, score_cell
from harness.leaderboard import Board, Column
from harness.plots import facts, family_curves_svg, heat_map_svg, in_words, percent, plain_name
from harness.types import Cell

_HUES: Final = {"supervised": 0, "adversarial": 1, "selectivity": 2, "contrastive": 3, "density": 4}
_SPARE_HUES: Final = 5
_HIDDEN: Final = frozenset({"rank_low", "rank_high", "architecture"})
_AFTER_SCORES: Final = ("parameters", "status", "flags")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One column's head."""

    column: Column
    title: str
    meta: tuple[str, ...]
    """The threat model, and unit and images, in short: "Linf 8/255" and "% of 32 images"."""
    href: str
    sorted: Literal["ascending", "descending"] | None
    first: Literal["asc", "desc"]
    """The order that a first click gives: the better end on top."""
    numeric: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Lengths in percent of the cell: the value, and its interval from `low` over `span`."""

    value: str
    low: str
    span: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreView:
    """One score as the page shows it."""

    cell: ScoreCell
    text: str
    plus: str
    minus: str
    best: bool
    bar: Bar | None
    label: str
    """The whole cell in words, for the tooltip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """One model's row."""

    values: Mapping[str, Cell]
    href: str
    rank: str
    hue: int
    text: str
    """What the text filter looks at."""
    flags: tuple[str, ...]
    scores: Mapping[str, ScoreView]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One entry of a model card."""

    name: str
    text: str
    href: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBoard:
    """A model's scores on one board: (column, score, rank, stale)."""

    benchmark: str
    dataset: str
    scores: tuple[tuple[Column, ScoreView, str, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """One corruption of the table that tells a grid in numbers: (text, exact value, in words) a cell."""

    name: str
    family: str
    cells: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridView:
    """One grid: pictures, which are whole escaped SVG documents, and the same numbers as a table."""

    grid: CorruptionGrid
    about: str
    heat: str
    curves: tuple[tuple[str, str], ...]
    """(family, picture)."""
    href: str
    rows: tuple[GridRow, ...]
    families: tuple[GridRow, ...]
    """Means over corruptions: of each family over all severities, and of all at each severity."""


def heads(page: BoardPage) -> tuple[Head, ...]:
    """The heads of the columns that the page shows, in their order."""
    board = page.board
    result = []
    for column in shown_columns(board):
        first: Literal["asc", "desc"] = "desc" if column.score and column.higher_is_better is not False else "asc"
        current = column.name == board.sort
        order = ("asc" if board.order == "desc" else "desc") if current else first
        result.append(
            Head(
                column=column,
                title=column.title,
                meta=_meta(column),
                href="?" + page.query(sort=column.name, order=order, offset=None),
                sorted=("ascending" if board.order == "asc" else "descending") if current else None,
                first=first,
                numeric=column.name == "rank" or column.kind not in {"text", "list"},
            )
        )
    return tuple(result)


def shown_columns(board: Board) -> tuple[Column, ...]:
    """Rank bounds are part of the rank, names begin with the architecture; scores stand next to the names."""
    kept = [column for column in board.columns if column.name not in _HIDDEN]
    last = [column for column in kept if column.name in _AFTER_SCORES]
    return tuple([column for column in kept if column.name not in _AFTER_SCORES] + last)


def rows(page: BoardPage, root: str) -> tuple[RowView, ...]:
    """The page's rows."""
    scored = [column for column in page.board.columns if column.score]
    scales = {column.name: _scale(page.board.rows, column) for column in scored}
    return tuple(
        RowView(
            values=row,
            href=model_href(root, str(row["model"])),
            rank=rank_text(row, dash="–"),
            hue=family_hue(str(row["family"])),
            text=searched_text(row),
            flags=tuple(str(row.get("flags") or "").split()),
            scores={
                column.name: score_view(score_cell(row, column), page.best.get(column.name), scales[column.name])
                for column in scored
            },
        )
        for row in page.board.rows
    )


def score_view(cell: ScoreCell, best: float | None, scale: float | None) -> ScoreView:
    """A score for the page.

    Args:
        cell: the score.
        best: the column's best value, None if it has none.
        scale: the value at which the bar is full; None for no bar.
    """
    value, low, high = cell.value, cell.low, cell.high
    full = cell.state == "full" and value is not None
    return ScoreView(
        cell=cell,
        text=cell.number(value),
        plus=f"+{cell.number(high - value)}" if full and value is not None and high is not None else "",
        minus=f"−{cell.number(value - low)}" if full and value is not None and low is not None else "",
        best=full and best is not None and value == best,
        bar=_bar(value, low, high, scale) if full and value is not None and scale else None,
        label=_label(cell),
    )


def family_hue(family: str) -> int:
    """A family's colour: fixed for the families of the design, by checksum for the others."""
    return _HUES.get(family, len(_HUES) + zlib.crc32(family.encode("utf-8", "replace")) % _SPARE_HUES)


def raw(value: object) -> str:
    """A value for a data attribute: exact, empty if missing."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def web_address(text: str) -> bool:
    """Whether a stranger's text may become a link: http or https, nothing that a browser would run."""
    return text.startswith(("https://", "http://")) and text.isprintable() and not any(ch.isspace() for ch in text)


def card_facts(card: Mapping[str, Any], prefix: str = "") -> tuple[Fact, ...]:
    """A card's entries in order, nested tables by dotted name; only https addresses become links."""
    facts: list[Fact] = []
    for name, value in card.items():
        if isinstance(value, Mapping):
            facts.extend(card_facts(value, f"{prefix}{name}."))
        elif value not in (None, "", []):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            link = text if text.startswith("https://") and not any(ch.isspace() for ch in text) else None
            facts.append(Fact(name=f"{prefix}{name}", text=text, href=link))
    return tuple(facts)


def model_scores(page: ModelPage) -> tuple[ModelBoard, ...]:
    """A model's scores by board, in the order of the board's columns."""
    stored = {
        (f"{score['benchmark']}@{score['version']}", str(score["dataset"]), str(score["column"])): score
        for score in page.detail.scores
    }
    boards = []
    for (benchmark, dataset), columns in page.columns.items():
        scores = []
        for column in columns:
            score = stored.get((benchmark, dataset, column.name))
            if score is not None:
                cells = {column.name: score["value"]}
                cells |= {f"{column.name}_{part}": score[part] for part in ("low", "high", "n", "bound")}
                images = score["images"]
                own = replace(column, images=images) if isinstance(images, int) else column
                view = score_view(score_cell(cells, own), None, 1.0 if column.kind == "fraction" else None)
                scores.append((own, view, rank_text(score, dash="–"), bool(score["stale"])))
        boards.append(ModelBoard(benchmark=benchmark, dataset=dataset, scores=tuple(scores)))
    return tuple(boards)


def grids(page: ModelPage, root: str) -> tuple[GridView, ...]:
    """A model's grids."""
    return tuple(
        GridView(
            grid=grid,
            about=facts(grid),
            heat=heat_map_svg(grid, titled=False),
            curves=tuple((family, family_curves_svg(grid, family)) for family in grid.families),
            href=grid_href(root, grid),
            rows=_grid_rows(grid),
            families=_mean_rows(grid),
        )
        for grid in page.grids
    )


def _grid_rows(grid: CorruptionGrid) -> tuple[GridRow, ...]:
    family = {name: family for family, names in grid.families.items() for name in names}
    return tuple(
        GridRow(
            name=plain_name(name),
            family=family.get(name, "in no mean"),
            cells=(*(_grid_cell(cell) for cell in cells), _mean_cell(grid.means[name])),
        )
        for name, cells in grid.cells.items()
        if name in family or name in grid.extras_shown
    )


def _mean_rows(grid: CorruptionGrid) -> tuple[GridRow, ...]:
    blank = (("", "", ""),) * 5
    found = [
        GridRow(name=f"mean of {family}", family=family, cells=(*blank, _grid_cell(value)))
        for family, value in grid.family_values.items()
    ]
    means = (*(_mean_cell(mean) for mean in grid.severity_means), _grid_cell(grid.overall))
    return (*found, GridRow(name="mean of all families", family="", cells=means))


def _grid_cell(value: GridValue | None) -> tuple[str, str, str]:
    return (
        ("–", "", "not evaluated") if value is None else (percent(value.value), raw(value.value), in_words("", value))
    )


def _mean_cell(mean: float | None) -> tuple[str, str, str]:
    return ("–", "", "not complete") if mean is None else (percent(mean), raw(mean), "")


def _meta(column: Column) -> tuple[str, ...]:
    threat = f"{column.norm} {column.eps}" if column.norm and column.eps else column.norm or ""
    images = f"{column.images:,} images" if column.images else ""
    if column.kind == "fraction":
        images = f"% of {images}" if images else "%"
    return tuple(line for line in (threat, images) if line)


def _scale(rows: Iterable[Mapping[str, Cell]], column: Column) -> float | None:
    """The value of a full bar: 1 for fractions, the column's largest value for numbers, none if any is negative."""
    if column.kind == "fraction":
        return 1.0
    values = [cell.value for row in rows if (cell := score_cell(row, column)).value is not None]
    numbers = [value for value in values if value is not None]
    return max(numbers) if numbers and min(numbers) >= 0 and max(numbers) > 0 else None


def _bar(value: float, low: float | None, high: float | None, scale: float) -> Bar:
    def percent(x: float) -> float:
        return 100 * min(max(x / scale, 0.0), 1.0)

    start, end = percent(value if low is None else low), percent(value if high is None else high)
    return Bar(value=f"{percent(value):.2f}", low=f"{start:.2f}", span=f"{max(end - start, 0):.2f}")


def _label(cell: ScoreCell) -> str:
    parts = []
    if cell.low is not None and cell.high is not None and cell.value is not None:
        parts.append(f"95 % interval {cell.number(cell.low)} to {cell.number(cell.high)}")
    if cell.images is not None:
        parts.append(
            f"{cell.images:,} of {cell.column.images:,} images" if cell.column.images else f"{cell.images:,} images"
        )
    if cell.upper:
        parts.append("an upper bound: a stronger attack may lower it")
    return "; ".join(parts)
