"""Rows of one piece of work: verdicts with their details, flags, measured numbers."""

from __future__ import annotations

import json

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from harness.attacks.catalogue import ends_with_square
from harness.attacks.flags import square_suspicion
from harness.digest import canonical_json
from harness.errors import StoreError
from harness.outcome import BlockOutcome, Detail, MeasureValue, pack_bits, unpack_bits
from harness.spec import AttackSpec, EvaluationSpec
from harness.storage.schema import EvaluationRow, MeasureRow, OutcomeRow
from harness.types import Json


def write_block(session: Session, evaluation: EvaluationRow, outcome: BlockOutcome) -> None:
    """Extend a block by a piece.

    Raises:
        StoreError: the piece would leave a gap.
    """
    query = sa.select(OutcomeRow).where(OutcomeRow.evaluation_id == evaluation.id, OutcomeRow.block == outcome.block)
    row = session.scalar(query)
    begin = outcome.block * evaluation.block_size if not outcome.measures else outcome.start
    have = begin + (row.n if row is not None else 0)
    if outcome.stop <= have:
        return
    if outcome.start > have:
        raise StoreError(f"block {outcome.block}: images {have} to {outcome.start} are missing before this piece")
    fresh = outcome.correct[have - outcome.start :] if outcome.correct.size else outcome.correct
    detail = outcome.detail
    if detail is not None:
        detail = Detail(names=detail.names, records=detail.records[have - outcome.start :])
    if row is None:
        row = OutcomeRow(evaluation_id=evaluation.id, block=outcome.block, n=0, correct=b"", detail=None)
        session.add(row)
    bits = np.concatenate([unpack_bits(row.correct, row.n), fresh]) if row.n else fresh
    if row.detail is not None and detail is not None:
        detail = Detail.unpack(row.detail).extend(detail)
    row.n, row.correct = outcome.stop - begin, pack_bits(bits)
    row.detail = detail.pack() if detail is not None else None


def write_flags(session: Session, evaluation: EvaluationRow, spec: EvaluationSpec, outcome: BlockOutcome) -> None:
    """Add the flags of a piece, and judge anew what is about all images that are stored by now."""
    flags: Json = {**json.loads(evaluation.flags), **dict(outcome.flags)}
    attack = spec.perturbation
    if isinstance(attack, AttackSpec) and ends_with_square(attack.attack, dict(attack.options)):
        session.flush()
        rows = session.scalars(sa.select(OutcomeRow.detail).where(OutcomeRow.evaluation_id == evaluation.id))
        details = [Detail.unpack(row) for row in rows if row is not None]
        taken = sum(detail.count("square") for detail in details)
        flags.pop("square_beats_white_box", None)
        flags |= square_suspicion(taken, sum(len(detail.records) for detail in details))
    evaluation.flags = canonical_json(flags)


def write_measure(session: Session, evaluation: int, position: int, value: MeasureValue) -> None:
    """Write a measured number, over that of an earlier run."""
    query = sa.select(MeasureRow).where(
        MeasureRow.evaluation_id == evaluation, MeasureRow.layer == value.layer, MeasureRow.quantity == value.quantity
    )
    row = session.scalar(query)
    if row is None:
        row = MeasureRow(evaluation_id=evaluation, layer=value.layer, quantity=value.quantity)
        session.add(row)
    row.position, row.mean = position, float(value.mean)
    row.units = None if value.units is None else np.ascontiguousarray(value.units, dtype="<f4").tobytes()
