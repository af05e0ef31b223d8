"""Counter-based random draws that do not depend on order, batch size or worker count.

A stream is named by (seed, purpose) and addressed by (image index, restart). Its words come from Philox4x64-10 (Salmon
et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) as NumPy implements it: key = 128 bits of the SHA-256
of (seed, purpose), counter = (position, restart, image index, 0). No global state is read or written.

Uniform and normal numbers are made from the words by exact steps only (shifts, one multiplication by a power of two,
table look-ups), so the same words give the same floats on every device. `harness.rng_torch` is the twin that draws on
torch devices; it is tested equal word for word.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.digest import canonical_json
from harness.errors import InvalidArgument

U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]


@functools.lru_cache(maxsize=4096)
def stream_key(seed: int, purpose: str) -> tuple[int, int]:
    """The two 64-bit key words of a stream: the first 16 bytes of SHA-256(canonical JSON of [seed, purpose])."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InvalidArgument("seed", seed, "an integer from 0 to 2**63 - 1")
    raw = hashlib.sha256(canonical_json([seed, purpose]).encode("ascii")).digest()
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:16], "little")


def words(seed: int, purpose: str, indices: Sequence[int] | NDArray[Any], count: int, *, restart: int = 0) -> U32:
    """Random 32-bit words, one row an image.

    Args:
        seed: the run's seed.
        purpose: what the draws are for, e.g. "corruption/gaussian_noise/3".
        indices: n image indices (positions in the data set, >= 0).
        count: words per image.
        restart: which of several independent draws for the same image.

    Returns:
        uint32 array, n x count. Row i depends on (seed, purpose, indices[i], restart) alone, and a larger `count`
        begins with the same words.
    """
    key = np.array(stream_key(seed, purpose), dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=np.zeros(4, dtype=np.uint64))
    state = generator.state
    raw = np.empty((len(indices), (count + 1) // 2), dtype="<u8")
    for row, index in enumerate(indices):
        state["state"]["counter"][:] = (0, restart, int(index), 0)
        state["buffer_pos"] = 4  # an empty buffer: the next word starts a new counter block
        generator.state = state
        raw[row] = generator.random_raw(raw.shape[1])
    return raw.view("<u4").astype(np.uint32, copy=False)[:, :count]


def to_uniform(raw: U32) -> F32:
    """Words to floats in [0, 1): the upper 24 bits times 2**-24, exact in float32."""
    return (raw >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def to_normal(raw: U32) -> F32:
    """Words to standard normal floats by table: bit-identical wherever it runs.

    The upper 16 bits choose one of 65,536 equally likely quantile cells and give its midpoint quantile; in the two
    outer cells the lower 16 bits choose again among 65,536, so the tails reach 2**-33 (|z| = 6.3).
    """
    body, tail = normal_tables()
    values = body.take((raw >> np.uint32(16)).astype(np.intp))  # other index types are converted, ten times slower
    flat, out = raw.reshape(-1), values.reshape(-1)
    outer = np.flatnonzero(flat + np.uint32(1 << 16) < np.uint32(1 << 17))  # the first and the last cell, by wrapping
    if len(outer):
        words_there = flat[outer]
        low = (words_there & np.uint32(0xFFFF)).astype(np.intp)
        out[outer] = np.where(words_there < np.uint32(1 << 16), tail.take(low), -tail.take(low))
    return values


@functools.lru_cache(maxsize=1)
def normal_tables() -> tuple[F32, F32]:
    """(body, tail) of `to_normal`: float32 quantiles at the midpoints of the cells; the body is antisymmetric."""
    from scipy.special import ndtri

    half = ndtri((np.arange(32768) + 0.5) / 65536.0).astype(np.float32)
    body = np.concatenate([half, -half[::-1]])
    tail = ndtri((np.arange(65536) + 0.5) / 65536.0 / 65536.0).astype(np.float32)
    return body, tail


def to_integer(raw: U32, bound: int) -> NDArray[np.int64]:
    """Words to integers in [0, bound) by multiplication and shift; the bias is below bound / 2**32.

    Raises:
        InvalidArgument: bound outside [1, 2**31].
    """
    if not 1 <= bound <= 2**31:
        raise InvalidArgument("bound", bound, "an integer from 1 to 2**31")
    scaled: NDArray[np.int64] = ((raw.astype(np.uint64) * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)
    return scaled


def uniform(
    seed: int, purpose: str, indices: Sequence[int] | NDArray[Any], shape: tuple[int, ...], *, restart: int = 0
) -> F32:
    """Uniform floats in [0, 1), float32, n x shape; see `words`."""
    count = int(np.prod(shape, dtype=np.int64))
    return to_uniform(words(seed, purpose, indices, count, restart=restart)).reshape(len(indices), *shape)


def normal(
    seed: int, purpose: str, indices: Sequence[int] | NDArray[Any], shape: tuple[int, ...], *, restart: int = 0
) -> F32:
    """Standard normal floats, float32, n x shape; see `words` and `to_normal`."""
    count = int(np.prod(shape, dtype=np.int64))
    return to_normal(words(seed, purpose, indices, count, restart=restart)).reshape(len(indices), *shape)


def child_seed(seed: int, purpose: str, *, bits: int = 32) -> int:
    """An integer seed below 2**bits for a package that wants one of its own."""
    return stream_key(seed, purpose)[0] & ((1 << bits) - 1)
