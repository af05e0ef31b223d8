"""`make bench`: the engine against the package, and its memory. Ratios are asserted with room for a busy machine."""

from __future__ import annotations

import subprocess
import sys

import cv2
import pytest
import torch

from tests.bench import corruptions as bench

MEMORY = """
import resource, sys
import numpy as np
from harness.corruptions import corrupt
base = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (1000, 32, 32, 3), dtype=np.uint8)
name, blocks = sys.argv[1], int(sys.argv[2])
peak = []
for block in range(blocks):
    corrupt(base, name, 3, indices=range(1000 * block, 1000 * (block + 1)))
    peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peak[0], peak[-1])
"""


@pytest.mark.bench
def test_speed_at_32() -> None:
    """One thread against one thread: the grid, and the grid without glass blur and with cached textures."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    speed = bench.measure(32, rounds=3, ours=256, package=4, slow=1)
    bench.report(speed, cached=False)
    with bench.cached_textures():
        cached = bench.measure(32, rounds=3, ours=256, package=4, slow=1)
    bench.report(cached, cached=True)
    assert speed.ratio(bench.NAMES)[0] >= 20
    assert cached.ratio(tuple(name for name in bench.NAMES if name != "glass_blur"))[0] >= 8
    for name in bench.NAMES:
        assert cached.ratio((name,))[0] >= 0.9, name


@pytest.mark.bench
def test_speed_at_224() -> None:
    """The same at ImageNet's size."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with bench.cached_textures():
        cached = bench.measure(224, rounds=2, ours=16, package=1, slow=1)
    bench.report(cached, cached=True)
    assert cached.ratio(bench.NAMES)[0] >= 20
    assert cached.ratio(tuple(name for name in bench.NAMES if name != "glass_blur"))[0] >= 5
    for name in bench.NAMES:
        assert cached.ratio((name,))[0] >= 0.9, name


@pytest.mark.bench
@pytest.mark.parametrize("name", ["gaussian_noise", "zoom_blur", "elastic_transform", "snow"])
def test_memory_stays_flat_over_50000_images(name: str) -> None:
    """The peak after 50 blocks of 1,000 images is at most 8 MB above the peak after the first."""
    done = subprocess.run([sys.executable, "-c", MEMORY, name, "50"], check=True, capture_output=True, text=True)
    first, last = (int(part) / 1024 for part in done.stdout.split())
    sys.stdout.write(f"{name}: peak {first:.0f} MB after 1,000 images, {last:.0f} MB after 50,000\n")
    assert last - first <= 8
