"""CIFAR-10 and CIFAR-100 from their binary versions: records of labels and pixels, read with numpy alone.

The version for Python is a pickle and is never opened. A record is the label (CIFAR-100: the coarse, then the fine
one), one byte each, and 3,072 bytes of pixels: 32x32 of red, then green, then blue, row by row. Class names come from
the text file beside the records; label k is the k-th. The order is `harness.data.order.round_robin` over that of the
files.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009, and its page
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.data.base import Dataset, digest_in_chunks
from harness.data.image_file import read_head, show
from harness.data.order import round_robin
from harness.errors import DataError

if TYPE_CHECKING:
    from harness.types import ImagesU8, Labels

SIDE = 32
PIXELS = 3 * SIDE * SIDE
NAMES_LIMIT = 64 << 10
"""Bytes of the file of class names; the published ones have under two thousand."""
FILE_LIMIT = 1 << 30


class BinaryDataset(Dataset):
    """One split in binary files, read from disk on demand.

    Args:
        name: see `Dataset`.
        split: see `Dataset`.
        classes: see `Dataset`.
        files: the files, whose records follow each other.
        label_bytes: bytes before the pixels of a record; the last of them is the label.

    Raises:
        DataError: a file is missing or is no whole number of records, or labels do not fit the classes.
    """

    def __init__(
        self, *, name: str, split: str, classes: tuple[str, ...], files: tuple[Path, ...], label_bytes: int
    ) -> None:
        self._files = files
        self._label_bytes = label_bytes
        self._states = tuple(_state(path) for path in files)
        records = [self._open(number) for number in range(len(files))]
        self._starts = np.cumsum([0, *map(len, records)])
        labels: Labels = np.concatenate([item[:, label_bytes - 1] for item in records]).astype(np.int64)
        self._order: NDArray[np.int64] = round_robin(labels)
        super().__init__(name=name, split=split, classes=classes, labels=labels[self._order], image_size=(SIDE, SIDE))

    def _open(self, number: int) -> NDArray[np.uint8]:
        """The records of a file, mapped; opened anew each time, so that they do not count as memory of the process."""
        path, record = self._files[number], self._label_bytes + PIXELS
        size, changed = _state(path)
        if (size, changed) != self._states[number]:
            raise DataError(f"{show(path)}: has changed since the data set was opened")
        if not 0 < size <= FILE_LIMIT or size % record:
            raise DataError(f"{show(path)}: {size} bytes, expected a whole number of records of {record}")
        try:
            return np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, record)
        except (OSError, ValueError) as error:
            raise DataError(f"{show(path)}: cannot be read ({type(error).__name__})") from None

    def _read(self, start: int, stop: int) -> ImagesU8:
        rows = self._order[start:stop]
        planes = np.empty((len(rows), PIXELS), dtype=np.uint8)
        home = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(home).tolist():
            mine = home == number
            planes[mine] = self._open(number)[rows[mine] - self._starts[number], self._label_bytes :]
        return np.ascontiguousarray(planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))

    def _fingerprint(self) -> str:
        return digest_in_chunks(self, kind="cifar-binary@1")


def open_cifar10(folder: Path, split: str) -> BinaryDataset:
    """CIFAR-10: `data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`, `batches.meta.txt`.

    Raises:
        DataError: see `BinaryDataset`.
    """
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] if split == "train" else ["test_batch.bin"]
    files = tuple(folder / name for name in names)
    classes = _class_names(folder / "batches.meta.txt")
    return BinaryDataset(name="cifar10", split=split, classes=classes, files=files, label_bytes=1)


def open_cifar100(folder: Path, split: str) -> BinaryDataset:
    """CIFAR-100 with its fine labels: `train.bin`, `test.bin`, `fine_label_names.txt`.

    Raises:
        DataError: see `BinaryDataset`.
    """
    classes = _class_names(folder / "fine_label_names.txt")
    return BinaryDataset(name="cifar100", split=split, classes=classes, files=(folder / f"{split}.bin",), label_bytes=2)


def _state(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{show(path)}: cannot be read ({error.strerror})") from None
    return found.st_size, found.st_mtime_ns


def _class_names(path: Path) -> tuple[str, ...]:
    """The lines of a text file, without empty ones."""
    content = read_head(path, NAMES_LIMIT + 1)
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        raise DataError(f"{show(path)}: not plain text, expected one class name a line") from None
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(content) > NAMES_LIMIT or len(set(names)) < max(2, len(names)) or not all(map(str.isprintable, names)):
        raise DataError(f"{show(path)}: expected one class name a line, each once, at least two")
    return names
