"""SVHN, cropped digits: `train_32x32.mat` and `test_32x32.mat`, read with scipy.

`X` is 32 x 32 x 3 x n, uint8, and `y` is n x 1 with classes 1 to 10, where 10 is the digit 0; label k is the digit k.

Source: Netzer et al., "Reading digits in natural images with unsupervised feature learning", 2011;
http://ufldl.stanford.edu/housenumbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from harness.data.base import Dataset, digest_in_chunks
from harness.data.image_file import show
from harness.data.order import round_robin
from harness.errors import DataError

if TYPE_CHECKING:
    from harness.types import ImagesU8

SIDE = 32
CLASSES = tuple(str(digit) for digit in range(10))
FILE_LIMIT = 512 << 20
IMAGE_LIMIT = 200_000
"""Images of a file; the published ones have 73,257 and 26,032. Compressed files could claim any number."""
INFLATED_LIMIT = IMAGE_LIMIT * (SIDE * SIDE * 3 + 8) + (64 << 10)
"""Bytes that all compressed parts of a file may become: that many images with their labels, and headers."""
_HEADER = 128
_COMPRESSED = 15
_PIECE = 1 << 20
_NUMBERS = ("double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_EXPECTED = "expected X, 32 x 32 x 3 x n, uint8, and y, n x 1, of classes 1 to 10"


class SvhnDataset(Dataset):
    """One split; labels are read when it is opened, images at the first need, and kept in memory.

    Args:
        path: the .mat file.
        split: see `Dataset`.

    Raises:
        DataError: a file that is missing, unreadable or something else.
    """

    def __init__(self, path: Path, split: str) -> None:
        self._path = path
        shape = _shape(path)
        labels = np.asarray(_load(path, "y"))
        if labels.size != shape[3] or labels.dtype.kind not in "iuf" or not np.isin(labels, range(1, 11)).all():
            raise DataError(f"{show(path)}: {labels.size} labels for {shape[3]} images; {_EXPECTED}")
        digits = labels.ravel().astype(np.int64) % 10
        self._order: NDArray[np.int64] = round_robin(digits)
        self._pixels: ImagesU8 | None = None
        super().__init__(name="svhn", split=split, classes=CLASSES, labels=digits[self._order], image_size=(SIDE, SIDE))

    def __getstate__(self) -> dict[str, Any]:
        """Without the images: another process reads its own."""
        return {**self.__dict__, "_pixels": None}

    def _read(self, start: int, stop: int) -> ImagesU8:
        if self._pixels is None:
            raw = np.asarray(_load(self._path, "X"))
            if raw.dtype != np.uint8 or raw.shape != (SIDE, SIDE, 3, len(self)):
                raise DataError(f"{show(self._path)}: X is {raw.dtype} {raw.shape}; {_EXPECTED}")
            self._pixels = np.ascontiguousarray(raw.transpose(3, 0, 1, 2)[self._order])
            self._pixels.flags.writeable = False
        return self._pixels[start:stop]

    def _fingerprint(self) -> str:
        return digest_in_chunks(self, kind="svhn@1")


def open_svhn(folder: Path, split: str) -> SvhnDataset:
    """The split "train" or "test".

    Raises:
        DataError: see `SvhnDataset`.
    """
    return SvhnDataset(folder / f"{split}_32x32.mat", split)


_FAILURES = (
    OSError, ValueError, TypeError, KeyError, IndexError, EOFError, NotImplementedError, OverflowError, MemoryError,
    AttributeError, struct.error, zlib.error,
)  # fmt: skip


def _shape(path: Path) -> tuple[int, ...]:
    """The shape that the file says X has, read before any image is."""
    from scipy.io import whosmat
    from scipy.io.matlab import MatReadError

    if path.is_file() and path.stat().st_size > FILE_LIMIT:
        raise DataError(f"{show(path)}: {path.stat().st_size} bytes, expected at most {FILE_LIMIT}")
    try:
        _bound(path)
        found = {name: (shape, kind) for name, shape, kind in whosmat(str(path))}
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{show(path)}: no such file") from None
    except (MatReadError, *_FAILURES) as error:
        raise DataError(f"{show(path)}: not a readable .mat file of version 5 ({type(error).__name__})") from None
    shape, kind = found.get("X", ((), ""))
    labels, numbers = found.get("y", ((), ""))
    if shape[:3] != (SIDE, SIDE, 3) or len(shape) != 4 or kind != "uint8" or not 0 < shape[3] <= IMAGE_LIMIT:
        raise DataError(f"{show(path)}: X is {kind or 'missing'} {shape}; {_EXPECTED}")
    if labels not in ((shape[3], 1), (1, shape[3])):
        raise DataError(f"{show(path)}: y is {labels or 'missing'}; {_EXPECTED}")
    if numbers not in _NUMBERS:
        raise DataError(f"{show(path)}: y is {numbers} {labels}; {_EXPECTED}")
    return tuple(shape)


def _bound(path: Path) -> None:
    """See that the compressed parts become no more than a set of images needs, before a reader inflates them.

    A file of version 5 is a header of 128 bytes and a row of elements, each with its type and its bytes (MathWorks,
    "MAT-File Format", level 5). Anything else is left for the reader to refuse.

    Raises:
        DataError: they become more.
    """
    with path.open("rb") as file:
        order = "<" if file.read(_HEADER)[126:] == b"IM" else ">"
        inflated = 0
        while len(tag := file.read(8)) == 8:
            kind, length = struct.unpack(f"{order}II", tag)
            if kind != _COMPRESSED:
                file.seek(length, 1)
                continue
            for size in _inflated(file, length):
                inflated += size
                if inflated > INFLATED_LIMIT:
                    raise DataError(f"{show(path)}: inflates to more than {INFLATED_LIMIT} bytes; {_EXPECTED}")


def _inflated(file: BinaryIO, length: int) -> Iterator[int]:
    """Sizes of the pieces that the next `length` bytes inflate to, none larger than a megabyte."""
    stream = zlib.decompressobj()
    while length and (part := file.read(min(length, _PIECE))):
        length -= len(part)
        while part and not stream.eof:
            yield len(stream.decompress(part, _PIECE))
            part = stream.unconsumed_tail


def _load(path: Path, name: str) -> object:
    """One variable of the file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(str(path), variable_names=[name])[name]
    except (MatReadError, *_FAILURES) as error:
        raise DataError(f"{show(path)}: {name} cannot be read ({type(error).__name__}); {_EXPECTED}") from None
