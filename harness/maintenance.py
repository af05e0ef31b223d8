"""Upkeep of a store: rebuild what is derived, look for what is broken."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from harness.benchmarks import benchmark_names, load_benchmark
from harness.digest import digest
from harness.errors import RobustboardError
from harness.scoring import Scorer
from harness.spec import DataRef, ModelRef
from harness.storage.blobs import EXAMPLES
from harness.storage.queries import Reader
from harness.storage.schema import ClaimRow, DatasetRow, EvaluationRow, KeptRow, ModelRow, OutcomeRow
from harness.storage.store import Store


def rescore_all(store: Store) -> tuple[int, int]:
    """Rebuild the rows that the store's boards have, from the outcomes.

    What is stored does not say who ran which benchmark, since benchmarks share evaluations: a model without a row on a
    board gets none. Running the benchmark again computes nothing and makes it.

    Returns:
        Boards rebuilt, and rows (models on a board) rebuilt.
    """
    known = {f"{name}@{version}" for name, version in benchmark_names()}
    boards: dict[tuple[str, DataRef], set[ModelRef]] = {}
    for score in store.scores():
        label = f"{score.benchmark}@{score.version}"
        if label in known:
            models = boards.setdefault((label, score.data), set())
            models.add(ModelRef(name=score.model_name, digest=score.model))
    for (label, data), models in boards.items():
        scorer = Scorer(load_benchmark(label), store.target(data))
        scorer.refresh(store, sorted(models, key=lambda model: model.name))
    return len(boards), sum(map(len, boards.values()))


def problems(store: Reader) -> list[str]:
    """What is wrong with a store, one line each; empty when it is sound."""
    found: list[str] = []
    with Session(store.engine) as session:
        if session.get_bind().dialect.name == "sqlite":
            found += [
                f"integrity: {row[0]}" for row in session.execute(sa.text("PRAGMA integrity_check")) if row[0] != "ok"
            ]
            for row in session.execute(sa.text("PRAGMA foreign_key_check")):
                found.append(f"foreign key: table {row[0]} row {row[1]} points to a missing {row[2]}")
        query = sa.select(EvaluationRow.digest, OutcomeRow.block, OutcomeRow.n, OutcomeRow.correct).join(
            OutcomeRow, OutcomeRow.evaluation_id == EvaluationRow.id
        )
        for name, block, n, correct in session.execute(query):
            if correct and len(correct) != (n + 7) // 8:
                found.append(f"evaluation {name[:12]}: block {block} holds {len(correct)} bytes for {n} verdicts")
        identities = (
            sa.select(EvaluationRow, ModelRow.digest, DatasetRow.digest)
            .join(ModelRow, ModelRow.id == EvaluationRow.model_id)
            .join(DatasetRow, DatasetRow.id == EvaluationRow.dataset_id)
        )
        for evaluation, model, data in session.execute(identities):
            if _identity(evaluation, model, data) != evaluation.digest:
                found.append(
                    f"evaluation {evaluation.digest[:12]}: its digest does not fit its perturbation, model and data"
                )
    for stored in store.models():
        if stored.blob is not None:
            try:
                store.blobs.checked_path(stored.blob)
            except RobustboardError as error:
                found.append(f"model {stored.name}: {error}")
    return found + _examples(store)


def _examples(store: Reader) -> list[str]:
    """Files of adversarial images that are missing or changed."""
    with Session(store.engine) as session:
        kept = sa.select(EvaluationRow.digest, KeptRow.blob).join(KeptRow, KeptRow.evaluation_id == EvaluationRow.id)
        blobs = [(f"evaluation {name[:12]}", sha) for name, sha in session.execute(kept)]
        blobs += [(f"claim {number}", sha) for number, sha in session.execute(sa.select(ClaimRow.id, ClaimRow.blob))]
    found = []
    for owner, sha in blobs:
        try:
            store.blobs.checked_path(sha, EXAMPLES)
        except RobustboardError as error:
            found.append(f"{owner}: {error}")
    return found


def _identity(row: EvaluationRow, model: str, data: str) -> str:
    import json

    from harness.spec import SCHEMA

    return digest({"schema": SCHEMA, "model": model, "data": data, "perturbation": json.loads(row.perturbation)})
