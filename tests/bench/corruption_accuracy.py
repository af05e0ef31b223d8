"""Accuracy under the engine's images against the package's: `python -m tests.bench.corruption_accuracy`.

Each side uses its own draws. Per corruption and severity the paired difference (per image: right under ours minus
right under the package's) has a 95 % interval of 1.96 standard errors; where nothing is drawn the images are nearly the
same and so is the verdict. Of 75 intervals at 95 % about four may leave out zero by chance; a statement about all cells
at once takes 3.4 standard errors (Bonferroni).
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.corruptions import SUITES, corrupt
from harness.corruptions.suites import SEVERITIES
from harness.data import open_dataset
from models_zoo import load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.data import Dataset
    from harness.types import Classifier, ImagesU8

BONFERRONI = 3.4
"""Two-sided normal quantile of 0.05 / 75."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One corruption at one severity."""

    name: str
    severity: int
    ours: float
    package: float
    error: float
    """Standard error of the paired difference."""

    @property
    def deviations(self) -> float:
        """Difference in standard errors; 0 where both agree on every image."""
        gap = self.ours - self.package
        return gap / self.error if self.error > 0 else 0.0


def verdicts(model: Classifier, images: ImagesU8, data: Dataset) -> NDArray[np.bool_]:
    """Right or wrong, image by image."""
    right = []
    with torch.no_grad():
        for start in range(0, len(images), 100):
            batch = torch.from_numpy(images[start : start + 100]).permute(0, 3, 1, 2).to(torch.float32) / 255
            right.append(model(batch).argmax(dim=1).numpy() == data.labels[start : start + len(batch)])
    return np.concatenate(right)


def compare(model: Classifier, data: Dataset, count: int) -> list[Cell]:
    """All 15 x 5 cells on the first `count` images."""
    images = data.images(0, count)
    cells = []
    for name in SUITES.get("imagecorruptions").benchmark:
        for severity in SEVERITIES:
            ours, package = (
                verdicts(model, corrupt(images, name, severity, suite=suite), data).astype(float)
                for suite in ("imagecorruptions", "imagecorruptions-reference")
            )
            error = float(np.std(ours - package, ddof=1)) / math.sqrt(count)
            cells.append(Cell(name=name, severity=severity, ours=ours.mean(), package=package.mean(), error=error))
    return cells


def main() -> None:
    """Compare one model on one data set and print the cells that stand out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a bundled model, or an architecture with --weights")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--folder", type=Path, help="an image folder instead of digits")
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = open_dataset("photos", folders={"photos": options.folder}) if options.folder else open_dataset("digits")
    cells = compare(load_model(options.model, weights=options.weights), data, options.images)
    outside = [cell for cell in cells if abs(cell.deviations) > 1.96]
    worst = max(abs(cell.deviations) for cell in cells)
    ours, package = (float(np.mean([getattr(cell, side) for cell in cells])) for side in ("ours", "package"))
    sys.stdout.write(
        f"{options.model}, {options.images} images: mean corruption accuracy {ours:.4f} (engine), {package:.4f} "
        f"(package); {len(outside)} of {len(cells)} cells outside their 95 % interval (3.75 expected), "
        f"largest deviation {worst:.2f} standard errors (limit over all cells {BONFERRONI})\n"
    )
    for cell in outside:
        sys.stdout.write(f"  {cell.name} {cell.severity}: {cell.ours:.3f} {cell.package:.3f} {cell.deviations:+.2f}\n")


if __name__ == "__main__":
    main()
