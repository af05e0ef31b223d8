"""The reference package's own draws, handed to our kernels: what is left between the two is arithmetic alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class PackageDraws:
    """`harness.corruptions.draws.Draws` from the generators of the package, one an image.

    Args:
        seeds: n seeds, as `harness.corruptions.reference.image_seed` gives them.
        double: hand out float64 fields (spatter, whose edges depend on the last bits) instead of float32.
    """

    def __init__(self, seeds: Sequence[int], *, double: bool = False) -> None:
        self.states = [np.random.RandomState(seed) for seed in seeds]
        self.generators = [np.random.default_rng(seed) for seed in seeds]  # what scikit-image's random_noise uses
        self.dtype = torch.float64 if double else torch.float32

    def normal(self, *shape: int) -> Tensor:
        """Standard normal floats, n x shape."""
        return torch.from_numpy(np.stack([state.normal(size=shape) for state in self.states])).to(self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform floats in [0, 1), n x shape."""
        return torch.from_numpy(np.stack([state.uniform(size=shape) for state in self.states])).to(self.dtype)

    def integers(self, bounds: Sequence[int]) -> list[int]:
        """One integer an image, in [0, bounds[i])."""
        return [int(state.randint(0, bound)) for state, bound in zip(self.states, bounds, strict=True)]

    def angles(self, low: float, high: float) -> list[float]:
        """One angle an image, degrees."""
        return [state.uniform(low, high) for state in self.states]

    def pairs(self, bound: int, count: int) -> Tensor:
        """Pairs (a, b) from [0, bound) as a * bound + b, int32, n x count."""
        both = np.stack([state.randint(0, bound, size=(count, 2)) for state in self.states]).astype(np.int32)
        return torch.from_numpy(both[..., 0] * bound + both[..., 1])

    def salt_and_pepper(self, shape: tuple[int, ...], amount: float) -> tuple[Tensor, Tensor]:
        """(hit, salt), in the order in which scikit-image draws them."""
        hits, salts = [], []
        for generator in self.generators:
            hits.append(generator.random(shape) <= amount)
            salts.append(generator.random(shape) <= 0.5)
        return torch.from_numpy(np.stack(hits)), torch.from_numpy(np.stack(salts))

    def poisson(self, images: Tensor, photons: float) -> Tensor:
        """Poisson counts of the package's generator."""
        pairs = zip(self.states, images.numpy(), strict=True)
        return torch.from_numpy(np.stack([state.poisson(image / 255.0 * photons) for state, image in pairs]))
