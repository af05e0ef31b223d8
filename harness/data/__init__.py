"""Data sets by name: built-in ones, image folders that the user has declared, and public ones in the data folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from harness.data.base import SPLITS, ArrayDataset, Dataset
from harness.data.public import PUBLIC
from harness.errors import DataError, InvalidArgument, UnknownName
from harness.registry import Registry

if TYPE_CHECKING:
    from harness.data.declared import Declaration

__all__ = ["DATASETS", "PUBLIC", "SPLITS", "ArrayDataset", "Dataset", "Opener", "open_dataset"]

Opener: TypeAlias = Callable[[str], Dataset]
"""Split name -> the split, opened."""

DATASETS: Registry[Opener] = Registry("data set")
DATASETS.add("digits", "harness.data.digits:open_digits")


def open_dataset(name: str, split: str = "test", *, folders: Mapping[str, Path | Declaration] | None = None) -> Dataset:
    """Open one split of a data set by name.

    Args:
        name: a built-in data set (`DATASETS`), a key of `folders`, or a public data set (`PUBLIC`).
        split: "train" or "test".
        folders: name -> image folder, or what the user declared (see `harness.data.declared`). Sets of corrupted files
            give their clean images here; `open_cell` opens the others.

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
        if name in PUBLIC:
            return PUBLIC.get(name).open(split)
        raise UnknownName("data set", name, [*DATASETS, *PUBLIC, *declared])
    found = declared[name]
    if isinstance(found, Path):
        from harness.data.folder import open_folder

        return open_folder(found, split, name=name)
    from harness.data.declared import open_declared

    inner = declared.get(found.of)
    if inner is not None and not isinstance(inner, Path) and inner.of:
        raise DataError(f"data set {name!r}: its base {found.of!r} rests on {inner.of!r} itself; name that one")
    if found.layout in ("cifar-c", "imagenet-c"):
        return open_dataset(found.of, split, folders=folders)
    base = open_dataset(found.of, "test", folders=folders) if found.of else None
    return open_declared(found, split, base)
