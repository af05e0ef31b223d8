"""Robust accuracy at many eps from little more than one run, and over several threat models at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from harness.attacks.base import Numerics
from harness.errors import InvalidArgument
from harness.spec import Scalar, parse_eps

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from harness.types import Classifier, Norm


def union(robust: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Right under every threat model at once, image by image; not the least of the accuracies.

    Args:
        robust: threat model -> n verdicts on the same images in the same order.

    Raises:
        InvalidArgument: none, or of different lengths.
    """
    lengths = {name: len(bits) for name, bits in robust.items()}
    if not lengths or len(set(lengths.values())) != 1:
        raise InvalidArgument("robust", lengths, "verdicts on the same images for at least one threat model")
    found: NDArray[np.bool_] = np.stack(list(robust.values())).min(axis=0)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Verdicts at several radii.

    Attributes:
        eps: g radii, ascending.
        robust: g x n, bool: an image that is broken at a radius is broken at all larger ones.
        broken_at: n, float64: size of the smallest perturbation found; 0 for clean mistakes, infinite where none.
        runs: attack runs that it took, one image at one radius each.
    """

    eps: tuple[float, ...]
    robust: NDArray[np.bool_]
    broken_at: NDArray[np.float64]
    runs: int

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Robust accuracy at each radius, fractions of all images."""
        found: NDArray[np.float64] = self.robust.mean(axis=1)
        return found


def from_distances(distances: NDArray[np.float64], eps: Sequence[float | str]) -> Curve:
    """The curve that minimal perturbation sizes give: an image stands at eps if its distance is larger."""
    grid = check_grid(eps)
    robust = np.asarray(distances)[None, :] > np.asarray(grid)[:, None]
    return Curve(eps=grid, robust=robust, broken_at=np.asarray(distances, dtype=np.float64), runs=len(distances))


def check_grid(eps: Sequence[float | str]) -> tuple[float, ...]:
    """Radii as ascending numbers.

    Raises:
        InvalidArgument: none, not positive, or not ascending.
    """
    grid = tuple(parse_eps(value) for value in eps)
    if not grid or any(later <= earlier for earlier, later in pairwise(grid)):
        raise InvalidArgument("eps", tuple(eps), "at least one radius, ascending")
    return grid


def radii(eps: float, levels: int) -> tuple[float, ...]:
    """`levels` radii in equal steps, the last one exactly `eps`."""
    return tuple(eps * (level / levels) for level in range(1, levels + 1))


def minimal_distances(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    norm: Norm,
    steps: int = 100,
    targets: int = 9,
    seed: int = 0,
    batch_size: int | None = None,
    fixed_batch: int | None = None,
) -> NDArray[np.float64]:
    """Size of the smallest perturbation that FAB-T finds for each image, checked on the model as given.

    Args:
        model: the classifier.
        images: n x C x H x W, float32 in [0, 1].
        labels: n integers.
        norm: in which the perturbation is small.
        steps: FAB iterations a target.
        targets: classes aimed at.
        seed: enters no draw of FAB-T; kept for symmetry with other attacks.
        batch_size: rows of a physical batch.
        fixed_batch: see `run_attack`.

    Returns:
        n distances: 0 for clean mistakes, infinite where nothing was found.

    Raises:
        InvalidArgument: a value outside its domain.
        ModelError: non-finite logits, wrong shape, no gradient.
    """
    from harness.attacks import distances

    return distances.with_fab(
        model,
        images,
        labels,
        norm=norm,
        steps=steps,
        targets=targets,
        seed=seed,
        batch_size=batch_size,
        fixed_batch=fixed_batch,
    )


def bisect(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    eps: Sequence[float | str],
    *,
    attack: str = "fast",
    norm: str = "Linf",
    seed: int = 0,
    indices: NDArray[np.int64] | None = None,
    batch_size: int | None = None,
    fixed_batch: int | None = None,
    numerics: Numerics | None = None,
    **options: Scalar,
) -> Curve:
    """Robust accuracy at many radii by bisection: each image is attacked at about log2(g) of the g radii.

    A perturbation of size r breaks its image at every radius of at least r, which shortens the search further.

    Args:
        model: the classifier.
        images: n x C x H x W, float32 in [0, 1].
        labels: n integers.
        eps: g radii, ascending, numbers or text such as "8/255".
        attack: run at each radius.
        norm: of the ball.
        seed: of all draws.
        indices: n image indices that the draws are keyed by; default 0..n-1.
        batch_size: rows of a physical batch.
        fixed_batch: see `run_attack`.
        numerics: see `run_attack`.
        **options: of the attack.

    Raises:
        InvalidArgument: a value outside its domain.
        UnknownName: unknown attack or option.
        ModelError: non-finite logits, wrong shape, no gradient.
    """
    from harness.attacks import distances

    return distances.with_attack(
        model,
        images,
        labels,
        eps,
        attack=attack,
        norm=norm,
        seed=seed,
        indices=indices,
        batch_size=batch_size,
        fixed_batch=fixed_batch,
        numerics=numerics,
        options=options,
    )
