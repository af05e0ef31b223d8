"""What a data set is to the rest of the harness: labels, classes, images on demand and a content fingerprint."""

from __future__ import annotations

import abc
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.digest import digest_arrays
from harness.errors import DataError, InvalidArgument
from harness.spec import DataRef

if TYPE_CHECKING:
    from harness.types import ImagesU8, Labels

SPLITS = ("train", "test")


class Dataset(abc.ABC):
    """One split of a data set. Treat it as frozen: the label array is read-only and nothing is set after construction.

    The order of the images is literal and stratified (`harness.data.order`), so that the first N are a fair sample of
    the whole for every N. Instances can be pickled and sent to worker processes.

    Args:
        name: the name it was opened by; not part of its identity.
        split: "train" or "test".
        classes: class names; label k is `classes[k]`.
        labels: n, int64, in [0, len(classes)).
        image_size: (height, width) in pixels, the same for all images.

    Raises:
        DataError: no images, or labels that do not fit the classes.
    """

    present: tuple[int, ...] | None = None
    """Labels that occur, for sets with a subset of the classes: predictions are compared among these outputs only."""

    def __init__(
        self, *, name: str, split: str, classes: tuple[str, ...], labels: Labels, image_size: tuple[int, int]
    ) -> None:
        if labels.ndim != 1 or len(labels) == 0:
            raise DataError(f"data set {name!r}, split {split!r}: no images; at least one is needed")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(f"data set {name!r}, split {split!r}: labels must lie in [0, {len(classes)})")
        self.name = name
        self.split = split
        self.classes = classes
        self.labels: Labels = labels.astype(np.int64)
        self.labels.flags.writeable = False
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        height, width = self.image_size
        return (
            f"{type(self).__name__}({self.name!r}, {self.split!r}, {len(self)} images, "
            f"{len(self.classes)} classes, {height}x{width})"
        )

    def images(self, start: int = 0, stop: int | None = None) -> ImagesU8:
        """Images [start, stop) in the data set's order.

        Args:
            start: first image, >= 0.
            stop: one past the last image; the end of the split if None.

        Returns:
            uint8, (stop - start) x height x width x 3 (NHWC). May be a read-only view: copy before writing.

        Raises:
            InvalidArgument: the range is not inside the split.
            DataError: a file that has changed or cannot be read any more.
        """
        end = len(self) if stop is None else stop
        if not 0 <= start <= end <= len(self):
            raise InvalidArgument("images", (start, end), f"0 <= start <= stop <= {len(self)}")
        return self._read(start, end)

    @cached_property
    def digest(self) -> str:
        """Content fingerprint of the whole split: images, labels, classes and order; computed on first use."""
        return self._fingerprint()

    def ref(self) -> DataRef:
        """The reference by content that specs are made of."""
        return DataRef(
            name=self.name, split=self.split, digest=self.digest, images=len(self), classes=len(self.classes)
        )

    @abc.abstractmethod
    def _read(self, start: int, stop: int) -> ImagesU8:
        """Images [start, stop); the range is valid."""

    @abc.abstractmethod
    def _fingerprint(self) -> str:
        """SHA-256 of the content, 64 hexadecimal digits."""


def digest_in_chunks(data: Dataset, *, kind: str) -> str:
    """Fingerprint of a split whose images are not all in memory: 1,000 at a time, in order, then labels and classes.

    Args:
        data: the split.
        kind: how it is read, and the version of that.
    """
    sha = hashlib.sha256()
    for start in range(0, len(data), 1000):
        sha.update(data.images(start, min(start + 1000, len(data))).tobytes())
    return digest_arrays(
        {"labels": data.labels}, header={"kind": kind, "classes": list(data.classes), "images": sha.hexdigest()}
    )


class ArrayDataset(Dataset):
    """A split that is small enough to be held in memory as one array.

    Args:
        name: see `Dataset`.
        split: see `Dataset`.
        classes: see `Dataset`.
        labels: see `Dataset`.
        pixels: n x height x width x 3, uint8.

    Raises:
        DataError: the array is not uint8 NHWC with three channels and one image a label.
    """

    def __init__(self, *, name: str, split: str, classes: tuple[str, ...], labels: Labels, pixels: ImagesU8) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3 or len(pixels) != len(labels):
            raise DataError(
                f"data set {name!r}: got pixels {pixels.dtype} {pixels.shape} for {len(labels)} labels, "
                "expected uint8, n x height x width x 3, one image a label"
            )
        super().__init__(
            name=name, split=split, classes=classes, labels=labels, image_size=(pixels.shape[1], pixels.shape[2])
        )
        self._pixels = pixels.view()
        self._pixels.flags.writeable = False

    def _read(self, start: int, stop: int) -> ImagesU8:
        return self._pixels[start:stop]

    def _fingerprint(self) -> str:
        header = {"kind": "array@1", "classes": list(self.classes)}
        return digest_arrays({"images": self._pixels, "labels": self.labels}, header=header)
