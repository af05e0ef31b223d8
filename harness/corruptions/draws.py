"""The random numbers of a corruption: what a kernel asks for, and the engine's own answer.

A kernel asks in a fixed order, so that each request has a number; request k of an image takes the words of stream
(seed, "corruption/NAME/SEVERITY"), image index, restart k. The suite is not part of the key: two suites see the same
weather on the same image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness import rng, rng_torch


class Draws(Protocol):
    """Random numbers for a batch of n images. Every result has n rows; row i belongs to image i alone."""

    def normal(self, *shape: int) -> Tensor:
        """Standard normal floats, n x shape."""
        ...

    def uniform(self, *shape: int) -> Tensor:
        """Uniform floats in [0, 1), n x shape."""
        ...

    def integers(self, bounds: Sequence[int]) -> list[int]:
        """One integer an image, uniform in [0, bounds[i])."""
        ...

    def angles(self, low: float, high: float) -> list[float]:
        """One angle an image, uniform in [low, high), in degrees."""
        ...

    def pairs(self, bound: int, count: int) -> Tensor:
        """Pairs (a, b) of independent integers, uniform in [0, bound), as a * bound + b; integers, n x count."""
        ...

    def salt_and_pepper(self, shape: tuple[int, ...], amount: float) -> tuple[Tensor, Tensor]:
        """(hit, salt): two bool tensors, n x shape, true with probability `amount` and 1/2."""
        ...

    def poisson(self, images: Tensor, photons: float) -> Tensor:
        """Poisson counts with mean `photons * value / 255`, integers, in the shape of the uint8 `images`."""
        ...


class EngineDraws:
    """The engine's draws, from `harness.rng` on the host and its torch twin elsewhere: the same words.

    Args:
        seed: the run's seed.
        name: the corruption.
        severity: 1 to 5.
        indices: n image indices, int64.
        device: where the large fields are wanted.
    """

    def __init__(self, seed: int, name: str, severity: int, indices: NDArray[np.int64], device: torch.device) -> None:
        self.seed = seed
        self.purpose = f"corruption/{name}/{severity}"
        self.indices = indices
        self.device = device
        self.on_host = device.type == "cpu"
        self.requests = 0

    def _host_words(self, count: int) -> rng.U32:
        """The next request's words, uint32, n x count."""
        self.requests += 1
        return rng.words(self.seed, self.purpose, self.indices, count, restart=self.requests - 1)

    def _device_words(self, count: int) -> Tensor:
        """The same as int64 on the device."""
        self.requests += 1
        places = torch.from_numpy(self.indices).to(self.device)
        return rng_torch.words(self.seed, self.purpose, places, count, restart=self.requests - 1)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal floats, float32, n x shape."""
        if self.on_host:
            return normal_from(self._host_words(math.prod(shape))).reshape(-1, *shape)
        return rng_torch.to_normal(self._device_words(math.prod(shape))).reshape(-1, *shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform floats in [0, 1), float32, n x shape."""
        if self.on_host:
            return torch.from_numpy(rng.to_uniform(self._host_words(math.prod(shape)))).reshape(-1, *shape)
        return rng_torch.to_uniform(self._device_words(math.prod(shape))).reshape(-1, *shape)

    def integers(self, bounds: Sequence[int]) -> list[int]:
        """One integer an image, in [0, bounds[i]); the bias is below bound / 2**32."""
        raw = self._host_words(1)[:, 0].tolist()
        return [word * bound >> 32 for word, bound in zip(raw, bounds, strict=True)]

    def angles(self, low: float, high: float) -> list[float]:
        """One angle an image in [low, high), degrees."""
        raw = self._host_words(1)[:, 0].tolist()
        return [low + (high - low) * (word / 2**32) for word in raw]

    def pairs(self, bound: int, count: int) -> Tensor:
        """Two integers in [0, bound), bound <= 8, from the upper 26 bits of one word: the bias is below 2**-20."""
        if not self.on_host:
            return ((self._device_words(count) >> 6) * (bound * bound)) >> 26
        scaled = self._host_words(count) >> np.uint32(6)
        scaled *= np.uint32(bound * bound)
        scaled >>= np.uint32(26)
        return torch.from_numpy(scaled.view(np.int32))

    def salt_and_pepper(self, shape: tuple[int, ...], amount: float) -> tuple[Tensor, Tensor]:
        """(hit, salt) from one word: its upper 31 bits decide the hit, the lowest the colour."""
        limit = round(amount * 2**31)
        count = math.prod(shape)
        if self.on_host:
            raw = self._host_words(count)
            hit, salt = raw < np.uint32(2 * limit), (raw & np.uint32(1)).astype(np.bool_)
            return torch.from_numpy(hit).reshape(-1, *shape), torch.from_numpy(salt).reshape(-1, *shape)
        words = self._device_words(count)
        return (words < 2 * limit).reshape(-1, *shape), (words & 1).to(torch.bool).reshape(-1, *shape)

    def poisson(self, images: Tensor, photons: float) -> Tensor:
        """Counts by exact inversion of the distribution function on 32-bit words (Devroye 1986, III.2)."""
        levels = images.reshape(images.shape[0], -1)
        if self.on_host:
            counts = poisson_counts(levels.numpy(), self._host_words(levels.shape[1]), photons)
            return torch.from_numpy(counts).reshape(images.shape)
        table = torch.from_numpy(poisson_thresholds(photons)).to(self.device)
        rows = levels.to(torch.int64)
        keys = (rows << 33) | self._device_words(levels.shape[1])
        flat = (table + (torch.arange(256, device=self.device) << 33)[:, None]).reshape(-1)
        counts_there = torch.searchsorted(flat, keys, right=True) - rows * table.shape[1]
        return counts_there.reshape(images.shape)


