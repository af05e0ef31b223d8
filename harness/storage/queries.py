"""Read side of the store: plain frozen values out, no SQLAlchemy objects."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from harness.data.declared import Declaration
from harness.errors import UnknownName
from harness.outcome import Detail, MeasureValue, unpack_bits
from harness.spec import DataRef, ModelRef
from harness.storage import adversarial
from harness.storage.adversarial import StoredClaim, StoredExamples
from harness.storage.blobs import BlobStore
from harness.storage.engine import check_revision
from harness.storage.records import StoredDataset, StoredEvaluation, StoredModel, StoredScore
from harness.storage.schema import (
    DatasetRow,
    EvaluationRow,
    ExecutionRow,
    MeasureRow,
    ModelRow,
    OutcomeRow,
    RunRow,
    ScoreRow,
)
from harness.target import Target
from harness.types import Json

_CHUNK = 400  # values in one IN (...) list; SQLite's oldest limit on variables is 999


class Reader:
    """Queries on a store; holds no state but its engine."""

    def __init__(self, engine: sa.Engine, shown: str, blobs: BlobStore) -> None:
        self.engine = engine
        self.shown = shown
        """The store's name for messages, without a password."""
        self.blobs = blobs

    def check(self) -> None:
        """See that the store can serve this version; raises StoreNotReady or StoreTooNew."""
        check_revision(self.engine, self.shown)

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()

    # -- models and data sets ------------------------------------------------------------------------------------

    def models(self) -> tuple[StoredModel, ...]:
        """Current revisions of all registered models, by name."""
        with Session(self.engine) as session:
            rows = session.scalars(sa.select(ModelRow).where(ModelRow.current).order_by(ModelRow.name))
            return tuple(_stored_model(row) for row in rows)

    def find_model(self, name: str) -> StoredModel | None:
        """The current revision of `name`, or None."""
        with Session(self.engine) as session:
            row = session.scalar(sa.select(ModelRow).where(ModelRow.name == name, ModelRow.current))
            return _stored_model(row) if row is not None else None

    def find_ref(self, name: str) -> ModelRef:
        """The current revision of `name` by content.

        Raises:
            UnknownName: no such model.
        """
        found = self.find_model(name)
        if found is None:
            raise UnknownName("model", name, [model.name for model in self.models()])
        return found.ref

    def model_card(self, name: str) -> tuple[Json, Path] | None:
        """Card and verified weights file of an added model; None if `name` is unknown or bundled."""
        found = self.find_model(name)
        if found is None or found.blob is None:
            return None
        return found.card, self.blobs.checked_path(found.blob)

    def datasets(self) -> tuple[StoredDataset, ...]:
        """All splits that the store knows, by name, newest content last."""
        with Session(self.engine) as session:
            rows = session.scalars(sa.select(DatasetRow).order_by(DatasetRow.name, DatasetRow.split, DatasetRow.id))
            return tuple(StoredDataset(ref=_data_ref(row), path=row.path, added_at=row.added_at) for row in rows)

    def declarations(self) -> dict[str, Declaration]:
        """Declared data sets by name, as last declared."""
        query = sa.select(DatasetRow).where(DatasetRow.path.is_not(None), DatasetRow.declaration.is_not(None))
        found = {}
        with Session(self.engine) as session:
            for row in session.scalars(query.order_by(DatasetRow.id)):
                values = json.loads(row.declaration or "{}")
                found[row.name] = Declaration(
                    name=row.name, layout=values["layout"], path=Path(row.path or ""), of=values["of"]
                )
        return found

    def target(self, data: DataRef) -> Target:
        """What the evaluations of a board on this data set run on."""
        query = sa.select(DatasetRow.declaration).where(
            DatasetRow.name == data.name, DatasetRow.split == data.split, DatasetRow.digest == data.digest
        )
        with Session(self.engine) as session:
            raw = session.scalar(query)
        values = json.loads(raw)["target"] if raw else None
        return Target.from_dict(data, values) if values else Target.plain(data)

    def newest_target(self, name: str) -> Target | None:
        """The target of a declared set of corrupted files, as last declared; None for any other data set."""
        declared = [item.ref for item in self.datasets() if item.ref.name == name and item.path is not None]
        target = self.target(declared[-1]) if declared else None
        return target if target is not None and target.cells else None

    # -- outcomes ------------------------------------------------------------------------------------------------

    def coverage(self, digests: Iterable[str]) -> dict[str, dict[int, int]]:
        """For each evaluation digest the stored blocks: block -> number of its images done, from its start."""
        found: dict[str, dict[int, int]] = {}
        with Session(self.engine) as session:
            for part in _chunks(digests):
                query = (
                    sa.select(EvaluationRow.digest, OutcomeRow.block, OutcomeRow.n)
                    .join(OutcomeRow, OutcomeRow.evaluation_id == EvaluationRow.id)
                    .where(EvaluationRow.digest.in_(part))
                )
                for digest, block, n in session.execute(query):
                    found.setdefault(digest, {})[block] = n
        return found

    def verdicts(self, digests: Iterable[str], *, session: Session | None = None) -> dict[str, NDArray[np.bool_]]:
        """For each evaluation digest the verdicts of its leading images, up to the first gap."""
        with _session(self.engine, session) as active:
            return verdicts(active, digests)

    def details(self, digest: str) -> Detail | None:
        """Attack detail of an evaluation's stored blocks, in order; None if it keeps none."""
        query = (
            sa.select(OutcomeRow.detail)
            .join(EvaluationRow, EvaluationRow.id == OutcomeRow.evaluation_id)
            .where(EvaluationRow.digest == digest)
            .order_by(OutcomeRow.block)
        )
        with Session(self.engine) as session:
            packed = [raw for raw in session.scalars(query) if raw is not None]
        if not packed:
            return None
        joined = Detail.unpack(packed[0])
        for raw in packed[1:]:
            joined = joined.extend(Detail.unpack(raw))
        return joined

    def measures(
        self, digests: Iterable[str], *, session: Session | None = None
    ) -> dict[str, tuple[MeasureValue, ...]]:
        """For each evaluation digest its measured values in the order of the layers."""
        found: dict[str, list[MeasureValue]] = {}
        with _session(self.engine, session) as active:
            for part in _chunks(digests):
                query = (
                    sa.select(EvaluationRow.digest, MeasureRow)
                    .join(MeasureRow, MeasureRow.evaluation_id == EvaluationRow.id)
                    .where(EvaluationRow.digest.in_(part))
                    .order_by(MeasureRow.position)
                )
                for digest, row in active.execute(query):
                    units = None if row.units is None else np.frombuffer(row.units, dtype="<f4").astype(np.float32)
                    value = MeasureValue(layer=row.layer, quantity=row.quantity, mean=row.mean, units=units)
                    found.setdefault(digest, []).append(value)
        return {digest: tuple(values) for digest, values in found.items()}

    def measured_ranges(self, model: ModelRef, data: DataRef, *, session: Session | None = None) -> tuple[int, ...]:
        """Lengths of the ranges [0, stop) over which anything of this model was measured on this data set."""
        query = (
            sa.select(EvaluationRow.perturbation)
            .join(ModelRow, ModelRow.id == EvaluationRow.model_id)
            .join(DatasetRow, DatasetRow.id == EvaluationRow.dataset_id)
            .where(ModelRow.digest == model.digest, DatasetRow.digest == data.digest, EvaluationRow.kind == "measure")
        )
        with _session(self.engine, session) as active:
            return tuple(sorted({json.loads(raw)["stop"] for raw in active.scalars(query)}))

    # -- scores and evaluations ----------------------------------------------------------------------------------

    def scores(
        self,
        *,
        benchmark: str | None = None,
        version: int | None = None,
        dataset: str | None = None,
        model: str | None = None,
        session: Session | None = None,
    ) -> tuple[StoredScore, ...]:
        """Cells of boards, current model revisions only.

        Args:
            benchmark: keep one benchmark.
            version: keep one version of it.
            dataset: keep one data set (its name).
            model: keep one model (its name).
            session: read inside this transaction.
        """
        query = (
            sa.select(ScoreRow, ModelRow, DatasetRow)
            .join(ModelRow, ModelRow.id == ScoreRow.model_id)
            .join(DatasetRow, DatasetRow.id == ScoreRow.dataset_id)
            .where(ModelRow.current)
            .order_by(ScoreRow.benchmark, ScoreRow.version, DatasetRow.id, ModelRow.name, ScoreRow.column)
        )
        if benchmark is not None:
            query = query.where(ScoreRow.benchmark == benchmark)
        if version is not None:
            query = query.where(ScoreRow.version == version)
        if dataset is not None:
            query = query.where(DatasetRow.name == dataset)
        if model is not None:
            query = query.where(ModelRow.name == model)
        with _session(self.engine, session) as active:
            return tuple(_stored_score(*row) for row in active.execute(query))

    def evaluations(self, *, model: str | None = None, prefix: str | None = None) -> tuple[StoredEvaluation, ...]:
        """Evaluations of a model (its current revision, under whatever name) or whose digest begins with `prefix`."""
        query = (
            sa.select(EvaluationRow, ModelRow.name, DatasetRow)
            .join(ModelRow, ModelRow.id == EvaluationRow.model_id)
            .join(DatasetRow, DatasetRow.id == EvaluationRow.dataset_id)
            .order_by(EvaluationRow.id)
        )
        if model is not None:
            query = query.where(ModelRow.digest == self.find_ref(model).digest)
        if prefix is not None:
            query = query.where(EvaluationRow.digest.startswith(prefix, autoescape=True))
        with Session(self.engine) as session:
            rows = session.execute(query).all()
            done = verdicts(session, [row[0].digest for row in rows])
            runs = _executions(session, [row[0].id for row in rows])
            return tuple(
                _stored_evaluation(row, name, dataset, done.get(row.digest), runs.get(row.id, ()))
                for row, name, dataset in rows
            )

    def kept_examples(self, digests: Iterable[str]) -> tuple[StoredExamples, ...]:
        """Adversarial images that are kept of these evaluations."""
        with Session(self.engine) as session:
            return adversarial.kept(session, digests)

    def claims(self, model: ModelRef) -> tuple[StoredClaim, ...]:
        """Checked adversarial images of others against a model, oldest first."""
        with Session(self.engine) as session:
            return adversarial.claims(session, model.digest)

    def flags(self) -> dict[str, dict[str, str]]:
        """Flags by model digest, over all its evaluations: flag -> evidence."""
        query = (
            sa.select(ModelRow.digest, EvaluationRow.flags)
            .join(ModelRow, ModelRow.id == EvaluationRow.model_id)
            .where(EvaluationRow.flags != "{}")
        )
        found: dict[str, dict[str, str]] = {}
        with Session(self.engine) as session:
            for digest, flags in session.execute(query):
                found.setdefault(digest, {}).update(json.loads(flags))
        return found


