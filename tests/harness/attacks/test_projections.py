"""Projections: idempotent, inside the ball and the box, nothing moved that is inside, and nearest where they say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from harness.attacks.projections import by_row, column, enforce, linf_bounds, project, project_l1_box, size
from harness.types import NORMS, Norm

norms = st.sampled_from(NORMS)
radii = st.floats(1e-3, 30.0)
seeds = st.integers(0, 2**31 - 1)


def _points(seed: int, spread: float, n: int = 4, d: int = 27) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with saturated pixels, and points around them."""
    generator = torch.Generator().manual_seed(seed)
    images = (torch.rand(n, d, generator=generator) * 1.6 - 0.3).clamp(0, 1).reshape(n, 3, 3, 3)
    return images, images + spread * torch.randn(n, 3, 3, 3, generator=generator)


@settings(max_examples=150, deadline=None)
@given(norm=norms, eps=radii, seed=seeds, spread=st.sampled_from([0.0, 1e-3, 0.1, 1.0, 50.0]))
def test_enforce_is_exact_and_idempotent(norm: Norm, eps: float, seed: int, spread: float) -> None:
    """After it the float64 norm is at most eps without tolerance, values are in [0, 1], and it changes nothing more."""
    images, points = _points(seed, spread)
    once = enforce(points, images, norm, eps)
    assert bool((size(once.double() - images.double(), norm) <= eps).all())
    assert float(once.min()) >= 0.0
    assert float(once.max()) <= 1.0
    assert torch.equal(enforce(once, images, norm, eps), once)


@settings(max_examples=100, deadline=None)
@given(norm=norms, eps=radii, seed=seeds)
def test_points_inside_stay(norm: Norm, eps: float, seed: int) -> None:
    """A point inside the ball and the box is returned bit for bit by `enforce`, up to rounding by `project`."""
    images, points = _points(seed, 1.0)
    inside = enforce(points, images, norm, eps)
    inside = (images + 0.9 * (inside - images)).clamp(0, 1)
    assert torch.equal(enforce(inside, images, norm, eps), inside)
    assert torch.allclose(project(inside, images, norm, eps), inside, rtol=0, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(norm=norms, eps=radii, seed=seeds, spread=st.sampled_from([0.0, 0.1, 5.0]))
def test_project_is_inside_and_idempotent_up_to_rounding(norm: Norm, eps: float, seed: int, spread: float) -> None:
    """The search's projection is in the ball within float32 rounding and moves its own result no further."""
    images, points = _points(seed, spread)
    once = project(points, images, norm, eps)
    assert bool((size(once.double() - images.double(), norm) <= eps * (1 + 1e-5) + 1e-6).all())
    assert torch.allclose(project(once, images, norm, eps), once, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_zero_perturbation_is_finite(norm: Norm) -> None:
    """At the image itself nothing divides by zero."""
    images, _ = _points(0, 0.0)
    assert torch.equal(project(images, images, norm, 0.1), images)
    assert torch.equal(enforce(images, images, norm, 0.1), images)


@pytest.mark.parametrize("seed", range(6))
def test_l1_box_projection_is_the_nearest_point(seed: int) -> None:
    """Equal to a general constrained optimiser (SLSQP) on small problems."""
    rng = np.random.default_rng(seed)
    base, delta, eps = rng.random(6), rng.normal(0, 0.6, 6), 0.7
    ours = project_l1_box(torch.tensor(delta)[None].float(), torch.tensor(base)[None].float(), eps)[0].double().numpy()
    # split into positive and negative parts: a smooth problem with linear constraints
    bounds = [(0, 1 - b) for b in base] + [(0, b) for b in base]
    solved = minimize(
        lambda v: float(np.sum((v[:6] - v[6:] - delta) ** 2)),
        np.full(12, 0.01),
        bounds=bounds,
        constraints=[{"type": "ineq", "fun": lambda v: eps - v.sum()}],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    theirs = solved.x[:6] - solved.x[6:]
    assert np.sum((ours - delta) ** 2) <= np.sum((theirs - delta) ** 2) + 1e-6
    assert np.abs(ours - theirs).max() < 2e-3


def test_linf_bounds_are_the_largest_floats_inside() -> None:
    """One float further out is outside the ball or the box."""
    images, _ = _points(3, 0.0)
    eps = 8 / 255
    low, high = linf_bounds(images, eps)
    further = torch.nextafter(high, torch.full_like(high, 2.0))
    outside = (further.double() - images.double() > eps) | (further > 1)
    assert bool(outside.all())
    assert bool((high.double() - images.double() <= eps).all())
    assert bool((images.double() - low.double() <= eps).all())


@pytest.mark.parametrize("chosen", [[False] * 4, [True] * 4, [True, False, False, True]])
def test_by_row_takes_whole_rows_and_shares_no_memory(chosen: list[bool]) -> None:
    """As `torch.where` on a column; states are written in place, so the result may be neither of its sources."""
    yes, no = _points(3, 1.0)
    rows = torch.tensor(chosen)
    found = by_row(rows, yes, no)
    assert torch.equal(found, torch.where(column(rows, yes), yes, no))
    assert found.data_ptr() not in (yes.data_ptr(), no.data_ptr())
