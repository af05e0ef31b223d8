"""Noise: Gaussian, shot, impulse and speckle noise (Hendrycks & Dietterich 2019, section 3)."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.corruptions import filters
from harness.corruptions.draws import Draws
from harness.corruptions.filters import to_bytes
from harness.corruptions.recipe import Recipe


def gaussian_noise(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Add sigma z, z standard normal per pixel and channel."""
    (sigma,) = recipe.row
    values = draws.normal(*images.shape[1:])
    return to_bytes(values.mul_(255 * sigma).add_(images))


def speckle_noise(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Add x sigma z, z standard normal per pixel and channel."""
    (sigma,) = recipe.row
    values = draws.normal(*images.shape[1:])
    return to_bytes(values.mul_(sigma).mul_(images).add_(images))


def impulse_noise(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Each value is replaced with probability `amount`, by 255 or 0 with equal chances (scikit-image's "s&p")."""
    (amount,) = recipe.row
    hit, salt = draws.salt_and_pepper(tuple(images.shape[1:]), amount)
    colour, mask = salt.to(torch.uint8).mul_(255), hit.to(torch.uint8).mul_(255)
    return (images ^ colour).bitwise_and_(mask).bitwise_xor_(images)  # colour where hit, image elsewhere


def shot_noise(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Poisson counts of `photons` x, divided by `photons`."""
    (photons,) = recipe.row
    counts = draws.poisson(images, photons)
    levels = _levels(photons).to(images.device)
    counts = counts.clamp_(max=len(levels) - 1)
    if filters.on_host(images) and len(levels) <= 256:
        small = counts.numpy().astype(np.uint8).reshape(len(images), -1)
        return torch.from_numpy(cv2.LUT(small, _table(photons))).reshape(images.shape)
    return levels.index_select(0, counts.reshape(-1)).reshape(images.shape)


@functools.lru_cache(maxsize=16)
def _levels(photons: float) -> Tensor:
    """Grey level of each count, in the published order of operations; from `photons` on all are 255."""
    counts = np.arange(int(np.ceil(photons)) + 1)
    return torch.from_numpy((np.clip(counts / photons, 0, 1) * 255).astype(np.uint8))


@functools.lru_cache(maxsize=16)
def _table(photons: float) -> NDArray[np.uint8]:
    """`_levels`, at most 256 of them, filled up for OpenCV."""
    table = np.full(256, 255, dtype=np.uint8)
    levels = _levels(photons).numpy()
    table[: len(levels)] = levels
    return table