def verdicts(session: Session, digests: Iterable[str]) -> dict[str, NDArray[np.bool_]]:
    """See `Reader.verdicts`; for use inside a transaction."""
    parts: dict[str, list[NDArray[np.bool_]]] = {}
    ended: set[str] = set()
    for part in _chunks(digests):
        query = (
            sa.select(
                EvaluationRow.digest, EvaluationRow.block_size, OutcomeRow.block, OutcomeRow.n, OutcomeRow.correct
            )
            .join(OutcomeRow, OutcomeRow.evaluation_id == EvaluationRow.id)
            .where(EvaluationRow.digest.in_(part), EvaluationRow.kind.not_in(("measure", "checks")))
            .order_by(OutcomeRow.block)
        )
        for digest, size, block, n, correct in session.execute(query):
            found = parts.setdefault(digest, [np.zeros(0, dtype=np.bool_)])
            if digest in ended or block != len(found) - 1:
                continue
            found.append(unpack_bits(correct, n))
            if n < size:  # what follows is beyond a gap, if there is anything
                ended.add(digest)
    return {digest: np.concatenate(found) for digest, found in parts.items()}


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    items = list(values)
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


@contextlib.contextmanager
def _session(engine: sa.Engine, session: Session | None) -> Iterator[Session]:
    """The given session, or a fresh one that is closed at the end."""
    if session is not None:
        yield session
        return
    with Session(engine) as own:
        yield own


