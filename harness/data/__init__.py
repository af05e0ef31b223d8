"""Data sets by name: built-in ones and image folders that the user has declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from harness.data.base import SPLITS, ArrayDataset, Dataset
from harness.errors import DataError, InvalidArgument, UnknownName
from harness.registry import Registry

__all__ = ["DATASETS", "SPLITS", "ArrayDataset", "Dataset", "Opener", "open_dataset"]

Opener: TypeAlias = Callable[[str], Dataset]
"""Split name -> the split, opened."""

DATASETS: Registry[Opener] = Registry("data set")
DATASETS.add("digits", "harness.data.digits:open_digits")


def open_dataset(name: str, split: str = "test", *, folders: Mapping[str, Path] | None = None) -> Dataset:
    """Open one split of a data set by name.

    Args:
        name: a built-in data set (`DATASETS`) or a key of `folders`.
        split: "train" or "test".
        folders: name -> image folder as declared by the user (see `harness.data.folder`).

    Returns:
        The split; images are read on demand.

    Raises:
        UnknownName: no such data set.
        InvalidArgument: no such split.
        DataError: the files are missing, incomplete or unreadable, or a folder has the name of a built-in data set.
    """
    declared = folders or {}
    if split not in SPLITS:
        raise InvalidArgument("split", split, "train or test")
    if name in DATASETS:
        if name in declared:
            raise DataError(f"data set {name!r} is built in; give the folder {declared[name]} another name")
        return DATASETS.get(name)(split)
    if name not in declared:
        raise UnknownName("data set", name, [*DATASETS, *declared])
    from harness.data.folder import open_folder

    return open_folder(declared[name], split, name=name)
