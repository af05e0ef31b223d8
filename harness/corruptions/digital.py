"""Digital: contrast, elastic transform, pixelation, JPEG compression and saturation (Hendrycks & Dietterich 2019)."""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.corruptions import filters
from harness.corruptions.draws import Draws
from harness.corruptions.filters import to_bytes
from harness.corruptions.recipe import Recipe
from harness.corruptions.sampling import bilinear


def contrast(images: Tensor, recipe: Recipe, _: Draws) -> Tensor:
    """Each channel is drawn towards its mean over the image: a table of 256 grey levels for each channel."""
    (factor,) = recipe.row
    n, height, width, _channels = images.shape
    means = _sums(images).to(torch.float64).mul_((1 - factor) / (height * width)).to(torch.float32)
    levels = torch.arange(256, dtype=torch.float32, device=images.device).mul_(factor)
    tables = to_bytes(levels[:, None] + means[:, None, :])  # n x 256 x 3
    if filters.on_host(images):
        out = torch.empty_like(images)
        for image, table, target in zip(images.numpy(), tables.numpy(), out.numpy(), strict=True):
            cv2.LUT(image, table[None], dst=target)
        return out
    rows = images.reshape(n, -1, 3).to(torch.int64)
    return tables.gather(1, rows).reshape(images.shape)


def _sums(images: Tensor) -> Tensor:
    """Sum of each channel over each image, n x 3: exact, in any order."""
    if filters.on_host(images):
        return torch.tensor([cv2.sumElems(image)[:3] for image in images.numpy()], dtype=torch.float64)
    return images.reshape(len(images), -1, 3).sum(dim=1, dtype=torch.int64)


def saturate(images: Tensor, recipe: Recipe, _: Draws) -> Tensor:
    """The saturation of the HSV colour is scaled and shifted; hue and value stay.

    A channel c becomes v - (v - c) s'/s. Grey pixels have hue 0, so a shift makes them reddish: red stays at v.
    """
    scale, shift = recipe.row
    ratio, red = (table.to(images.device) for table in _saturated(scale, shift))
    planes = filters.split(images)
    low = torch.minimum(torch.minimum(planes[0], planes[1]), planes[2])
    high = torch.maximum(torch.maximum(planes[0], planes[1]), planes[2])
    keys = high.to(torch.int32).mul_(256).add_(low.to(torch.int32)).reshape(-1)
    value = high.to(torch.float32)
    values = planes.to(torch.float32)
    torch.sub(value, values, out=values).mul_(ratio.index_select(0, keys).reshape(value.shape))
    torch.sub(value, values, out=values)
    if shift > 0:
        values[1:] -= red.index_select(0, keys).reshape(value.shape)
    return filters.join(to_bytes(values))


@functools.lru_cache(maxsize=32)
def _saturated(scale: float, shift: float) -> tuple[Tensor, Tensor]:
    """For (value, lowest channel), flat 256 x 256, float32: s'/s, and what grey pixels lose in green and blue."""
    value, low = np.arange(256)[:, None].astype(np.float64), np.arange(256)[None, :].astype(np.float64)
    spread = np.maximum(value - low, 0)
    old = spread / np.maximum(value, 1)
    new = np.clip(old * scale + shift, 0, 1)
    ratio = np.where(spread > 0, new / np.maximum(old, 1e-9), 0)
    red = np.where(spread == 0, value * min(shift, 1.0), 0)
    return _flat(ratio), _flat(red)


