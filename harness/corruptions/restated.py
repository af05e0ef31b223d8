"""The published sets, restated plainly: one image at a time, with SciPy, scikit-image, Pillow and OpenCV.

Most kernels of the published scripts are those of the package, which runs here with the published numbers put in the
place of its own. Six differ and are written out below from their description (github.com/hendrycks/robustness,
ImageNet-C/create_c). This is the yardstick of the engine's published sets, slow and not used for anything else.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.corruptions import reference
from harness.corruptions.parameters import Row
from harness.corruptions.suites import Suite
from harness.corruptions.textures import FILES, folder

Picture = NDArray[np.uint8]


def corrupt_one(image: Picture, suite: Suite, name: str, severity: int, *, seed: int, index: int) -> Picture:
    """One image of a published suite, with the draws of the package's generators.

    Args:
        image: h x w x 3, uint8.
        suite: a published suite.
        name: corruption.
        severity: 1 to 5.
        seed: the run's seed.
        index: the image's index.
    """
    row = suite.parameters[name][severity - 1]
    key = reference.image_seed(seed, name, severity, index)
    own = _OWN.get(name)
    if own is not None:
        return own(image, row, np.random.RandomState(key), suite)
    with reference.draws(key) as module, np.errstate(divide="ignore", invalid="ignore"):
        function = with_row(getattr(module, name), row)
        values = np.asarray(function(Image.fromarray(image), 1))
        return np.asarray(np.nan_to_num(values).astype(np.uint8))


def with_row(function: types.FunctionType, row: Row) -> Callable[..., Any]:
    """A function of the package with its literal table of five severities replaced by one row, at severity 1."""
    code = function.__code__
    numbers = tuple(int(value) if float(value).is_integer() else value for value in row)
    own = numbers if len(numbers) > 1 else numbers[0]
    tables = [item for item in code.co_consts if isinstance(item, tuple) and len(item) == 5]
    if len(tables) != 1:
        raise ValueError(f"{function.__name__} has {len(tables)} literal tables, expected one")
    constants = tuple((own,) * 5 if item is tables[0] else item for item in code.co_consts)
    return types.FunctionType(code.replace(co_consts=constants), function.__globals__, function.__name__)


def _bytes(values: NDArray[Any]) -> Picture:
    """Floats in 0..1 to uint8, truncated."""
    return np.asarray((np.clip(values, 0, 1) * 255).astype(np.uint8))


def _motion_blur(image: Picture, row: Row, state: np.random.RandomState, _: Suite) -> Picture:
    """ImageMagick's MotionBlurImage: a half-Gaussian line with edges replicated."""
    return imagemagick_motion_blur(image, int(row[0]), row[1], state.uniform(-45, 45))


