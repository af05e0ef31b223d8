"""What queries hand out: plain frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.spec import DataRef, ModelRef
from harness.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """The current revision of a registered model."""

    name: str
    revision: int
    digest: str
    card: Json
    blob: str | None
    added_at: str

    @property
    def ref(self) -> ModelRef:
        """The model by content."""
        return ModelRef(name=self.name, digest=self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDataset:
    """A split that the store knows; `path` is where it was last seen."""

    ref: DataRef
    path: str | None
    added_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScore:
    """One cell of a board as stored."""

    benchmark: str
    version: int
    data: DataRef
    model: str
    """Digest of the model."""
    model_name: str
    column: str
    metric_version: str
    value: float
    low: float | None
    high: float | None
    n: int
    images: int
    bound: str
    stale: bool
    rank: int | None
    rank_low: int | None
    rank_high: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvaluation:
    """An evaluation with what was last done for it."""

    digest: str
    label: str
    kind: str
    perturbation: Json
    model: str
    data: DataRef
    flags: Mapping[str, str]
    n: int
    correct: int
    executions: tuple[Json, ...]
    """Newest first; see `_execution_json` for the keys."""
