"""Training data from files, with nothing but NumPy (and Pillow, for image folders)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError
from models_zoo.training_data import TrainingData

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES_LIMIT = 32 << 30
"""Of all arrays of a file together, unpacked."""
CLASSES_LIMIT = 100_000
_REQUIRED = ("images", "labels")
_OPTIONAL = ("class_names", "test_images", "test_labels")


def read_training_data(path: Path, *, name: str | None = None) -> TrainingData:
    """Training data from an `.npz` file or an image folder.

    Args:
        path: an `.npz` file with `images` (n x h x w x 3, uint8) and `labels` (n integers), and optionally
            `class_names` (texts), `test_images` and `test_labels`; or a folder with `train/CLASS/*` and `test/CLASS/*`.
        name: the data set's name; the file's or folder's own if None.

    Raises:
        DataError: missing, damaged, too large, or without the arrays; nothing in it is ever unpickled.
        InvalidArgument: arrays of other kinds or shapes, or labels that do not fit.
        MissingDependency: an image folder, and Pillow is not installed.
    """
    if path.is_dir():
        return _read_folder(path, name or path.resolve().name)
    arrays = _read_arrays(path)
    labels = _integers(arrays["labels"], path, "labels")
    test = None if "test_labels" not in arrays else _integers(arrays["test_labels"], path, "test_labels")
    if ("test_images" in arrays) != (test is not None):
        raise DataError(f"data {path}: has one of test_images and test_labels, expected both or none")
    if "class_names" in arrays:
        class_names = tuple(str(each) for each in arrays["class_names"].ravel())
    else:
        class_names = tuple(map(str, range(min(int(labels.max(initial=0)) + 1, CLASSES_LIMIT))))
    return TrainingData(
        name=name or path.stem,
        images=arrays["images"],
        labels=labels,
        class_names=class_names,
        test_images=arrays.get("test_images"),
        test_labels=test,
    )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > BYTES_LIMIT:
            raise DataError(f"data {path}: unpacks to {size} bytes, expected at most {BYTES_LIMIT}")
        with np.load(path, allow_pickle=False) as loaded:
            missing = [key for key in _REQUIRED if key not in loaded]
            if missing:
                raise DataError(
                    f"data {path}: has no array {' and no array '.join(missing)}, expected images and labels"
                )
            return {key: loaded[key] for key in (*_REQUIRED, *_OPTIONAL) if key in loaded}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise DataError(
            f"data {path}: cannot be read ({reason}), expected an .npz file of plain arrays or an image folder"
        ) from None


def _integers(array: NDArray[Any], path: Path, what: str) -> NDArray[np.int64]:
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"data {path}: {what} are {array.dtype} {array.shape}, expected a row of integers")
    return array.astype(np.int64)


def _read_folder(path: Path, name: str) -> TrainingData:
    from harness.errors import MissingDependency

    try:
        from harness.data.folder import open_folder
    except ImportError:
        raise MissingDependency("image folders need Pillow: pip install pillow; or give an .npz file") from None
    learn, test = (open_folder(path, split) for split in ("train", "test"))
    return TrainingData(
        name=name,
        images=learn.images(),
        labels=learn.labels,
        class_names=learn.classes,
        test_images=test.images(),
        test_labels=test.labels,
    )
