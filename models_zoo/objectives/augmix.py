"""The consistency loss of AugMix (Hendrycks et al., "AugMix", ICLR 2020, equation 1 and section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

FLOOR = 1e-7
"""Smallest probability of the mixture under the logarithm, as the published code has it."""
TINY = 1e-30


def jensen_shannon(predictions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Jensen-Shannon divergence of several predictions of the same images, in nats, the mean over images.

    The mean of KL(p_k || m) over the predictions p_k, m their mean: 0 if all agree, log(k) if no two overlap.

    Args:
        predictions: k tensors of probabilities, n x classes each.

    Returns:
        A scalar in [0, log(k)].
    """
    stacked = torch.stack(tuple(predictions))
    mixture = stacked.mean(0).clamp(FLOOR, 1).log()
    # Clamped under the logarithm alone: a probability of 0 adds 0 and gets a finite gradient.
    return (stacked * (stacked.clamp_min(TINY).log() - mixture)).sum(2).mean()
