"""Speed of the corruption engine against the reference package, in one process: `python -m tests.bench.corruptions`.

One thread against one thread, all five severities, the package through our adapter. Each cell (corruption x severity)
is timed on both sides, one right after the other and in changing order, and the whole grid is repeated in rounds, so
that a busy machine slows both. Processor time of the thread is taken, not the clock. A cell's time is its median over
rounds; a ratio is the sum of the package's cells over the sum of ours, its 95 % interval a bootstrap over rounds.

The engine is given batches, as a benchmark run does; the package takes one image at a time whatever it is given.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from harness.corruptions import SUITES, corrupt, reference
from harness.corruptions.fidelity import photographs
from harness.corruptions.suites import SEVERITIES

if TYPE_CHECKING:
    from harness.types import ImagesU8

Times = NDArray[np.float64]
NAMES = SUITES.get("imagecorruptions").names


CACHED_FROST = "frost, textures cached"
"""Frost again, with a package that keeps its decoded photographs; the engine's side is the same."""
ROWS = (*NAMES, CACHED_FROST)
GROUPS: dict[str, tuple[str, ...]] = {
    "all 19": NAMES,
    "all but glass blur, textures cached": tuple(row for row in ROWS if row not in ("glass_blur", "frost")),
}
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Milliseconds per image; rounds x rows x severities, in the order of `ROWS`."""

    side: int
    ours: Times
    package: Times

    def cost(self, rows: tuple[str, ...]) -> tuple[float, float]:
        """(ours, package): milliseconds for these rows, mean over severities."""
        places = [ROWS.index(row) for row in rows]
        ours, package = (np.median(times[:, places], axis=0).sum() for times in (self.ours, self.package))
        return float(ours) / len(SEVERITIES), float(package) / len(SEVERITIES)

    def ratio(self, rows: tuple[str, ...]) -> tuple[float, float, float]:
        """(ratio, low, high): how many times faster the engine makes these rows."""
        places = [ROWS.index(row) for row in rows]
        picks = np.random.Generator(np.random.PCG64(0)).integers(0, len(self.ours), (RESAMPLES, len(self.ours)))
        ours, package = (
            np.array([np.median(times[pick][:, places], axis=0).sum() for pick in picks])
            for times in (self.ours, self.package)
        )
        low, high = np.quantile(package / ours, [0.025, 0.975]).tolist()
        mine, theirs = self.cost(rows)
        return theirs / mine, low, high


_kept: dict[str, Any] = {}


@contextlib.contextmanager
def cached_textures() -> Iterator[None]:
    """Let the package keep its decoded frost photographs, for the comparison that leaves reading them out."""
    module: Any = reference.load()

    class Keeping:
        """OpenCV with an `imread` that reads a file once."""

        def __getattr__(self, name: str) -> Any:
            return getattr(cv2, name)

        def imread(self, path: str) -> Any:
            """The decoded file."""
            if path not in _kept:
                _kept[path] = cv2.imread(path)
            return _kept[path]

    before, module.cv2 = module.cv2, Keeping()
    try:
        yield
    finally:
        module.cv2 = before


def timed(images: ImagesU8, name: str, severity: int, suite: str) -> float:
    """Processor seconds of this thread: a neighbour's load counts less than on the clock."""
    start = time.thread_time()
    corrupt(images, name, severity, suite=suite)
    return time.thread_time() - start


def measure(side: int, *, rounds: int, ours: int, package: int) -> Speed:
    """Time all corruptions.

    Args:
        side: of the images.
        rounds: repetitions.
        ours: images a call of the engine.
        package: images a call of the package; one for glass blur.
    """
    images = photographs(side, ours)
    shape = rounds, len(ROWS), len(SEVERITIES)
    mine, theirs = np.zeros(shape), np.zeros(shape)
    for name in NAMES:  # tables, textures and code paths are warm before the first round
        for severity in SEVERITIES:
            corrupt(images, name, severity, suite="imagecorruptions")
    for step, (place, row) in itertools.product(range(rounds), enumerate(ROWS)):
        name = "frost" if row == CACHED_FROST else row
        few = np.roll(images, -step * package, axis=0)[: 1 if name == "glass_blur" else package]
        with cached_textures() if row == CACHED_FROST else contextlib.nullcontext():
            for level, severity in enumerate(SEVERITIES):
                for turn in ((step + level) % 2, (step + level + 1) % 2):
                    if turn:
                        spent = timed(few, name, severity, "imagecorruptions-reference")
                        theirs[step, place, level] = 1000 * spent / len(few)
                    else:
                        spent = timed(images, name, severity, "imagecorruptions")
                        mine[step, place, level] = 1000 * spent / len(images)
    return Speed(side=side, ours=mine, package=theirs)


def report(speed: Speed) -> None:
    """Print the table."""
    sys.stdout.write(f"\n{speed.side}x{speed.side}: processor ms per image, mean over severities\n")
    for label, rows in ({row: (row,) for row in ROWS} | GROUPS).items():
        ours, package = speed.cost(rows)
        ratio, low, high = speed.ratio(rows)
        sys.stdout.write(
            f"{label:36s} ours {ours:8.4f}  package {package:9.3f}  ratio {ratio:7.2f} [{low:.2f}, {high:.2f}]\n"
        )


def scaling(side: int, count: int) -> float:
    """Wall time of the grid in one thread over that in two threads, each with half of the images; median of five."""
    images = photographs(side, count)
    halves = images[: count // 2], images[count // 2 :]

    def grid(part: ImagesU8) -> None:
        for name, severity in itertools.product(NAMES, SEVERITIES):
            corrupt(part, name, severity, suite="imagecorruptions")

    ratios = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            start = time.perf_counter()
            grid(images)
            middle = time.perf_counter()
            list(pool.map(grid, halves))
            ratios.append((middle - start) / (time.perf_counter() - middle))
    return float(np.median(ratios))


SIZES: dict[int, dict[str, int]] = {
    32: {"rounds": 15, "ours": 256, "package": 4},
    224: {"rounds": 9, "ours": 16, "package": 1},
}
"""Side -> what `measure` is given: a minute or so each."""


def main() -> None:
    """Both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, choices=SIZES, action="append")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for side in options.side or SIZES:
        sizes = SIZES[side] | ({"rounds": options.rounds} if options.rounds else {})
        report(measure(side, **sizes))
        sys.stdout.write(f"two threads: {scaling(side, sizes['ours']):.2f} times one thread\n")


if __name__ == "__main__":
    main()
