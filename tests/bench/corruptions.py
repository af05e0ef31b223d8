"""Speed of the corruption engine against the reference package, in one process: `python -m tests.bench.corruptions`.

One thread against one thread, all five severities, the package through our adapter. The two run in turns, round after
round, so that a busy machine slows both; the ratio of a corruption is the median over rounds, its interval the 2.5 and
97.5 % points of a bootstrap over rounds.
"""

from __future__ import annotations

import argparse
import contextlib
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Milliseconds per image, mean over severities; rounds x corruptions."""

    side: int
    ours: Times
    package: Times

    def columns(self, names: tuple[str, ...]) -> tuple[Times, Times]:
        """(ours, package) summed over some corruptions, one value a round."""
        places = [NAMES.index(name) for name in names]
        return self.ours[:, places].sum(axis=1), self.package[:, places].sum(axis=1)

    def ratio(self, names: tuple[str, ...]) -> tuple[float, float, float]:
        """(ratio, low, high): how many times faster the engine does these corruptions."""
        ours, package = self.columns(names)
        generator = np.random.Generator(np.random.PCG64(0))
        picks = generator.integers(0, len(ours), (2000, len(ours)))
        ratios = np.median(package[picks] / ours[picks], axis=1)
        low, high = np.quantile(ratios, [0.025, 0.975]).tolist()
        return float(np.median(package / ours)), low, high


@contextlib.contextmanager
def cached_textures() -> Iterator[None]:
    """Let the package keep its decoded frost photographs, for the comparison that leaves reading them out."""
    module: Any = reference.load()
    kept: dict[str, Any] = {}

    class Keeping:
        """OpenCV with an `imread` that reads a file once."""

        def __getattr__(self, name: str) -> Any:
            return getattr(cv2, name)

        def imread(self, path: str) -> Any:
            """The decoded file."""
            if path not in kept:
                kept[path] = cv2.imread(path)
            return kept[path]

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


def measure(side: int, *, rounds: int, ours: int, package: int, slow: int) -> Speed:
    """Time all corruptions.

    Args:
        side: of the images.
        rounds: repetitions.
        ours: images a call of the engine.
        package: images a call of the package.
        slow: the same for glass blur.
    """
    images = photographs(side, ours)
    mine, theirs = np.zeros((rounds, len(NAMES))), np.zeros((rounds, len(NAMES)))
    for name in NAMES:  # tables, textures and code paths are warm before the first round
        for severity in SEVERITIES:
            corrupt(images, name, severity, suite="imagecorruptions")
    for step in range(rounds):
        for column, name in enumerate(NAMES):
            count = slow if name == "glass_blur" else package
            for severity in SEVERITIES:
                mine[step, column] += timed(images, name, severity, "imagecorruptions")
                theirs[step, column] += timed(images[:count], name, severity, "imagecorruptions-reference") / count
    scale = 1000 / len(SEVERITIES)
    return Speed(side=side, ours=mine / len(images) * scale, package=theirs * scale)


def report(speed: Speed, *, cached: bool) -> None:
    """Print the table."""
    kind = "frost textures cached in the package" if cached else "package as it is"
    sys.stdout.write(f"\n{speed.side}x{speed.side}, {kind}: processor ms per image, mean over severities\n")
    groups: list[tuple[str, tuple[str, ...]]] = [(name, (name,)) for name in NAMES]
    groups += [("all 19", NAMES), ("all but glass blur", tuple(name for name in NAMES if name != "glass_blur"))]
    for label, names in groups:
        ours, package = speed.columns(names)
        ratio, low, high = speed.ratio(names)
        sys.stdout.write(
            f"{label:20s} ours {np.median(ours):8.4f}  package {np.median(package):9.3f}  "
            f"ratio {ratio:7.2f} [{low:.2f}, {high:.2f}]\n"
        )


def scaling(side: int, count: int) -> float:
    """Wall time of the grid in one thread over that in two threads, each with half of the images."""
    images = photographs(side, count)
    half = count // 2

    def grid(part: ImagesU8) -> None:
        for name in NAMES:
            for severity in SEVERITIES:
                corrupt(part, name, severity, suite="imagecorruptions")

    grid(images)
    start = time.perf_counter()
    grid(images)
    alone = time.perf_counter() - start
    with ThreadPoolExecutor(2) as pool:
        start = time.perf_counter()
        list(pool.map(grid, (images[:half], images[half:])))
    return alone / (time.perf_counter() - start)


def main() -> None:
    """Both sizes, with and without cached textures in the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for side, sizes in ((32, {"ours": 256, "package": 8, "slow": 2}), (224, {"ours": 16, "package": 2, "slow": 1})):
        report(measure(side, rounds=rounds if side == 32 else min(rounds, 3), **sizes), cached=False)
        with cached_textures():
            report(measure(side, rounds=rounds if side == 32 else 2, **sizes), cached=True)
        sys.stdout.write(f"two threads: {scaling(side, sizes['ours']):.2f} times one thread\n")


if __name__ == "__main__":
    main()