def _stored_model(row: ModelRow) -> StoredModel:
    return StoredModel(
        name=row.name,
        revision=row.revision,
        digest=row.digest,
        card=json.loads(row.card),
        blob=row.blob,
        added_at=row.added_at,
    )


def _data_ref(row: DatasetRow) -> DataRef:
    return DataRef(name=row.name, split=row.split, digest=row.digest, images=row.images, classes=row.classes)


def _stored_score(row: ScoreRow, model: ModelRow, dataset: DatasetRow) -> StoredScore:
    return StoredScore(
        benchmark=row.benchmark,
        version=row.version,
        data=_data_ref(dataset),
        model=model.digest,
        model_name=model.name,
        column=row.column,
        metric_version=row.metric_version,
        value=row.value,
        low=row.low,
        high=row.high,
        n=row.n,
        images=row.images,
        bound=row.bound,
        stale=row.stale,
        rank=row.rank,
        rank_low=row.rank_low,
        rank_high=row.rank_high,
    )


def _executions(session: Session, ids: Iterable[int]) -> dict[int, tuple[Json, ...]]:
    found: dict[int, list[Json]] = {}
    items = list(ids)
    for start in range(0, len(items), _CHUNK):
        query = (
            sa.select(ExecutionRow, RunRow)
            .join(RunRow, RunRow.id == ExecutionRow.run_id)
            .where(ExecutionRow.evaluation_id.in_(items[start : start + _CHUNK]))
            .order_by(ExecutionRow.attempt.desc())
        )
        for row, run in session.execute(query):
            found.setdefault(row.evaluation_id, []).append(_execution_json(row, run))
    return {key: tuple(values) for key, values in found.items()}


def _execution_json(row: ExecutionRow, run: RunRow) -> dict[str, Any]:
    return {
        "attempt": row.attempt,
        "status": row.status,
        "finished_at": row.finished_at,
        "seconds": row.seconds,
        "images": row.images,
        "forwards": row.forwards,
        "backwards": row.backwards,
        "device": row.device,
        "batch_size": row.batch_size,
        "error": row.error,
        "provenance": json.loads(run.provenance),
    }


def _stored_evaluation(
    row: EvaluationRow, name: str, dataset: DatasetRow, bits: NDArray[np.bool_] | None, runs: tuple[Json, ...]
) -> StoredEvaluation:
    return StoredEvaluation(
        digest=row.digest,
        label=row.label,
        kind=row.kind,
        perturbation=json.loads(row.perturbation),
        model=name,
        data=_data_ref(dataset),
        flags=json.loads(row.flags),
        n=0 if bits is None else int(bits.size),
        correct=0 if bits is None else int(bits.sum()),
        executions=runs,
    )
