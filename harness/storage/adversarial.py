"""Adversarial images in the store: those kept of our attacks, and the checked ones of others."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from harness.attacks.examples import decode, encode
from harness.errors import StoreError
from harness.outcome import Examples
from harness.spec import DataRef, EvaluationSpec
from harness.storage.blobs import EXAMPLES, BlobStore
from harness.storage.schema import ClaimRow, DatasetRow, EvaluationRow, KeptRow, ModelRow

BROKEN_DTYPE = np.dtype([("index", "<u4"), ("radius", "<f8")])
"""Of each image that a claim breaks: its position, and the smallest eps at which the check takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredExamples:
    """Adversarial images kept of one evaluation."""

    evaluation: str
    """Digest of the evaluation."""
    label: str
    model: str
    data: DataRef
    images: int
    bytes: int
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredClaim:
    """Somebody's adversarial images, as checked here.

    Attributes:
        model: digest of the model.
        data: the data set.
        norm: of the threat model.
        eps: the radius that the file was checked at.
        blob: SHA-256 of the file.
        images: in the file.
        indices: k, int64: positions of the images that it breaks, ascending.
        radius: k, float64: the smallest eps at which each is taken.
        author: who made them; may be empty.
        source: an address; may be empty.
        added_at: ISO 8601, UTC.
    """

    model: str
    data: DataRef
    norm: str
    eps: float
    blob: str
    images: int
    indices: NDArray[np.int64]
    radius: NDArray[np.float64]
    author: str
    source: str
    added_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What is to take the place of the images that are kept of an evaluation.

    Attributes:
        fresh: what was added.
        before: the blob that they were merged with, if any.
        images: how many there are; 0 if there was nothing to add.
        content: the bytes of the file.
    """

    fresh: Examples
    before: str | None
    images: int
    content: bytes


def merge(blobs: BlobStore, spec: EvaluationSpec, old: str | None, fresh: Examples, most: int) -> Merged:
    """Merge freshly broken images into what is kept of an evaluation (`old`), as a file's bytes; nothing is written.

    What is kept are the first `most` broken images of all that were handed in, whatever their order; a run that asks
    for fewer takes none away.
    """
    before = None if old is None else _stored(blobs, old)
    merged = fresh if before is None else before.merge(fresh, max(most, len(before)))
    if before is not None and np.array_equal(merged.indices, before.indices):
        return Merged(fresh=fresh, before=old, images=0, content=b"")
    attack = spec.perturbation.identity()
    content = encode(merged, norm=attack["norm"], eps=attack["eps"], model=spec.model.digest, data=spec.data.digest)
    return Merged(fresh=fresh, before=old, images=len(merged), content=content)


def keep(
    session: Session, blobs: BlobStore, row: EvaluationRow, spec: EvaluationSpec, merged: Merged, most: int
) -> str | None:
    """Write a merged file and let the evaluation refer to it; returns the blob that it referred to before, if any.

    Where another process has changed what is kept since the images were merged, they are merged again.
    """
    kept = session.scalar(sa.select(KeptRow).where(KeptRow.evaluation_id == row.id))
    now = None if kept is None else kept.blob
    if now != merged.before:
        merged = merge(blobs, spec, now, merged.fresh, most)
    if not merged.images:
        return None
    if kept is None:
        kept = KeptRow(evaluation_id=row.id)
        session.add(kept)
    # written while others wait: nobody can take away a file between its writing and the row that refers to it
    kept.blob, kept.images, kept.bytes = blobs.put_bytes(merged.content), merged.images, len(merged.content)
    session.flush()
    return now


def discard_unused(session: Session, blobs: BlobStore, blob: str) -> None:
    """Delete a file that no row refers to any more, in a transaction of its own."""
    if not _used(session, blob):
        blobs.discard(blob)


def _used(session: Session, blob: str) -> bool:
    """Whether a row refers to a file."""
    counts = (sa.select(sa.func.count()).select_from(table).where(table.blob == blob) for table in (KeptRow, ClaimRow))
    return any(session.scalar(count) for count in counts)


def _stored(blobs: BlobStore, sha: str) -> Examples | None:
    """The images of a blob; None if somebody took the file away: they are made anew then."""
    try:
        return decode(blobs.checked_path(sha, EXAMPLES).read_bytes())
    except (StoreError, OSError):
        return None


def kept_blob(session: Session, digest: str) -> str | None:
    """The file of what is kept of one evaluation."""
    query = sa.select(KeptRow.blob).join(EvaluationRow, EvaluationRow.id == KeptRow.evaluation_id)
    return session.scalar(query.where(EvaluationRow.digest == digest))


def kept(session: Session, digests: Iterable[str]) -> tuple[StoredExamples, ...]:
    """What is kept of these evaluations."""
    query = (
        sa.select(KeptRow, EvaluationRow, ModelRow.name, DatasetRow)
        .join(EvaluationRow, EvaluationRow.id == KeptRow.evaluation_id)
        .join(ModelRow, ModelRow.id == EvaluationRow.model_id)
        .join(DatasetRow, DatasetRow.id == EvaluationRow.dataset_id)
        .order_by(EvaluationRow.id)
    )
    wanted = set(digests)
    return tuple(
        StoredExamples(
            evaluation=row.digest,
            label=row.label,
            model=name,
            data=_data_ref(dataset),
            images=files.images,
            bytes=files.bytes,
            blob=files.blob,
        )
        for files, row, name, dataset in session.execute(query)
        if row.digest in wanted
    )


def claims(session: Session, model: str) -> tuple[StoredClaim, ...]:
    """Checked images of others against the model with this digest, oldest first."""
    query = (
        sa.select(ClaimRow, DatasetRow)
        .join(ModelRow, ModelRow.id == ClaimRow.model_id)
        .join(DatasetRow, DatasetRow.id == ClaimRow.dataset_id)
        .where(ModelRow.digest == model)
        .order_by(ClaimRow.id)
    )
    return tuple(_stored_claim(model, row, dataset) for row, dataset in session.execute(query))


def put_claim(session: Session, model: ModelRow, dataset: DatasetRow, claim: StoredClaim) -> bool:
    """Record a claim; False if this file is recorded for the model, the data set and the norm already."""
    same = (
        sa.select(ClaimRow.id)
        .join(ModelRow, ModelRow.id == ClaimRow.model_id)
        .where(
            ModelRow.digest == model.digest,
            ClaimRow.dataset_id == dataset.id,
            ClaimRow.norm == claim.norm,
            ClaimRow.blob == claim.blob,
        )
    )
    if session.scalar(same) is not None:
        return False
    session.add(
        ClaimRow(
            model_id=model.id,
            dataset_id=dataset.id,
            norm=claim.norm,
            eps=claim.eps,
            blob=claim.blob,
            images=claim.images,
            broken=_pack(claim.indices, claim.radius),
            author=claim.author,
            source=claim.source,
            added_at=claim.added_at,
        )
    )
    return True


def _pack(indices: NDArray[np.int64], radius: NDArray[np.float64]) -> bytes:
    records: NDArray[Any] = np.zeros(len(indices), dtype=BROKEN_DTYPE)
    records["index"], records["radius"] = indices, radius
    return zlib.compress(records.tobytes(), 6)


def _stored_claim(model: str, row: ClaimRow, dataset: DatasetRow) -> StoredClaim:
    records = np.frombuffer(zlib.decompress(row.broken), dtype=BROKEN_DTYPE)
    return StoredClaim(
        model=model,
        data=_data_ref(dataset),
        norm=row.norm,
        eps=row.eps,
        blob=row.blob,
        images=row.images,
        indices=records["index"].astype(np.int64),
        radius=records["radius"].astype(np.float64),
        author=row.author,
        source=row.source,
        added_at=row.added_at,
    )


def _data_ref(row: DatasetRow) -> DataRef:
    return DataRef(name=row.name, split=row.split, digest=row.digest, images=row.images, classes=row.classes)
