"""Stand-in until harness.leaderboard has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.leaderboard import Board, Column


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardQuery:
    """Q."""

    benchmark: str
    dataset: str | None = None
    family: str | None = None
    sort: str | None = None
    order: Literal["asc", "desc"] | None = None
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSummary:
    """B."""

    name: str
    version: int
    title: str
    dataset: str
    models: int
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """M."""

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
    """D."""

    summary: ModelSummary
    card: Mapping[str, Any]
    scores: tuple[Mapping[str, Any], ...]
    evaluations: tuple[Mapping[str, Any], ...]


def load_board(store: Any, query: BoardQuery) -> Board:
    """L."""
    raise NotImplementedError


def list_benchmarks(store: Any) -> tuple[BenchmarkSummary, ...]:
    """L."""
    raise NotImplementedError


def list_models(store: Any) -> tuple[ModelSummary, ...]:
    """L."""
    raise NotImplementedError


def model_detail(store: Any, name: str) -> ModelDetail:
    """L."""
    raise NotImplementedError
