"""Filters over batches of images, each in two forms with one meaning: OpenCV per image on the host, torch elsewhere.

Neither form lets an image's result depend on its batch: the host form takes one image at a time, the torch form is made
of elementwise steps only, one for each tap, in a fixed order.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Border: TypeAlias = Literal["replicate", "reflect", "reflect101"]
"""How an image goes on outside: aaa|abc|ccc, cba|abc|cba or cb|abc|ba."""
Kernel1D: TypeAlias = NDArray[np.float64]

HOST_PIXELS = 1 << 15
"""Pixels of a chunk on the host."""

_CV_BORDER = {
    "replicate": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "reflect101": cv2.BORDER_REFLECT_101,
}

_DIRECT_TAPS = 15
"""Taps of a line that OpenCV takes at a time: their box stays below 130 cells, from which on it turns to slower Fourier
transforms (for float32 images; from 50 on for others, which is why the sources are made float32 first)."""


def to_bytes(values: Tensor) -> Tensor:
    """Floats in the scale 0..255 to uint8: clipped, then truncated as the published scripts do. Overwrites `values`."""
    values.clamp_(0, 255)
    if on_host(values):  # NumPy's cast is four times faster than torch's
        return torch.from_numpy(values.numpy().astype(np.uint8))
    return values.to(torch.uint8)


def split(images: Tensor) -> Tensor:
    """Images n x h x w x c to their planes, c x n x h x w, contiguous: arithmetic per pixel runs on whole planes."""
    if not on_host(images):
        return images.permute(3, 0, 1, 2).contiguous()
    width, channels = images.shape[2:]
    out = torch.empty(channels, *images.shape[:3], dtype=images.dtype)
    cv2.split(images.reshape(-1, width, channels).numpy(), list(out.reshape(channels, -1, width).numpy()))
    return out


def join(planes: Tensor) -> Tensor:
    """The inverse of `split`."""
    if not on_host(planes):
        return planes.permute(1, 2, 3, 0).contiguous()
    out = torch.empty(*planes.shape[1:], 3, dtype=planes.dtype)
    flat = [plane.reshape(-1, plane.shape[2]) for plane in planes.numpy()]
    cv2.merge(flat, dst=out.reshape(-1, planes.shape[3], 3).numpy())
    return out


def pieces(images: Tensor) -> Iterator[slice]:
    """Slices of a batch whose float temporaries fit the second-level cache of a host; on a device all at once.

    For kernels whose chunks are larger, since a part of their work pays off over many images only.
    """
    n, pixels = len(images), images.shape[1] * images.shape[2]
    count = max(1, HOST_PIXELS // pixels) if on_host(images) else n
    for start in range(0, n, count):
        yield slice(start, min(start + count, n))


def pick(images: Tensor, places: Tensor) -> Tensor:
    """Pixels at flat positions over a batch.

    Args:
        images: n x h x w x 3, uint8.
        places: n x tall x wide, int32.

    Returns:
        Images n x tall x wide x 3.
    """
    if not on_host(images):
        return images.reshape(-1, 3).index_select(0, places.reshape(-1)).reshape(*places.shape, 3)
    found = packed(images).index_select(0, places.reshape(-1)).numpy().view(np.uint8)
    rgb = cv2.cvtColor(found.reshape(-1, places.shape[2], 4), cv2.COLOR_RGBA2RGB)
    return torch.from_numpy(rgb).reshape(*places.shape, 3)


def packed(images: Tensor) -> Tensor:
    """Pixels of uint8 images on the host as flat int32 (three channels and a byte of padding), to move them whole."""
    wide = cv2.cvtColor(images.reshape(-1, images.shape[2], 3).numpy(), cv2.COLOR_RGB2RGBA)
    return torch.from_numpy(wide.view(np.int32).reshape(-1))


def differing(left: Tensor, right: Tensor) -> Tensor:
    """Positions, int64, at which two flat tensors differ."""
    if on_host(left):  # five times faster than torch's nonzero
        return torch.from_numpy(np.flatnonzero(left.numpy() != right.numpy()))
    return torch.nonzero(left != right).reshape(-1)


def woven(corner: Tensor, right: Tensor, below: Tensor, across: Tensor) -> Tensor:
    """Each pixel of four maps n x h x w as the cells of a 2 x 2 block, to n x 2h x 2w."""
    n, height, width = corner.shape
    out = torch.empty(n * height, 2, width, 2, dtype=corner.dtype, device=corner.device)
    for row, pair in enumerate(((corner, right), (below, across))):
        if on_host(out):
            cv2.merge([values.reshape(-1, width).numpy() for values in pair], dst=out[:, row].numpy())
        else:
            torch.stack([values.reshape(-1, width) for values in pair], dim=2, out=out[:, row])
    return out.reshape(n, 2 * height, 2 * width)


def on_host(values: Tensor) -> bool:
    """Whether the host form applies."""
    return values.device.type == "cpu"


@functools.lru_cache(maxsize=64)
def gaussian_kernel(sigma: float, truncate: float = 4.0) -> Kernel1D:
    """Weights of SciPy's `gaussian_filter1d` (order 0): radius int(truncate * sigma + 0.5), sum 1."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 * np.arange(-radius, radius + 1) ** 2 / sigma**2)
    kernel: Kernel1D = weights / weights.sum()
    return kernel


