"""What the kernel hands to the store: per-image results of a piece of a block, and how they are packed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError

DETAIL_DTYPE = np.dtype(
    [
        ("broken_by", "u1"),
        ("step", "<i4"),
        ("margin", "<f4"),
        ("norm", "<f4"),
        ("forwards", "<u4"),
        ("backwards", "<u4"),
    ]
)
"""Per image: index into `Detail.names`, step at which it broke (-1 if not), logit margin on the stored tensor, size of
the perturbation in the threat model's norm, and passes spent on it."""

_DETAIL_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """Attack detail of n images: `records` has dtype DETAIL_DTYPE, `names` says what the `broken_by` codes mean."""

    names: tuple[str, ...]
    records: NDArray[Any]

    def count(self, name: str) -> int:
        """Images that an attack broke."""
        return int((self.records["broken_by"] == self.names.index(name)).sum()) if name in self.names else 0

    def extend(self, other: Detail) -> Detail:
        """The records of both, codes of `other` translated."""
        names = list(self.names) + [name for name in other.names if name not in self.names]
        codes = np.array([names.index(name) for name in other.names], dtype=np.uint8)
        tail = other.records.copy()
        if len(tail):
            tail["broken_by"] = codes[tail["broken_by"]]
        return Detail(names=tuple(names), records=np.concatenate([self.records, tail]))

    def pack(self) -> bytes:
        """Version byte, length of the header, header (JSON), compressed records."""
        header = json.dumps({"names": self.names}).encode("ascii")
        body = zlib.compress(self.records.astype(DETAIL_DTYPE).tobytes(), 6)
        return bytes([_DETAIL_VERSION]) + len(header).to_bytes(4, "little") + header + body

    @classmethod
    def unpack(cls, raw: bytes) -> Detail:
        """The inverse of `pack`.

        Raises:
            StoreError: a version that this code does not know.
        """
        if raw[:1] != bytes([_DETAIL_VERSION]):
            raise StoreError(
                f"attack detail of version {raw[:1].hex()} cannot be read; this one knows {_DETAIL_VERSION}"
            )
        end = 5 + int.from_bytes(raw[1:5], "little")
        names = tuple(json.loads(raw[5:end])["names"])
        return cls(names=names, records=np.frombuffer(zlib.decompress(raw[end:]), dtype=DETAIL_DTYPE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Adversarial images exactly as they were judged, in ascending order of their position in the data set.

    Attributes:
        adversarial: m x C x H x W, float32 in [0, 1].
        indices: m, int64: positions in the data set.
        labels: m, int64: labels of the data set.
    """

    adversarial: NDArray[np.float32]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def merge(self, other: Examples, most: int) -> Examples:
        """The first `most` images of both by position; where both have one, this one's stays."""
        fresh = ~np.isin(other.indices, self.indices)
        indices = np.concatenate([self.indices, other.indices[fresh]])
        order = np.argsort(indices, kind="stable")[:most]
        return Examples(
            adversarial=np.concatenate([self.adversarial, other.adversarial[fresh]])[order],
            indices=indices[order],
            labels=np.concatenate([self.labels, other.labels[fresh]])[order],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureValue:
    """One measured number: layer ("" is the network), quantity, mean, and the values of the layer's units."""

    layer: str
    quantity: str
    mean: float
    units: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a piece of work took: provenance, never identity."""

    seconds: float
    forwards: int
    backwards: int
    device: str
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOutcome:
    """Verdicts on images [start, stop) of one evaluation, all inside one block."""

    evaluation: str
    """Digest of the evaluation's spec."""
    block: int
    start: int
    stop: int
    correct: NDArray[np.bool_]
    """stop - start bits; empty for measures."""
    cost: Cost
    detail: Detail | None = None
    measures: tuple[MeasureValue, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    """Flag -> evidence."""
    examples: Examples | None = None
    """The first images of the piece that an attack broke, on request; never part of a result."""
    keep: int = 0
    """At most this many of them are kept of the whole evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as a value: the piece that failed, a one-line message and the traceback."""

    evaluation: str
    block: int
    start: int
    stop: int
    message: str
    traceback: str


def pack_bits(bits: NDArray[np.bool_]) -> bytes:
    """Eight verdicts a byte, first image in the highest bit."""
    return np.packbits(bits).tobytes()


def unpack_bits(raw: bytes, n: int) -> NDArray[np.bool_]:
    """The first `n` verdicts of `pack_bits`."""
    return np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=n).astype(np.bool_)
