"""Image folders declared by the user: `PATH/test/CLASS/*` and, optionally, `PATH/train/CLASS/*`.

What counts, literally:

- Classes are the names of the folders in a split, sorted by code point; label k is the k-th. Both splits have the same.
- In a class folder every file whose name does not begin with a dot is an image (`harness.data.image_file.SUFFIXES`);
  files are sorted by name, code point by code point. The data set's order is `harness.data.order.round_robin` over the
  classes.
- Identity is content: the fingerprint covers the class names and, in order, each image's label and the SHA-256 of its
  bytes. Neither the folder's path nor file names enter it, except that names decide the order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.data.base import SPLITS, Dataset
from harness.data.image_file import SUFFIXES, decode, image_size, read_bytes, show
from harness.data.order import round_robin
from harness.digest import canonical_json
from harness.errors import DataError, InvalidArgument

if TYPE_CHECKING:
    from harness.types import ImagesU8, Labels

CACHE_BYTES = 512 << 20
"""Decoded splits up to this size stay in memory; larger ones are decoded on every read."""
CHECK_CHUNK = 500


class FolderDataset(Dataset):
    """One split of an image folder; made by `open_folder`.

    Once the fingerprint is known, each file is compared with it whenever it is read, so that outcomes are never stored
    under the fingerprint of other images.

    Args:
        name: see `Dataset`.
        split: see `Dataset`.
        classes: see `Dataset`.
        labels: see `Dataset`.
        files: n paths in the data set's order.
    """

    def __init__(
        self, *, name: str, split: str, classes: tuple[str, ...], labels: Labels, files: tuple[str, ...]
    ) -> None:
        first = Path(files[0])
        size = image_size(read_bytes(first), first)
        super().__init__(name=name, split=split, classes=classes, labels=labels, image_size=size)
        self._files = files
        self._hashes: tuple[bytes, ...] | None = None
        self._cache: ImagesU8 | None = None
        self._cached: NDArray[np.bool_] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the decoded images: another process reads its own."""
        return {**self.__dict__, "_cache": None, "_cached": None}

    def _read(self, start: int, stop: int) -> ImagesU8:
        height, width = self.image_size
        if len(self) * height * width * 3 > CACHE_BYTES:
            return self.decode(start, stop)
        if self._cache is None or self._cached is None:
            self._cache = np.empty((len(self), height, width, 3), dtype=np.uint8)
            self._cached = np.zeros(len(self), dtype=np.bool_)
        for row in start + np.flatnonzero(~self._cached[start:stop]):
            self._cache[row] = self._image(int(row))
            self._cached[row] = True
        view = self._cache[start:stop]
        view.flags.writeable = False
        return view

    def decode(self, start: int, stop: int) -> ImagesU8:
        """Images [start, stop) from their files, past the cache; see `Dataset.images`."""
        pixels = np.empty((stop - start, *self.image_size, 3), dtype=np.uint8)
        for row in range(start, stop):
            pixels[row - start] = self._image(row)
        return pixels

    def _image(self, row: int) -> ImagesU8:
        path = Path(self._files[row])
        content = read_bytes(path)
        if self._hashes is not None and hashlib.sha256(content).digest() != self._hashes[row]:
            raise DataError(f"image {show(path)}: has changed since the data set {self.name!r} was fingerprinted")
        return decode(content, path, size=self.image_size)

    def _fingerprint(self) -> str:
        sha = hashlib.sha256(canonical_json({"kind": "folder@1", "classes": list(self.classes)}).encode("ascii"))
        hashes = []
        for file, label in zip(self._files, self.labels.tolist(), strict=True):
            hashes.append(hashlib.sha256(read_bytes(Path(file))).digest())
            sha.update(label.to_bytes(8, "little") + hashes[-1])
        self._hashes = tuple(hashes)
        self._cache = self._cached = None  # what was read before may be older than the fingerprint
        return sha.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitReport:
    """What `check_folder` found in one split."""

    split: str
    images: int
    per_class: tuple[int, ...]
    """Images of each class, in the order of the classes."""
    image_size: tuple[int, int]
    """(height, width)."""
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderReport:
    """A valid image folder."""

    path: Path
    """Absolute."""
    classes: tuple[str, ...]
    splits: tuple[SplitReport, ...]
    """Those that exist, "train" before "test"."""