def gaussian(values: Tensor, sigma: float) -> Tensor:
    """Gaussian blur as `skimage.filters.gaussian`: edges replicated, truncated at 4 sigma, channels apart.

    Args:
        values: n x h x w or n x h x w x c, uint8 or float.
        sigma: in pixels.

    Returns:
        float32 (float64 for float64), same shape.
    """
    kernel = gaussian_kernel(sigma)
    if len(kernel) == 1:
        return values.clone() if values.is_floating_point() else values.to(torch.float32)
    return separable(values, kernel, kernel, "replicate")


def gaussian_exact(images: Tensor, sigma: float) -> Tensor:
    """`gaussian` of uint8 images in the very steps of SciPy, float64, scale 0..255; for kernels of a few taps.

    Where a kernel is almost the identity, sums come out at a whole number give or take one unit in the last place, and
    the truncation that follows turns that into a grey level: only the same steps in the same order agree.
    """
    kernel = gaussian_kernel(sigma)
    radius = len(kernel) // 2
    out = images.to(torch.float64) / 255
    for axis in (1, 2):
        size = out.shape[axis]
        source = out.index_select(axis, _outside(size, radius, "replicate").to(out.device))
        out = source.narrow(axis, radius, size) * float(kernel[radius])
        for reach in range(radius, 0, -1):
            both = source.narrow(axis, radius - reach, size) + source.narrow(axis, radius + reach, size)
            out += both.mul_(float(kernel[radius + reach]))
    return out.mul_(255)


def separable(values: Tensor, down: Kernel1D, across: Kernel1D, border: Border) -> Tensor:
    """Correlation with the outer product of two odd kernels.

    Args:
        values: n x h x w or n x h x w x c, uint8 or float.
        down: weights along the height.
        across: weights along the width.
        border: how the image goes on outside.

    Returns:
        float32 (float64 for float64), same shape.
    """
    if on_host(values):
        return separable_host(values, down, across, border)
    return separable_torch(values, down, across, border)


def separable_host(values: Tensor, down: Kernel1D, across: Kernel1D, border: Border) -> Tensor:
    """`separable` by OpenCV, image by image."""
    wide = values.dtype == torch.float64
    depth, dtype = (cv2.CV_64F, torch.float64) if wide else (cv2.CV_32F, torch.float32)
    out = torch.empty(values.shape, dtype=dtype)
    for source, target in zip(values.numpy(), out.numpy(), strict=True):
        cv2.sepFilter2D(source, depth, across, down, dst=target, borderType=_CV_BORDER[border])
    return out


def separable_torch(values: Tensor, down: Kernel1D, across: Kernel1D, border: Border) -> Tensor:
    """`separable` by shifted sums."""
    out = values if values.is_floating_point() else values.to(torch.float32)
    for axis, kernel in ((1, down), (2, across)):
        size, radius = out.shape[axis], len(kernel) // 2
        source = out.index_select(axis, _outside(size, radius, border).to(out.device))
        out = source.narrow(axis, 0, size) * float(kernel[0])
        for tap in range(1, len(kernel)):
            out += source.narrow(axis, tap, size) * float(kernel[tap])
    return out


def correlate(values: Tensor, kernel: NDArray[np.float32], border: Border) -> Tensor:
    """Correlation with an odd square kernel; n x h x w x c, uint8 or float32, to float32."""
    if on_host(values):
        return correlate_host(values, kernel, border)
    return correlate_torch(values, kernel, border)


def correlate_host(values: Tensor, kernel: NDArray[np.float32], border: Border) -> Tensor:
    """`correlate` by OpenCV, image by image."""
    out = torch.empty(values.shape, dtype=torch.float32)
    for source, target in zip(values.to(torch.float32).numpy(), out.numpy(), strict=True):
        cv2.filter2D(source, cv2.CV_32F, kernel, dst=target, borderType=_CV_BORDER[border])
    return out


def correlate_torch(values: Tensor, kernel: NDArray[np.float32], border: Border) -> Tensor:
    """`correlate` by shifted sums over the taps that are not zero."""
    height, width = values.shape[1:3]
    radius = kernel.shape[0] // 2
    rows, columns = _outside(height, radius, border), _outside(width, radius, border)
    source = values.to(torch.float32).index_select(1, rows.to(values.device)).index_select(2, columns.to(values.device))
    out = torch.zeros(values.shape, dtype=torch.float32, device=values.device)
    for row, column in np.argwhere(kernel):
        out += source[:, row : row + height, column : column + width] * float(kernel[row, column])
    return out


@dataclass(frozen=True, slots=True)
class Lines:
    """Taps of motion blurs, one line an image, edges replicated.

    out[i, y, x] = sum over t of weights[i, t] * in[i, y + down[i, t], x + across[i, t]]

    Attributes:
        down: n x taps, integers.
        across: n x taps, integers.
        weights: n x taps, float64.
    """

    down: NDArray[np.int64]
    across: NDArray[np.int64]
    weights: NDArray[np.float64]


