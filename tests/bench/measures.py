"""Cost of the measures: input-unit gradients against bare backward passes, and peak memory over many images.

    OMP_NUM_THREADS=1 python -m tests.bench.measures --images 500

prints the ratio for all 688 units of the bundled resnet20, and each measure's peak memory on 1,000 and 10,000 images.
Both sides of the ratio are measured in one run, in processor time of one thread, batch by batch in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from harness.data import open_dataset
from harness.jobs.context import find_models, load
from harness.measures import MEASURES, unit_gradient_norms
from harness.spec import Scalar
from harness.types import FeatureModel

BATCH = 128
SMALL: dict[str, dict[str, Scalar]] = {
    "dimensionality_corruptions": {"corruptions": "contrast", "severities": "3"},
    "dimensionality_attack": {"steps": 2},
}
"""Options that keep a measurement of memory short."""


def bare(model: FeatureModel, images: torch.Tensor) -> int:
    """One backward pass a unit, and nothing else: forward, gradient of the unit's spatial mean, thrown away."""
    point = images.clone().requires_grad_()
    passes = 0
    for maps in model.features(point).values():
        for unit in range(maps.shape[1]):
            torch.autograd.grad(maps[:, unit].mean((1, 2)).sum(), point, retain_graph=True)
            passes += 1
    return passes


def ratio(count: int) -> tuple[float, int]:
    """(processor time of the measure's gradients over that of the bare passes, units) on `count` images of digits."""
    (source,) = find_models(None, ["resnet20.supervised.digits.s0"])
    model, data = load(source), open_dataset("digits")
    spent = {"ours": 0.0, "bare": 0.0}
    units = 0
    for turn, at in enumerate(range(0, count, BATCH)):
        pixels = torch.from_numpy(np.array(data.images(at, min(at + BATCH, count))))
        images = pixels.permute(0, 3, 1, 2).float().div(255).contiguous()
        for side in ("ours", "bare") if turn % 2 else ("bare", "ours"):
            start = time.thread_time()
            if side == "ours":
                norms = unit_gradient_norms(model, images)
                units = sum(values.shape[1] for values in norms.values())
            else:
                bare(model, images)
            spent[side] += time.thread_time() - start
    return spent["ours"] / spent["bare"], units


class Small(torch.nn.Module):
    """Two convolutions of 8 and 16 maps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, stride=2)
        self.second = torch.nn.Conv2d(8, 16, 3, stride=2)

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Two layers."""
        first = F.relu(self.first(images))
        return {"first": first, "second": F.relu(self.second(first))}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x 10."""
        return self.features(images)["second"].mean((2, 3))[:, :10]


class Made:
    """Images made batch by batch, the same at each iteration: none is kept."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Random images of 32x32 on whole grey levels."""
        draws = torch.Generator().manual_seed(0)
        for at in range(0, self.count, BATCH):
            yield torch.randint(0, 256, (min(BATCH, self.count - at), 3, 32, 32), generator=draws) / 255


def high_water() -> int:
    """Peak resident memory of this process in kB (not getrusage: its peak is handed down from the parent process)."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(name: str, count: int) -> int:
    """Run a measure on `count` made-up images; the peak of this process in kB."""
    torch.set_num_threads(1)
    MEASURES.get(name).run(Small().eval(), Made(count), np.arange(count) % 10, options=SMALL.get(name))
    return high_water()


def peak(name: str, count: int) -> int:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.measures", "--peak", name, "--images", str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the ratio, then peaks; with --peak the peak of one measure alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=BATCH)
    parser.add_argument("--peak", choices=MEASURES.names())
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        sys.stdout.write(f"{measure(options.peak, options.images)}\n")
        return
    found, units = ratio(options.images)
    sys.stdout.write(
        f"input gradients of {units} units on {options.images} images: {found:.3f}x bare backward passes\n"
    )
    for name in MEASURES:
        few, many = peak(name, 1000), peak(name, 10_000)
        sys.stdout.write(f"{name:28s} peak {few / 1024:6.0f} MB on 1,000 images, {many / 1024:6.0f} MB on 10,000\n")


if __name__ == "__main__":
    main()
