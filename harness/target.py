"""What a benchmark runs on: one data set, or a published file set with its clean counterpart. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

from harness.spec import DataRef
from harness.types import Json

Layout: TypeAlias = Literal["folder", "cifar-c", "imagenet-c", "shift"]
LAYOUTS: Mapping[str, str] = {
    "folder": "PATH/test/CLASS/* and, optionally, PATH/train/CLASS/*",
    "cifar-c": "published CIFAR-10-C / CIFAR-100-C: PATH/CORRUPTION.npy with five equal parts, PATH/labels.npy",
    "imagenet-c": "published ImageNet-C / Tiny-ImageNet-C: PATH/CORRUPTION/SEVERITY/CLASS/*",
    "shift": "a natural shift set (ImageNet-A, -R, -Sketch, -V2, CIFAR-10.1): PATH/CLASS/*, a subset of the classes",
}
"""Layout -> what it looks like."""

IN_MEMORY = "in memory"
PUBLISHED = "published files"
REGENERATED = "regenerated files"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRef:
    """One corruption at one severity that comes as files: a data set of its own."""

    corruption: str
    severity: int
    data: DataRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a board's evaluations run on.

    Attributes:
        data: the data set that names the board.
        clean: the images that clean passes, attacks and measures take, and that suites corrupt.
        cells: corrupted images that come as files; empty: suites make them in memory.
        source: where corrupted images come from, in words.
        suite: the suite that corrupted files are of; empty without files.
    """

    data: DataRef
    clean: DataRef
    cells: tuple[CellRef, ...] = field(default=())
    source: str = IN_MEMORY
    suite: str = ""

    @classmethod
    def plain(cls, data: DataRef) -> Target:
        """One data set, corrupted in memory."""
        return cls(data=data, clean=data)

    def cell(self, corruption: str, severity: int) -> DataRef | None:
        """The files of a cell; None where the set has none."""
        for item in self.cells:
            if (item.corruption, item.severity) == (corruption, severity):
                return item.data
        return None

    @property
    def corrupted_images(self) -> int:
        """Images that every corrupted cell has."""
        return min((item.data.images for item in self.cells), default=self.clean.images)

    def to_dict(self) -> Json:
        """Plain data for the store."""
        return {
            "clean": asdict(self.clean),
            "cells": [[item.corruption, item.severity, asdict(item.data)] for item in self.cells],
            "source": self.source,
            "suite": self.suite,
        }

    @classmethod
    def from_dict(cls, data: DataRef, values: Json) -> Target:
        """The inverse of `to_dict`."""
        return cls(
            data=data,
            clean=DataRef(**values["clean"]),
            cells=tuple(
                CellRef(corruption=corruption, severity=severity, data=DataRef(**ref))
                for corruption, severity, ref in values["cells"]
            ),
            source=values["source"],
            suite=values["suite"],
        )
