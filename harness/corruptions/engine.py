"""The engine: chunks of a batch through the kernel of a corruption, on the host or on a device.

Memory stays flat: a chunk holds about 32,768 pixels on the host (its temporaries fit the second-level cache) and about
16 million on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.corruptions import blur, digital, filters, noise, weather
from harness.corruptions.draws import Draws, EngineDraws
from harness.corruptions.recipe import Recipe

if TYPE_CHECKING:
    from harness.types import ImagesU8

Kernel: TypeAlias = Callable[[Tensor, Recipe, Draws], Tensor]

KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "gaussian_noise": noise.gaussian_noise,
        "shot_noise": noise.shot_noise,
        "impulse_noise": noise.impulse_noise,
        "defocus_blur": blur.defocus_blur,
        "glass_blur": blur.glass_blur,
        "motion_blur": blur.motion_blur,
        "zoom_blur": blur.zoom_blur,
        "snow": weather.snow,
        "frost": weather.frost,
        "fog": weather.fog,
        "brightness": weather.brightness,
        "contrast": digital.contrast,
        "elastic_transform": digital.elastic_transform,
        "pixelate": digital.pixelate,
        "jpeg_compression": digital.jpeg_compression,
        "speckle_noise": noise.speckle_noise,
        "gaussian_blur": blur.gaussian_blur,
        "spatter": weather.spatter,
        "saturate": digital.saturate,
    }
)
"""Corruption -> kernel: (uint8 n x h x w x 3, recipe, draws) -> uint8, the same shape."""

ON_HOST = frozenset({"jpeg_compression", "spatter"})
"""Corruptions that go through the host on every device."""

DEVICE_PIXELS = 1 << 24

LEAST_IMAGES: Mapping[str, int] = MappingProxyType(
    {"fog": 8, "motion_blur": 8, "snow": 8, "spatter": 4, "zoom_blur": 16}
)
"""Images a chunk at least, whatever their size: for kernels of many small steps, and for the sparse product of
zoom_blur, which runs along the images."""


def corrupt(
    images: ImagesU8, name: str, severity: int, *, recipe: Recipe, seed: int, indices: NDArray[np.int64]
) -> ImagesU8:
    """Corrupt a checked batch on the host.

    Args:
        images: n x h x w x 3, uint8.
        name: a key of `KERNELS`.
        severity: 1 to 5; it names the draws.
        recipe: parameters and style.
        seed: the run's seed.
        indices: n image indices.

    Returns:
        New uint8 array, same shape.
    """
    return corrupt_tensor(
        torch.from_numpy(np.require(images, requirements=["C", "W"])), name, severity, recipe=recipe, seed=seed,
        indices=indices,
    ).numpy()  # fmt: skip


@torch.no_grad()
def corrupt_tensor(
    images: Tensor, name: str, severity: int, *, recipe: Recipe, seed: int, indices: NDArray[np.int64]
) -> Tensor:
    """Corrupt a checked batch on the device where it lies; see `corrupt`.

    Draws and integer steps are the same words on every device; filters differ in the last bits, so that a grey level
    may differ by one (promise B).
    """
    out = torch.empty_like(images)
    kernel = KERNELS[name]
    for part in _chunks(images, LEAST_IMAGES.get(name, 1)):
        draws = EngineDraws(seed, name, severity, indices[part], images.device)
        out[part] = kernel(images[part], recipe, draws)
    return out


def _chunks(images: Tensor, least: int) -> Iterator[slice]:
    """Slices of the batch that hold some pixels each, at least `least` images."""
    budget = filters.HOST_PIXELS if images.device.type == "cpu" else DEVICE_PIXELS
    count = max(least, budget // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), count):
        yield slice(start, min(start + count, len(images)))
