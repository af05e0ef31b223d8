"""`digits`: the 1,797 handwritten digits inside scikit-learn, as 32x32 colour images.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(its test part), as `sklearn.datasets.load_digits` ships it: 8x8 pixels, 17 grey levels.

The split is the literal `digits_split.json` (positions in scikit-learn's order): 50 test images of each class, 500 in
all, drawn once at random, and the other 1,297 for training, both in the order of `harness.data.order.round_robin`.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.base import ArrayDataset

if TYPE_CHECKING:
    from harness.types import ImagesU8

SIZE = 32
CLASSES = tuple(str(digit) for digit in range(10))


def open_digits(split: str) -> ArrayDataset:
    """The split "train" (1,297 images) or "test" (500) of `digits`, 32x32."""
    order = _split_positions()[split]
    values, labels = _sklearn_digits()
    return ArrayDataset(
        name="digits", split=split, classes=CLASSES, labels=labels[order], pixels=enlarge(values[order])
    )


def enlarge(values: NDArray[np.uint8]) -> ImagesU8:
    """8x8 grey levels 0..16 to 32x32 RGB with three equal channels.

    Levels become round(v * 255 / 16); Pillow's bilinear filter works on uint8 in fixed point, so the result does not
    depend on the machine.

    Args:
        values: n x 8 x 8, uint8, in [0, 16].

    Returns:
        n x 32 x 32 x 3, uint8.
    """
    levels = ((values.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    grey = np.empty((len(levels), SIZE, SIZE), dtype=np.uint8)
    for row, small in enumerate(levels):
        grey[row] = np.asarray(Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return np.repeat(grey[..., None], 3, axis=3)


@functools.cache
def _sklearn_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(values, labels) in scikit-learn's order; the file is inside the package, nothing is downloaded."""
    from sklearn.datasets import load_digits  # slow to import: only when digits are asked for

    bunch = load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)


@functools.cache
def _split_positions() -> dict[str, NDArray[np.int64]]:
    """Split name -> positions in scikit-learn's order."""
    text = resources.files("harness.data").joinpath("digits_split.json").read_text(encoding="ascii")
    return {split: np.array(positions, dtype=np.int64) for split, positions in json.loads(text).items()}
