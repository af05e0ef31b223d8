"""Perturbed copies of images for measures: a corruption, or the end point of projected gradient ascent on every image.

Measures look at how activations move, whatever the verdict. An attack of `harness.attacks` stops at the first break and
hands back the clean image where it finds none; here every image goes all the way, broken or not.
"""

from __future__ import annotations

import numpy as np
import torch

from harness import rng
from harness.attacks.examples import as_float
from harness.attacks.losses import cross_entropy
from harness.attacks.pgd import ascent
from harness.attacks.physical import Passes
from harness.attacks.projections import column, enforce, project, size
from harness.corruptions import corrupt
from harness.errors import InvalidArgument
from harness.measures.stream import Indices
from harness.types import Classifier, Norm

_PURPOSE = "measure/pgd"


def corrupted(
    images: torch.Tensor, name: str, severity: int, *, suite: str, seed: int, indices: Indices
) -> torch.Tensor:
    """Images under one corruption, keyed by their indices: float, n x 3 x h x w, in [0, 1].

    Args:
        images: float, whole grey levels over 255, n x 3 x h x w.
        name: of the suite.
        severity: 1 to 5.
        suite: a name in `harness.corruptions.SUITES`.
        seed: of the draws.
        indices: positions in the data set.

    Raises:
        InvalidArgument: images between grey levels, or of a size that is not the suite's.
        UnknownName: no such suite or corruption.
    """
    levels = images.detach().float() * 255
    whole = levels.round()
    if float((levels - whole).abs().max()) > 1e-2:
        raise InvalidArgument("images", "values between grey levels", "multiples of 1/255, as a data set has them")
    grey = whole.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    made = corrupt(np.ascontiguousarray(grey), name, severity, suite=suite, seed=seed, indices=indices)
    return torch.from_numpy(as_float(made)).to(images.device)


def ascended(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    norm: Norm,
    eps: float,
    steps: int,
    step_size: float,
    random_start: bool,
    seed: int,
    indices: Indices,
) -> torch.Tensor:
    """The end point of projected gradient ascent on the cross-entropy, for every image, broken or not.

    Args:
        model: float images in [0, 1] to logits, in eval mode.
        images: n x 3 x h x w, float32 in [0, 1].
        labels: n, int64.
        norm: "Linf" or "L2".
        eps: radius of the ball.
        steps: gradient steps.
        step_size: length of a step, relative to eps.
        random_start: begin at a random point of the ball, else at the image.
        seed: of the starts.
        indices: positions in the data set, which name the draws.

    Returns:
        n x 3 x h x w, inside the ball and [0, 1] exactly.

    Raises:
        ModelError: non-finite logits, wrong shape, no gradient.

    Source: Madry et al., ICLR 2018.
    """
    passes = Passes(model)
    point = _start(images, norm, eps, seed, indices) if random_start else images.clone()
    for _ in range(steps):
        gradient = passes.gradient(point, cross_entropy, labels)[2]
        moved = point + step_size * eps * ascent(gradient, norm, 1)
        point = project(moved, images, norm, eps)
    return enforce(point, images, norm, eps)


def _start(images: torch.Tensor, norm: Norm, eps: float, seed: int, indices: Indices) -> torch.Tensor:
    shape = tuple(images.shape[1:])
    if norm == "Linf":
        delta = eps * (2.0 * torch.from_numpy(rng.uniform(seed, _PURPOSE, indices, shape)) - 1.0)
    else:
        unit = torch.from_numpy(rng.normal(seed, _PURPOSE, indices, shape))
        delta = unit * column(eps / size(unit, norm).clamp_min(1e-12), unit)
    return project(images + delta.to(images.device), images, norm, eps)
