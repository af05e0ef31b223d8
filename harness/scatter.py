"""The board's question as points: one score of each model against another, coloured by a third.

By default corruption accuracy (average case) against robust accuracy (worst case), coloured by class selectivity.
Decides what is shown; `harness.scatter_plot` draws it. No HTTP, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harness.errors import InvalidArgument, UnknownName
from harness.formats import ScoreCell, score_cell
from harness.leaderboard import Board, Column
from harness.types import Cell

_X: Final = ("corruption_accuracy",)
_Y: Final = (
    "robust_accuracy_linf",
    "robust_accuracy_union",
    "robust_accuracy_l2",
    "robust_accuracy_l1",
    "pgd_accuracy_linf",
    "pgd_accuracy_linf_4_255",
)
"""What a board may call its worst case, the strongest attack first."""
_COLOUR: Final = ("selectivity",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One model."""

    model: str
    family: str
    x: ScoreCell
    y: ScoreCell
    colour: ScoreCell | None
    """None where the board has no such column; its value is None where the model was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Two or three score columns of a board, model by model."""

    benchmark: str
    """With its version, `digits@2`."""
    dataset: str
    x: Column
    y: Column
    colour: Column | None
    dots: tuple[Dot, ...]
    """Models that have both scores in full, in the board's order."""
    left_out: tuple[str, ...]
    """The others."""


def scatter(board: Board, *, x: str | None = None, y: str | None = None, colour: str | None = None) -> Scatter:
    """Points of a board.

    Args:
        board: whose rows to show.
        x: a score column; `corruption_accuracy` if None.
        y: a score column; if None, the first that the board has of robust accuracy (Linf, union, L2, L1) and PGD.
        colour: a score column; `selectivity` if None and the board has it, else nothing.

    Raises:
        UnknownName: the board has no such score column; the message offers the nearest.
        InvalidArgument: nothing was named, and the board has none of the usual columns.
    """
    columns = {column.name: column for column in board.columns if column.score}
    across = _column(columns, "x", x, _X)
    up = _column(columns, "y", y, _Y)
    by = None if colour is None and not set(_COLOUR) & set(columns) else _column(columns, "colour", colour, _COLOUR)
    dots, left_out = [], []
    for row in board.rows:
        dot = _dot(row, across, up, by)
        if dot.x.state == dot.y.state == "full":
            dots.append(dot)
        else:
            left_out.append(dot.model)
    return Scatter(
        benchmark=f"{board.benchmark}@{board.version}",
        dataset=board.dataset,
        x=across,
        y=up,
        colour=by,
        dots=tuple(dots),
        left_out=tuple(left_out),
    )


def usual_scatter(board: Board) -> Scatter | None:
    """The board's question with its usual columns; None where the board lacks them or holds no model with both."""
    try:
        found = scatter(board)
    except InvalidArgument:
        return None
    return found if found.dots else None


def _column(columns: Mapping[str, Column], axis: str, name: str | None, usual: tuple[str, ...]) -> Column:
    if name is not None:
        if name not in columns:
            raise UnknownName(f"score column for {axis}", name, columns)
        return columns[name]
    for each in usual:
        if each in columns:
            return columns[each]
    raise InvalidArgument(axis, None, f"one of the board's score columns: {', '.join(columns)}")


def _dot(row: Mapping[str, Cell], x: Column, y: Column, colour: Column | None) -> Dot:
    return Dot(
        model=str(row["model"]),
        family=str(row["family"]),
        x=score_cell(row, x),
        y=score_cell(row, y),
        colour=None if colour is None else score_cell(row, colour),
    )
