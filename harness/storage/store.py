"""The one write path: every change of the store goes through `Store`, in short transactions."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from harness.data.declared import Declaration
from harness.digest import canonical_json
from harness.errors import RequestError, StoreError
from harness.outcome import BlockOutcome, Failure
from harness.spec import DataRef, EvaluationSpec, ModelRef, block_size
from harness.storage import adversarial, outcomes
from harness.storage.adversarial import StoredClaim
from harness.storage.blobs import BlobStore
from harness.storage.queries import Reader
from harness.storage.records import StoredModel
from harness.storage.schema import (
    DatasetRow,
    EvaluationRow,
    ExecutionRow,
    ModelRow,
    RunRow,
    ScoreRow,
)
from harness.target import Target
from harness.types import Json


def now() -> str:
    """The present as ISO 8601 text in UTC, to the second."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellScore:
    """One cell of a board as it is written."""

    column: str
    metric_version: str
    value: float
    low: float | None
    high: float | None
    n: int
    images: int
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardKey:
    """Which board a score belongs to."""

    benchmark: str
    version: int
    data: DataRef


Rescore = Callable[[Session, str], None]
"""Called inside an outcome's transaction with the session and the evaluation's digest."""


class Store(Reader):
    """A store that can be written; several processes may hold one each."""

    def __init__(self, engine: sa.Engine, shown: str, blobs: BlobStore) -> None:
        super().__init__(engine, shown, blobs)

    # -- models and data sets ------------------------------------------------------------------------------------

    def put_model(self, card: Json, digest: str, *, blob: Path | None, replace: bool = False) -> StoredModel:
        """Register a model; the same name with the same content is a no-op.

        Args:
            card: the model card as plain data, `name` inside.
            digest: the model's digest.
            blob: the weights file to keep beside the store; None for bundled models.
            replace: add a revision when the name is there with other content.

        Raises:
            RequestError: the name is taken by other content and `replace` is off.
        """
        name = card["name"]
        known = self.find_model(name)
        if known is not None and known.digest == digest and known.card == json.loads(canonical_json(card)):
            return known
        if known is not None and known.digest != digest and not replace:
            raise RequestError(
                f"model {name!r} is registered with other weights (digest {known.digest[:12]}...); "
                "choose another name, or add a revision with --replace"
            )
        sha = self.blobs.put(blob) if blob is not None else None
        with Session(self.engine) as session, session.begin():
            same = session.scalar(sa.select(ModelRow).where(ModelRow.name == name, ModelRow.digest == digest))
            session.execute(sa.update(ModelRow).where(ModelRow.name == name).values(current=False))
            if same is not None:  # the same weights under a corrected card
                same.card, same.current = canonical_json(card), True
                same.blob = sha or same.blob
            else:
                last = session.scalar(sa.select(sa.func.max(ModelRow.revision)).where(ModelRow.name == name)) or 0
                session.add(
                    ModelRow(
                        name=name,
                        revision=last + 1,
                        digest=digest,
                        card=canonical_json(card),
                        blob=sha,
                        current=True,
                        added_at=now(),
                    )
                )
        stored = self.find_model(name)
        if stored is None:
            raise StoreError(f"model {name!r} vanished while it was written")
        return stored

    def declare(self, declaration: Declaration, splits: Iterable[tuple[DataRef, Target | None]]) -> None:
        """Register a declared data set; what the name stood for before is no longer opened, its results stay.

        Args:
            declaration: how it is read.
            splits: each split by content and, for corrupted files, what a benchmark runs on.
        """
        with Session(self.engine) as session, session.begin():
            session.execute(sa.update(DatasetRow).where(DatasetRow.name == declaration.name).values(path=None))
            for ref, target in splits:
                row = _dataset(session, ref)
                row.path = str(declaration.path)
                row.declaration = canonical_json(
                    {
                        "layout": declaration.layout,
                        "of": declaration.of,
                        "target": target.to_dict() if target else None,
                    }
                )

    # -- runs ----------------------------------------------------------------------------------------------------

    def start_run(self, command: str, provenance: Json) -> int:
        """Record a call of the runner; returns its id."""
        with Session(self.engine) as session, session.begin():
            row = RunRow(started_at=now(), command=command, provenance=canonical_json(provenance))
            session.add(row)
            session.flush()
            return row.id

    def put_outcome(
        self, run: int, spec: EvaluationSpec, outcome: BlockOutcome, *, rescore: Rescore | None = None
    ) -> None:
        """Store a piece of a block, its cost, and the scores that follow, in one transaction.

        A piece that continues the stored part of its block extends it; one that is stored already is left alone, so two
        processes that computed the same piece do no harm.

        Raises:
            StoreError: the piece would leave a gap in its block.
        """
        merged = None  # compressed before the transaction, which others wait for
        if outcome.examples is not None and len(outcome.examples):
            with Session(self.engine) as session:
                old = adversarial.kept_blob(session, spec.digest)
            merged = adversarial.merge(self.blobs, spec, old, outcome.examples, outcome.keep)
        with Session(self.engine) as session, session.begin():
            evaluation = _evaluation(session, spec)
            outcomes.write_block(session, evaluation, outcome)
            for position, value in enumerate(outcome.measures):
                outcomes.write_measure(session, evaluation.id, position, value)
            outcomes.write_flags(session, evaluation, spec, outcome)
            row = _execution(session, evaluation.id, run)
            row.finished_at = now()  # a failure of this run stays on record beside what succeeded
            row.images += outcome.stop - outcome.start
            row.seconds += outcome.cost.seconds
            row.forwards += outcome.cost.forwards
            row.backwards += outcome.cost.backwards
            row.device, row.batch_size = outcome.cost.device, outcome.cost.batch_size
            session.flush()
            if rescore is not None:
                rescore(session, spec.digest)
            replaced = None
            if merged is not None:
                replaced = adversarial.keep(session, self.blobs, evaluation, spec, merged, outcome.keep)
        if replaced is not None:  # only now: until the commit the old row refers to it
            with Session(self.engine) as session, session.begin():
                adversarial.discard_unused(session, self.blobs, replaced)

    def put_failure(self, run: int, spec: EvaluationSpec, failure: Failure) -> None:
        """Record that a piece failed; no verdict is stored for it."""
        with Session(self.engine) as session, session.begin():
            evaluation = _evaluation(session, spec)
            row = _execution(session, evaluation.id, run)
            row.status, row.finished_at = "failed", now()
            row.error = f"{failure.message}\n\n{failure.traceback}"

    # -- adversarial images of others ----------------------------------------------------------------------------

    def put_claim(self, model: ModelRef, claim: StoredClaim, content: bytes) -> bool:
        """Record checked adversarial images and keep their file; False, and no change, if they are recorded already."""
        with Session(self.engine) as session, session.begin():
            session.connection()
            added = adversarial.put_claim(session, _model(session, model), _dataset(session, claim.data), claim)
            if added:
                self.blobs.put_bytes(content)
        return added

    # -- scores --------------------------------------------------------------------------------------------------

    def put_scores(self, board: BoardKey, model: ModelRef, compute: Callable[[Session], Iterable[CellScore]]) -> None:
        """Replace a model's cells on a board; cells no longer derived stay, marked stale.

        Args:
            board: which board.
            model: which row.
            compute: the cells, from what stands inside the transaction: no other writer can come between.
        """
        with Session(self.engine) as session, session.begin():
            session.connection()
            write_scores(session, board, model, compute(session), complete=True)

    def put_ranks(
        self, board: BoardKey, column: str, compute: Callable[[Session], Mapping[str, tuple[int, int, int]]]
    ) -> None:
        """Write (rank, rank_low, rank_high) by model digest for one column; all others on the board lose theirs.

        Args:
            board: which board.
            column: the one that it ranks by.
            compute: the ranks, from what stands inside the transaction.
        """
        with Session(self.engine) as session, session.begin():
            session.connection()
            ranks = compute(session)
            dataset = _dataset(session, board.data)
            on_board = (
                ScoreRow.benchmark == board.benchmark,
                ScoreRow.version == board.version,
                ScoreRow.dataset_id == dataset.id,
            )
            session.execute(sa.update(ScoreRow).where(*on_board).values(rank=None, rank_low=None, rank_high=None))
            rows = session.execute(
                sa.select(ScoreRow, ModelRow.digest)
                .join(ModelRow, ModelRow.id == ScoreRow.model_id)
                .where(*on_board, ScoreRow.column == column)
            ).all()
            for row, digest in rows:
                if digest in ranks:
                    row.rank, row.rank_low, row.rank_high = ranks[digest]
                elif row.n == row.images:  # complete, and its outcomes are gone: made by an older component
                    row.stale = True


