"""What several tests of attacks share."""

from __future__ import annotations

import numpy as np
import torch

from harness.attacks import AttackResult


def same(one: AttackResult, other: AttackResult, order: torch.Tensor | slice = slice(None)) -> None:
    """Everything that is recorded for an image is equal, `other` being `one` in another order."""
    places = np.arange(len(one.robust))[order if isinstance(order, slice) else order.numpy()]
    assert np.array_equal(one.robust[places], other.robust)
    assert torch.equal(one.adversarial[torch.from_numpy(places)], other.adversarial)
    assert [one.broken_by[place] for place in places] == list(other.broken_by)
    for name in ("steps", "runs", "margin", "scale", "norm", "forwards_per_image", "backwards_per_image"):
        assert np.array_equal(getattr(one, name)[places], getattr(other, name)), name