def _flat(table: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(table.astype(np.float32).reshape(-1))


def pixelate(images: Tensor, recipe: Recipe, _: Draws) -> Tensor:
    """Shrunk by averaging boxes, enlarged by repetition.

    The published scripts enlarge with Pillow's BOX filter, the package with NEAREST: for enlargement both repeat.
    """
    (factor,) = recipe.row
    height, width = images.shape[1:3]
    size = int(height * factor), int(width * factor)
    if filters.on_host(images):
        return pixelate_host(images, *size)
    return pixelate_torch(images, *size)


def pixelate_host(images: Tensor, tall: int, wide: int) -> Tensor:
    """`pixelate` by Pillow."""
    from PIL import Image

    height, width = images.shape[1:3]
    small = np.empty((len(images), tall, wide, 3), dtype=np.uint8)
    for image, target in zip(images.numpy(), small, strict=True):
        target[...] = np.asarray(Image.fromarray(image).resize((wide, tall), Image.Resampling.BOX))
    return filters.pick(torch.from_numpy(small), _enlarging(len(images), (height, width), (tall, wide)))


def pixelate_torch(images: Tensor, tall: int, wide: int) -> Tensor:
    """`pixelate` in Pillow's own integer arithmetic: across, then down, each rounded to 8 bits."""
    values = images.to(torch.int32)
    for axis, size in ((2, wide), (1, tall)):
        starts, counts, weights = (table.to(images.device) for table in _boxes(images.shape[axis], size))
        shape = [1, 1, 1, 1]
        shape[axis] = size
        total = torch.full((), 1 << 21, dtype=torch.int32, device=images.device).expand(1)
        for tap in range(int(counts.max())):
            weight = torch.where(tap < counts, weights, 0).reshape(shape)
            total = total + values.index_select(axis, (starts + tap).clamp(max=images.shape[axis] - 1)) * weight
        values = (total >> 22).clamp(0, 255)
    rows, columns = _repeated(images.shape[1], tall), _repeated(images.shape[2], wide)
    small = values.to(torch.uint8)
    return small.index_select(1, rows.to(images.device)).index_select(2, columns.to(images.device))


@functools.lru_cache(maxsize=64)
def _boxes(size: int, small: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pillow's BOX filter along an axis: first pixel, number of pixels, weight in units of 2**-22, for each output."""
    scale = size / small
    centres = (np.arange(small) + 0.5) * scale
    starts = np.maximum((centres - scale / 2 + 0.5).astype(np.int64), 0)
    stops = np.minimum((centres + scale / 2 + 0.5).astype(np.int64), size)
    weights = (0.5 + (1.0 / (stops - starts)) * (1 << 22)).astype(np.int32)
    return torch.from_numpy(starts), torch.from_numpy(stops - starts), torch.from_numpy(weights)


@functools.lru_cache(maxsize=64)
def _repeated(size: int, small: int) -> Tensor:
    """Source of each output pixel of Pillow's NEAREST enlargement."""
    return torch.from_numpy(((np.arange(size) + 0.5) * (small / size)).astype(np.int64))


@functools.lru_cache(maxsize=32)
def _enlarging(n: int, large: tuple[int, int], small: tuple[int, int]) -> Tensor:
    """Flat source over a batch of n small images of each pixel of the enlarged ones, int32, n x large."""
    rows, columns = (_repeated(size, before) for size, before in zip(large, small, strict=True))
    start = torch.arange(n)[:, None, None] * (small[0] * small[1])
    return ((rows * small[1])[:, None] + columns + start).to(torch.int32)


def jpeg_compression(images: Tensor, recipe: Recipe, _: Draws) -> Tensor:
    """Compressed and decompressed as a baseline JPEG with 4:2:0 chroma. Runs on the host on every device."""
    quality = int(recipe.row[0])
    host = images.cpu().numpy()
    out = np.empty_like(host)
    for image, target in zip(host, out, strict=True):
        _through_jpeg(image, quality, target)
    return torch.from_numpy(out).to(images.device)


def _through_jpeg(image: NDArray[np.uint8], quality: int, out: NDArray[np.uint8]) -> None:
    """One image through libjpeg by way of OpenCV, which has a fifth of Pillow's overhead and gives the same bytes."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    data: Any = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    decoded: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
    cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=out)


def elastic_transform(images: Tensor, recipe: Recipe, draws: Draws) -> Tensor:
    """Positions displaced by smoothed noise; in the published sets after a random affine map."""
    height, width = images.shape[1:3]
    values = images
    if recipe.style.published:
        alpha, sigma, shift = recipe.row
        values = _affine(images, shift, draws)
        reach, sigmas = 1.0, (sigma, sigma)
    else:
        (alpha,) = recipe.row
        reach, sigmas = height * 0.005, (height * 0.01, width * 0.01)
    across, down = (
        _smooth(draws.uniform(height, width).mul_(2 * reach).sub_(reach).to(torch.float32), *sigmas).mul_(alpha)
        for _ in range(2)
    )
    rows = down.add_(torch.arange(height, device=images.device)[:, None])
    columns = across.add_(torch.arange(width, device=images.device))
    return filters.join(to_bytes(bilinear(values, rows, columns, half_sample=True)))


def _smooth(fields: Tensor, down: float, across: float) -> Tensor:
    """SciPy's Gaussian filter with edges reflected, truncated at 3 sigma; n x h x w, float32."""
    height, width = fields.shape[1:]
    if 3 * down < height and 3 * across < width:
        kernels = filters.gaussian_kernel(down, 3.0), filters.gaussian_kernel(across, 3.0)
        return filters.separable(fields, *kernels, "reflect")
    # A kernel wider than the image (ImageNet-C, severity 1) is cheaper folded into matrices. One field at a time: a
    # batched product may choose its algorithm by the size of the batch.
    left = filters.reflecting_matrix(height, down, 3.0).to(fields.device)
    right = filters.reflecting_matrix(width, across, 3.0).T.contiguous().to(fields.device)
    return torch.stack([left @ field.clone() @ right for field in fields])


def _affine(images: Tensor, shift: float, draws: Draws) -> Tensor:
    """Map three anchor points to points at most `shift` pixels away; linear, reflected at the edges.

    Anchor points: the centre plus, plus-minus and minus a third of the side, as the published scripts have them.
    """
    n, height, width, _ = images.shape
    middle = np.array([height // 2, width // 2], dtype=np.float32)
    third = min(height, width) // 3
    anchors = np.stack([middle + third, middle + np.array([third, -third]), middle - third]).astype(np.float32)
    moved = draws.uniform(3, 2).cpu().numpy() * 2 - 1
    maps = np.empty((n, 2, 3), dtype=np.float32)
    for row, offsets in enumerate(moved):
        forward = cv2.getAffineTransform(anchors, anchors + (offsets * shift).astype(np.float32))
        maps[row] = cv2.invertAffineTransform(forward)
    inverse = torch.from_numpy(maps).to(images.device).reshape(n, 6, 1, 1).unbind(1)
    x = torch.arange(width, device=images.device, dtype=torch.float32)
    y = torch.arange(height, device=images.device, dtype=torch.float32)[:, None]
    columns = inverse[0] * x + inverse[1] * y + inverse[2]
    rows = inverse[3] * x + inverse[4] * y + inverse[5]
    return bilinear(images, rows, columns, half_sample=False)
