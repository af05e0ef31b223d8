"""On linear models the margin is known in closed form, so every verdict is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from harness.attacks import run_attack
from harness.types import Norm

DUAL: dict[Norm, float] = {"Linf": 1, "L2": 2, "L1": np.inf}


def radii(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, norm: Norm) -> NDArray[np.float64]:
    """Distance of each image to the nearest other class, ignoring the box: min over j of (z_y - z_j) / |w_y - w_j|*."""
    weight = model.weight.detach().double().numpy()  # type: ignore[operator]
    logits = model(images.double().float()).detach().double().numpy()
    found = np.full(len(images), np.inf)
    for row, label in enumerate(labels.tolist()):
        for other in range(len(weight)):
            if other != label:
                length = np.linalg.norm(weight[label] - weight[other], ord=DUAL[norm])
                found[row] = min(found[row], (logits[row, label] - logits[row, other]) / length)
    return found


@pytest.mark.parametrize(("norm", "top"), [("Linf", 1), ("L2", 1), ("L1", 1)])
@pytest.mark.parametrize("attack", ["pgd", "fgsm"])
def test_two_classes_fall_exactly_where_the_margin_says(
    norm: Norm, top: int, attack: str, linear: Callable[..., nn.Module], images: Callable[..., torch.Tensor]
) -> None:
    """With images far from the box, an image is broken if and only if eps exceeds its distance to the boundary."""
    model = linear(2, (3, 4, 4), scale=0.05)
    pictures = images(48, (3, 4, 4), low=0.45, high=0.55)
    labels = model(pictures).argmax(dim=1)
    exact = radii(model, pictures, labels, norm)
    for quantile in (0.2, 0.5, 0.8):
        eps = float(np.quantile(exact, quantile))
        clear = np.abs(exact / eps - 1) > 1e-3
        found = run_attack(model, pictures, labels, attack, norm=norm, eps=eps, top=top)
        assert bool(((exact > eps) == found.robust)[clear].all())
        assert 0 < found.robust.sum() < 48


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_result_is_what_it_says(
    norm: Norm, linear: Callable[..., nn.Module], images: Callable[..., torch.Tensor]
) -> None:
    """Margins, norms, breakers and costs agree with a fresh look at the stored tensors."""
    model = linear(5, (3, 4, 4), scale=0.05)
    pictures = images(40, (3, 4, 4), low=0.2, high=0.8)
    labels = model(pictures).argmax(dim=1)
    labels[:4] = (labels[:4] + 1) % 5
    eps = float(np.median(radii(model, pictures[4:], labels[4:], norm)))
    found = run_attack(model, pictures, labels, "pgd", norm=norm, eps=eps, steps=7, top=1)
    logits = model(found.adversarial).detach()
    assert bool(((logits.argmax(1) == labels).numpy() == found.robust).all())
    own = logits.gather(1, labels[:, None])[:, 0]
    best = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    assert np.allclose((own - best).numpy(), found.margin, atol=1e-5)
    order = {"Linf": np.inf, "L2": 2, "L1": 1}[norm]
    flat = (found.adversarial.double() - pictures.double()).flatten(1).numpy()
    assert np.allclose(np.linalg.norm(flat, ord=order, axis=1), found.norm, rtol=1e-12)
    assert bool((found.norm <= eps).all())
    for position, breaker in enumerate(found.broken_by):
        assert breaker == ("clean" if position < 4 else "" if found.robust[position] else "pgd")
    assert bool((found.forwards_per_image[:4] == 1).all())
    assert bool((found.backwards_per_image[:4] == 0).all())
    stood = found.robust
    assert bool((found.backwards_per_image[stood] == 7).all())
    assert bool((found.forwards_per_image[stood] == 9).all())
    assert found.forwards == found.forwards_per_image.sum()
    assert bool((found.steps[~stood][4:] >= 0).all())