def write_scores(
    session: Session, board: BoardKey, model: ModelRef, cells: Iterable[CellScore], *, complete: bool
) -> None:
    """Write cells inside a transaction; with `complete`, a model's other cells on the board become stale."""
    dataset = _dataset(session, board.data)
    model_row = _model(session, model)
    where = (
        ScoreRow.benchmark == board.benchmark,
        ScoreRow.version == board.version,
        ScoreRow.dataset_id == dataset.id,
        ScoreRow.model_id == model_row.id,
    )
    known = {row.column: row for row in session.scalars(sa.select(ScoreRow).where(*where))}
    for cell in cells:
        row = known.pop(cell.column, None)
        if row is None:
            row = ScoreRow(
                benchmark=board.benchmark,
                version=board.version,
                dataset_id=dataset.id,
                model_id=model_row.id,
                column=cell.column,
            )
            session.add(row)
        row.metric_version, row.value, row.low, row.high = cell.metric_version, cell.value, cell.low, cell.high
        row.n, row.images, row.bound, row.stale = cell.n, cell.images, cell.bound, False
    if complete:
        for row in known.values():
            row.stale, row.rank, row.rank_low, row.rank_high = True, None, None, None


def _model(session: Session, ref: ModelRef) -> ModelRow:
    query = sa.select(ModelRow).where(ModelRow.digest == ref.digest, ModelRow.name == ref.name)
    row = session.scalar(query.order_by(ModelRow.revision.desc()).limit(1))
    if row is None:
        raise StoreError(f"model {ref.name!r} ({ref.digest[:12]}...) is not registered in this store")
    return row


