"""`make bench`: the engine against the package, and its memory; fails where the demanded speed is missed."""

from __future__ import annotations

import subprocess
import sys

import cv2
import pytest
import torch

from tests.bench import corruptions as bench

MEMORY = """
import sys
import numpy as np
from harness.corruptions import corrupt
def high_water():  # not getrusage: its peak is handed down from the parent process
    lines = open("/proc/self/status", encoding="ascii").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
base = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (1000, 32, 32, 3), dtype=np.uint8)
name, blocks = sys.argv[1], int(sys.argv[2])
peak = []
for block in range(blocks):
    corrupt(base, name, 3, indices=range(1000 * block, 1000 * (block + 1)))
    peak.append(high_water())
print(peak[0], peak[-1])
"""


@pytest.mark.bench
@pytest.mark.parametrize(("side", "grid", "without_glass"), [(32, 40, 8), (224, 50, 5)])
def test_speed(side: int, grid: float, without_glass: float) -> None:
    """One thread against one thread: the grid, it without glass blur and with cached textures, each corruption."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    speed = bench.measure(side, **bench.SIZES[side])
    bench.report(speed)
    for least, rows in zip((grid, without_glass), bench.GROUPS.values(), strict=True):
        assert speed.ratio(rows)[0] >= least
    for row in bench.ROWS:
        assert speed.ratio((row,))[0] >= 0.9, row


@pytest.mark.bench
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("name", ["gaussian_noise", "zoom_blur", "elastic_transform", "snow"])
def test_memory_stays_flat_over_50000_images(name: str) -> None:
    """The peak after 50 blocks of 1,000 images is at most 8 MB above the peak after the first."""
    done = subprocess.run([sys.executable, "-c", MEMORY, name, "50"], check=True, capture_output=True, text=True)
    first, last = (int(part) / 1024 for part in done.stdout.split())
    sys.stdout.write(f"{name}: peak {first:.0f} MB after 1,000 images, {last:.0f} MB after 50,000\n")
    assert last - first <= 8
