"""One image file to RGB pixels. Files come from strangers: formats, bytes and sides are bounded, nothing is guessed."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from harness.errors import DataError

if TYPE_CHECKING:
    from harness.types import ImagesU8

SUFFIXES = frozenset({"png", "jpg", "jpeg", "bmp", "ppm", "pgm", "webp"})
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
MAX_SIDE = 4096
MAX_BYTES = 64 << 20

_OPAQUE_MODES = frozenset({"1", "L", "P", "RGB", "CMYK", "YCbCr"})
_ALPHA_MODES = frozenset({"LA", "PA", "RGBA"})
_FAILURES = (
    OSError,  # includes Pillow's UnidentifiedImageError and "image file is truncated"
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Warning,
    Image.DecompressionBombError,
)


def show(path: Path) -> str:
    """A path for a one-line message, with odd characters escaped."""
    return repr(str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: it cannot be read or is larger than 64 MiB.
    """
    content = read_head(path, MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"image {show(path)}: larger than {MAX_BYTES >> 20} MiB, expected a smaller file")
    return content


def read_head(path: Path, limit: int) -> bytes:
    """A file's bytes, up to a limit.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return handle.read(limit)
    except OSError as error:
        raise DataError(f"{show(path)}: cannot be read ({error.strerror})") from None


def image_size(content: bytes, path: Path) -> tuple[int, int]:
    """(height, width) by the file's header.

    Args:
        content: the file's bytes.
        path: for messages.

    Raises:
        DataError: not an image of a known format, or a side above 4,096 pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a decompression bomb is a warning to Pillow and an error to us
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return _checked_size(image, path)
        except _FAILURES as error:
            raise _unreadable(path, error) from None


def decode(content: bytes, path: Path, *, size: tuple[int, int]) -> ImagesU8:
    """The pixels of one image as RGB.

    EXIF orientation is not applied, as in torchvision's `ImageFolder`. Grey images get three equal channels.

    Args:
        content: the file's bytes.
        path: for messages.
        size: the (height, width) that it must have.

    Returns:
        height x width x 3, uint8.

    Raises:
        DataError: unreadable or truncated, another size, more than 8 bits a channel, or transparent pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _checked_size(image, path, expected=size)
                image.load()
                return np.asarray(_as_rgb(image, path))
        except _FAILURES as error:
            raise _unreadable(path, error) from None


def _checked_size(image: Image.Image, path: Path, expected: tuple[int, int] | None = None) -> tuple[int, int]:
    """(height, width) if they are within bounds and as expected; called before any pixel is decoded."""
    width, height = image.size
    if expected is not None and (height, width) != expected:
        raise DataError(
            f"image {show(path)}: got {width}x{height} pixels, expected {expected[1]}x{expected[0]} (width x height) "
            "like the first image of the split"
        )
    if max(width, height) > MAX_SIDE:
        raise DataError(f"image {show(path)}: got {width}x{height} pixels, expected at most {MAX_SIDE} a side")
    return height, width


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    """RGB, where that loses nothing but colour space."""
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            raise DataError(f"image {show(path)}: has transparent pixels, expected an opaque image")
        return rgba.convert("RGB")
    if image.mode not in _OPAQUE_MODES:
        raise DataError(f"image {show(path)}: pixel mode {image.mode!r}, expected 8 bits a channel")
    return image if image.mode == "RGB" else image.convert("RGB")


def _unreadable(path: Path, error: Exception) -> DataError:
    """The typed error for whatever was raised; our own (a ValueError, so caught with the rest) stays as it is."""
    if isinstance(error, DataError):
        return error
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return DataError(f"image {show(path)}: absurdly large, expected at most {MAX_SIDE} pixels a side")
    return DataError(
        f"image {show(path)}: unreadable or truncated ({type(error).__name__}), "
        "expected a whole PNG, JPEG, BMP, PPM or WebP file"
    )
