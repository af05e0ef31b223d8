"""Filters over batches of images, each in two forms with one meaning: OpenCV per image on the host, torch elsewhere.

Neither form lets an image's result depend on its batch: the host form takes one image at a time, the torch form is made
of elementwise steps only, one for each tap, in a fixed order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Border: TypeAlias = Literal["replicate", "reflect101"]
Kernel1D: TypeAlias = NDArray[np.float64]

_CV_BORDER = {"replicate": cv2.BORDER_REPLICATE, "reflect101": cv2.BORDER_REFLECT_101}


def to_bytes(values: Tensor) -> Tensor:
    """Floats in the scale 0..255 to uint8: clipped, then truncated as the published scripts do. Overwrites `values`."""
    return values.clamp_(0, 255).to(torch.uint8)


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
    for source, target in zip(values.numpy(), out.numpy(), strict=True):
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
class Line:
    """Taps of a motion blur: out[y, x] = sum of weights[i] * in[y + down[i], x + across[i]], edges replicated."""

    down: tuple[int, ...]
    across: tuple[int, ...]
    weights: tuple[float, ...]


def lines(values: Tensor, taps: Sequence[Line]) -> Tensor:
    """Blur each image along its own line; n x h x w (x c), uint8 or float, to float32.

    Args:
        values: the batch.
        taps: one line an image.
    """
    return lines_host(values, taps) if on_host(values) else lines_torch(values, taps)


def lines_host(values: Tensor, taps: Sequence[Line]) -> Tensor:
    """`lines` by OpenCV: a sparse kernel an image."""
    out = torch.empty(values.shape, dtype=torch.float32)
    for source, target, line in zip(values.numpy(), out.numpy(), taps, strict=True):
        top, left = min(line.down), min(line.across)
        kernel = np.zeros((max(line.down) - top + 1, max(line.across) - left + 1), dtype=np.float32)
        np.add.at(kernel, (np.array(line.down) - top, np.array(line.across) - left), line.weights)
        anchor = (-left, -top)
        cv2.filter2D(source, cv2.CV_32F, kernel, dst=target, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
    return out


def lines_torch(values: Tensor, taps: Sequence[Line]) -> Tensor:
    """`lines` by gathering, tap by tap; images with fewer taps get weights of zero."""
    n, height, width = values.shape[:3]
    source = values.to(torch.float32)
    out = torch.zeros_like(source)
    most = max(len(line.weights) for line in taps)
    table = np.zeros((3, most, n))
    for i, line in enumerate(taps):
        table[:, : len(line.weights), i] = line.down, line.across, line.weights
    steps = torch.from_numpy(table).to(values.device)
    image = torch.arange(n, device=values.device)[:, None, None]
    y, x = torch.arange(height, device=values.device), torch.arange(width, device=values.device)
    for tap in range(most):
        down, across = steps[0, tap].to(torch.int64), steps[1, tap].to(torch.int64)
        rows = (y[None, :] + down[:, None]).clamp_(0, height - 1)[:, :, None]
        columns = (x[None, :] + across[:, None]).clamp_(0, width - 1)[:, None, :]
        weight = steps[2, tap].to(torch.float32).reshape(-1, *[1] * (values.dim() - 1))
        out += source[image, rows, columns] * weight
    return out


def bilinear(values: Tensor, rows: Tensor, columns: Tensor, *, half_sample: bool) -> Tensor:
    """Sample a batch at fractional positions.

    Args:
        values: n x h x w x c, float32.
        rows: n x h x w, float32 row coordinates.
        columns: n x h x w, float32 column coordinates.
        half_sample: reflect about the outer edge of the border pixels (SciPy's "reflect") or else about their centres
            (OpenCV's BORDER_REFLECT_101).

    Returns:
        n x h x w x c, float32.
    """
    n, height, width, channels = values.shape
    top, left = torch.floor(rows), torch.floor(columns)
    below, right = (rows - top).unsqueeze(-1), (columns - left).unsqueeze(-1)
    y, x = top.to(torch.int64), left.to(torch.int64)
    start = (torch.arange(n, device=values.device) * (height * width))[:, None, None]
    lines_up, lines_down = (start + _mirror(y + i, height, half_sample) * width for i in (0, 1))
    x_left, x_right = (_mirror(x + i, width, half_sample) for i in (0, 1))
    flat = values.reshape(-1, channels)

    def at(line: Tensor, column: Tensor) -> Tensor:
        return flat.index_select(0, (line + column).reshape(-1)).reshape(values.shape)

    upper, lower = at(lines_up, x_left), at(lines_down, x_left)
    upper += (at(lines_up, x_right) - upper) * right
    lower += (at(lines_down, x_right) - lower) * right
    return upper + (lower - upper) * below


def _mirror(index: Tensor, size: int, half_sample: bool) -> Tensor:
    """Indices outside 0..size-1 folded back by reflection."""
    if half_sample:
        folded = torch.remainder(index, 2 * size)
        return torch.minimum(folded, 2 * size - 1 - folded)
    period = max(2 * size - 2, 1)
    folded = torch.remainder(index, period)
    return torch.minimum(folded, period - folded)


@functools.lru_cache(maxsize=64)
def _outside(size: int, radius: int, border: Border) -> Tensor:
    """Source positions of an axis padded by `radius` on both sides."""
    index = torch.arange(-radius, size + radius)
    return index.clamp(0, size - 1) if border == "replicate" else _mirror(index, size, half_sample=False)


@functools.lru_cache(maxsize=32)
def reflecting_matrix(size: int, sigma: float, truncate: float) -> Tensor:
    """SciPy's Gaussian filter with mode "reflect" along an axis of `size`, as a matrix, float32, size x size."""
    from scipy.ndimage import gaussian_filter1d

    identity: NDArray[Any] = np.eye(size)
    if sigma > 0:
        identity = gaussian_filter1d(identity, sigma, axis=0, mode="reflect", truncate=truncate)
    return torch.from_numpy(identity.astype(np.float32))
