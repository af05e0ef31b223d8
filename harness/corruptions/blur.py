"""Blur: Gaussian, glass, defocus, motion and zoom blur (Hendrycks & Dietterich 2019, section 3)."""

from __future__ import annotations

import functools
import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from harness.corruptions import filters
from harness.corruptions.draws import Draws
from harness.corruptions.filters import Lines, to_bytes
from harness.corruptions.recipe import Recipe


def gaussian_blur(images: Tensor, recipe: Recipe, _: Draws) -> Tensor:
    """Gaussian blur of each channel."""
    (sigma,) = recipe.row
    return to_bytes(filters.gaussian(images, sigma))


def glass_blur(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Gaussian blur, then pixels replaced by near neighbours, then the same blur again.

    The published loop walks rows and columns downwards and "swaps" each pixel with one at most `max_delta` away. Its
    swap assigns array views, so the second assignment reads what the first has just written: it is a copy, the
    neighbour stays as it is, and colours are lost. The published sets have this quirk, and so have we.
    """
    sigma, delta, iterations = recipe.row[0], int(recipe.row[1]), int(recipe.row[2])
    n, height, width, _ = images.shape
    soften = filters.gaussian_exact if len(filters.gaussian_kernel(sigma)) <= 5 else filters.gaussian
    values = to_bytes(soften(images, sigma))
    source: Tensor | None = None
    for _step in range(iterations):
        moved = _copied_from(n, height, width, delta, draws)
        source = moved if source is None else source.index_select(0, moved)
    if source is not None:
        values = filters.pick(values, source.reshape(n, height, width))
    return to_bytes(soften(values, sigma))


def _copied_from(n: int, height: int, width: int, delta: int, draws: Draws) -> Tensor:
    """One pass of the glass: flat position -> flat position (over the batch) where its final value stood before.

    The loop is sequential only where a pixel copies from one that was walked before it (further down, or further right
    in its row): then it gets what that one had copied. Such chains are followed by pointer doubling instead. Pixels
    that are not walked copy from themselves, and so end every chain.
    """
    rows, columns = height - 2 * delta, width - 2 * delta
    pairs = draws.pairs(2 * delta, rows * columns)
    steps = _steps(delta, width).to(pairs.device).index_select(0, pairs.reshape(-1))
    place = _places(n, height, width).to(pairs.device)
    target = place.clone()
    target[:, delta + 1 : height - delta + 1, delta + 1 : width - delta + 1] += steps.reshape(n, rows, columns).flip(
        1, 2
    )
    target = target.reshape(-1)
    if delta == 1:  # offsets are -1 and 0: nothing is copied from a pixel that was walked before
        return target
    return target.index_select(0, chain_ends(torch.maximum(target, place.reshape(-1))))


def chain_ends(link: Tensor) -> Tensor:
    """Where the chain i, link[i], link[link[i]], ... stops, for every i; an end is its own link.

    One doubling, and a second that tells which chains go on: few, which are then followed by themselves.
    """
    link = link.index_select(0, link)
    ends = link.index_select(0, link)
    going = filters.differing(ends, link)
    while len(going):
        here = ends.index_select(0, going)
        further = ends.index_select(0, here)
        ends.index_copy_(0, going, further)
        going = going[further != here]
    return ends


@functools.lru_cache(maxsize=32)
def _steps(delta: int, width: int) -> Tensor:
    """The flat offset, int32, for each pair (across, down) drawn from 0..2 delta - 1; see `Draws.pairs`."""
    pairs = torch.arange(4 * delta * delta, dtype=torch.int32)
    across, down = pairs // (2 * delta), pairs % (2 * delta)
    return (down - delta) * width + across - delta


@functools.lru_cache(maxsize=8)
def _places(n: int, height: int, width: int) -> Tensor:
    """Flat positions over the batch, int32, n x height x width."""
    return torch.arange(n * height * width, dtype=torch.int32).reshape(n, height, width)


def defocus_blur(images: Tensor, recipe: Recipe, _: Draws) -> Tensor:
    """Correlation with an antialiased disk."""
    radius, alias_blur = recipe.row
    return to_bytes(filters.correlate(images, disk(radius, alias_blur), "reflect101"))


@functools.lru_cache(maxsize=64)
def disk(radius: float, alias_blur: float) -> NDArray[np.float32]:
    """A disk of radius `radius` pixels, sum 1, softened by a small Gaussian; rows and columns of zeros are cut off."""
    reach, soft = (np.arange(-8, 9), (3, 3)) if radius <= 8 else (np.arange(-radius, radius + 1), (5, 5))
    x, y = np.meshgrid(reach, reach)
    hard = (x**2 + y**2 <= radius**2).astype(np.float32)
    hard /= np.sum(hard)
    kernel: NDArray[Any] = cv2.GaussianBlur(hard, ksize=soft, sigmaX=alias_blur)
    used = int(np.abs(np.argwhere(kernel) - len(reach) // 2).max())
    middle = len(reach) // 2
    return np.ascontiguousarray(kernel[middle - used : middle + used + 1, middle - used : middle + used + 1])


def motion_blur(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """One-sided Gaussian blur along a line of a random angle in [-45, 45) degrees."""
    radius, sigma = int(recipe.row[0]), recipe.row[1]
    height, width = images.shape[1:3]
    taps = lines(radius, sigma, draws.angles(-45, 45), height, width, cut=not recipe.style.published)
    values = filters.along(images, taps)
    if recipe.style.published:
        values = as_imagemagick(values)
    return to_bytes(values)


def as_imagemagick(values: Tensor) -> Tensor:
    """Grey levels as ImageMagick 6 (16 bits a channel) writes them to an 8-bit PNG: rounded to 1/257, then truncated.

    Measured on version 6.9.11 through Wand, the way of the published scripts: equal for every pixel. Overwrites.
    """
    return values.mul_(257).round_().div_(257).floor_()


def lines(radius: int, sigma: float, angles: list[float], height: int, width: int, *, cut: bool) -> Lines:
    """Taps of ImageMagick's motion blur (MotionBlurImage; the package restates it).

    Weights are half a Gaussian over 2 radius + 1 steps, offsets the rounded positions along the line.

    Args:
        radius: of the blur, in pixels.
        sigma: of the Gaussian, in pixels.
        angles: of the lines, degrees, one an image.
        height: of the images.
        width: of the images.
        cut: stop at the first offset that leaves the image, as the package does, without making up for the lost weight.
    """
    count = 2 * radius + 1
    steps = np.arange(count)
    gauss = np.exp(-(steps**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
    weights = np.repeat((gauss / gauss.sum())[None], len(angles), axis=0)
    radians = np.deg2rad(angles)
    rise, run = count * np.sin(radians), count * np.cos(radians)
    length = np.hypot(rise, run)
    down = np.ceil(steps * rise[:, None] / length[:, None] - 0.5).astype(np.int64)
    across = np.ceil(steps * run[:, None] / length[:, None] - 0.5).astype(np.int64)
    if cut:
        gone = np.logical_or.accumulate((np.abs(down) >= height) | (np.abs(across) >= width), axis=1)
        last = np.arange(len(angles)), np.count_nonzero(~gone, axis=1) - 1
        down = np.where(gone, down[last][:, None], down)
        across = np.where(gone, across[last][:, None], across)
        weights[gone] = 0.0
    return Lines(down, across, weights)


def zoom_blur(images: Tensor, recipe: Recipe, _: Draws) -> Tensor:
    """Mean of the image and of its enlargements about the centre."""
    stop, step = recipe.row
    centred = recipe.style.published
    if filters.on_host(images):
        return _zoom_host(images, stop, step, centred)
    return zoom_torch(images, stop, step, centred)


def zoom_torch(images: Tensor, stop: float, step: float, centred: bool) -> Tensor:
    """`zoom_blur` layer by layer."""
    factors = np.arange(1, stop, step)
    planes = images.to(torch.float32).permute(0, 3, 1, 2)
    total = planes.clone()
    for factor in factors.tolist():
        total += enlarged(planes, factor, centred=centred)
    return to_bytes(total.div_(len(factors) + 1)).permute(0, 2, 3, 1).contiguous()


def _zoom_host(images: Tensor, stop: float, step: float, centred: bool) -> Tensor:
    """`zoom_blur` as one sparse matrix for many images at once: the layers share many of their taps."""
    height, width = images.shape[1:3]
    operator = zoom_operator(height, width, stop, step, centred)
    out = torch.empty_like(images)
    for start in range(0, len(images), _SIDE_BY_SIDE):
        part = slice(start, start + _SIDE_BY_SIDE)
        pixels = cv2.merge(list(images[part].numpy())).reshape(height * width, -1).astype(np.float32)
        blurred = to_bytes(torch.from_numpy(operator @ pixels)).numpy().reshape(height, width, -1)
        places = np.arange(blurred.shape[2]).repeat(2).tolist()
        cv2.mixChannels([blurred], list(out[part].numpy()), places)
    return out


_SIDE_BY_SIDE = 32
"""Images that go through the matrix together: OpenCV 5 interleaves at most 128 channels."""


@functools.lru_cache(maxsize=6)
def zoom_operator(height: int, width: int, stop: float, step: float, centred: bool) -> Any:
    """The mean of an image and its enlargements as a SciPy CSR matrix on flattened pixels; some 12 MB at 224x224."""
    from scipy import sparse

    factors = np.arange(1, stop, step).tolist()
    total = sparse.identity(height * width, dtype=np.float64, format="csr")
    for factor in factors:
        down, across = (_stretch(size, factor, centred) for size in (height, width))
        total = total + sparse.kron(down, across, format="csr")
    return (total / (len(factors) + 1)).astype(np.float32).tocsr()


def _stretch(size: int, factor: float, centred: bool) -> Any:
    """`enlarged` along one axis as a sparse matrix, size x size."""
    from scipy import sparse

    part = math.ceil(size / factor)
    first, large = (size - part) // 2, round(part * factor)
    trim = (large - size) // 2 if centred else 0
    place = (np.arange(size) + trim) * ((part - 1) / (large - 1))
    left = np.minimum(place.astype(np.int64), part - 2)
    share = place - left
    rows = np.repeat(np.arange(size), 2)
    columns = np.stack([left, left + 1], axis=1).reshape(-1) + first
    values = np.stack([1 - share, share], axis=1).reshape(-1)
    return sparse.csr_matrix((values, (rows, columns)), shape=(size, size))


def enlarged_size(side: int, factor: float) -> int:
    """Pixels that a side comes to when its middle is enlarged, before it is trimmed."""
    return round(math.ceil(side / factor) * factor)


def enlarged(planes: Tensor, factor: float, *, centred: bool, trimmed: bool = True) -> Tensor:
    """The middle of each plane, enlarged by `factor` with linear interpolation (SciPy's `zoom`, order 1).

    Args:
        planes: n x c x h x w, float32.
        factor: at least 1.
        centred: trim evenly on both sides, as the published scripts do; the package trims below and at the right.
        trimmed: bring it back to h x w; otherwise it may be a few pixels larger.
    """
    height, width = planes.shape[2:]
    tall, wide = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - tall) // 2, (width - wide) // 2
    size = enlarged_size(height, factor), enlarged_size(width, factor)
    part = planes[:, :, top : top + tall, left : left + wide]
    layer = F.interpolate(part, size=size, mode="bilinear", align_corners=True)
    if not trimmed:
        return layer
    if centred:
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        return layer[:, :, top : top + height, left : left + width]
    return layer[:, :, :height, :width]
