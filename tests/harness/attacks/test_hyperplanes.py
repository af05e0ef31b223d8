"""The nearest point of a hyperplane in the box, against SciPy's solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from harness.attacks.hyperplanes import to_hyperplane
from harness.types import Norm

D = 7


def _problem(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """A point in the box, a slope with a zero, and a gap that the box can close."""
    rng = np.random.default_rng(seed)
    point, slope = rng.random(D), rng.normal(size=D)
    slope[seed % D] = 0.0
    gap = rng.uniform(-1.0, 1.0) * 0.7 * np.abs(slope).sum()
    return point, slope, float(gap)


def _solved(point: np.ndarray, slope: np.ndarray, gap: float, norm: Norm) -> float | None:
    """Length of the shortest way by linear or quadratic programming; None where there is none."""
    low, high = -point, 1 - point
    if norm == "L2":
        found = minimize(
            lambda way: float(way @ way),
            np.zeros(D),
            jac=lambda way: 2 * way,
            bounds=list(zip(low, high, strict=True)),
            constraints=[{"type": "eq", "fun": lambda way: slope @ way + gap, "jac": lambda _way: slope}],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return float(np.sqrt(found.fun)) if found.success else None
    if norm == "Linf":
        # variables: way (D), t; |way_i| <= t
        rows = np.block([[np.eye(D), -np.ones((D, 1))], [-np.eye(D), -np.ones((D, 1))]])
        found = linprog(
            np.r_[np.zeros(D), 1.0],
            A_ub=rows,
            b_ub=np.zeros(2 * D),
            A_eq=np.r_[slope, 0.0][None],
            b_eq=[-gap],
            bounds=[*zip(low, high, strict=True), (0, None)],
        )
    else:
        found = linprog(
            np.ones(2 * D),
            A_eq=np.r_[slope, -slope][None],
            b_eq=[-gap],
            bounds=[*((0, limit) for limit in high), *((0, -limit) for limit in low)],
        )
    return float(found.fun) if found.status == 0 else None


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_shortest_way(norm: Norm) -> None:
    """On 60 random problems: on the hyperplane, in the box, and as short as the solver's way."""
    reachable = 0
    for seed in range(60):
        point, slope, gap = _problem(seed)
        moves = to_hyperplane(
            torch.tensor(point)[None].float(), torch.tensor(slope)[None].float(), torch.tensor([gap]).float(), norm
        )
        way = moves[0].double().numpy()
        assert bool((point + way >= -1e-6).all())
        assert bool((point + way <= 1 + 1e-6).all())
        assert way[slope == 0] == 0
        length = _solved(point, slope, gap, norm)
        if length is None:
            # the furthest the box allows towards it
            corner = np.where(slope * -np.sign(gap) > 0, 1 - point, -point) * (slope != 0)
            assert np.allclose(way, corner, atol=1e-6)
            continue
        reachable += 1
        assert abs(slope @ way + gap) < 1e-5
        order = {"Linf": np.inf, "L2": 2, "L1": 1}[norm]
        assert np.linalg.norm(way, ord=order) == pytest.approx(length, rel=2e-4, abs=2e-5)
    assert 30 <= reachable < 60


def test_no_slope_is_no_way() -> None:
    """A flat model gives finite zeros."""
    for norm in ("Linf", "L2", "L1"):
        moves = to_hyperplane(torch.rand(3, D), torch.zeros(3, D), torch.tensor([0.0, 1.0, -1.0]), norm)
        assert torch.equal(moves, torch.zeros(3, D))