def along(values: Tensor, taps: Lines) -> Tensor:
    """Blur each image along its own line; n x h x w (x c), uint8 or float, to float32."""
    return along_host(values, taps) if on_host(values) else along_torch(values, taps)


def along_host(values: Tensor, taps: Lines) -> Tensor:
    """`along` by OpenCV: a few sparse kernels an image, applied to the padded image."""
    height, width = values.shape[1:3]
    out = np.empty(values.shape, dtype=np.float32)
    tops, lefts = taps.down.min(axis=1).clip(max=0).tolist(), taps.across.min(axis=1).clip(max=0).tolist()
    bottoms, rights = taps.down.max(axis=1).clip(min=0).tolist(), taps.across.max(axis=1).clip(min=0).tolist()
    segments = [_segment(taps, start) for start in range(0, taps.down.shape[1], _DIRECT_TAPS)]
    for i, source in enumerate(values.to(torch.float32).numpy()):
        padded = cv2.copyMakeBorder(source, -tops[i], bottoms[i], -lefts[i], rights[i], cv2.BORDER_REPLICATE)
        for number, (kernels, down, across) in enumerate(segments):
            kernel, y, x = kernels[i], down[i] - tops[i], across[i] - lefts[i]
            window = padded[y : y + height + kernel.shape[0] - 1, x : x + width + kernel.shape[1] - 1]
            part = cv2.filter2D(window, cv2.CV_32F, kernel, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
            if number == 0:
                out[i] = part[:height, :width]
            else:
                out[i] += part[:height, :width]
    return torch.from_numpy(out)


def _segment(taps: Lines, start: int) -> tuple[list[NDArray[np.float32]], list[int], list[int]]:
    """Some consecutive taps of each line as a small kernel, with the offsets of its first row and column."""
    stop = start + _DIRECT_TAPS
    down, across, weights = taps.down[:, start:stop], taps.across[:, start:stop], taps.weights[:, start:stop]
    top, left = down.min(axis=1), across.min(axis=1)
    rows, columns = down - top[:, None], across - left[:, None]
    tall, wide = (rows.max(axis=1) + 1).tolist(), (columns.max(axis=1) + 1).tolist()
    side = _DIRECT_TAPS
    cells_of = (np.arange(len(down))[:, None] * side + rows) * side + columns  # two taps may fall on the same cell
    flat = np.bincount(cells_of.ravel(), weights.ravel(), minlength=len(down) * side * side)
    table = flat.astype(np.float32).reshape(-1, side, side)
    return [cells[:t, :w] for cells, t, w in zip(table, tall, wide, strict=True)], top.tolist(), left.tolist()


def along_torch(values: Tensor, taps: Lines) -> Tensor:
    """`along` by gathering, tap by tap."""
    n, height, width = values.shape[:3]
    source = values.to(torch.float32)
    out = torch.zeros_like(source)
    down, across, weights = (
        torch.from_numpy(part).to(values.device) for part in (taps.down, taps.across, taps.weights)
    )
    image = torch.arange(n, device=values.device)[:, None, None]
    y, x = torch.arange(height, device=values.device), torch.arange(width, device=values.device)
    for tap in range(taps.down.shape[1]):
        rows = (y[None, :] + down[:, tap, None]).clamp_(0, height - 1)[:, :, None]
        columns = (x[None, :] + across[:, tap, None]).clamp_(0, width - 1)[:, None, :]
        weight = weights[:, tap].to(torch.float32).reshape(-1, *[1] * (values.dim() - 1))
        out += source[image, rows, columns] * weight
    return out


def mirrored(index: Tensor, size: int, half_sample: bool) -> Tensor:
    """Indices outside 0..size-1 folded back by reflection."""
    if half_sample:
        folded = torch.remainder(index, 2 * size)
        return torch.minimum(folded, 2 * size - 1 - folded)
    folded = torch.remainder(index, 2 * size - 2)
    return torch.minimum(folded, 2 * size - 2 - folded)


@functools.lru_cache(maxsize=64)
def _outside(size: int, radius: int, border: Border) -> Tensor:
    """Source positions of an axis padded by `radius` on both sides."""
    index = torch.arange(-radius, size + radius)
    return index.clamp(0, size - 1) if border == "replicate" else mirrored(index, size, border == "reflect")


@functools.lru_cache(maxsize=32)
def reflecting_matrix(size: int, sigma: float, truncate: float) -> Tensor:
    """SciPy's Gaussian filter with mode "reflect" along an axis of `size`, as a matrix, float32, size x size."""
    from scipy.ndimage import gaussian_filter1d

    identity: NDArray[Any] = np.eye(size)
    if sigma > 0:
        identity = gaussian_filter1d(identity, sigma, axis=0, mode="reflect", truncate=truncate)
    return torch.from_numpy(identity.astype(np.float32))
