"""`make bench`: what the measures cost; fails where a limit is missed."""

from __future__ import annotations

import sys

import pytest
import torch

from harness.measures import MEASURES
from tests.bench import measures as bench


@pytest.mark.bench
def test_unit_gradients_cost_no_more_than_their_passes() -> None:
    """All 688 units of resnet20 on a batch of 128: at most 1.2 times the bare backward passes."""
    torch.set_num_threads(1)
    found, units = bench.ratio(128)
    sys.stdout.write(f"\ninput gradients of {units} units: {found:.3f}x bare backward passes\n")
    assert units == 688
    assert found <= 1.2


@pytest.mark.bench
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("name", MEASURES.names())
def test_memory_stays_flat_over_10000_images(name: str) -> None:
    """The peak on 10,000 images is at most 16 MB above that on 1,000."""
    few, many = bench.peak(name, 1000), bench.peak(name, 10_000)
    sys.stdout.write(f"\n{name}: peak {few / 1024:.0f} MB on 1,000 images, {many / 1024:.0f} MB on 10,000\n")
    assert many - few <= 16 * 1024