def imagemagick_motion_blur(image: Picture, radius: int, sigma: float, angle: float) -> Picture:
    """What ImageMagick 6.9 (16 bits a channel) makes of an 8-bit PNG: rounded to 16 bits, truncated to 8 on writing.

    Args:
        image: h x w (x 3), uint8.
        radius: pixels.
        sigma: pixels.
        angle: degrees.
    """
    return np.asarray((np.rint(_along(image, radius, sigma, angle) * 257) // 257).astype(np.uint8))


def _along(image: NDArray[Any], radius: int, sigma: float, angle: float) -> NDArray[np.float64]:
    """Sum of replicated-edge shifts, tap by tap, by explicit indexing."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2.0 * sigma**2))
    weights /= weights.sum()
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    total = np.zeros(image.shape)
    rows, columns = np.arange(image.shape[0]), np.arange(image.shape[1])
    for step, weight in zip(steps.tolist(), weights, strict=True):
        y = np.clip(rows + math.ceil(step * sine - 0.5), 0, len(rows) - 1)
        x = np.clip(columns + math.ceil(step * cosine - 0.5), 0, len(columns) - 1)
        total += weight * image[np.ix_(y, x)]
    return total


def _centre_zoom(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """The middle, enlarged by SciPy and trimmed evenly to the old size."""
    from scipy.ndimage import zoom

    side = image.shape[0]
    part = math.ceil(side / factor)
    top = (side - part) // 2
    large: NDArray[Any] = zoom(image[top : top + part, top : top + part], (factor, factor, 1), order=1)
    trim = (large.shape[0] - side) // 2
    return large[trim : trim + side, trim : trim + side]


def _zoom_blur(image: Picture, row: Row, _: np.random.RandomState, __: Suite) -> Picture:
    """Mean of the image and of its centred enlargements."""
    values = image.astype(np.float32) / 255
    layers = [_centre_zoom(values, factor) for factor in np.arange(1, row[0], row[1]).tolist()]
    return _bytes((values + sum(layers)) / (len(layers) + 1))


def _snow(image: Picture, row: Row, state: np.random.RandomState, _: Suite) -> Picture:
    """Whitened image under 8-bit flakes, motion-blurred by ImageMagick, and the same turned by 180 degrees."""
    mean, std, factor, threshold, radius, sigma, weight = row
    flakes = _centre_zoom(state.normal(mean, std, image.shape[:2])[..., None], factor)[..., 0]
    flakes = (np.clip(np.where(flakes < threshold, 0, flakes), 0, 1) * 255).astype(np.uint8)
    layer = imagemagick_motion_blur(flakes, int(radius), sigma, state.uniform(-135, -45))[..., None] / 255
    values = image.astype(np.float32) / 255
    grey = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None]
    values = weight * values + (1 - weight) * np.maximum(values, grey * 1.5 + 0.5)
    return _bytes(values + layer + np.rot90(layer, 2))


def _frost(image: Picture, row: Row, state: np.random.RandomState, suite: Suite) -> Picture:
    """A crop of one of five photographs, resized bilinearly by the suite's factor."""
    texture: Any = cv2.imread(str(folder() / FILES[int(state.randint(5))]))
    scale = suite.style.frost_scale
    if scale is not None and scale != 1:
        texture = cv2.resize(texture, (0, 0), fx=scale, fy=scale)
    height, width = image.shape[:2]
    top = int(state.randint(0, texture.shape[0] - height))
    left = int(state.randint(0, texture.shape[1] - width))
    crop = cv2.cvtColor(texture[top : top + height, left : left + width], cv2.COLOR_BGR2RGB)
    return _bytes((row[0] * image + row[1] * crop) / 255)


def _pixelate(image: Picture, row: Row, _: np.random.RandomState, __: Suite) -> Picture:
    """Pillow's BOX filter both ways."""
    size = image.shape[1], image.shape[0]
    small = Image.fromarray(image).resize((int(size[0] * row[0]), int(size[1] * row[0])), Image.Resampling.BOX)
    return np.asarray(small.resize(size, Image.Resampling.BOX))


def _elastic_transform(image: Picture, row: Row, state: np.random.RandomState, _: Suite) -> Picture:
    """OpenCV's affine map, then SciPy's interpolation at displaced positions."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    alpha, sigma, shift = row
    height, width = image.shape[:2]
    middle, third = np.array([height // 2, width // 2]), min(height, width) // 3
    anchors = np.array([middle + third, middle + np.array([third, -third]), middle - third], dtype=np.float32)
    moved = anchors + state.uniform(-shift, shift, size=(3, 2)).astype(np.float32)
    forward = cv2.getAffineTransform(anchors, moved)
    values: Any = image.astype(np.float32) / 255
    values = cv2.warpAffine(values, forward, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    across, down = (
        gaussian_filter(state.uniform(-1, 1, (height, width)), sigma, mode="reflect", truncate=3) * alpha
        for _ in range(2)
    )
    rows, columns = np.mgrid[:height, :width]
    places = [rows + down, columns + across]
    planes = [map_coordinates(values[..., c], places, order=1, mode="reflect") for c in range(3)]
    return _bytes(np.stack(planes, axis=-1))


_OWN: dict[str, Callable[[Picture, Row, np.random.RandomState, Suite], Picture]] = {
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "pixelate": _pixelate,
    "elastic_transform": _elastic_transform,
}
