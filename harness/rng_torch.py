"""The torch twin of `harness.rng`: the same words, drawn on a device.

Philox4x64-10 in int64 arithmetic that wraps, with 64x64 -> 128 bit products from 32-bit limbs. Tested equal word for
word with NumPy's generator.
"""

from __future__ import annotations

import torch

from harness import rng

_M0 = 0xD2E7470EE14C6C93
_M1 = 0xCA5A826395121157
_W0 = 0x9E3779B97F4A7C15
_W1 = 0xBB67AE8584CAA73B
_MASK32 = 0xFFFFFFFF


def _signed(value: int) -> int:
    """A 64-bit pattern as the int64 that holds it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _high_product(left: torch.Tensor, factor: int) -> torch.Tensor:
    """Upper 64 bits of the unsigned product of `left` (int64 bit patterns) and a 64-bit constant."""
    factor_low, factor_high = factor & _MASK32, factor >> 32
    low, high = left & _MASK32, (left >> 32) & _MASK32
    low_low = low * factor_low
    cross = high * factor_low + ((low_low >> 32) & _MASK32)  # fits 64 bits unsigned
    middle = low * factor_high + (cross & _MASK32)
    return high * factor_high + ((cross >> 32) & _MASK32) + ((middle >> 32) & _MASK32)


def words(seed: int, purpose: str, indices: torch.Tensor, count: int, *, restart: int = 0) -> torch.Tensor:
    """Random 32-bit words as int64, n x count, on the device of `indices`; equal to `harness.rng.words`.

    Args:
        seed: the run's seed.
        purpose: what the draws are for.
        indices: n image indices, int64.
        count: words per image.
        restart: which of several independent draws for the same image.
    """
    key0, key1 = rng.stream_key(seed, purpose)
    blocks = (count + 7) // 8
    device = indices.device
    shape = (indices.numel(), blocks)
    # NumPy's generator steps its counter before the first block, so positions start at 1.
    c0 = torch.arange(1, blocks + 1, dtype=torch.int64, device=device).expand(shape)
    c1 = torch.full(shape, restart, dtype=torch.int64, device=device)
    c2 = indices.to(torch.int64).reshape(-1, 1).expand(shape)
    c3 = torch.zeros(shape, dtype=torch.int64, device=device)
    for step in range(10):
        k0, k1 = _signed(key0 + step * _W0), _signed(key1 + step * _W1)
        high0, low0 = _high_product(c0, _M0), c0 * _signed(_M0)
        high1, low1 = _high_product(c2, _M1), c2 * _signed(_M1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    wide = torch.stack([c0, c1, c2, c3], dim=-1).reshape(shape[0], -1)
    halves = torch.stack([wide & _MASK32, (wide >> 32) & _MASK32], dim=-1)
    return halves.reshape(shape[0], -1)[:, :count]


def to_uniform(raw: torch.Tensor) -> torch.Tensor:
    """Words (int64) to float32 in [0, 1); equal to `harness.rng.to_uniform`."""
    return (raw >> 8).to(torch.float32) * (2.0**-24)


def to_normal(raw: torch.Tensor) -> torch.Tensor:
    """Words (int64) to standard normal float32; equal to `harness.rng.to_normal`."""
    body, tail = (torch.from_numpy(table).to(raw.device) for table in rng.normal_tables())
    high, low = raw >> 16, raw & 0xFFFF
    values = body[high]
    values = torch.where(high == 0, tail[low], values)
    return torch.where(high == 65535, -tail[low], values)


def uniform(
    seed: int, purpose: str, indices: torch.Tensor, shape: tuple[int, ...], *, restart: int = 0
) -> torch.Tensor:
    """Uniform float32 in [0, 1), n x shape, on the device of `indices`."""
    count = int(torch.Size(shape).numel())
    return to_uniform(words(seed, purpose, indices, count, restart=restart)).reshape(-1, *shape)


def normal(seed: int, purpose: str, indices: torch.Tensor, shape: tuple[int, ...], *, restart: int = 0) -> torch.Tensor:
    """Standard normal float32, n x shape, on the device of `indices`."""
    count = int(torch.Size(shape).numel())
    return to_normal(words(seed, purpose, indices, count, restart=restart)).reshape(-1, *shape)
