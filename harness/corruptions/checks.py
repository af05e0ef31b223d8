"""What a batch must be before it is corrupted: nothing is guessed from values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_severity(severity: object) -> None:
    """Refuse anything but the integers 1 to 5.

    Raises:
        InvalidArgument: out of range or not an integer.
    """
    if isinstance(severity, bool) or not isinstance(severity, int) or not 1 <= severity <= 5:
        raise InvalidArgument("severity", severity, "an integer from 1 to 5")


def check_batch(images: object) -> None:
    """Refuse anything but a non-empty uint8 batch of RGB images, n x height x width x 3.

    Raises:
        InvalidArgument: wrong type, dtype, number of dimensions or channels, or an empty batch.
    """
    import numpy as np

    expected = "a uint8 array, n x height x width x 3"
    if not isinstance(images, np.ndarray):
        raise InvalidArgument("images", type(images).__name__, expected)
    if images.dtype != np.uint8:
        what = f"{images.dtype} array"
        if np.issubdtype(images.dtype, np.floating) and not np.isfinite(images).all():
            what += " with NaN or infinity"
        raise InvalidArgument("images", what, f"{expected}, values 0..255 (convert explicitly)")
    if images.ndim != 4:
        raise InvalidArgument("images", f"shape {images.shape}", f"{expected} (one image: images[None])")
    if images.shape[0] == 0:
        raise InvalidArgument("images", "an empty batch", "at least one image")
    channels = images.shape[3]
    if channels != 3:
        kind = {1: "grey images (1 channel)", 4: "RGBA images (4 channels)"}.get(channels, f"{channels} channels")
        raise InvalidArgument("images", kind, "RGB images, n x height x width x 3 (convert explicitly)")


def check_indices(indices: Sequence[int] | NDArray[np.integer[Any]] | None, count: int) -> NDArray[np.int64]:
    """Positions in the data set as int64, 0..count-1 where none are given.

    Raises:
        InvalidArgument: not `count` non-negative integers.
    """
    import numpy as np

    if indices is None:
        return np.arange(count, dtype=np.int64)
    places = np.asarray(indices)
    if places.ndim != 1 or len(places) != count:
        raise InvalidArgument("indices", f"shape {places.shape}", f"{count} integers, one an image")
    if not np.issubdtype(places.dtype, np.integer):
        raise InvalidArgument("indices", f"{places.dtype} values", "integers from 0 on")
    if places.min() < 0:
        raise InvalidArgument("indices", int(places.min()), "integers from 0 on")
    return places.astype(np.int64)
