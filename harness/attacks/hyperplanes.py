"""Nearest point of a hyperplane inside the box [0, 1], in three norms (Croce and Hein, ICML 2020, arXiv 1907.02044).

With signs turned so that the point has to move along +w, the amount gained is a sum over coordinates of |w| times the
way gone, and no coordinate can go further than its room in the box. The nearest point goes

- Linf: the same way t in every coordinate, cut at the room;
- L2: t |w| in each, cut at the room;
- L1: all the room in the coordinates of largest |w|, in that order, until enough is gained.

In the first two the gain is concave and piecewise linear in t, so Newton's iteration from t = 0 climbs monotonically to
the exact solution in a few passes, without the sorting of the published code.
"""

from __future__ import annotations

import torch

from harness.types import Norm

_NEWTON = 40
"""At most; every pass saturates at least one more coordinate and in practice ten do."""

_FLAT = 1e-12
"""Weights below this share of the largest count as zero: no way along them."""


def to_hyperplane(points: torch.Tensor, weights: torch.Tensor, gap: torch.Tensor, norm: Norm) -> torch.Tensor:
    """The smallest move from each point onto its hyperplane, staying in [0, 1].

    Where the hyperplane cannot be reached inside the box, the move goes as far towards it as the box allows.

    Args:
        points: n x d, in [0, 1].
        weights: n x d, w.
        gap: n, <w, p> - b: how far each point is above its hyperplane.
        norm: in which the move is shortest.

    Returns:
        n x d moves.
    """
    toward = torch.where(gap >= 0, -1.0, 1.0).unsqueeze(1) * weights
    need = gap.abs().unsqueeze(1)
    slope = toward.abs()
    useful = torch.empty_like(slope)
    torch.gt(slope, _FLAT * slope.amax(dim=1, keepdim=True), out=useful)
    slope *= useful
    room = torch.gt(toward, 0.0, out=torch.empty_like(slope)).sub_(points).abs_()
    if norm == "L1":
        way = _greedy(slope, room, need)
    elif norm == "Linf":
        way = torch.minimum(_climb(slope, slope, room, room, need), room)
    else:
        reach = room / slope.clamp_min(1e-38)
        reach *= useful
        way = (slope * _climb(slope * slope, slope, reach, room, need)).minimum(room)
    return way.mul_(toward.sign_().mul_(useful))


def _climb(
    gain: torch.Tensor, slope: torch.Tensor, reach: torch.Tensor, room: torch.Tensor, need: torch.Tensor
) -> torch.Tensor:
    """The time, n x 1, at which what every coordinate gained adds up to `need`; 1e30 where all the room is not enough.

    Comparisons are kept as numbers: on a CPU a product with booleans is slow.

    Args:
        gain: n x d, what a coordinate gains in a unit of time.
        slope: n x d, what it gains in a unit of room.
        reach: n x d, when its room is used up.
        room: n x d.
        need: n x 1.
    """
    full = slope * room
    moving, work = torch.empty_like(full), torch.empty_like(full)
    time = torch.zeros_like(need)
    for _ in range(_NEWTON):
        rate = torch.mul(gain, torch.gt(reach, time, out=moving), out=work).sum(dim=1, keepdim=True)
        got = torch.mul(full, torch.le(reach, time, out=moving), out=work).sum(dim=1, keepdim=True)
        later = torch.where(rate > 0, (need - got) / rate, torch.inf)
        later = torch.maximum(later, time)
        if torch.equal(later, time):
            break
        time = later
    # an infinite time would make 0 * inf where a slope is zero
    return time.clamp_max(1e30)


def _greedy(slope: torch.Tensor, room: torch.Tensor, need: torch.Tensor) -> torch.Tensor:
    """Fill the room of the steepest coordinates first; the last one only as far as needed."""
    order = slope.argsort(dim=1, descending=True, stable=True)
    steep, wide = slope.gather(1, order), room.gather(1, order)
    gained = (steep * wide).cumsum(dim=1)
    before = torch.cat([torch.zeros_like(need), gained[:, :-1]], dim=1)
    way = torch.minimum(((need - before) / steep.clamp_min(1e-30)).clamp_min(0.0), wide)
    return torch.zeros_like(way).scatter_(1, order, way)
