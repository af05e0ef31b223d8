"""`make bench`: the selectivity term is cheap; fails where it costs more than demanded."""

from __future__ import annotations

import pytest
import torch

from tests.bench import training as bench


@pytest.mark.bench
def test_the_selectivity_term_adds_at_most_a_tenth() -> None:
    """A training step of resnet20 at batch 256 on one thread."""
    torch.set_num_threads(1)
    overhead = bench.measure()
    bench.report(overhead)
    assert overhead.ratio[0] <= 1.10
