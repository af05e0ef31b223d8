"""Weather: snow, frost, fog, brightness and spatter (Hendrycks & Dietterich 2019, section 3)."""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from harness.corruptions import filters
from harness.corruptions.blur import as_imagemagick, enlarged, enlarged_size, lines
from harness.corruptions.draws import Draws
from harness.corruptions.filters import to_bytes
from harness.corruptions.recipe import Recipe
from harness.corruptions.textures import FILES, frost_texture


def snow(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Whitened image under two layers of motion-blurred flakes, the second the first turned by 180 degrees."""
    mean, std, zoom, threshold, radius, sigma, weight = recipe.row
    published = recipe.style.published
    height, width = images.shape[1:3]
    noise = draws.normal(height, width)
    angles = draws.angles(-135, -45)
    # The package trims the layer after the motion blur, the published scripts before it.
    tall, wide = (height, width) if published else (enlarged_size(side, zoom) for side in (height, width))
    taps = lines(int(radius), sigma, angles, tall, wide, cut=not published)
    least = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))  # flakes of the threshold itself stay
    flakes = torch.empty(len(images), tall, wide, dtype=torch.float32, device=images.device)
    for part in filters.pieces(images):
        grains = noise[part].to(torch.float32).mul_(std).add_(mean)
        grains = enlarged(grains[:, None], zoom, centred=True, trimmed=published)[:, 0]
        flakes[part] = F.threshold(grains, least, 0.0).clamp_(0, 1).mul_(255)
    if published:
        flakes = flakes.to(torch.uint8).to(torch.float32)  # the layer goes to ImageMagick as an 8-bit PNG
    layers = filters.along(flakes, taps)
    layers = (as_imagemagick(layers) if published else layers.round_())[:, :height, :width]
    out = torch.empty_like(images)
    for part in filters.pieces(images):
        values = filters.split(images[part]).to(torch.float32)
        whitened = torch.maximum(values, _grey(values).mul_(1.5).add_(127.5)).mul_(1 - weight)
        falling = layers[part] + layers[part].flip(1, 2)
        out[part] = filters.join(to_bytes(values.mul_(weight).add_(whitened).add_(falling)))
    return out


def _grey(planes: Tensor) -> Tensor:
    """Luma of 3 x n x h x w planes."""
    return planes[0].mul(0.299).add_(planes[1] * 0.587).add_(planes[2] * 0.114)


def frost(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Weighted sum with a random crop of a photograph of frost."""
    image_weight, frost_weight = recipe.row
    n, height, width, _ = images.shape
    numbers = draws.integers([len(FILES)] * n)
    textures = [frost_texture(number, height, width, recipe.style.frost_scale) for number in numbers]
    tops = draws.integers([texture.shape[0] - height for texture in textures])
    lefts = draws.integers([texture.shape[1] - width for texture in textures])
    crops = np.empty((n, height, width, 3), dtype=np.uint8)
    for crop, texture, top, left in zip(crops, textures, tops, lefts, strict=True):
        crop[...] = texture[top : top + height, left : left + width]
    ice = torch.from_numpy(crops).to(images.device)
    return to_bytes(images.to(torch.float32).mul_(image_weight).add_(ice.to(torch.float32).mul_(frost_weight)))


def fog(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """A plasma fractal is added, then the range is brought back to that of the image."""
    strength, decay = recipe.row
    n, height, width, _ = images.shape
    side = 1 << (max(height, width) - 1).bit_length()
    haze = plasma(n, side, decay, draws)[:, :height, :width]
    top = images.reshape(n, -1).amax(dim=1).to(torch.float32)
    scale = (top / (top + 255 * strength)).reshape(n, 1, 1)
    out = torch.empty_like(images)
    for part in filters.pieces(images):
        values = filters.split(images[part]).to(torch.float32)
        out[part] = filters.join(to_bytes(values.add_(haze[part] * (255 * strength)).mul_(scale[part])))
    return out


def plasma(n: int, side: int, decay: float, draws: Draws) -> Tensor:
    """Height maps by the diamond-square algorithm on a torus, scaled to 0..1; n x side x side, float32.

    Args:
        n: how many.
        side: a power of two.
        decay: the noise is divided by it from each scale to the next.
        draws: side**2 - 1 uniform numbers an image, coarse scales first.
    """
    noise = draws.uniform(side * side - 1)
    coarse = min(side, _COARSE)
    first = _grown(torch.zeros(n, 1, 1, dtype=torch.float32, device=noise.device), noise, coarse, decay)
    out = torch.empty(n, side, side, dtype=torch.float32, device=noise.device)
    for part in filters.pieces(out):
        heights = _grown(first[part], noise[part], side, decay)
        flat = heights.reshape(len(heights), -1)
        flat -= flat.amin(dim=1, keepdim=True)
        flat /= flat.amax(dim=1, keepdim=True)
        out[part] = heights
    return out


_COARSE = 128
"""Up to this side all maps of a batch grow together, larger ones by pieces."""


def _grown(corners: Tensor, noise: Tensor, side: int, decay: float) -> Tensor:
    """Maps n x cells x cells, refined until they have `side` cells; level after level reads its part of the noise."""
    n, cells, _ = corners.shape
    wobble = 100.0
    for _level in range(cells.bit_length() - 1):
        wobble /= decay
    while cells < side:
        used = cells * cells - 1
        parts = noise[:, used : used + 3 * cells * cells].mul(2).sub_(1).to(torch.float32).mul_(wobble * wobble)
        parts = parts.reshape(n, 3, cells, cells)
        rows = corners + corners.roll(-1, 1)
        middle = (rows + rows.roll(-1, 2)).div_(4).add_(parts[:, 0])
        right = (middle + middle.roll(1, 1)).add_(corners + corners.roll(-1, 2)).div_(4)
        below = (middle + middle.roll(1, 2)).add_(rows).div_(4)
        right.add_(parts[:, 1])
        below.add_(parts[:, 2])
        corners = filters.woven(corners, right, below, middle)
        cells *= 2
        wobble /= decay
    return corners


def brightness(images: Tensor, recipe: Recipe, _: Draws) -> Tensor:
    """The value of the HSV colour is raised by a constant; hue and saturation stay."""
    (shift,) = recipe.row
    table = _brighter(shift).to(images.device)
    planes = filters.split(images)
    value = torch.maximum(torch.maximum(planes[0], planes[1]), planes[2])
    keys = planes.to(torch.int32).add_(value.to(torch.int32).mul_(256))
    return filters.join(table.index_select(0, keys.reshape(-1)).reshape(planes.shape))


@functools.lru_cache(maxsize=32)
def _brighter(shift: float) -> Tensor:
    """New grey level for (value, channel), flat 256 x 256, uint8.

    With hue and saturation kept, all channels scale with the value; black, which has neither, becomes grey.
    """
    value = np.arange(256)[:, None] / 255.0
    raised = np.clip(value + shift, 0, 1)
    channel = np.arange(256)[None, :] / 255.0
    scaled = np.where(value > 0, raised * (channel / np.maximum(value, 1 / 255)), raised)
    return torch.from_numpy((np.clip(scaled, 0, 1) * 255).astype(np.uint8).reshape(-1))


def spatter(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Drops of water or mud. Runs on the host on every device: edges and distances are OpenCV's."""
    mean, std, sigma, threshold, intensity, is_mud = recipe.row
    height, width = images.shape[1:3]
    noise = draws.normal(height, width)
    out = torch.empty_like(images)
    for part in filters.pieces(images):
        liquid = filters.gaussian(noise[part].to("cpu", torch.float64).mul_(std).add_(mean), sigma).numpy()
        cover = np.empty(liquid.shape, dtype=np.float32)
        for field, target in zip(liquid, cover, strict=True):
            target[...] = _mud(field, threshold, intensity) if is_mud else _water(field, threshold, intensity)
        share = torch.from_numpy(cover).to(images.device)
        values = filters.split(images[part]).to(torch.float32)
        if is_mud:
            values.mul_(1 - share)
        for plane, colour in zip(values, _MUD if is_mud else _WATER, strict=True):
            plane.add_(share * colour)
        out[part] = filters.join(to_bytes(values))
    return out


_SLOPE = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
_WATER = (175.0, 238.0, 238.0)  # pale turquoise
_MUD = (63.0, 42.0, 20.0)  # brown


def _water(field: NDArray[np.float64], threshold: float, intensity: float) -> NDArray[np.float32]:
    """Share of the water's colour that is added: drops lit from one side, brightest at the edges."""
    least = np.nextafter(threshold, -np.inf)  # OpenCV keeps what is larger; the threshold itself is to stay
    drops: Any = cv2.threshold(field, least, 0, cv2.THRESH_TOZERO)[1]
    drops *= 255
    liquid = drops.astype(np.uint8)
    distance: Any = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    light = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, _SLOPE)
    shine: NDArray[np.float32] = liquid.astype(np.float32) * cv2.blur(light, (3, 3)).astype(np.float32)
    brightest = float(shine.max())
    if brightest == 0:
        # Where no drop fell the published code divides 0 by 0 and casts the NaNs to 0: a black image. Kept, since it
        # is part of what was published (it happens with the package's parameters on small images).
        shine.fill(-np.inf)
        return shine
    shine *= intensity / brightest
    return shine


def _mud(field: NDArray[np.float64], threshold: float, sigma: float) -> NDArray[np.float32]:
    """Share of the image that mud covers: opaque spots with soft edges."""
    kernel = filters.gaussian_kernel(sigma)
    spots = (field > threshold).astype(np.float32)
    soft: Any = cv2.sepFilter2D(spots, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    soft[soft < 0.8] = 0
    covered: NDArray[np.float32] = soft
    return covered
