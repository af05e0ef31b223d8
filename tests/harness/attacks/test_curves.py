"""Unions and curves over eps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from harness.attacks import run_attack
from harness.attacks.curves import bisect, from_distances, minimal_distances, union
from harness.errors import InvalidArgument


def test_union_is_image_by_image() -> None:
    """Worked example: accuracies .5 and .5 with a union of .25, not .5."""
    robust = {"Linf": np.array([True, True, False, False]), "L2": np.array([False, True, True, False])}
    assert union(robust).tolist() == [False, True, False, False]
    with pytest.raises(InvalidArgument, match="same images"):
        union({"Linf": np.ones(3, dtype=bool), "L2": np.ones(4, dtype=bool)})
    with pytest.raises(InvalidArgument, match="at least one"):
        union({})


@pytest.mark.parametrize(("norm", "dual"), [("Linf", 1), ("L2", 2), ("L1", np.inf)])
def test_distances_of_a_linear_model(
    norm: str, dual: float, linear: Callable[..., nn.Module], images: Callable[..., torch.Tensor]
) -> None:
    """FAB's smallest perturbations are the closed form, where the box does not matter; clean mistakes are at 0."""
    model = linear(4, (3, 4, 4), centred=True)
    pictures = images(24, (3, 4, 4), low=0.45, high=0.55)
    logits = model(pictures).detach().double()
    labels = logits.argmax(dim=1)
    weight = model.get_parameter("weight").detach().double()
    rows = torch.arange(24)
    exact = (logits[rows, labels][:, None] - logits) / torch.linalg.vector_norm(
        weight[labels][:, None] - weight[None], ord=dual, dim=2
    )
    exact[rows, labels] = torch.inf
    expected = exact.amin(dim=1).numpy()
    labels[0] = (labels[0] + 1) % 4
    found = minimal_distances(model, pictures, labels, norm="L1" if norm == "L1" else "L2" if norm == "L2" else "Linf")
    assert found[0] == 0
    inside = expected < 0.4
    inside[0] = False
    assert inside.sum() >= 5
    assert np.all(found[inside] >= expected[inside] * (1 - 1e-4))
    assert np.all(found[inside] <= expected[inside] * 1.02)


def test_bisection_equals_running_every_eps(
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """Fewer runs than the grid has points, the same verdicts; curves fall."""
    model, pictures = small_conv(), images(24, (3, 8, 8))
    labels = own_labels(model, pictures)
    labels[5] = (labels[5] + 1) % 10
    grid = [0.001, 0.002, 0.004, 0.006, 0.009, 0.013, 0.02]
    curve = bisect(model, pictures, labels, grid, attack="apgd-t", steps=20, targets=4)
    direct = np.stack(
        [run_attack(model, pictures, labels, "apgd-t", eps=eps, steps=20, targets=4).robust for eps in grid]
    )
    assert curve.runs < 24 * len(grid) * 0.6
    assert bool((np.diff(curve.accuracy) <= 0).all())
    # a small find also counts at all larger eps, where a run of its own may miss it
    assert not bool((curve.robust & ~direct).any())
    assert int((curve.robust != direct).sum()) <= 2
    assert curve.broken_at[5] == 0
    assert 0 < curve.accuracy[0] < 1
    with pytest.raises(InvalidArgument, match="ascending"):
        bisect(model, pictures, labels, [0.2, 0.1])
    distances = np.array([0.0, 0.1, np.inf])
    assert from_distances(distances, [0.05, 0.1]).robust.tolist() == [[False, True, True], [False, False, True]]
