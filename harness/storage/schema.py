"""Tables of the store (SQLAlchemy 2, typed). Every change needs a migration beside `migrations/versions/`."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

REVISIONS: tuple[str, ...] = ("0001", "0002")
"""All migrations, oldest first; a test holds this against the files. The last is what this version writes."""


class Base(DeclarativeBase):
    """Declarative base of all tables."""


class ModelRow(Base):
    """A revision of a model: its card and, for added models, the blob with its weights."""

    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("name", "revision"), Index("ix_model_digest", "digest"))

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    revision: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    card: Mapped[str] = mapped_column(Text)
    """The model card as canonical JSON."""
    blob: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of the weights file beside the store; null for bundled models."""
    current: Mapped[bool]
    """True for the newest revision of the name."""
    added_at: Mapped[str] = mapped_column(String(32))


class DatasetRow(Base):
    """A split of a data set by content; `path` is where this machine last saw it, a hint only."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("name", "split", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    split: Mapped[str] = mapped_column(String(20))
    digest: Mapped[str] = mapped_column(String(64))
    images: Mapped[int]
    classes: Mapped[int]
    path: Mapped[str | None] = mapped_column(Text)
    declaration: Mapped[str | None] = mapped_column(Text)
    """Canonical JSON: layout, base data set and, for corrupted files, the target; null for what was not declared."""
    added_at: Mapped[str] = mapped_column(String(32))


class EvaluationRow(Base):
    """One model x one perturbation on one data set, named by the digest of its spec."""

    __tablename__ = "evaluation"
    __table_args__ = (Index("ix_evaluation_model", "model_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    kind: Mapped[str] = mapped_column(String(20))
    label: Mapped[str] = mapped_column(String(200))
    block_size: Mapped[int]
    """Images in a block of its outcomes."""
    perturbation: Mapped[str] = mapped_column(Text)
    """The perturbation's identity as canonical JSON."""
    flags: Mapped[str] = mapped_column(Text, default="{}")
    """Canonical JSON: flag -> evidence in words."""


class OutcomeRow(Base):
    """Per-image result of a block: verdict bits of its first `n` images and, for attacks, packed detail."""

    __tablename__ = "outcome"
    __table_args__ = (UniqueConstraint("evaluation_id", "block"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"))
    block: Mapped[int]
    n: Mapped[int]
    correct: Mapped[bytes] = mapped_column(LargeBinary)
    detail: Mapped[bytes | None] = mapped_column(LargeBinary)


class RunRow(Base):
    """One call of the runner: where and with what it ran."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[str] = mapped_column(String(32))
    command: Mapped[str] = mapped_column(Text)
    provenance: Mapped[str] = mapped_column(Text)


class ExecutionRow(Base):
    """What one run did for one evaluation: times, passes, and the error if it failed."""

    __tablename__ = "execution"
    __table_args__ = (UniqueConstraint("evaluation_id", "run_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"))
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    attempt: Mapped[int]
    status: Mapped[str] = mapped_column(String(10))
    """ok or failed."""
    finished_at: Mapped[str] = mapped_column(String(32))
    seconds: Mapped[float]
    images: Mapped[int]
    forwards: Mapped[int]
    backwards: Mapped[int]
    device: Mapped[str] = mapped_column(String(60))
    batch_size: Mapped[int]
    error: Mapped[str | None] = mapped_column(Text)


class MeasureRow(Base):
    """A number about the representation: per layer ("" is the network), with the values of its units packed."""

    __tablename__ = "measure"
    __table_args__ = (UniqueConstraint("evaluation_id", "layer", "quantity"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"))
    position: Mapped[int]
    """Order of the layer in the network."""
    layer: Mapped[str] = mapped_column(String(100))
    quantity: Mapped[str] = mapped_column(String(60))
    mean: Mapped[float]
    units: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Little-endian float32, one value a unit."""


class ScoreRow(Base):
    """One cell of one board: a cache of what the outcomes say, rebuilt by `robustboard db rescore`."""

    __tablename__ = "score"
    __table_args__ = (UniqueConstraint("benchmark", "version", "dataset_id", "model_id", "column"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    benchmark: Mapped[str] = mapped_column(String(60))
    version: Mapped[int]
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"))
    column: Mapped[str] = mapped_column(String(80))
    metric_version: Mapped[str] = mapped_column(String(60))
    value: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]
    n: Mapped[int]
    images: Mapped[int]
    """Images of the full range; the cell counts (and ranks) when n reaches it."""
    bound: Mapped[str] = mapped_column(String(10))
    """exact or upper."""
    stale: Mapped[bool]
    """True when its outcomes belong to an older component version."""
    rank: Mapped[int | None]
    rank_low: Mapped[int | None]
    rank_high: Mapped[int | None]


class KeptRow(Base):
    """Adversarial images of an attack evaluation, kept on request: the first that it broke."""

    __tablename__ = "kept"

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"), unique=True)
    blob: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the file beside the store."""
    images: Mapped[int]
    bytes: Mapped[int]
    """Of the file."""


class ClaimRow(Base):
    """Somebody's adversarial images that were checked here: who, whence, and which images they break at what size."""

    __tablename__ = "claim"
    __table_args__ = (UniqueConstraint("model_id", "dataset_id", "norm", "blob"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    norm: Mapped[str] = mapped_column(String(10))
    eps: Mapped[float]
    """Radius that the file was checked at."""
    blob: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the file, kept beside the store."""
    images: Mapped[int]
    """Images in the file."""
    broken: Mapped[bytes] = mapped_column(LargeBinary)
    """Packed `harness.storage.adversarial.BROKEN_DTYPE`: the images that it breaks."""
    author: Mapped[str] = mapped_column(String(200))
    source: Mapped[str] = mapped_column(String(500))
    """An http or https address, or empty."""
    added_at: Mapped[str] = mapped_column(String(32))
