"""The frost photographs that ship with the package imagecorruptions, decoded once and kept at the size in use."""

from __future__ import annotations

import functools
import importlib.util
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidArgument, MissingDependency

# The published draw is randint(5) over a list of six: the sixth is never used, and neither is it here.
FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


def frost_texture(number: int, height: int, width: int, scale: float | None) -> NDArray[np.uint8]:
    """One texture, larger than the images it will cover.

    Args:
        number: 0 to 4.
        height: of the images.
        width: of the images.
        scale: factor, bilinear, as in the published scripts; None: the package's rule, which enlarges by 1.1 (cubic),
            and before that to the image's size if the texture is smaller.

    Returns:
        uint8, h x w x 3, RGB; read-only.

    Raises:
        MissingDependency: the textures are not installed.
        InvalidArgument: the resized texture does not cover the images.
    """
    if scale is not None:
        texture = _published(number, scale)
        if texture.shape[0] <= height or texture.shape[1] <= width:
            most = f"below {min(texture.shape[:2])} pixels a side, the smallest frost texture of this suite"
            raise InvalidArgument("images", f"{height}x{width} pixels", most)
        return texture
    tall, wide = _decoded(number).shape[:2]
    factors = [side / have for side, have in ((height, tall), (width, wide)) if have < side]
    factor = max(factors, default=1.0) * 1.1
    return _resized(number, math.ceil(wide * factor), math.ceil(tall * factor), cv2.INTER_CUBIC)


@functools.lru_cache(maxsize=1)
def folder() -> Path:
    """Where the textures lie.

    Raises:
        MissingDependency: the package is not installed.
    """
    found = importlib.util.find_spec("imagecorruptions")
    if found is None or not found.submodule_search_locations:
        raise MissingDependency(
            "frost needs the textures of the package imagecorruptions; pip install --no-deps imagecorruptions"
        )
    return Path(found.submodule_search_locations[0]) / "frost"


@functools.lru_cache(maxsize=len(FILES))
def _decoded(number: int) -> NDArray[np.uint8]:
    path = folder() / FILES[number]
    image: NDArray[Any] | None = cv2.imread(str(path))
    if image is None:
        raise MissingDependency(f"the frost texture {FILES[number]} is missing or damaged; reinstall imagecorruptions")
    return image.astype(np.uint8, copy=False)


@functools.lru_cache(maxsize=3 * len(FILES))
def _resized(number: int, width: int, height: int, interpolation: int) -> NDArray[np.uint8]:
    return _as_rgb(cv2.resize(_decoded(number), dsize=(width, height), interpolation=interpolation))


@functools.lru_cache(maxsize=3 * len(FILES))
def _published(number: int, scale: float) -> NDArray[np.uint8]:
    if scale == 1:
        return _as_rgb(_decoded(number))
    return _as_rgb(cv2.resize(_decoded(number), (0, 0), fx=scale, fy=scale))


def _as_rgb(image: Any) -> NDArray[np.uint8]:
    rgb: NDArray[np.uint8] = np.ascontiguousarray(image[..., ::-1])
    rgb.setflags(write=False)
    return rgb
