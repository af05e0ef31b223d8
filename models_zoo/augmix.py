"""Mixes of augmentations for AugMix: none of them is among the benchmark's corruptions.

Three chains of one to three operations each start from the image; their results are averaged by Dirichlet(1, 1, 1)
weights, and that average with the image by a Beta(1, 1) weight.

The operations are those of the published code, for whole batches: `autocontrast`, `equalize`, `posterize` and
`solarize` give what Pillow's `ImageOps` give, and the geometric ones what its bilinear affine transform gives, value
for value (tests hold them to it).

Source: Hendrycks et al., "AugMix: a simple data processing method to improve robustness and uncertainty", ICLR 2020,
algorithm 1 and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness import rng

if TYPE_CHECKING:
    from harness.types import ImagesU8

F64 = NDArray[np.float64]
WIDTH = 3
DEPTH = 3
WORDS = WIDTH + 1 + WIDTH * (1 + 3 * DEPTH)
"""Random words of a mix: chain weights, weight of the mix, and for each chain its depth and (operation, strength,
direction) of each step."""
SCALE = 10.0
"""Strengths are numbers up to 10."""
LEAST = 0.1
CHUNK = 1 << 18
"""Pixels that the geometric operations move at a time."""
OPERATIONS = (
    "autocontrast", "equalize", "posterize", "rotate", "solarize", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip


def mix_augmentations(images: ImagesU8, words: rng.U32, *, severity: float = 3.0) -> NDArray[np.float32]:
    """One mix of each image.

    Args:
        images: n x h x w x 3, uint8.
        words: n x `WORDS` random words; an image's mix depends on its own row alone.
        severity: upper end of the strengths, from 0.1 to 10.

    Returns:
        n x h x w x 3, float32 in [0, 1].
    """
    # Dirichlet(1, ..., 1) is exponential numbers over their sum; the tiny addend only guards three exact zeros.
    exponential = -np.log1p(-rng.to_uniform(words[:, :WIDTH]).astype(np.float64)) + 1e-12
    weights = exponential / exponential.sum(1, keepdims=True)
    share = rng.to_uniform(words[:, WIDTH]).astype(np.float64)
    chains = words[:, WIDTH + 1 :].reshape(len(words) * WIDTH, -1)
    augmented = run_chains(np.repeat(images, WIDTH, axis=0), chains, severity=severity)
    factors = (share[:, None] * weights / 255).astype(np.float32)
    mixed = np.einsum("nc,nchwk->nhwk", factors, augmented.reshape(len(images), WIDTH, *images.shape[1:]))
    mixed += ((1 - share) / 255).astype(np.float32)[:, None, None, None] * images
    clipped: NDArray[np.float32] = np.clip(mixed, 0, 1, dtype=np.float32)
    return clipped


def run_chains(images: ImagesU8, words: rng.U32, *, severity: float) -> ImagesU8:
    """One chain of operations for each image.

    Args:
        images: n x h x w x 3, uint8; not changed.
        words: n x (1 + 3 * `DEPTH`): the depth, then operation, strength and direction of each step.
        severity: see `mix_augmentations`.
    """
    images = images.copy()
    depth = 1 + rng.to_integer(words[:, 0], DEPTH)
    for step in range(DEPTH):
        operation, strength, direction = words[:, 1 + 3 * step : 4 + 3 * step].T
        chosen = np.where(depth > step, rng.to_integer(operation, len(OPERATIONS)), -1)
        levels = LEAST + (severity - LEAST) * rng.to_uniform(strength).astype(np.float64)
        signs = np.where(rng.to_integer(direction, 2) == 1, -1.0, 1.0)
        for number, name in enumerate(OPERATIONS):
            rows = np.flatnonzero(chosen == number)
            if len(rows):
                images[rows] = apply(name, images[rows], levels[rows], signs[rows])
    return images


def apply(name: str, images: ImagesU8, levels: F64, signs: F64) -> ImagesU8:
    """One operation on a batch, each image with its own strength.

    Args:
        name: one of `OPERATIONS`.
        images: n x h x w x 3, uint8.
        levels: n strengths in [0, 10].
        signs: n directions, 1 or -1; the operations on grey levels have none.
    """
    if name in _GREY:
        return _GREY[name](images, levels)
    return affine(images, _matrices(name, levels, signs, height=images.shape[1], width=images.shape[2]))


def affine(images: ImagesU8, matrices: F64) -> ImagesU8:
    """Bilinear affine transform to the same size, black outside.

    Args:
        images: n x h x w x 3, uint8.
        matrices: n x 6, (a, b, c, d, e, f): the pixel at (x, y) comes from (a x + b y + c, d x + e y + f), and pixel
            centres lie at halves.

    Returns:
        n x h x w x 3, uint8; fractions of a grey level are cut off.
    """
    moved = np.empty_like(images)
    rows = max(1, CHUNK // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), rows):
        moved[start : start + rows] = _affine(images[start : start + rows], matrices[start : start + rows])
    return moved


def _affine(images: ImagesU8, matrices: F64) -> ImagesU8:
    count, height, width = images.shape[:3]
    y, x = np.mgrid[:height, :width] + 0.5
    a, b, c, d, e, f = matrices.T[:, :, None, None]
    source_x, source_y = a * x + b * y + c, d * x + e * y + f
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    left, top = np.floor(source_x - 0.5), np.floor(source_y - 0.5)
    right_share, low_share = (source_x - 0.5 - left)[..., None], (source_y - 0.5 - top)[..., None]
    columns = [(left.astype(np.int64) + step).clip(0, width - 1) for step in (0, 1)]
    rows = [(top.astype(np.int64) + step).clip(0, height - 1) for step in (0, 1)]
    each = np.arange(count)[:, None, None]
    lines = []
    for row in rows:
        first, second = (images[each, row, column].astype(np.float64) for column in columns)
        lines.append(first + (second - first) * right_share)
    values = lines[0] + (lines[1] - lines[0]) * low_share
    return np.where(inside[..., None], values, 0).astype(np.uint8)


def _matrices(name: str, levels: F64, signs: F64, *, height: int, width: int) -> F64:
    """Matrices of a geometric operation for `affine`, n x 6."""
    matrices = np.tile(np.array([1.0, 0, 0, 0, 1, 0]), (len(levels), 1))
    match name:
        case "shear_x":
            matrices[:, 1] = signs * levels * 0.3 / SCALE
        case "shear_y":
            matrices[:, 3] = signs * levels * 0.3 / SCALE
        case "translate_x":
            matrices[:, 2] = signs * np.floor(levels * (width / 3) / SCALE)
        case "translate_y":
            matrices[:, 5] = signs * np.floor(levels * (height / 3) / SCALE)
        case "rotate":
            degrees = signs * np.floor(levels * 30 / SCALE)
            matrices[:] = [_rotation(angle, height, width) for angle in degrees]
    return matrices


def _rotation(degrees: float, height: int, width: int) -> tuple[float, float, float, float, float, float]:
    """Counter-clockwise rotation about the centre."""
    angle = -math.radians(degrees)
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = width / 2, height / 2
    return cosine, sine, -cosine * x - sine * y + x, -sine, cosine, sine * x - cosine * y + y


def autocontrast(images: ImagesU8, _levels: F64) -> ImagesU8:
    """Stretch each channel to the full range; a channel of one value stays."""
    low = images.min((1, 2), keepdims=True).astype(np.float64)
    high = images.max((1, 2), keepdims=True).astype(np.float64)
    flat = high <= low
    scale = 255.0 / np.where(flat, 1, high - low)
    stretched = np.clip(images * scale - low * scale, 0, 255)
    return np.where(flat, images, stretched.astype(np.uint8))


def equalize(images: ImagesU8, _levels: F64) -> ImagesU8:
    """Flatten each channel's histogram; a channel of too few pixels outside its highest value stays."""
    count, height, width, channels = images.shape
    tables = count * channels
    planes = images.transpose(0, 3, 1, 2).reshape(tables, height * width).astype(np.int64)
    offsets = 256 * np.arange(tables)[:, None]
    histogram = np.bincount((planes + offsets).ravel(), minlength=256 * tables).reshape(tables, 256)
    highest = histogram[np.arange(tables), planes.max(1)]
    step = ((height * width - highest) // 255)[:, None]
    before = np.cumsum(histogram, axis=1) - histogram
    table = np.clip((step // 2 + before) // np.maximum(step, 1), 0, 255)
    table = np.where(step > 0, table, np.arange(256)).astype(np.uint8)
    flattened = table[np.arange(tables)[:, None], planes]
    return flattened.reshape(count, channels, height, width).transpose(0, 2, 3, 1)


def posterize(images: ImagesU8, levels: F64) -> ImagesU8:
    """Keep the upper bits of each value: 4 of them, less for strengths from 2.5."""
    bits = np.maximum(4 - np.floor(levels * 4 / SCALE).astype(np.int64), 1)
    masks = (256 - (1 << (8 - bits))).astype(np.uint8)
    return images & masks[:, None, None, None]


def solarize(images: ImagesU8, levels: F64) -> ImagesU8:
    """Invert the values from a threshold on, which falls with the strength."""
    thresholds = (256 - np.floor(levels * 256 / SCALE))[:, None, None, None]
    return np.where(images < thresholds, images, 255 - images)


_GREY: dict[str, Callable[[ImagesU8, F64], ImagesU8]] = {
    "autocontrast": autocontrast,
    "equalize": equalize,
    "posterize": posterize,
    "solarize": solarize,
}
