"""Published corruption and shift sets as data sets.

CIFAR-10-C and CIFAR-100-C arrays, ImageNet-C-like folders, and image folders with a subset of the classes (ImageNet-A,
-R, -Sketch, -V2, CIFAR-10.1).

A cell (corruption, severity) of a published set is a data set of its own, with its own fingerprint; `source` says that
its images come from published files, so that a board can tell them from regenerated or in-memory ones.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from harness.data.base import Dataset, digest_in_chunks
from harness.data.image_file import FORMATS, MAX_SIDE, SUFFIXES, read_bytes, show
from harness.data.order import round_robin
from harness.digest import canonical_json
from harness.errors import DataError, InvalidArgument

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.types import ImagesU8, Labels

SOURCE = "published files"
SEVERITIES = (1, 2, 3, 4, 5)


class ArrayFileDataset(Dataset):
    """A slice of a .npy file of images, read from disk on demand.

    Args:
        name: see `Dataset`.
        classes: see `Dataset`.
        labels: n labels.
        path: the array file, uint8, m x h x w x 3.
        first: row of the first image.
    """

    source = SOURCE

    def __init__(self, *, name: str, classes: tuple[str, ...], labels: Labels, path: Path, first: int) -> None:
        array = _open_images(path)
        super().__init__(
            name=name, split="test", classes=classes, labels=labels, image_size=(array.shape[1], array.shape[2])
        )
        if first + len(labels) > len(array):
            raise DataError(f"{show(path)}: {len(array)} images, expected at least {first + len(labels)}")
        self._path = path
        self._first = first

    def _read(self, start: int, stop: int) -> ImagesU8:
        # Opened anew each time: a memory map would count as memory of the process, block after block.
        rows = _open_images(self._path)[self._first + start : self._first + stop]
        return np.array(rows, dtype=np.uint8)

    def _fingerprint(self) -> str:
        return digest_in_chunks(self, kind="array-file@1")


def open_array_set(folder: Path, corruption: str, severity: int, *, classes: Sequence[str]) -> ArrayFileDataset:
    """One cell of CIFAR-10-C or CIFAR-100-C: `CORRUPTION.npy` with five equal parts and `labels.npy`.

    Args:
        folder: the unpacked archive.
        corruption: file name without its suffix.
        severity: 1 to 5.
        classes: class names in the order of the labels.

    Raises:
        InvalidArgument: a severity outside 1 to 5.
        DataError: a file is missing, truncated, of the wrong type, or labels do not fit.
    """
    if severity not in SEVERITIES:
        raise InvalidArgument("severity", severity, "an integer from 1 to 5")
    images = _open_images(folder / f"{corruption}.npy")
    labels = _load(folder / "labels.npy", mapped=False)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{show(folder / 'labels.npy')}: {labels.dtype} {labels.shape}, expected a row of integers")
    if len(images) % 5:
        raise DataError(f"{show(folder / f'{corruption}.npy')}: {len(images)} images, expected five equal parts")
    count = len(images) // 5
    if len(labels) not in (count, 5 * count):
        raise DataError(f"{show(folder / 'labels.npy')}: {len(labels)} labels for {len(images)} images")
    first = (severity - 1) * count
    part = labels[first : first + count] if len(labels) == 5 * count else labels
    name = f"{folder.name}/{corruption}/{severity}"
    return ArrayFileDataset(
        name=name, classes=tuple(classes), labels=part.astype(np.int64), path=folder / f"{corruption}.npy", first=first
    )


def _load(path: Path, *, mapped: bool) -> NDArray[Any]:
    """A .npy file; never unpickles."""
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{show(path)}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{show(path)}: not a whole .npy array ({type(error).__name__})") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{show(path)}: not a .npy array")
    return array


def _open_images(path: Path) -> NDArray[np.uint8]:
    array = _load(path, mapped=True)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or len(array) == 0:
        raise DataError(f"{show(path)}: {array.dtype} {array.shape}, expected uint8, n x height x width x 3")
    return array


class PictureFolder(Dataset):
    """Images in class folders, brought to one size: the shorter side to 256/224 of it (bilinear), then the centre.

    Images that have the size already are taken as they are: resizing and cropping ImageNet-C's 224x224 files again
    changes published numbers by points.

    Args:
        name: see `Dataset`.
        classes: the full list of classes, in the order of the model's outputs.
        labels: n labels.
        files: n paths.
        side: of the images, pixels.
        split: see `Dataset`.
    """

    source = SOURCE

    def __init__(
        self,
        *,
        name: str,
        classes: tuple[str, ...],
        labels: Labels,
        files: tuple[Path, ...],
        side: int,
        split: str = "test",
    ) -> None:
        super().__init__(name=name, split=split, classes=classes, labels=labels, image_size=(side, side))
        self._files = files
        self.present: tuple[int, ...] = tuple(sorted(set(labels.tolist())))
        """The labels that occur: predictions are to be compared among these outputs only."""

    def _read(self, start: int, stop: int) -> ImagesU8:
        out = np.empty((stop - start, *self.image_size, 3), dtype=np.uint8)
        for row, path in enumerate(self._files[start:stop]):
            out[row] = _square(path, self.image_size[0])
        return out

    def _fingerprint(self) -> str:
        head = {"kind": "pictures@1", "classes": list(self.classes), "side": self.image_size[0]}
        sha = hashlib.sha256(canonical_json(head).encode("ascii"))
        for path, label in zip(self._files, self.labels.tolist(), strict=True):
            sha.update(label.to_bytes(8, "little") + hashlib.sha256(read_bytes(path)).digest())
        return sha.hexdigest()


def open_picture_folder(
    folder: Path,
    *,
    classes: Sequence[str],
    subset: Sequence[str] | None = None,
    side: int = 224,
    name: str | None = None,
) -> PictureFolder:
    """A folder of class folders: one cell `CORRUPTION/SEVERITY` of ImageNet-C or Tiny-ImageNet-C, or a shift set.

    Args:
        folder: holds CLASS/*.
        classes: the full list of classes, in the order of the model's outputs.
        subset: the classes that the set has, where it has fewer (ImageNet-A and -R: 200); all if None.
        side: of the images, pixels.
        name: the data set's name; the folder's if None.

    Raises:
        DataError: a missing, empty or unknown class folder, or no folder at all.
    """
    wanted = tuple(classes if subset is None else subset)
    strangers = [item for item in wanted if item not in set(classes)]
    if strangers:
        raise DataError(f"{show(folder)}: class {strangers[0]!r} of the subset is not among the {len(classes)} classes")
    if not folder.is_dir():
        raise DataError(f"{show(folder)}: no such folder")
    there = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    missing, unknown = sorted(set(wanted) - there), sorted(there - set(wanted))
    if missing:
        have = f"{len(wanted) - len(missing)} of {len(wanted)} classes"
        raise DataError(f"{show(folder)}: has {have}; {missing[0]!r} is the first that is missing")
    if unknown:
        raise DataError(f"{show(folder)}: {unknown[0]!r} is not one of the {len(wanted)} classes")
    position = {item: label for label, item in enumerate(classes)}
    files: list[Path] = []
    labels: list[int] = []
    for item in wanted:
        found = sorted(path for path in (folder / item).iterdir() if path.suffix.lower().lstrip(".") in SUFFIXES)
        if not found:
            raise DataError(f"{show(folder / item)}: no images")
        files += found
        labels += [position[item]] * len(found)
    by_class = np.array(labels, dtype=np.int64)
    order = round_robin(by_class)
    return PictureFolder(
        name=name or folder.name,
        classes=tuple(classes),
        labels=by_class[order],
        files=tuple(files[place] for place in order.tolist()),
        side=side,
    )


def _square(path: Path, side: int) -> ImagesU8:
    """One image file as side x side x 3."""
    try:
        with Image.open(io.BytesIO(read_bytes(path)), formats=FORMATS) as opened:
            width, height = opened.size
            picture = opened.convert("RGB") if max(width, height) <= MAX_SIDE else None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"image {show(path)}: unreadable or truncated ({type(error).__name__})") from None
    if picture is None:
        raise DataError(f"image {show(path)}: larger than {MAX_SIDE} pixels a side")
    if (width, height) == (side, side):
        return np.asarray(picture)
    short = round(side * 256 / 224)
    scale = short / min(width, height)
    resized = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = round((resized.width - side) / 2), round((resized.height - side) / 2)
    return np.asarray(resized.crop((left, top, left + side, top + side)))
