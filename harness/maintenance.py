"""Upkeep of a store: rebuild what is derived, look for what is broken."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from harness.benchmarks import Benchmark, benchmark_names, load_benchmark
from harness.digest import digest
from harness.errors import RobustboardError
from harness.scoring import Scorer
from harness.spec import DataRef, ModelRef
from harness.storage.queries import Reader
from harness.storage.schema import DatasetRow, EvaluationRow, ModelRow, OutcomeRow
from harness.storage.store import Store
from harness.target import Target


def evaluated(store: Reader) -> dict[Target, set[ModelRef]]:
    """Target -> models that have any evaluation on it (current revisions)."""
    owner = aliased(ModelRow)  # evaluations belong to weights; every name with these weights has them
    query = (
        sa.select(DatasetRow, ModelRow.name, ModelRow.digest)
        .select_from(EvaluationRow)
        .join(owner, owner.id == EvaluationRow.model_id)
        .join(ModelRow, ModelRow.digest == owner.digest)
        .join(DatasetRow, DatasetRow.id == EvaluationRow.dataset_id)
        .where(ModelRow.current)
        .distinct()
    )
    by_data: dict[DataRef, set[ModelRef]] = {}
    with Session(store.engine) as session:
        for row, name, model in session.execute(query):
            data = DataRef(name=row.name, split=row.split, digest=row.digest, images=row.images, classes=row.classes)
            by_data.setdefault(data, set()).add(ModelRef(name=name, digest=model))
    file_sets = [target for item in store.datasets() if (target := store.target(item.ref)).cells]
    cells = {cell.data: target for target in file_sets for cell in target.cells}
    found: dict[Target, set[ModelRef]] = {}
    for data, models in by_data.items():
        found.setdefault(cells.get(data) or Target.plain(data), set()).update(models)
    return found


def rescore_all(store: Store) -> tuple[int, int]:
    """Rebuild every board from the outcomes.

    Returns:
        Boards rebuilt, and rows (models on a board) rebuilt.
    """
    boards = rows = 0
    targets = evaluated(store)
    for name, version in benchmark_names():
        benchmark = load_benchmark(f"{name}@{version}")
        for target, models in targets.items():
            if target.data.classes != benchmark.classes or not _covered(benchmark, target):
                continue
            scorer = Scorer(benchmark, target)
            on_board = [model for model in sorted(models, key=lambda item: item.name) if scorer.cells(store, model)]
            if on_board:
                scorer.refresh(store, on_board)
                boards, rows = boards + 1, rows + len(on_board)
    return boards, rows


def _covered(benchmark: Benchmark, target: Target) -> bool:
    """Whether a set of corrupted files has every cell that the benchmark asks for."""
    wanted = {
        (name, severity) for group in benchmark.groups for name in group.corruptions for severity in group.severities
    }
    return not target.cells or wanted <= {(cell.corruption, cell.severity) for cell in target.cells}


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
    return found


def _identity(row: EvaluationRow, model: str, data: str) -> str:
    import json

    from harness.spec import SCHEMA

    return digest({"schema": SCHEMA, "model": model, "data": data, "perturbation": json.loads(row.perturbation)})
