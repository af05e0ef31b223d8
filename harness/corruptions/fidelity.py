"""How close the engine is to its yardsticks, corruption by corruption: `python -m harness.corruptions.fidelity`.

The engine's kernels get the yardstick's own draws, so that only arithmetic can differ. Yardsticks: the package
imagecorruptions for the set of that name; for the published sets the same code with the published numbers, or a plain
restatement where the published scripts differ from the package (`harness.corruptions.restated`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from harness.corruptions import engine, reference, restated
from harness.corruptions.replay import PackageDraws
from harness.corruptions.suites import SEVERITIES, SUITES

if TYPE_CHECKING:
    from harness.types import ImagesU8

LEAST_WITHIN_ONE = 0.999
LARGEST = 2
"""The demand: at most 1 grey level of difference on 99.9 % of the values, none over 2."""

GRID: tuple[tuple[str, int, int], ...] = (
    ("imagecorruptions", 32, 24),
    ("imagecorruptions", 64, 8),
    ("imagecorruptions", 224, 2),
    ("cifar-10-c", 32, 24),
    ("tiny-imagenet-c", 64, 8),
    ("imagenet-c", 224, 2),
)
"""(suite, side, images) of the table."""

DRAWING = frozenset(
    {
        "gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog",
        "elastic_transform", "speckle_noise", "spatter",
    }
)  # fmt: skip
"""Corruptions that use random numbers."""

_RESTATED = frozenset({"motion_blur", "zoom_blur", "snow", "frost", "pixelate", "elastic_transform"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One row of the table: shares are over all values of all images and severities; the worst severity counts.

    Attributes:
        suite: name of the suite.
        name: corruption.
        side: of the images, pixels.
        yardstick: what it was compared with, in words.
        equal: least share of equal values.
        within_one: least share of values that differ by at most one grey level.
        largest: largest difference in grey levels.
    """

    suite: str
    name: str
    side: int
    yardstick: str
    equal: float
    within_one: float
    largest: int

    @property
    def passed(self) -> bool:
        """Whether the demand is met."""
        return self.within_one >= LEAST_WITHIN_ONE and self.largest <= LARGEST


def photographs(side: int, count: int) -> ImagesU8:
    """Square crops of the two photographs that ship inside scikit-learn; count x side x side x 3, uint8."""
    from sklearn.datasets import load_sample_images

    generator = np.random.Generator(np.random.PCG64(20190328))
    sources = [Image.fromarray(np.asarray(image)) for image in load_sample_images().images]
    crops = []
    for number in range(count):
        source = sources[number % len(sources)]
        edge = int(generator.integers(max(side, 120), min(source.size) + 1))
        left, top = (int(generator.integers(0, length - edge + 1)) for length in source.size)
        crop = source.crop((left, top, left + edge, top + edge))
        crops.append(np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC)))
    return np.stack(crops)


def compare(suite: str, name: str, images: ImagesU8, severities: Iterable[int] = SEVERITIES) -> Agreement:
    """Engine against yardstick on the same images with the same draws.

    Args:
        suite: an engine suite.
        name: corruption.
        images: n x side x side x 3, uint8.
        severities: those to compare.

    Raises:
        UnknownName: suite or corruption.
    """
    chosen = SUITES.get(suite)
    equal, within, largest = 1.0, 1.0, 0
    for severity in severities:
        seeds = [reference.image_seed(0, name, severity, index) for index in range(len(images))]
        if chosen.style.published:
            rows = [
                restated.corrupt_one(image, chosen, name, severity, seed=0, index=index)
                for index, image in enumerate(images)
            ]
            theirs = np.stack(rows)
        else:
            theirs = reference.corrupt(images, name, severity, seed=0, indices=np.arange(len(images)))
        ours = engine.KERNELS[name](
            torch.from_numpy(images), chosen.recipe(name, severity), PackageDraws(seeds, double=name == "spatter")
        ).numpy()
        gap = np.abs(ours.astype(np.int16) - theirs)
        equal, within = min(equal, float((gap == 0).mean())), min(within, float((gap <= 1).mean()))
        largest = max(largest, int(gap.max()))
    return Agreement(
        suite=suite, name=name, side=images.shape[1], yardstick=_yardstick(suite, name), equal=equal, within_one=within,
        largest=largest,
    )  # fmt: skip


def _yardstick(suite: str, name: str) -> str:
    draws = ", its draws fed in" if name in DRAWING else ""
    if not SUITES.get(suite).style.published:
        return f"package{draws}"
    return f"{'restated from the scripts' if name in _RESTATED else 'package with published numbers'}{draws}"


def table(progress: Callable[[int, int], None] | None = None) -> Iterator[Agreement]:
    """All rows of `GRID`; takes about two minutes.

    Args:
        progress: called with (rows done, rows in all).
    """
    total = sum(len(SUITES.get(suite).names) for suite, _, _ in GRID)
    done = 0
    for suite, side, count in GRID:
        images = photographs(side, count)
        for name in SUITES.get(suite).names:
            # The published glass loop takes half a second an image and severity at 224x224: one image is enough.
            few = images[:1] if name == "glass_blur" and side > 64 else images
            yield compare(suite, name, few)
            done += 1
            if progress is not None:
                progress(done, total)


def markdown(rows: Sequence[Agreement]) -> str:
    """The page docs/fidelity.md."""
    passed = sum(row.passed for row in rows)
    lines = [
        "# Fidelity of the corruption engine",
        "",
        "Made by `python -m harness.corruptions.fidelity`; do not edit by hand. What is compared with what, and what",
        "could not be verified, is told in [corruptions.md](corruptions.md).",
        "",
        "Each row compares the engine with its yardstick on crops of real photographs over all five severities; the",
        f"worst severity counts. Demand: at most 1 grey level on {LEAST_WITHIN_ONE:.1%} of the values,",
        f"none over {LARGEST}.",
        f"{passed} of {len(rows)} rows meet it.",
    ]
    for suite, side, count in GRID:
        lines += ["", f"## {suite}, {side}x{side} ({count} images)", ""]
        lines += [
            "| corruption | yardstick | equal | within 1 | largest | meets the demand |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.name} | {row.yardstick} | {row.equal:.3%} | {row.within_one:.3%} | {row.largest} "
            f"| {'yes' if row.passed else '**no**'} |"
            for row in rows
            if (row.suite, row.side) == (suite, side)
        ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table; exit code 1 if a row misses the demand."""
    parser = argparse.ArgumentParser(prog="python -m harness.corruptions.fidelity", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/fidelity.md"), help="file to write")
    options: Any = parser.parse_args(arguments)
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task("comparing", total=None)
        rows = list(table(lambda done, total: bar.update(task, completed=done, total=total)))
    options.output.write_text(markdown(rows), encoding="utf-8")
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