def _dataset(session: Session, ref: DataRef) -> DatasetRow:
    query = sa.select(DatasetRow).where(
        DatasetRow.name == ref.name, DatasetRow.split == ref.split, DatasetRow.digest == ref.digest
    )
    row = session.scalar(query)
    if row is None:
        row = DatasetRow(
            name=ref.name, split=ref.split, digest=ref.digest, images=ref.images, classes=ref.classes, added_at=now()
        )
        session.add(row)
        session.flush()
    return row


def _evaluation(session: Session, spec: EvaluationSpec) -> EvaluationRow:
    digest = spec.digest
    row = session.scalar(sa.select(EvaluationRow).where(EvaluationRow.digest == digest))
    if row is None:
        row = EvaluationRow(
            digest=digest,
            model_id=_model(session, spec.model).id,
            dataset_id=_dataset(session, spec.data).id,
            kind=spec.perturbation.kind,
            label=spec.perturbation.label[:200],
            block_size=block_size(spec.perturbation),
            perturbation=canonical_json(spec.perturbation.identity()),
            flags="{}",
        )
        session.add(row)
        session.flush()
    return row


def _execution(session: Session, evaluation: int, run: int) -> ExecutionRow:
    query = sa.select(ExecutionRow).where(ExecutionRow.evaluation_id == evaluation, ExecutionRow.run_id == run)
    row = session.scalar(query)
    if row is None:
        earlier = session.scalar(
            sa.select(sa.func.count()).select_from(ExecutionRow).where(ExecutionRow.evaluation_id == evaluation)
        )
        row = ExecutionRow(
            evaluation_id=evaluation,
            run_id=run,
            attempt=(earlier or 0) + 1,
            status="ok",
            finished_at=now(),
            seconds=0.0,
            images=0,
            forwards=0,
            backwards=0,
            device="",
            batch_size=0,
        )
        session.add(row)
    return row