def open_folder(path: Path, split: str = "test", *, name: str | None = None) -> FolderDataset:
    """Open one split of an image folder. File names are listed and the first image's header read; no image is decoded.

    Args:
        path: the folder that holds `test/` and, optionally, `train/`.
        split: "train" or "test".
        name: the data set's name; the folder's own name if None.

    Raises:
        InvalidArgument: no such split.
        DataError: a missing folder, no images, an empty class, classes that differ between train and test, a file that
            is no image, or a link that leads out of the folder.
    """
    if split not in SPLITS:
        raise InvalidArgument("split", split, "train or test")
    root = _resolved(Path(path))
    if not root.is_dir():
        raise DataError(f"data folder {show(Path(path))}: no such folder, expected one that holds test/CLASS/*")
    classes = _shared_classes(root, split)
    labels: list[int] = []
    files: list[str] = []
    for label, class_name in enumerate(classes):
        found = _class_files(root, root / split / class_name)
        labels.extend([label] * len(found))
        files.extend(found)
    by_class = np.array(labels, dtype=np.int64)
    order = round_robin(by_class)
    return FolderDataset(
        name=name or root.name,
        split=split,
        classes=classes,
        labels=by_class[order],
        files=tuple(files[position] for position in order.tolist()),
    )


def check_folder(path: Path, *, progress: Callable[[int, int], None] | None = None) -> FolderReport:
    """Validate a whole image folder: every image of every split is decoded once.

    Args:
        path: see `open_folder`.
        progress: called with (images done, images in all) from time to time.

    Raises:
        DataError: see `open_folder`; also for images that are unreadable, truncated, transparent, not 8-bit, or of
            another size than the first of their split.
    """
    opened = [open_folder(path, split) for split in SPLITS if split == "test" or (Path(path) / split).exists()]
    total = sum(len(data) for data in opened)
    done = 0
    reports = []
    for data in opened:
        digest = data.digest
        for start in range(0, len(data), CHECK_CHUNK):
            stop = min(start + CHECK_CHUNK, len(data))
            data.decode(start, stop)
            if progress is not None:
                progress(done + stop, total)
        done += len(data)
        per_class = tuple(np.bincount(data.labels, minlength=len(data.classes)).tolist())
        reports.append(
            SplitReport(
                split=data.split, images=len(data), per_class=per_class, image_size=data.image_size, digest=digest
            )
        )
    return FolderReport(path=_resolved(Path(path)), classes=opened[-1].classes, splits=tuple(reports))


def _shared_classes(root: Path, split: str) -> tuple[str, ...]:
    """The class names of `split`, after a comparison with the other split."""
    present = [name for name in SPLITS if name in ("test", split) or (root / name).exists()]
    names = {name: _class_names(root, root / name) for name in present}
    odd = set(names["test"]) ^ set(names.get("train", names["test"]))
    if odd:
        has, lacks = ("test", "train") if min(odd) in names["test"] else ("train", "test")
        raise DataError(
            f"data folder {show(root)}: class {min(odd)!r} is in {has}/ but not in {lacks}/, expected the same in both"
        )
    return names[split]


def _class_names(root: Path, folder: Path) -> tuple[str, ...]:
    """Sorted names of the class folders of one split."""
    if not folder.is_dir():
        raise DataError(f"data folder {show(root)}: has no {folder.name}/ folder, expected {folder.name}/CLASS/*")
    names = [entry.name for entry in _entries(root, folder) if _follows(entry.is_dir)]
    if not names:
        raise DataError(f"data folder {show(folder)}: has no class folders, expected {folder.name}/CLASS/*")
    for name in names:
        if not name.isprintable():
            raise DataError(f"data folder {show(folder)}: class name {name!r}, expected printable characters")
    return tuple(sorted(names))


def _class_files(root: Path, folder: Path) -> list[str]:
    """Sorted paths of the images of one class."""
    files = []
    for entry in _entries(root, folder):
        if not _follows(entry.is_file):
            raise DataError(f"data folder {show(folder)}: {entry.name!r} is no regular file, expected images only")
        if entry.name.rpartition(".")[2].lower() not in SUFFIXES:
            raise DataError(
                f"data folder {show(folder)}: {entry.name!r} is no image, expected only {', '.join(sorted(SUFFIXES))}"
            )
        files.append(entry.path)
    if not files:
        raise DataError(f"data folder {show(folder)}: the class has no images, expected at least one")
    return sorted(files)


def _follows(question: Callable[[], bool]) -> bool:
    """The answer to `is_file` or `is_dir` of a directory entry; broken and circular links are neither."""
    try:
        return question()
    except OSError:
        return False


def _resolved(path: Path) -> Path:
    """The path without links.

    Raises:
        DataError: the links go in a circle, or the path cannot exist.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: circular links up to Python 3.12
        raise DataError(f"data folder {show(path)}: cannot be resolved, expected an existing path") from None


def _entries(root: Path, folder: Path) -> Iterator[os.DirEntry[str]]:
    """The visible entries of a folder, unsorted; links must stay inside `root`."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_symlink() and not _resolved(Path(entry.path)).is_relative_to(root):
                    raise DataError(f"data folder {show(root)}: the link {entry.path!r} leads out of the folder")
                yield entry
    except OSError as error:
        raise DataError(f"data folder {show(folder)}: cannot be read ({error.strerror})") from None
