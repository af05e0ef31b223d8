"""Data sets that a user has declared: image folders, published corruption files, natural shift sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.data.base import Dataset
from harness.digest import digest
from harness.errors import DataError, InvalidArgument
from harness.spec import DataRef
from harness.target import LAYOUTS, PUBLISHED, REGENERATED, CellRef, Layout, Target

MANIFEST = "manifest.json"
"""What `robustboard corruptions export` leaves in a folder: its files are regenerated, not published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """How a declared data set is read.

    Attributes:
        name: the data set's name.
        layout: how the files lie; see `harness.target.LAYOUTS`.
        path: where they lie.
        of: the data set that gives class names and clean images; empty for plain folders.
    """

    name: str
    layout: Layout
    path: Path
    of: str = ""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InvalidArgument("layout", self.layout, f"one of {', '.join(LAYOUTS)}")
        if (self.layout == "folder") == bool(self.of):
            wanted = "no base data set for a plain folder" if self.of else f"a base data set for layout {self.layout}"
            raise InvalidArgument("of", self.of, wanted)
        if self.of == self.name:
            raise InvalidArgument("of", self.of, "another data set than the one that is declared")


def open_declared(declaration: Declaration, split: str, base: Dataset | None) -> Dataset:
    """The images of a declaration that are data by themselves (folders and shift sets).

    Args:
        declaration: what the user declared.
        split: "train" or "test"; all but folders have a test split only.
        base: the data set named by `of`.

    Raises:
        DataError: missing, incomplete or unreadable files.
    """
    if declaration.layout == "folder":
        from harness.data.folder import open_folder

        return open_folder(declaration.path, split, name=declaration.name)
    from harness.data.published import open_picture_folder

    clean = _needed(declaration, base)
    if split != "test":
        raise DataError(f"data set {declaration.name!r} has a test split only")
    there = (
        sorted(entry.name for entry in declaration.path.iterdir() if entry.is_dir())
        if declaration.path.is_dir()
        else []
    )
    if declaration.path.is_dir() and len(there) < 2:
        raise DataError(f"{declaration.path}: {len(there)} class folders, expected at least two to tell apart")
    side = _side(clean)
    return open_picture_folder(declaration.path, classes=clean.classes, subset=there, side=side, name=declaration.name)


def open_cell(declaration: Declaration, corruption: str, severity: int, base: Dataset | None) -> Dataset:
    """One corruption at one severity of a declared file set.

    Raises:
        DataError: missing, truncated or unreadable files, or files of another size than the clean images.
    """
    from harness.data.published import open_array_set, open_picture_folder

    clean = _needed(declaration, base)
    if declaration.layout == "cifar-c":
        cell: Dataset = open_array_set(declaration.path, corruption, severity, classes=clean.classes)
    else:
        folder = declaration.path / corruption / str(severity)
        cell = open_picture_folder(folder, classes=clean.classes, side=_side(clean), name=declaration.name)
    if cell.image_size != clean.image_size:
        got, wanted = ("x".join(map(str, item.image_size)) for item in (cell, clean))
        raise DataError(f"{declaration.path}: {corruption} has {got} images, data set {clean.name!r} has {wanted}")
    return cell


def file_target(
    declaration: Declaration, base: Dataset, *, progress: Callable[[int, int], None] | None = None
) -> Target:
    """Read a whole set of corrupted files and describe it as a target.

    Args:
        declaration: of layout cifar-c or imagenet-c.
        base: the clean images.
        progress: called with (cells read, cells in all).

    Raises:
        DataError: no corruption that is known, or a cell that is missing, truncated or unreadable.
    """
    wanted = list(_cells(declaration))
    cells = []
    for done, (corruption, severity) in enumerate(wanted):
        data = open_cell(declaration, corruption, severity, base).ref()
        ref = DataRef(
            name=f"{declaration.name}/{corruption}/{severity}",
            split="test",
            digest=data.digest,
            images=data.images,
            classes=data.classes,
        )
        cells.append(CellRef(corruption=corruption, severity=severity, data=ref))
        if progress is not None:
            progress(done + 1, len(wanted))
    clean = base.ref()
    identity = {
        "kind": "file-set@1",
        "clean": clean.digest,
        "cells": [[cell.corruption, cell.severity, cell.data.digest] for cell in cells],
    }
    data = DataRef(
        name=declaration.name, split="test", digest=digest(identity), images=clean.images, classes=clean.classes
    )
    source = REGENERATED if (declaration.path / MANIFEST).is_file() else PUBLISHED
    return Target(data=data, clean=clean, cells=tuple(cells), source=source, suite=_suite(declaration, base))


def _suite(declaration: Declaration, base: Dataset) -> str:
    """The suite that files are of: the published one of their layout and size."""
    from harness.corruptions.suites import ANY_SIZE, SUITES

    if declaration.layout == "cifar-c":
        return "cifar-10-c"
    sizes = {SUITES.get(name).image_size: name for name in ("tiny-imagenet-c", "imagenet-c")}
    return sizes.get(_side(base), f"imagenet-c{ANY_SIZE}")


def _cells(declaration: Declaration) -> Iterator[tuple[str, int]]:
    """The cells that the files hold, in the published order of the corruptions; all five severities of each."""
    from harness.corruptions.suites import BENCHMARK, EXTRA, SEVERITIES

    path = declaration.path
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    found = [
        name
        for name in (*BENCHMARK, *EXTRA)
        if (path / f"{name}.npy" if declaration.layout == "cifar-c" else path / name).exists()
    ]
    if not found:
        raise DataError(f"{path}: no corruption found; expected {LAYOUTS[declaration.layout]}")
    for name in found:
        for severity in SEVERITIES:
            yield name, severity


def _needed(declaration: Declaration, base: Dataset | None) -> Dataset:
    if base is None:
        raise DataError(f"data set {declaration.name!r}: its base data set {declaration.of!r} is not at hand")
    return base


def _side(clean: Dataset) -> int:
    height, width = clean.image_size
    if height != width:
        raise DataError(f"data set {clean.name!r}: {height}x{width} images; this layout needs square ones")
    return height
