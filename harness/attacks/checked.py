"""The inputs of an attack, checked: nothing is guessed from values and nothing is corrected silently."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import InvalidArgument


def check_images(images: object) -> torch.Tensor:
    """Images as a detached, contiguous float32 tensor.

    Raises:
        InvalidArgument: not a float32 tensor n x C x H x W with n >= 1 and finite values in [0, 1].
    """
    if not isinstance(images, torch.Tensor):
        raise InvalidArgument("images", type(images).__name__, "a float32 tensor, n x C x H x W, in [0, 1]")
    if images.dtype != torch.float32:
        raise InvalidArgument("images", str(images.dtype), "float32 in [0, 1]; divide 8-bit images by 255")
    if images.dim() != 4 or 0 in images.shape:
        raise InvalidArgument("images", tuple(images.shape), "shape n x C x H x W with at least one image")
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidArgument("images", "NaN or infinite values", "finite values in [0, 1]")
    if low < 0 or high > 1:
        raise InvalidArgument("images", f"values from {low:g} to {high:g}", "values in [0, 1]")
    return images.detach().contiguous()


def check_labels(labels: object, images: torch.Tensor) -> torch.Tensor:
    """Labels as int64 on the device of `images`; the upper end is checked when the classes are known.

    Raises:
        InvalidArgument: not n integers that are at least 0.
    """
    if isinstance(labels, np.ndarray):
        labels = torch.from_numpy(labels)
    if not isinstance(labels, torch.Tensor):
        raise InvalidArgument("labels", type(labels).__name__, "a tensor of integers")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidArgument("labels", str(labels.dtype), "integers")
    if labels.shape != (len(images),):
        raise InvalidArgument("labels", tuple(labels.shape), f"shape ({len(images)},), one label an image")
    if int(labels.min()) < 0:
        raise InvalidArgument("labels", int(labels.min()), "integers of at least 0")
    return labels.detach().to(device=images.device, dtype=torch.int64)


def check_indices(indices: object, n: int) -> NDArray[np.int64]:
    """Image indices as int64; None means 0..n-1.

    Raises:
        InvalidArgument: not n integers that are at least 0.
    """
    if indices is None:
        return np.arange(n, dtype=np.int64)
    found = indices.cpu().numpy() if isinstance(indices, torch.Tensor) else np.asarray(indices)
    if found.dtype.kind not in "iu":
        raise InvalidArgument("indices", str(found.dtype), "integers")
    if found.shape != (n,):
        raise InvalidArgument("indices", found.shape, f"shape ({n},), one index an image")
    if found.min() < 0:
        raise InvalidArgument("indices", int(found.min()), "integers of at least 0")
    return found.astype(np.int64)
