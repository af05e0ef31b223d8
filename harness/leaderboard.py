"""Boards: queries on stored scores to frozen rows. No HTTP, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Cell: TypeAlias = str | int | float | bool | None
ColumnKind: TypeAlias = Literal["text", "integer", "fraction", "number", "list"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a board.

    A score column X of kind "fraction" has four companions in every row: X_low, X_high (95 % interval), X_n (images that
    the value rests on) and X_bound ("exact" or "upper"). X of kind "number" has X_low, X_high, X_n (null where undefined).
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board ready to be shown: the same object becomes HTML, JSON, CSV, Markdown and LaTeX.

    Every row is a flat mapping with the same keys in the same order: the names of `columns`, each score column followed by
    its companions (see `Column`). `total` counts the rows before limit and offset.
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