def normal_from(raw: rng.U32) -> Tensor:
    """`harness.rng.to_normal` with torch's gather, which takes int32 positions as they are: a third faster."""
    cells = raw >> np.uint32(16)
    values = torch.from_numpy(rng.normal_tables()[0]).index_select(
        0, torch.from_numpy(cells.view(np.int32).reshape(-1))
    )
    cells += np.uint32(1)
    outer = np.flatnonzero((cells & np.uint32(0xFFFF)) < np.uint32(2))  # the first and the last cell: their own tables
    if len(outer):
        values.numpy()[outer] = rng.to_normal(raw.reshape(-1)[outer])
    return values


@functools.lru_cache(maxsize=16)
def poisson_thresholds(photons: float) -> NDArray[np.int64]:
    """Thresholds T, 256 x (largest count + 1): the count for grey level v and word w is the number of T[v, k] <= w.

    So the count is the quantile at the middle of the word's cell, (w + 1/2) / 2**32.
    """
    from scipy.special import pdtr, pdtrik

    means = photons * np.arange(256) / 255.0
    largest = int(np.ceil(pdtrik(1 - 2.0**-33, max(means[-1], 1e-3)))) + 1
    shares = pdtr(np.arange(largest + 1)[None, :], means[:, None])
    thresholds: NDArray[np.int64] = np.ceil(shares * 2.0**32 - 0.5).astype(np.int64)
    return thresholds


_LOW = 22
_SLOW = 1023
_MASK = np.uint32((1 << _LOW) - 1)


@functools.lru_cache(maxsize=16)
def _poisson_guide(photons: float) -> Tensor:
    """Guide table over the upper 10 bits of a word, flat over (grey level, bucket): 1 MiB, so that it stays in cache.

    An entry holds a count in its upper 10 bits and in the others a threshold: the answer is count - 1 + (lower 22 bits
    of the word >= threshold). Buckets in the tails that hold two thresholds or more have the count 1023: look further.
    """
    thresholds = poisson_thresholds(photons)
    if thresholds.shape[1] >= _SLOW - 1:
        raise ValueError(f"{photons} photons: counts do not fit 10 bits")
    starts = np.arange(1 << (32 - _LOW), dtype=np.int64) << _LOW
    guide = np.empty((256, len(starts)), dtype=np.uint32)
    for level, row in enumerate(thresholds):
        low = np.searchsorted(row, starts, side="right")
        high = np.searchsorted(row, starts + int(_MASK), side="right")
        inside = row[np.minimum(low, len(row) - 1)] - starts
        count = np.where(high > low + 1, _SLOW, high)
        guide[level] = (count << _LOW) | np.where(high == low + 1, inside, 0)
    return torch.from_numpy(guide.reshape(-1).view(np.int32))  # torch gathers by int32 faster than NumPy can


def poisson_counts(levels: NDArray[np.uint8], raw: rng.U32, photons: float) -> NDArray[np.int32]:
    """Poisson counts for grey levels and words of one shape, n x m; see `poisson_thresholds`."""
    values, words = levels.reshape(-1), raw.reshape(-1)
    keys = values.astype(np.int32)
    keys <<= 32 - _LOW
    keys += (words >> np.uint32(_LOW)).view(np.int32)
    entries = _poisson_guide(photons).index_select(0, torch.from_numpy(keys)).numpy().view(np.uint32)
    counts = (entries >> np.uint32(_LOW)).view(np.int32)
    slow = np.flatnonzero(counts == _SLOW)
    entries &= _MASK
    above = (words & _MASK).view(np.int32)
    above -= entries.view(np.int32)
    above >>= 31  # -1 where the word lies below the threshold, else 0
    counts += above
    if len(slow):
        thresholds = poisson_thresholds(photons)
        flat = (thresholds + (np.arange(256, dtype=np.int64) << 33)[:, None]).reshape(-1)
        rows: NDArray[Any] = values[slow].astype(np.int64)
        found = np.searchsorted(flat, (rows << 33) + words[slow].astype(np.int64), side="right")
        counts[slow] = found - rows * thresholds.shape[1]
    return counts.reshape(raw.shape)
