"""Projections onto the ball of a norm around an image, inside the box [0, 1].

`project` is what searches use at every step; `enforce` is what the harness applies to a proposal: after it, the norm of
(adversarial - image), taken in float64, is at most eps without any tolerance.
"""

from __future__ import annotations

import torch

from harness.types import Norm

_SHRINK = 1.0 - 1e-12
"""Leaves room for the rounding of float64 sums."""


def size(delta: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Norm of each row: n x ... to n, in the dtype of `delta`."""
    flat = delta.reshape(len(delta), -1)
    if norm == "Linf":
        return flat.abs().amax(dim=1)
    if norm == "L2":
        return flat.square().sum(dim=1).sqrt()
    return flat.abs().sum(dim=1)


def column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Shape n values to multiply n x ... tensors."""
    return values.reshape(-1, *([1] * (like.dim() - 1)))


def by_row(chosen: torch.Tensor, yes: torch.Tensor, no: torch.Tensor) -> torch.Tensor:
    """A new tensor: `yes` in the rows where `chosen` (n, bool), `no` in the others; both n x ....

    Rows are copied whole, which on a CPU is faster than `torch.where`.
    """
    rows = chosen.nonzero().squeeze(1)
    result = no.clone()
    result[rows] = yes[rows]
    return result


def linf_bounds(images: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 (low, high): the largest box inside both the Linf ball (exactly, in float64) and [0, 1]."""
    exact = images.double()
    low, high = (exact - eps).float(), (exact + eps).float()
    up, down = torch.full_like(low, torch.inf), torch.full_like(low, -torch.inf)
    # float64 differences with a float32 image are exact enough to compare: both have at most 24 significant bits.
    low = torch.where(exact - low.double() > eps, torch.nextafter(low, up), low)
    high = torch.where(high.double() - exact > eps, torch.nextafter(high, down), high)
    return low.clamp(0.0, 1.0), high.clamp(0.0, 1.0)


def project(adversarial: torch.Tensor, images: torch.Tensor, norm: Norm, eps: float) -> torch.Tensor:
    """Into the ball and [0, 1], in the working dtype (the ball up to rounding).

    Linf and L1: the nearest point of the intersection. L2: scaled to the ball, then clipped, which cannot leave it
    (clipping moves towards the image).

    Args:
        adversarial: n x ..., finite.
        images: n x ..., in [0, 1].
        norm: of the ball.
        eps: its radius.
    """
    if norm == "Linf":
        return torch.minimum(torch.maximum(adversarial, images - eps), images + eps).clamp(0.0, 1.0)
    delta = adversarial - images
    if norm == "L2":
        factor = (eps / size(delta, "L2").clamp_min(1e-30)).clamp_max(1.0)
        return (images + delta * column(factor, delta)).clamp(0.0, 1.0)
    return (images + project_l1_box(delta, images, eps)).clamp(0.0, 1.0)


def project_l1_box(delta: torch.Tensor, images: torch.Tensor, eps: float | torch.Tensor) -> torch.Tensor:
    """The nearest perturbation with L1 norm at most eps that keeps images + delta in [0, 1].

    The solution is sign(d) * clip(|d| - t, 0, room), with the smallest t >= 0 for which its sum is at most eps; the sum
    falls piecewise linearly in t, with breaks at |d| - room and |d|, and is inverted exactly by sorting them (Croce and
    Hein, ICML 2021, arXiv 2103.01208, section 3).

    Args:
        delta: n x ..., finite.
        images: n x ..., in [0, 1].
        eps: radius, one for all or n of them.
    """
    shape = delta.shape
    flat, base = delta.reshape(len(delta), -1), images.reshape(len(images), -1)
    length = flat.abs()
    room = torch.where(flat > 0, 1.0 - base, base)
    inside = torch.minimum(length, room)
    result = torch.sign(flat) * inside
    radius = torch.as_tensor(eps, dtype=torch.float64, device=delta.device).expand(len(delta))
    rows = (inside.sum(dim=1) > radius).nonzero().squeeze(1)
    if len(rows):
        threshold = _l1_threshold(length[rows], room[rows], radius[rows].unsqueeze(1))
        cut = (length[rows] - threshold).clamp_min(0.0)
        result[rows] = torch.sign(flat[rows]) * torch.minimum(cut, room[rows])
    return result.reshape(shape)


def _l1_threshold(length: torch.Tensor, room: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """T (n x 1) at which the sum of clip(length - t, 0, room) is eps; at t = 0 it is above eps."""
    start = (length - room).clamp_min(0.0)
    total = torch.minimum(length, room).sum(dim=1, keepdim=True, dtype=torch.float64)
    breaks, order = torch.cat([start, length], dim=1).sort(dim=1, stable=True)
    n = length.shape[1]
    # the slope of the sum is minus the number of coordinates between their two breaks
    change = torch.where(order < n, 1.0, -1.0).to(torch.float64)
    falling = change.cumsum(dim=1)
    exact = breaks.double()
    gap = torch.diff(exact, dim=1)
    value = total - torch.cat([torch.zeros_like(total), (falling[:, :-1] * gap).cumsum(dim=1)], dim=1)
    piece = ((value > eps).sum(dim=1, keepdim=True) - 1).clamp_min(0)
    slope = falling.gather(1, piece).clamp_min(1.0)
    return (exact.gather(1, piece) + (value.gather(1, piece) - eps) / slope).to(length.dtype)


def enforce(adversarial: torch.Tensor, images: torch.Tensor, norm: Norm, eps: float) -> torch.Tensor:
    """Into the ball and [0, 1] exactly: the float64 norm of the float32 difference is at most eps.

    Points that are inside already come back unchanged, so it is idempotent.

    Args:
        adversarial: n x ..., float32, finite.
        images: n x ..., float32 in [0, 1].
        norm: of the ball.
        eps: its radius.
    """
    if norm == "Linf":
        low, high = linf_bounds(images, eps)
        return torch.minimum(torch.maximum(adversarial, low), high)
    result = adversarial.clamp(0.0, 1.0)
    outside = size(result.double() - images.double(), norm) > eps
    if not bool(outside.any()):
        return result
    base = images[outside].double()
    delta = project(adversarial[outside], images[outside], norm, eps).double() - base
    factor = (eps * _SHRINK / size(delta, norm).clamp_min(1e-300)).clamp_max(1.0)
    exact = base + delta * column(factor, delta)
    # rounding towards the image: no coordinate of the float32 difference is longer than in the float64 one
    moved = exact.float()
    longer = (moved.double() - base).abs() > (exact - base).abs()
    result[outside] = torch.where(longer, torch.nextafter(moved, images[outside]), moved)
    return result
